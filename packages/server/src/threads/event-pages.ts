import type { EventPosition, ThreadStore } from "../storage/thread-store.ts";
import { atMost } from "./at-most.ts";
import { encodeEvents, lastIdOf } from "./thread-events.ts";

/** Read from the store in one go, for a reader that is behind. */
const PAGE_CHARACTERS = 64 * 1024;
/** Read at the same moment: pages for all readers together would be most of what the process holds. */
const READ_AT_ONCE_MAX = 8;

/** Events as they go over the wire. */
export interface EncodedBatch {
  readonly lastId: number;
  readonly bytes: Uint8Array;
}

/**
 * Pages of events out of the store, for streams that are behind: a few at a time, and one for all that are behind by the same at the same moment, which
 * write the same bytes. So hundreds of readers of one thread that take nothing cost little more than one.
 */
export class EventPages {
  private readonly threads: Pick<ThreadStore, "readEvents">;
  private readonly underWay = new Map<string, Promise<readonly EncodedBatch[]>>();
  private readonly inTurn = atMost(READ_AT_ONCE_MAX);

  constructor(threads: Pick<ThreadStore, "readEvents">) {
    this.threads = threads;
  }

  /** @param known the last event that is known to be there: a page that was asked for before it came is another one. */
  read(after: EventPosition, known: number): Promise<readonly EncodedBatch[]> {
    const key = `${after.partnerId}/${after.threadId}/${after.lastEventId}/${known}`;
    const asked = this.underWay.get(key);
    if (asked !== undefined) return asked;
    const page = this.inTurn(() => this.readPage(after)).finally(() => this.underWay.delete(key));
    this.underWay.set(key, page);
    return page;
  }

  private async readPage(after: EventPosition): Promise<readonly EncodedBatch[]> {
    const batches = await this.threads.readEvents(after, PAGE_CHARACTERS);
    return batches.map((batch) => ({ lastId: lastIdOf(batch), bytes: Buffer.from(encodeEvents(batch)) }));
  }
}
