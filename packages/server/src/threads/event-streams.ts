import { StoreUnavailable } from "@cambist/protocol";
import { Problem } from "../http/problem.ts";
import type { EventSink } from "../http/route.ts";
import type { EventBatch, ThreadKey, ThreadOwner, ThreadStore } from "../storage/thread-store.ts";
import type { EndedTokens } from "../storage/token-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { EventPages } from "./event-pages.ts";
import { EventLooks, keyOf, type LookedAt } from "./event-looks.ts";
import { EventStream, type EventStreamPorts, streamEnd, type StreamRequest } from "./event-stream.ts";
import { StreamRoom } from "./stream-room.ts";
import { encodeEvents, endsTask, eventsBehind, lastIdOf } from "./thread-events.ts";
import { Turns } from "./turns.ts";

const BEAT_MS = 250;
/** Threads that are asked about in one beat: are they still there? */
const ASKED_ABOUT_MAX = 500;
/** Threads that another node has deleted are looked for in one beat of so many. */
const BEATS_BETWEEN_DELETIONS = 9;
/**
 * A token is judged again as often, so that what is withdrawn ends a stream within 5 s on every node (contract §4). All that are due at once are asked
 * about within five beats, and those that nobody could judge again after a second.
 */
const JUDGED_EVERY_MS = 3_000;
const JUDGED_AGAIN_MS = 1_000;
const JUDGED_AT_ONCE = 500;
const JUDGED_AT_ONCE_SHARE = 1 / 5;
/** A stream whose token cannot be judged for so long ends. */
const UNJUDGED_MS_MAX = 5_000;

export interface EventStreamsPorts {
  readonly threads: Pick<ThreadStore, "readEvents" | "readNewEvents" | "listDeleted">;
  /** Of the wall, which may be set back or ahead at any time: for when tokens expire. */
  readonly nowMs: () => number;
  /** For how long something takes. */
  readonly monotonicMs: () => number;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "changeOpenStreams">;
}

interface OpenChannel extends LookedAt {
  readonly streams: Set<EventStream>;
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
  private readonly room = new StreamRoom();
  private readonly looks: EventLooks<OpenChannel>;
  private readonly toFindDeleted = new Turns(this.channels);
  private readonly toJudge = new Turns(this.streams);
  private timer: NodeJS.Timeout | undefined;
  private isFindingDeleted = false;
  private beats = 0;
  private isClosed = false;

  constructor(ports: EventStreamsPorts) {
    this.ports = ports;
    const { threads, nowMs, monotonicMs, log } = ports;
    this.streamPorts = { pages: new EventPages(threads), nowMs, monotonicMs, log };
    this.looks = new EventLooks(this.channels, { threads, deliver: (channel, batch) => this.deliver(channel, batch), monotonicMs, log });
  }

  start(): void {
    this.timer = setInterval(() => this.beat(), BEAT_MS).unref();
  }

  /** @throws Problem 429 where the partner, or the user, has as many open as it may. */
  requireRoom(owner: ThreadOwner, streamsMax: number): void {
    this.room.require(owner, streamsMax);
  }

  /** @param lastEventId of the thread, as the store has it. */
  open(request: StreamRequest, lastEventId: number, sink: EventSink): void {
    const { owner, threadId } = request;
    // several that came at once have all found room; and this is no time for a status any more
    if (!this.room.has(owner, request.streamsMax)) return sink.end(streamEnd(request.lastEventId, "too_many_streams"));
    const key = keyOf({ partnerId: owner.partnerId, threadId });
    let channel = this.channels.get(key);
    if (channel === undefined) {
      channel = { partnerId: owner.partnerId, threadId, lastEventId, streams: new Set(), foundAtMs: -Infinity, ownAtMs: -Infinity };
      this.channels.set(key, channel);
    }
    channel.lastEventId = Math.max(channel.lastEventId, lastEventId);
    const stream = new EventStream({ request, sink, channel }, this.streamPorts);
    channel.streams.add(stream);
    this.streams.add(stream);
    this.count(owner, 1);
    const opened = channel;
    sink.onClose(() => this.forget(stream, opened, key));
    if (this.isClosed) stream.end("server_stopping");
    else void stream.catchUp();
  }

  private forget(stream: EventStream, channel: OpenChannel, key: string): void {
    stream.close();
    if (!this.streams.delete(stream)) return;
    this.count(stream.request.owner, -1);
    channel.streams.delete(stream);
    if (channel.streams.size === 0 && this.channels.get(key) === channel) this.channels.delete(key);
  }

  private count(owner: ThreadOwner, change: 1 | -1): void {
    this.ports.metrics.changeOpenStreams(change);
    this.room.change(owner, change);
  }

  /** What a task of this node has written. Where something is missing before it, the store is looked at. */
  publish(batch: EventBatch): void {
    const channel = this.channels.get(keyOf(batch));
    if (channel === undefined) return;
    if (batch.firstId > channel.lastEventId + 1) return this.looks.lookAt(channel);
    this.deliver(channel, batch);
    channel.ownAtMs = endsTask(batch) ? -Infinity : this.ports.monotonicMs(); // the next task may be another node's
  }

  /** Gives how many bytes of news it was. */
  private deliver(channel: OpenChannel, batch: EventBatch): number {
    const before = channel.lastEventId;
    if (lastIdOf(batch) <= before) return 0;
    channel.lastEventId = lastIdOf(batch);
    // a part of it is known where it was written twice, since the store did not answer at first
    const encoded = Buffer.from(encodeEvents(eventsBehind(batch, before)));
    const atMs = this.ports.monotonicMs();
    for (const stream of channel.streams) stream.offer(batch, before, encoded, atMs);
    return encoded.byteLength;
  }

  endThread(thread: ThreadKey): void {
    for (const stream of this.channels.get(keyOf(thread))?.streams ?? []) stream.end("thread_deleted");
  }

  /** Tokens were withdrawn on this node: the streams that this may be about are judged now, and show nothing until they are. */
  judgeAgain(ended: EndedTokens): void {
    for (const stream of this.streams) {
      const { owner, workspaceId, orgId, tokenId } = stream.request;
      if (![tokenId, owner.userId, workspaceId, orgId, owner.partnerId].includes(ended.id)) continue;
      stream.hold();
      stream.askedAtMs = -Infinity;
    }
    this.judge(this.ports.monotonicMs());
  }

  /** Tells everybody to come back, to another node or to this one after its restart. */
  close(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    for (const stream of this.streams) stream.end("server_stopping");
  }

  private beat(): void {
    const atMs = this.ports.monotonicMs();
    for (const stream of this.streams) {
      stream.beat(atMs);
      if (atMs - stream.verifiedAtMs > UNJUDGED_MS_MAX) stream.end("store_unavailable"); // also while the last question is not answered
    }
    this.looks.lookAtNext(atMs);
    if (++this.beats % BEATS_BETWEEN_DELETIONS === 0) void this.endDeleted();
    this.judge(atMs);
  }

  private async endDeleted(): Promise<void> {
    if (this.isFindingDeleted || this.channels.size === 0) return;
    this.isFindingDeleted = true;
    try {
      const channels = this.toFindDeleted.take(ASKED_ABOUT_MAX);
      for (const thread of await this.ports.threads.listDeleted(channels)) this.endThread(thread);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.ports.log.error("deleted threads cannot be looked for", { error });
    } finally {
      this.isFindingDeleted = false;
    }
  }

  private judge(atMs: number): void {
    const countMax = Math.max(JUDGED_AT_ONCE, this.streams.size * JUDGED_AT_ONCE_SHARE);
    let count = 0;
    for (const stream of this.toJudge.next()) {
      if (stream.isEnded || atMs - stream.askedAtMs < JUDGED_EVERY_MS) continue;
      stream.askedAtMs = atMs;
      void this.judgeOne(stream, atMs);
      if (++count >= countMax) return;
    }
  }

  private async judgeOne(stream: EventStream, atMs: number): Promise<void> {
    const approve = stream.judgement();
    try {
      await stream.request.authenticate();
      approve(atMs);
    } catch (thrown) {
      if (thrown instanceof Problem) return stream.end("token_ended");
      if (!(thrown instanceof StoreUnavailable)) this.ports.log.error("the token of a stream cannot be judged", { error: thrown });
      stream.askedAtMs = Math.min(stream.askedAtMs, atMs - JUDGED_EVERY_MS + JUDGED_AGAIN_MS);
    }
  }
}
