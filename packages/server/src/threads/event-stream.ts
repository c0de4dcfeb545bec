import { StoreUnavailable } from "@cambist/protocol";
import type { EventSink } from "../http/route.ts";
import type { EventBatch, ThreadOwner } from "../storage/thread-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { EventPages } from "./event-pages.ts";
import { encodeEvent, lastIdOf } from "./thread-events.ts";

/** A reader that takes nothing for so long, of what there is for it, is cut off. */
const STALLED_MS_MAX = 30_000;
/** In which the connection of a stream that has ended closes: else whoever does not take the end would keep its place for good. */
const CLOSING_MS_MAX = 10_000;
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
  /** Of the wall: for what a token says, and nothing else. */
  readonly nowMs: () => number;
  /** That nobody sets: for how long something takes. All other times here are its. */
  readonly monotonicMs: () => number;
  readonly log: Log;
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
  /** How often {@link hold} was called, and whether it was answered. */
  private holds = 0;
  private isHeld = false;
  private hasLogged = false;
  private endedAtMs: number | undefined;
  /** No more fits between here and the reader, until it drains. */
  private isFull = false;
  /** Of what was written, by when that was last seen. */
  private pendingBytes = 0;
  /** When the reader last took something, or there was nothing for it to take. */
  private tookAtMs: number;
  private lastWriteMs: number;
  /** When it was last asked whether the token is good, and when the last question was asked that was answered with yes. */
  askedAtMs: number;
  verifiedAtMs: number;

  constructor(
    { request, sink, channel }: { readonly request: StreamRequest; readonly sink: EventSink; readonly channel: Channel },
    ports: EventStreamPorts,
  ) {
    const atMs = ports.monotonicMs();
    this.request = request;
    this.sink = sink;
    this.channel = channel;
    this.ports = ports;
    this.position = request.lastEventId;
    this.tookAtMs = atMs;
    this.lastWriteMs = atMs;
    this.verifiedAtMs = atMs;
    this.askedAtMs = atMs;
    sink.onDrain(() => {
      this.isFull = false;
      void this.catchUp();
    });
    // an id without data is no event, but the client comes back with it: nothing is lost between here and the first event
    this.write(`retry: ${RECONNECT_MS}\nid: ${this.position}\n\n`, atMs);
  }

  get isEnded(): boolean {
    return this.endedAtMs !== undefined;
  }

  /** @param encoded the same bytes for all readers of the thread. @param before the last event before the batch. */
  offer(batch: EventBatch, before: number, encoded: Uint8Array, atMs: number): void {
    if (this.isEnded || this.position >= lastIdOf(batch)) return;
    if (this.position !== before || this.isReading || this.isFull || this.isHeld) return void this.catchUp();
    this.position = lastIdOf(batch);
    this.write(encoded, atMs);
  }

  /** Reads what is behind from the store, page by page, as the reader takes it. Where that fails, it is tried again at the next {@link beat}. */
  async catchUp(): Promise<void> {
    if (this.isReading || this.isEnded || this.isHeld) return;
    this.isReading = true;
    try {
      while (!this.isEnded && !this.isFull && this.position < this.channel.lastEventId) {
        const { partnerId, threadId } = this.channel;
        const known = this.channel.lastEventId;
        const batches = await this.ports.pages.read({ partnerId, threadId, lastEventId: this.position }, known);
        if (this.isEnded || this.isHeld) return;
        for (const batch of batches) {
          if (this.isFull) return; // the rest is read again when it is taken
          this.position = batch.lastId;
          this.write(batch.bytes, this.ports.monotonicMs());
        }
        if (batches.length === 0) this.position = known; // the thread is gone, or what was streamed is forgotten
      }
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.logOnce(error);
    } finally {
      this.isReading = false;
    }
  }

  /** The token may have been withdrawn: nothing more is shown before the {@link judgement} that was asked for after this. */
  hold(): void {
    this.holds++;
    this.isHeld = true;
  }

  /** To be begun before the token is judged; what it gives is called where the token is good, at that time. */
  judgement(): (askedAtMs: number) => void {
    const { holds } = this;
    return (askedAtMs) => {
      this.verifiedAtMs = Math.max(this.verifiedAtMs, askedAtMs);
      if (!this.isHeld || holds !== this.holds) return; // withdrawn since it was asked, perhaps
      this.isHeld = false;
      void this.catchUp();
    };
  }

  /** At each beat, which comes again a quarter of a second later. */
  private logOnce(error: unknown): void {
    if (this.hasLogged) return;
    this.hasLogged = true;
    this.ports.log.error("events of a stream cannot be read", { threadId: this.channel.threadId, error });
  }

  /** What time brings: a sign of life, the end of who takes nothing. Also of a stream that has ended, until its connection has closed. */
  beat(atMs: number): void {
    if (this.endedAtMs !== undefined) {
      if (atMs - this.endedAtMs >= CLOSING_MS_MAX) this.sink.destroy();
      return;
    }
    if (this.ports.nowMs() >= this.request.tokenExpiresAtMs) return this.end("token_expired");
    this.noteTaken(atMs);
    if (atMs - this.tookAtMs > STALLED_MS_MAX) return this.cutOff(atMs);
    if (this.isFull) return;
    if (this.position < this.channel.lastEventId) void this.catchUp();
    else if (this.pendingBytes === 0 && atMs - this.lastWriteMs >= HEARTBEAT_MS) this.write(":\n\n", atMs);
  }

  /** With an event that says why; the client comes back to where it was. */
  end(reason: EndReason): void {
    if (this.isEnded) return;
    const atMs = this.ports.monotonicMs();
    if (this.isFull) return this.cutOff(atMs); // it would be held until it is read
    this.endedAtMs = atMs;
    this.sink.end(streamEnd(this.position, reason));
  }

  private cutOff(atMs: number): void {
    this.endedAtMs = atMs;
    this.sink.destroy();
  }

  /** The reader has gone. */
  close(): void {
    this.endedAtMs ??= this.ports.monotonicMs();
  }

  private write(bytes: string | Uint8Array, atMs: number): void {
    this.noteTaken(atMs);
    this.lastWriteMs = atMs;
    if (!this.sink.write(bytes)) this.isFull = true;
    this.pendingBytes = this.sink.pendingBytes;
  }

  /** Before anything is written, which hides what was taken. */
  private noteTaken(atMs: number): void {
    const { pendingBytes } = this.sink;
    if (pendingBytes === 0 || pendingBytes < this.pendingBytes) this.tookAtMs = atMs;
    this.pendingBytes = pendingBytes;
  }
}

export function streamEnd(id: number, reason: EndReason): string {
  return encodeEvent(id, "stream_end", { reason });
}
