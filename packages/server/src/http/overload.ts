/**
 * Work that is done in one go; longer only where it took longer to read what had come, or under a flood reading and refusing would take all of the
 * time. Whoever arrives meanwhile is not even turned away before its end; shorter means more, smaller commits.
 */
const SLICE_MS_MIN = 10;
/** So many may always wait for their slice, however slow the machine: a stall, or a client of so many connections, is no overload. */
const WAITING_MIN = 64;
/** What requests may wait for their slice, or for the store, on average: no more are let in than are answered in this time. */
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
  /** Calls back once the event loop has read what arrived. */
  readonly nextTurn?: (callback: () => void) => void;
  /** False turns nobody away. */
  readonly sheds?: boolean;
}

/**
 * When to work on requests, and when to turn them away rather than make all of them wait.
 *
 * Node reads everything that has arrived before it does anything else, and a request worked on while it is read (some 0.1 to 0.7 ms of
 * signatures) keeps all others unheard. So what arrives is only put in a line, which is worked off between two looks at the sockets, a slice at
 * a time: the excess hears at once. By Little's law no more may wait in the line, nor for the store, than are answered in WAIT_MS_MAX. Waits
 * that are not ours, such as for a partner's URL, are no load and do not count.
 *
 * Nothing waits where nobody else does. Knows nothing of partners: one that is noisy is the quotas' matter.
 */
export class Overload {
  private readonly nowMs: () => number;
  private readonly nextTurn: (callback: () => void) => void;
  private readonly sheds: boolean;
  private readonly line: (() => void)[] = [];
  private isAtWork = false;
  private readingSinceMs = 0;
  private sliceEndsMs = 0;
  private underWay = 0;
  private setAside = 0;
  private answersInTime = 0;
  private windowBeganMs: number;
  private answered = 0;
  private stalledUntilMs = -Infinity;

  constructor({ nowMs = () => performance.now(), nextTurn = setImmediate, sheds = true }: OverloadOptions = {}) {
    this.nowMs = nowMs;
    this.nextTurn = nextTurn;
    this.sheds = sheds;
    this.windowBeganMs = nowMs();
  }

  /**
   * A request has just arrived, and nothing was done for it. `work`, which begins to answer it, is called in its turn, later than this returns.
   * False: it is one too many, and `work` is never called.
   */
  takeOn(work: () => void): boolean {
    if (this.sheds && this.isOver()) return false;
    this.line.push(work);
    if (!this.isAtWork) this.readOn();
    this.isAtWork = true;
    return true;
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

  private isOver(): boolean {
    const waiting = this.line.length;
    const underWay = waiting + this.underWay - this.setAside;
    if (underWay < WAITING_MIN) return false;
    this.countAnswers();
    return waiting >= Math.max(WAITING_MIN, this.answersInTime) || underWay >= Math.max(UNDER_WAY_MIN, this.answersInTime);
  }

  private countAnswers(): void {
    const nowMs = this.nowMs();
    const windowMs = nowMs - this.windowBeganMs;
    if (windowMs < WINDOW_MS) return;
    this.answersInTime = (this.answered / windowMs) * WAIT_MS_MAX;
    this.windowBeganMs = nowMs;
    this.answered = 0;
  }

  private readOn(): void {
    this.readingSinceMs = this.nowMs();
    this.nextTurn(this.beginSlice);
  }

  private readonly beginSlice = () => {
    const nowMs = this.nowMs();
    this.sliceEndsMs = nowMs + Math.max(SLICE_MS_MIN, nowMs - this.readingSinceMs);
    this.workOnNext();
  };

  /** Its own work goes on in microtasks and ticks, and only after those can the time that it took be told. */
  private workOnNext(): void {
    try {
      this.line.shift()?.();
    } finally {
      queueMicrotask(() => process.nextTick(this.goOn));
    }
  }

  private readonly goOn = () => {
    if (this.line.length === 0) this.isAtWork = false;
    else if (this.nowMs() >= this.sliceEndsMs) this.readOn();
    else this.workOnNext();
  };
}
