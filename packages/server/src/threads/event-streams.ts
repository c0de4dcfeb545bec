import { StoreUnavailable } from "@cambist/protocol";
import { Problem } from "../http/problem.ts";
import type { EventSink } from "../http/route.ts";
import type { EventBatch, ThreadKey, ThreadStore } from "../storage/thread-store.ts";
import type { EndedTokens } from "../storage/token-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { EventPages } from "./event-pages.ts";
import { type Channel, EventStream, type EventStreamPorts, streamEnd, type StreamRequest } from "./event-stream.ts";
import { encodeEvents, eventsBehind, lastIdOf } from "./thread-events.ts";

const BEAT_MS = 250;
/** Threads that are looked at in one beat for what other nodes have written; those where something came a moment ago are looked at in each. */
const LOOKED_AT_MAX = 500;
const LIVELY_MS = 5_000;
/** Threads that another node has deleted are looked for in one beat of so many. */
const BEATS_BETWEEN_DELETIONS = 9;
/** A token is judged again as often, so that what is withdrawn ends a stream within 5 s on every node (contract §4). */
const JUDGED_EVERY_MS = 3_000;
const JUDGED_AT_ONCE = 500;
/** A stream whose token cannot be judged for so long ends. */
const UNJUDGED_MS_MAX = 5_000;

export interface EventStreamsPorts {
  readonly threads: Pick<ThreadStore, "readEvents" | "readNewEvents" | "listDeleted">;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "changeOpenStreams">;
}

interface OpenChannel extends Channel {
  readonly streams: Set<EventStream>;
  /** When something was last found that another node had written. */
  foundAtMs: number;
}

/**
 * All open streams of this node. What tasks of this node write is published to them as soon as it is durable; what other nodes write is looked for in the
 * store. One timer for all of them.
 */
export class EventStreams {
  private readonly ports: EventStreamsPorts;
  private readonly streamPorts: EventStreamPorts;
  private readonly channels = new Map<string, OpenChannel>();
  private readonly streams = new Set<EventStream>();
  private readonly countByPartner = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;
  private isLooking = false;
  private lookFrom = 0;
  private beats = 0;
  private isClosed = false;

  constructor(ports: EventStreamsPorts) {
    this.ports = ports;
    const { threads, nowMs } = ports;
    this.streamPorts = { pages: new EventPages(threads), nowMs };
  }

  start(): void {
    this.timer = setInterval(() => this.beat(), BEAT_MS).unref();
  }

  /** @throws Problem 429 where the partner has that many open. */
  requireRoom(partnerId: string, streamsMax: number): void {
    if (this.hasRoom(partnerId, streamsMax)) return;
    throw new Problem(
      429,
      `The partner has ${streamsMax} streams open on this node, which is as many as it may; close some, or try again.`,
      {
        headers: { "retry-after": "5" },
      },
    );
  }

  private hasRoom(partnerId: string, streamsMax: number): boolean {
    return (this.countByPartner.get(partnerId) ?? 0) < streamsMax;
  }

  /** @param lastEventId of the thread, as the store has it. */
  open(request: StreamRequest, lastEventId: number, sink: EventSink): void {
    const { owner, threadId } = request;
    // several that came at once have all found room; and this is no time for a status any more
    if (!this.hasRoom(owner.partnerId, request.streamsMax)) return sink.end(streamEnd(request.lastEventId, "too_many_streams"));
    const key = keyOf({ partnerId: owner.partnerId, threadId });
    let channel = this.channels.get(key);
    if (channel === undefined) {
      channel = { partnerId: owner.partnerId, threadId, lastEventId, streams: new Set(), foundAtMs: 0 };
      this.channels.set(key, channel);
    }
    channel.lastEventId = Math.max(channel.lastEventId, lastEventId);
    const stream = new EventStream({ request, sink, channel }, this.streamPorts);
    channel.streams.add(stream);
    this.streams.add(stream);
    this.count(owner.partnerId, 1);
    const opened = channel;
    sink.onClose(() => this.forget(stream, opened, key));
    if (this.isClosed) stream.end("server_stopping");
    else void stream.catchUp();
  }

  private forget(stream: EventStream, channel: OpenChannel, key: string): void {
    stream.close();
    if (!this.streams.delete(stream)) return;
    this.count(channel.partnerId, -1);
    channel.streams.delete(stream);
    if (channel.streams.size === 0 && this.channels.get(key) === channel) this.channels.delete(key);
  }

  private count(partnerId: string, change: 1 | -1): void {
    this.ports.metrics.changeOpenStreams(change);
    const count = (this.countByPartner.get(partnerId) ?? 0) + change;
    if (count === 0) this.countByPartner.delete(partnerId);
    else this.countByPartner.set(partnerId, count);
  }

  /** What a task of this node has written. Where something is missing before it, the store is looked at. */
  publish(batch: EventBatch): void {
    const channel = this.channels.get(keyOf(batch));
    if (channel === undefined) return;
    if (batch.firstId <= channel.lastEventId + 1) this.deliver(channel, batch);
    else void this.look([channel]);
  }

  private deliver(channel: OpenChannel, batch: EventBatch): void {
    const before = channel.lastEventId;
    if (lastIdOf(batch) <= before) return;
    channel.lastEventId = lastIdOf(batch);
    // a part of it is known where it was written twice, since the store did not answer at first
    const encoded = Buffer.from(encodeEvents(eventsBehind(batch, before)));
    const nowMs = this.ports.nowMs();
    for (const stream of channel.streams) stream.offer(batch, before, encoded, nowMs);
  }

  endThread(thread: ThreadKey): void {
    for (const stream of this.channels.get(keyOf(thread))?.streams ?? []) stream.end("thread_deleted");
  }

  /** Tokens were withdrawn on this node: the streams that this may be about are judged now. */
  judgeAgain(ended: EndedTokens): void {
    for (const stream of this.streams) {
      const { owner, workspaceId, orgId, tokenId } = stream.request;
      if ([tokenId, owner.userId, workspaceId, orgId, owner.partnerId].includes(ended.id)) stream.askedAtMs = -Infinity;
    }
    this.judge(this.ports.nowMs());
  }

  /** Tells everybody to come back, to another node or to this one after its restart. */
  close(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    for (const stream of this.streams) stream.end("server_stopping");
  }

  private beat(): void {
    const nowMs = this.ports.nowMs();
    for (const stream of this.streams) stream.beat(nowMs);
    const channels = this.channelsToLookAt(nowMs);
    if (++this.beats % BEATS_BETWEEN_DELETIONS === 0) void this.endDeleted(channels);
    else void this.look(channels);
    this.judge(nowMs);
  }

  private async endDeleted(channels: readonly OpenChannel[]): Promise<void> {
    if (channels.length === 0) return;
    try {
      for (const thread of await this.ports.threads.listDeleted(channels)) this.endThread(thread);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.ports.log.error("deleted threads cannot be looked for", { error });
    }
  }

  private channelsToLookAt(nowMs: number): readonly OpenChannel[] {
    const all = [...this.channels.values()];
    if (all.length <= LOOKED_AT_MAX) return all;
    const from = this.lookFrom % all.length;
    this.lookFrom = from + LOOKED_AT_MAX;
    const inTurn = [...all.slice(from), ...all.slice(0, from)].slice(0, LOOKED_AT_MAX);
    const lively = all.filter(({ foundAtMs }) => nowMs - foundAtMs < LIVELY_MS);
    return [...new Set([...lively, ...inTurn])];
  }

  private async look(channels: readonly OpenChannel[]): Promise<void> {
    if (this.isLooking || channels.length === 0) return;
    this.isLooking = true;
    try {
      const batches = await this.ports.threads.readNewEvents(channels);
      for (const batch of batches) {
        const channel = this.channels.get(keyOf(batch));
        if (channel === undefined) continue;
        channel.foundAtMs = this.ports.nowMs();
        this.deliver(channel, batch);
      }
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.ports.log.error("events cannot be looked for", { error });
    } finally {
      this.isLooking = false;
    }
  }

  private judge(nowMs: number): void {
    let count = 0;
    for (const stream of this.streams) {
      if (nowMs - stream.askedAtMs < JUDGED_EVERY_MS) continue;
      if (++count > Math.max(JUDGED_AT_ONCE, this.streams.size / 8)) return;
      stream.askedAtMs = nowMs;
      void this.judgeOne(stream, nowMs);
    }
  }

  private async judgeOne(stream: EventStream, nowMs: number): Promise<void> {
    try {
      await stream.request.authenticate();
      stream.verifiedAtMs = nowMs;
    } catch (thrown) {
      if (thrown instanceof Problem) return stream.end("token_ended");
      if (!(thrown instanceof StoreUnavailable)) this.ports.log.error("the token of a stream cannot be judged", { error: thrown });
      if (nowMs - stream.verifiedAtMs > UNJUDGED_MS_MAX) stream.end("store_unavailable");
    }
  }
}

function keyOf({ partnerId, threadId }: ThreadKey): string {
  return `${partnerId}/${threadId}`;
}
