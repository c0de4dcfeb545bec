/** What a turn of the event loop may take before whatever else arrived in it is turned away. */
const TURN_MS_MAX = 15;
/** So many requests of a turn are always taken, however long it has been: a stall or a pause for the garbage turns nobody away. */
const TURN_REQUESTS_MIN = 64;
/** What requests may wait for the store, on average: no more are let in than are answered in this time. */
const WAIT_MS_MAX = 60;
/** So many may always be under way: some that wait for a locked row are no overload. */
const UNDER_WAY_MIN = 256;
/** Over which the rate of answers is counted. */
const WINDOW_MS = 100;
/** A loop that stood still for so long is not ready for a while afterwards, so that whoever asks every second or so hears of it. */
const STALL_MS_MIN = 1_000;
const UNREADY_MS = 1_000;
const BEAT_MS = 100;

export interface OverloadOptions {
  /** Milliseconds of a clock that is never set. */
  readonly nowMs?: () => number;
  /** Calls back once all that has arrived by now has had its turn. */
  readonly afterTurn?: (callback: () => void) => void;
  /** False turns nobody away. */
  readonly sheds?: boolean;
}

/**
 * When to turn requests away rather than make all of them wait.
 *
 * Node reads everything that has arrived in one turn of its event loop, and answers after it: past what the machine can do, turns get longer
 * and longer. So a turn takes requests on for TURN_MS_MAX only. What waits for the store does not make turns longer: so no more may be under
 * way than are answered in WAIT_MS_MAX (Little's law). Waits that are not ours, such as for a partner's URL, are no load and do not count.
 *
 * A request costs some additions, and a look at the clock only in a crowded turn. Knows nothing of partners: one that is noisy is the quotas' matter.
 */
export class Overload {
  private readonly nowMs: () => number;
  private readonly afterTurn: (callback: () => void) => void;
  private readonly sheds: boolean;
  private inTurn = false;
  private turnBeganMs = 0;
  private takenInTurn = 0;
  private underWay = 0;
  private setAside = 0;
  private underWayMax = UNDER_WAY_MIN;
  private windowBeganMs: number;
  private answered = 0;
  private stalledUntilMs = -Infinity;
  private readonly endTurn = () => {
    this.inTurn = false;
  };

  constructor({ nowMs = () => performance.now(), afterTurn = setImmediate, sheds = true }: OverloadOptions = {}) {
    this.nowMs = nowMs;
    this.afterTurn = afterTurn;
    this.sheds = sheds;
    this.windowBeganMs = nowMs();
  }

  /** Whether a request that has just arrived is one too many. To be asked once for each, before anything is done for it. */
  isOver(): boolean {
    if (!this.inTurn) this.beginTurn();
    const isLong = this.takenInTurn >= TURN_REQUESTS_MIN && this.nowMs() - this.turnBeganMs >= TURN_MS_MAX;
    if (this.sheds && (isLong || this.underWay - this.setAside >= this.underWayMax)) return true;
    this.takenInTurn++;
    return false;
  }

  /** Its body is here, and work on it begins. Who sends a body slowly is no load: a few hundred of them would keep all others out. */
  begin(): void {
    this.underWay++;
  }

  end(): void {
    this.underWay--;
    this.answered++;
  }

  /** Gives back what it gets. While that is a promise, the request that waits for it does not count. */
  aside<T>(result: T): T {
    if (!(result instanceof Promise)) return result;
    this.setAside++;
    const back = () => {
      this.setAside--;
    };
    result.then(back, back);
    return result;
  }

  /** Looks for stalls until the function that it gives is called. */
  watch(): () => void {
    let dueMs = this.nowMs() + BEAT_MS;
    const timer = setInterval(() => {
      const nowMs = this.nowMs();
      if (nowMs - dueMs >= STALL_MS_MIN) this.stalledUntilMs = nowMs;
      dueMs = nowMs + BEAT_MS;
    }, BEAT_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  /** Whether the event loop stood still, for STALL_MS_MIN at least, until a moment ago. */
  hasStalled(): boolean {
    return this.nowMs() - this.stalledUntilMs < UNREADY_MS;
  }

  private beginTurn(): void {
    const nowMs = this.nowMs();
    this.inTurn = true;
    this.turnBeganMs = nowMs;
    this.takenInTurn = 0;
    this.afterTurn(this.endTurn);
    const windowMs = nowMs - this.windowBeganMs;
    if (windowMs < WINDOW_MS) return;
    this.underWayMax = Math.max(UNDER_WAY_MIN, (this.answered / windowMs) * WAIT_MS_MAX);
    this.windowBeganMs = nowMs;
    this.answered = 0;
  }
}
