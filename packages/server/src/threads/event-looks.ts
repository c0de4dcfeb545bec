import { StoreUnavailable } from "@cambist/protocol";
import type { EventBatch, ThreadKey, ThreadStore } from "../storage/thread-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { Channel } from "./event-stream.ts";
import { Turns } from "./turns.ts";

/** Threads that are looked at in one beat for what other nodes have written; those where something came a moment ago are looked at in each. */
const LOOKED_AT_MAX = 500;
const LIVELY_MS = 5_000;
/**
 * Where this node has just written, by the lease of a task, no other node writes: the lease holds for much longer than this. Where it was lost all the
 * same, or the task has ended without a word, the thread is looked at again so much later.
 */
const OWN_MS = 1_000;
/**
 * The store does not give everything in one go, and is asked again at once where something came: for those threads of which it came, or for all of the
 * look where it was so much that others may have been left out. Not for ever: threads that take turns would wait.
 */
const LOOKS_IN_A_ROW_MAX = 20;
const MUCH_BYTES = 64 * 1024;

export interface LookedAt extends Channel {
  /** When something was last found that another node had written. */
  foundAtMs: number;
  /** When this node last wrote to it, in the middle of a task. */
  ownAtMs: number;
}

export interface EventLooksPorts<C extends LookedAt> {
  readonly threads: Pick<ThreadStore, "readNewEvents">;
  /** Tells the readers of the thread. Gives how many bytes of news it was; 0 also where nobody reads it any more. */
  readonly deliver: (channel: C, batch: EventBatch) => number;
  readonly monotonicMs: () => number;
  readonly log: Log;
}

/** Looks in the store for what other nodes have written in the threads of open streams: one look at a time, all threads in turn. */
export class EventLooks<C extends LookedAt> {
  private readonly channels: ReadonlyMap<string, C>;
  private readonly ports: EventLooksPorts<C>;
  private readonly inTurn: Turns<C>;
  private isLooking = false;

  /** @param channels by {@link keyOf} their threads; they come and go. */
  constructor(channels: ReadonlyMap<string, C>, ports: EventLooksPorts<C>) {
    this.channels = channels;
    this.ports = ports;
    this.inTurn = new Turns(channels);
  }

  /** At a beat. Does nothing while another look is under way, and nobody loses its turn to that. */
  lookAtNext(atMs: number): void {
    void this.look(() => this.choose(atMs));
  }

  /** Something is missing in it: now, or at the next beat where a look is under way. */
  lookAt(channel: C): void {
    channel.foundAtMs = this.ports.monotonicMs();
    void this.look(() => [channel]);
  }

  private choose(atMs: number): readonly C[] {
    const chosen = new Set<C>();
    for (const channel of this.inTurn.next()) {
      if (atMs - channel.ownAtMs < OWN_MS) continue;
      if (chosen.add(channel).size === LOOKED_AT_MAX) break;
    }
    for (const channel of this.channels.values()) if (atMs - channel.foundAtMs < LIVELY_MS) chosen.add(channel);
    return [...chosen];
  }

  private async look(choose: () => readonly C[]): Promise<void> {
    if (this.isLooking) return;
    this.isLooking = true;
    try {
      let channels = choose();
      for (let looks = 0; looks < LOOKS_IN_A_ROW_MAX && channels.length > 0; looks++) channels = await this.lookOnce(channels);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.ports.log.error("events cannot be looked for", { error });
    } finally {
      this.isLooking = false;
    }
  }

  /** Gives those of them that there may be more of. */
  private async lookOnce(channels: readonly C[]): Promise<readonly C[]> {
    const found = new Set<C>();
    let bytes = 0;
    for (const batch of await this.ports.threads.readNewEvents(channels)) {
      const channel = this.channels.get(keyOf(batch));
      const news = channel === undefined ? 0 : this.ports.deliver(channel, batch);
      if (channel === undefined || news === 0) continue;
      channel.foundAtMs = this.ports.monotonicMs();
      found.add(channel);
      bytes += news;
    }
    return bytes < MUCH_BYTES ? [...found] : channels;
  }
}

export function keyOf({ partnerId, threadId }: ThreadKey): string {
  return `${partnerId}/${threadId}`;
}
