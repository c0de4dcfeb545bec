import { StoreUnavailable } from "@cambist/protocol";
import { vi } from "vitest";
import type { EventSink } from "../http/route.ts";
import type { EventBatch, EventPosition, StoredEvent, ThreadKey } from "../storage/thread-store.ts";
import { openLog } from "../telemetry/log.ts";
import type { StreamRequest } from "../threads/event-stream.ts";
import { EventStreams } from "../threads/event-streams.ts";
import { chunkEvent, taskStatusEvent } from "../threads/thread-events.ts";

export const PARTNER = "prt_1";
export const USER = { partnerId: PARTNER, userId: "user-1" };
export const THREAD = "thread-1";
export const BEAT_MS = 250;
/** What Node holds for a reader before it says that it is too much. */
const HELD_BYTES_MAX = 16 * 1024;

export const upTo = (last: number, from = 1) => Array.from({ length: last - from + 1 }, (_n, index) => from + index);

/** A reader whose socket takes as much as the test lets it. */
export class TestSink implements EventSink {
  written = "";
  pendingBytes = 0;
  /** Takes nothing any more; a write says so as soon as that much is held, or at once. */
  isStuck = false;
  isFull = false;
  state: "open" | "ended" | "destroyed" = "open";
  private drained: () => void = () => undefined;
  private closed: () => void = () => undefined;

  write(bytes: string | Uint8Array): boolean {
    this.written += typeof bytes === "string" ? bytes : Buffer.from(bytes).toString();
    if (this.isStuck || this.isFull) this.pendingBytes += Buffer.byteLength(bytes);
    return !this.isFull && this.pendingBytes < HELD_BYTES_MAX;
  }
  /** Closes when the end is taken. */
  end(last: string): void {
    this.written += last;
    this.state = "ended";
    if (!this.isStuck) this.closed();
  }
  destroy(): void {
    this.state = "destroyed";
    this.closed();
  }
  onDrain(listener: () => void): void {
    this.drained = listener;
  }
  onClose(listener: () => void): void {
    this.closed = listener;
  }
  drain(): void {
    this.isFull = false;
    this.pendingBytes = 0;
    this.drained();
  }
  get ids(): number[] {
    return [...this.written.matchAll(/^id: (\d+)\nevent: message_chunk$/gm)].map(([, id]) => Number(id));
  }
}

/** The streams of a node, with a store, clocks and readers in the test's hand. */
export class StreamsStage {
  stored: EventBatch[] = [];
  deleted: ThreadKey[] = [];
  isAway = false;
  /** Of reading a page, other than that the store is away. */
  fault: Error | undefined;
  atMs = 5_000;
  wallMs = 1_000_000;
  /** What a look waits for. */
  looking: Promise<void> | undefined;
  /** How many batches the store gives of a thread in one look. */
  newBatchesMax = Number.POSITIVE_INFINITY;
  /** The threads of each look, and of each for deleted ones. */
  readonly looks: string[][] = [];
  readonly deletionLooks: string[][] = [];
  readonly faults: string[] = [];
  readonly streams: EventStreams;

  constructor() {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const idsOf = (threads: readonly ThreadKey[]) => threads.map(({ threadId }) => threadId);
    const answer = <T>(read: () => T): Promise<T> => Promise.resolve().then(read);
    this.streams = new EventStreams({
      threads: {
        readEvents: (after) =>
          answer(() => {
            if (this.fault !== undefined) throw this.fault;
            return this.behind(after).slice(0, 1); // the smallest page
          }),
        readNewEvents: async (positions) => {
          this.looks.push(idsOf(positions));
          await this.looking;
          return positions.flatMap((at) => this.behind(at).slice(0, this.newBatchesMax));
        },
        listDeleted: (threads) => {
          this.deletionLooks.push(idsOf(threads));
          return answer(() => this.deleted);
        },
      },
      nowMs: () => this.wallMs,
      monotonicMs: () => this.atMs,
      log: openLog("error", { write: (line) => void this.faults.push(line) }),
      metrics: { changeOpenStreams: () => undefined },
    });
    this.streams.start();
  }

  close(): void {
    this.streams.close();
    vi.useRealTimers();
  }

  private behind(after: EventPosition): EventBatch[] {
    if (this.isAway) throw new StoreUnavailable("away");
    return this.stored
      .filter((batch) => batch.threadId === after.threadId && batch.firstId + batch.events.length - 1 > after.lastEventId)
      .map((batch) => {
        const known = Math.max(0, after.lastEventId + 1 - batch.firstId);
        return { ...batch, firstId: batch.firstId + known, events: batch.events.slice(known) };
      });
  }

  /** Written by a task: of this node, which publishes it, or of another one. */
  write(count: number, where: "here" | "elsewhere", threadId = THREAD, text?: string): void {
    this.store(where, threadId, (firstId) => Array.from({ length: count }, (_n, index) => chunkEvent(text ?? `${firstId + index}`)));
  }

  /** The end of that task. */
  end(where: "here" | "elsewhere", threadId = THREAD): void {
    this.store(where, threadId, () => [taskStatusEvent("task-1", "answered", false)]);
  }

  private store(where: "here" | "elsewhere", threadId: string, eventsFrom: (firstId: number) => StoredEvent[]): void {
    const last = this.stored.findLast((batch) => batch.threadId === threadId);
    const firstId = last === undefined ? 1 : last.firstId + last.events.length;
    const batch = { partnerId: PARTNER, threadId, firstId, events: eventsFrom(firstId) };
    this.stored.push(batch);
    if (where === "here") this.streams.publish(batch);
  }

  /** @param changes of the request; `threadLastEventId`: of the thread as the store has it, else the reader's. */
  open(changes: Partial<StreamRequest> & { readonly threadLastEventId?: number } = {}): TestSink {
    const sink = new TestSink();
    const request = {
      owner: USER,
      workspaceId: "workspace-1",
      orgId: "org-1",
      tokenId: "token-1",
      threadId: THREAD,
      lastEventId: 0,
      tokenExpiresAtMs: this.wallMs + 3_600_000,
      streamsMax: 3,
      authenticate: () => Promise.resolve(),
      ...changes,
    };
    this.streams.open(request, changes.threadLastEventId ?? request.lastEventId, sink);
    return sink;
  }

  /** Both clocks go on. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += BEAT_MS) {
      this.atMs += BEAT_MS;
      this.wallMs += BEAT_MS;
      await vi.advanceTimersByTimeAsync(BEAT_MS);
      await new Promise(setImmediate);
    }
  }
}
