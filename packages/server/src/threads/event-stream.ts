import type { EventSink } from "../http/route.ts";
import type { EventBatch, ThreadOwner } from "../storage/thread-store.ts";
import type { EventPages } from "./event-pages.ts";
import { encodeEvent, lastIdOf } from "./thread-events.ts";

/** A reader that takes nothing for so long is cut off. */
const STALLED_MS_MAX = 30_000;
const HEARTBEAT_MS = 15_000;
/** In which a client comes back whose stream has ended (HTML standard, §9.2.6). */
const RECONNECT_MS = 2_000;

/** Why a stream ends, told by its last event. */
export type EndReason = "token_expired" | "token_ended" | "thread_deleted" | "server_stopping" | "store_unavailable" | "too_many_streams";

/** Who reads, and from where on. */
export interface StreamRequest {
  readonly owner: ThreadOwner;
  readonly workspaceId: string;
  readonly orgId: string;
  readonly tokenId: string;
  readonly threadId: string;
  readonly lastEventId: number;
  readonly tokenExpiresAtMs: number;
  /** That its partner may have open on this node. */
  readonly streamsMax: number;
  /** Rejects where the token, as it would be judged at a new request, does not open the stream any more. */
  authenticate(): Promise<unknown>;
}

/** What all streams of a thread have in common. */
export interface Channel {
  readonly partnerId: string;
  readonly threadId: string;
  /** Of the last event that this node knows of. */
  lastEventId: number;
}

export interface EventStreamPorts {
  readonly pages: Pick<EventPages, "read">;
  readonly nowMs: () => number;
}

/**
 * One reader of a thread. It gets each event behind its position once, in order: as it is published while it keeps up, and else out of the store, a page
 * when it has taken the one before. So what a slow reader makes the server hold is a page.
 */
export class EventStream {
  readonly request: StreamRequest;
  private readonly sink: EventSink;
  private readonly channel: Channel;
  private readonly ports: EventStreamPorts;
  private position: number;
  private isReading = false;
  private isEnded = false;
  /** Since when the reader takes nothing. */
  private stalledSinceMs: number | undefined;
  private lastWriteMs: number;
  /** When the token was last known to be good, and when that was last asked. */
  verifiedAtMs: number;
  askedAtMs: number;

  constructor(
    { request, sink, channel }: { readonly request: StreamRequest; readonly sink: EventSink; readonly channel: Channel },
    ports: EventStreamPorts,
  ) {
    const nowMs = ports.nowMs();
    this.request = request;
    this.sink = sink;
    this.channel = channel;
    this.ports = ports;
    this.position = request.lastEventId;
    this.lastWriteMs = nowMs;
    this.verifiedAtMs = nowMs;
    this.askedAtMs = nowMs;
    sink.onDrain(() => {
      this.stalledSinceMs = undefined;
      void this.catchUp();
    });
    // an id without data is no event, but the client comes back with it: nothing is lost between here and the first event
    this.write(`retry: ${RECONNECT_MS}\nid: ${this.position}\n\n`, nowMs);
  }

  /** @param encoded the same bytes for all readers of the thread. @param before the last event before the batch. */
  offer(batch: EventBatch, before: number, encoded: Uint8Array, nowMs: number): void {
    if (this.isEnded || this.position >= lastIdOf(batch)) return;
    if (this.position !== before || this.isReading || this.stalledSinceMs !== undefined) return void this.catchUp();
    this.position = lastIdOf(batch);
    this.write(encoded, nowMs);
  }

  /** Reads what is behind from the store, page by page, as the reader takes it. A store that is away is asked again at the next {@link beat}. */
  async catchUp(): Promise<void> {
    if (this.isReading || this.isEnded) return;
    this.isReading = true;
    try {
      while (!this.isEnded && this.stalledSinceMs === undefined && this.position < this.channel.lastEventId) {
        const { partnerId, threadId } = this.channel;
        const known = this.channel.lastEventId;
        const batches = await this.ports.pages.read({ partnerId, threadId, lastEventId: this.position }, known);
        if (this.isEnded) return;
        for (const batch of batches) {
          if (this.stalledSinceMs !== undefined) return; // the rest is read again when it is taken
          this.position = batch.lastId;
          this.write(batch.bytes, this.ports.nowMs());
        }
        if (batches.length === 0) this.position = known; // the thread is gone, or what was streamed is forgotten
      }
    } catch {
      // asked again
    } finally {
      this.isReading = false;
    }
  }

  /** What time brings: a sign of life, the end of who takes nothing. */
  beat(nowMs: number): void {
    if (this.isEnded) return;
    if (nowMs >= this.request.tokenExpiresAtMs) return this.end("token_expired");
    if (this.stalledSinceMs !== undefined) {
      if (nowMs - this.stalledSinceMs > STALLED_MS_MAX) this.cutOff();
      return;
    }
    if (this.position < this.channel.lastEventId) void this.catchUp();
    else if (nowMs - this.lastWriteMs >= HEARTBEAT_MS) this.write(":\n\n", nowMs);
  }

  /** With an event that says why; the client comes back to where it was. */
  end(reason: EndReason): void {
    if (this.isEnded) return;
    this.isEnded = true;
    if (this.stalledSinceMs !== undefined) this.sink.destroy(); // it would be held until it is read
    else this.sink.end(streamEnd(this.position, reason));
  }

  private cutOff(): void {
    this.isEnded = true;
    this.sink.destroy();
  }

  /** The reader has gone. */
  close(): void {
    this.isEnded = true;
  }

  private write(bytes: string | Uint8Array, nowMs: number): void {
    this.lastWriteMs = nowMs;
    if (!this.sink.write(bytes)) this.stalledSinceMs ??= nowMs;
  }
}

export function streamEnd(id: number, reason: EndReason): string {
  return encodeEvent(id, "stream_end", { reason });
}
