import { StoreUnavailable } from "@cambist/protocol";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Problem } from "../http/problem.ts";
import type { EventSink } from "../http/route.ts";
import type { EventBatch, EventPosition, ThreadKey } from "../storage/thread-store.ts";
import { openLog } from "../telemetry/log.ts";
import { EventStreams } from "./event-streams.ts";
import { chunkEvent } from "./thread-events.ts";

const PARTNER = "prt_1";
const THREAD = "thread-1";

/** A reader whose socket takes as much as the test lets it. */
class TestSink implements EventSink {
  written = "";
  isFull = false;
  state: "open" | "ended" | "destroyed" = "open";
  private drained: () => void = () => undefined;
  private closed: () => void = () => undefined;

  write(bytes: string | Uint8Array): boolean {
    this.written += typeof bytes === "string" ? bytes : Buffer.from(bytes).toString();
    return !this.isFull;
  }
  end(last: string): void {
    this.written += last;
    this.state = "ended";
    this.closed();
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
    this.drained();
  }
  get ids(): number[] {
    return [...this.written.matchAll(/^id: (\d+)\nevent: message_chunk$/gm)].map(([, id]) => Number(id));
  }
}

describe("streams of a node", () => {
  let stored: EventBatch[];
  let deleted: ThreadKey[];
  let isAway: boolean;
  let nowMs: number;
  let streams: EventStreams;
  const faults: string[] = [];
  const log = openLog("error", { write: (line) => void faults.push(line) });

  const behind = (after: EventPosition) => {
    if (isAway) throw new StoreUnavailable("away");
    return stored
      .filter((batch) => batch.threadId === after.threadId && batch.firstId + batch.events.length - 1 > after.lastEventId)
      .map((batch) => {
        const known = Math.max(0, after.lastEventId + 1 - batch.firstId);
        return { ...batch, firstId: batch.firstId + known, events: batch.events.slice(known) };
      });
  };

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    [stored, deleted, isAway, nowMs] = [[], [], false, 1_000_000];
    faults.length = 0;
    streams = new EventStreams({
      threads: {
        readEvents: (after) => Promise.resolve().then(() => behind(after).slice(0, 1)), // the smallest page
        readNewEvents: (positions) => Promise.resolve().then(() => positions.flatMap(behind)),
        listDeleted: () => Promise.resolve(deleted),
      },
      nowMs: () => nowMs,
      log,
      metrics: { changeOpenStreams: () => undefined },
    });
    streams.start();
  });
  afterEach(() => {
    streams.close();
    vi.useRealTimers();
    expect(faults).toEqual([]);
  });

  /** Written by a task: of this node, which publishes it, or of another one. */
  function write(count: number, where: "here" | "elsewhere"): void {
    const last = stored.at(-1);
    const firstId = last === undefined ? 1 : last.firstId + last.events.length;
    const batch = {
      partnerId: PARTNER,
      threadId: THREAD,
      firstId,
      events: Array.from({ length: count }, (_n, index) => chunkEvent(`${firstId + index}`)),
    };
    stored.push(batch);
    if (where === "here") streams.publish(batch);
  }

  function open(
    lastEventId = 0,
    authenticate: () => Promise<unknown> = () => Promise.resolve(),
    threadLastEventId = lastEventId,
  ): TestSink {
    const sink = new TestSink();
    const owner = { partnerId: PARTNER, userId: "user-1" };
    const ids = { workspaceId: "workspace-1", orgId: "org-1", tokenId: "token-1", threadId: THREAD };
    streams.open({ owner, ...ids, lastEventId, tokenExpiresAtMs: nowMs + 3_600_000, streamsMax: 3, authenticate }, threadLastEventId, sink);
    return sink;
  }

  async function pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 250) {
      nowMs += 250;
      await vi.advanceTimersByTimeAsync(250);
      await new Promise(setImmediate);
    }
  }

  const upTo = (last: number, from = 1) => Array.from({ length: last - from + 1 }, (_n, index) => from + index);

  test("what is written here and elsewhere, in turn, comes once and in order", async () => {
    const sink = open();
    for (const where of ["here", "elsewhere", "here", "elsewhere", "elsewhere", "here", "here"] as const) write(3, where);
    await pass(500);
    write(2, "here");
    await pass(250);
    expect(sink.ids).toEqual(upTo(23));
  });

  test("from every position on, the rest comes once, also from inside what was written in one go, and with more published meanwhile", async () => {
    for (const count of [1, 5, 2, 4]) write(count, "elsewhere");
    for (let from = 0; from <= 12; from++) {
      const sink = open(from, undefined, 12);
      write(2, "here");
      await pass(250);
      expect(sink.ids, `from ${from}`).toEqual(upTo(14, from + 1));
      sink.destroy();
      stored.pop();
    }
  });

  test("a reader that is behind holds up nobody and nothing in memory: it gets the rest, a page at a time, when it takes it", async () => {
    const [slow, quick] = [open(), open()];
    slow.isFull = true;
    for (let n = 0; n < 50; n++) write(1, "here");
    await pass(1_000);
    expect(quick.ids).toEqual(upTo(50));
    expect(slow.ids).toEqual([1]);
    slow.drain();
    await pass(250);
    expect(slow.ids).toEqual(upTo(50));
  });

  test("a reader that takes nothing for 30 s is cut off; one that only has nothing to read is not", async () => {
    const [stuck, idle] = [open(), open()];
    stuck.isFull = true;
    write(2, "here");
    await pass(29_500);
    expect(stuck.state).toBe("open");
    await pass(1_000);
    expect(stuck.state).toBe("destroyed");
    expect(idle.state).toBe("open");
  });

  test("a comment every 15 s keeps the way open, and is no event", async () => {
    const sink = open();
    await pass(46_000);
    expect(sink.written.match(/^:$/gm)).toHaveLength(3);
    expect(sink.written.replaceAll(":\n\n", "")).toBe("retry: 2000\nid: 0\n\n");
  });

  test("a token that is withdrawn ends the stream within 5 s wherever that was, and at once where this node did it", async () => {
    let isGood = true;
    const judge = () => (isGood ? Promise.resolve() : Promise.reject(new Problem(401, "ended")));
    const [elsewhere, here] = [open(0, judge), open(0, judge)];
    await pass(1_000);
    isGood = false;
    streams.judgeAgain({ kind: "user", id: "user-2", partnerId: PARTNER });
    await pass(250);
    expect(here.state).toBe("open");
    await pass(3_000);
    expect(elsewhere.written).toContain('"reason":"token_ended"');
    isGood = true;
    const third = open(0, judge);
    isGood = false;
    streams.judgeAgain({ kind: "workspace", id: "workspace-1", partnerId: PARTNER });
    await new Promise(setImmediate);
    expect([third.state, third.written.includes('"reason":"token_ended"')]).toEqual(["ended", true]);
  });

  test("while nobody can say whether the token is good, the stream goes on for 5 s, and then ends", async () => {
    let canSay = true;
    const sink = open(0, () => (canSay ? Promise.resolve() : Promise.reject(new StoreUnavailable("away"))));
    await pass(4_000);
    [canSay, isAway] = [false, true];
    await pass(3_500);
    expect(sink.state).toBe("open");
    await pass(6_000);
    expect(sink.written).toContain('"reason":"store_unavailable"');
  });

  test("a thread that another node has deleted ends its streams", async () => {
    const sink = open();
    deleted = [{ partnerId: PARTNER, threadId: THREAD }];
    await pass(2_500);
    expect(sink.written).toContain('"reason":"thread_deleted"');
  });

  test("over as many as the partner may have, a stream is refused, and one that had found room is ended", () => {
    const open3 = [open(), open(), open()];
    expect(() => streams.requireRoom(PARTNER, 3)).toThrow(/3 streams/);
    streams.requireRoom("prt_2", 3);
    expect(open().written).toContain('"reason":"too_many_streams"');
    open3[0]?.destroy();
    streams.requireRoom(PARTNER, 3);
    expect(open().state).toBe("open");
  });

  test("when the server stops, everybody is told, also who comes after that; who takes nothing is cut off", () => {
    const [reader, stuck] = [open(), open()];
    stuck.isFull = true;
    write(1, "here");
    streams.close();
    expect(reader.written).toContain('"reason":"server_stopping"');
    expect(stuck.state).toBe("destroyed");
    expect(open().written).toContain('"reason":"server_stopping"');
  });
});
