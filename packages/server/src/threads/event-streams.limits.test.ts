import { StoreUnavailable } from "@cambist/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Problem } from "../http/problem.ts";
import { PARTNER, StreamsStage, THREAD, upTo, USER } from "../testing/event-streams.ts";

const HOUR_MS = 3_600_000;
const hangs = () => new Promise<never>(() => undefined);
const fails = () => Promise.reject(new StoreUnavailable("away"));

let stage: StreamsStage;
beforeEach(() => {
  stage = new StreamsStage();
});
afterEach(() => stage.close());

const endThread = () => stage.streams.endThread({ partnerId: PARTNER, threadId: THREAD });

describe("readers that take nothing", () => {
  test("30 s after the last byte that it took, a reader is cut off, however little is held for it; heartbeats hide nothing", async () => {
    const [stuck, idle, slow] = [stage.open(), stage.open(), stage.open()];
    for (const sink of [stuck, idle, slow]) sink.isStuck = true;
    stage.write(1, "here");
    idle.drain(); // it has taken that, and takes nothing that comes after it
    for (let n = 0; n < 3; n++) {
      await stage.pass(9_750);
      slow.pendingBytes -= 1;
    }
    expect([stuck.state, idle.state, slow.state]).toEqual(["open", "open", "open"]);
    await stage.pass(1_250);
    expect([stuck.state, idle.state, slow.state]).toEqual(["destroyed", "open", "open"]);
    expect([stuck, idle].map(({ written }) => written.match(/^:$/gm)?.length)).toEqual([undefined, 1]);
    await stage.pass(14_250); // 30 s after the heartbeat
    expect(idle.state).toBe("open");
    await stage.pass(500);
    expect([idle.state, slow.state]).toEqual(["destroyed", "open"]);
    expect(stage.faults).toEqual([]);
  });

  test("a reader that takes as much as is written meanwhile is not cut off, though it never has all", async () => {
    const sink = stage.open();
    sink.isStuck = true;
    stage.write(2, "here");
    const { pendingBytes } = sink;
    for (let beats = 0; beats < 130; beats++) {
      stage.write(1, "here");
      sink.pendingBytes = pendingBytes;
      await stage.pass(250);
    }
    expect([sink.state, sink.ids]).toEqual(["open", upTo(132)]);
  });

  test("a stream whose end is not taken keeps its place until its connection is cut off, 10 s later", async () => {
    const sink = stage.open({ streamsMax: 1 });
    sink.isStuck = true;
    endThread();
    expect(sink.written).toContain('"reason":"thread_deleted"');
    await stage.pass(9_750);
    expect(sink.state).toBe("ended");
    expect(() => stage.streams.requireRoom(USER, 1)).toThrow(/1 streams/);
    await stage.pass(250);
    expect(sink.state).toBe("destroyed");
    stage.streams.requireRoom(USER, 1);
  });

  test("a stream that has ended is not judged any more", async () => {
    let asked = 0;
    const authenticate = () => Promise.resolve(asked++);
    stage.open({ authenticate }).isStuck = true;
    const sink = stage.open({ authenticate });
    sink.isStuck = true;
    endThread();
    await stage.pass(9_000);
    expect([sink.state, asked]).toEqual(["ended", 0]);
  });
});

describe("clocks", () => {
  test.each([-24 * HOUR_MS, HOUR_MS / 2])("a clock that is set by %d ms changes nothing but when tokens expire", async (set) => {
    let isGood = true;
    const authenticate = () => (isGood ? Promise.resolve() : Promise.reject(new Problem(401, "ended")));
    const [sink, stuck] = [stage.open({ authenticate }), stage.open()];
    await stage.pass(1_000);
    stage.wallMs += set;
    stuck.isStuck = true;
    stage.write(1, "here");
    stage.write(1, "elsewhere");
    await stage.pass(1_250);
    expect(sink.ids).toEqual([1, 2]);
    await stage.pass(30_000);
    expect(stuck.state).toBe("destroyed");
    expect([sink.state, sink.written.match(/^:$/gm)?.length]).toEqual(["open", 2]);
    isGood = false;
    await stage.pass(3_250);
    expect(sink.written).toContain('"reason":"token_ended"');
    expect(stage.faults).toEqual([]);
  });

  test("a token expires by the clock of the wall", async () => {
    const sink = stage.open();
    stage.wallMs += HOUR_MS - 500;
    await stage.pass(250);
    expect(sink.state).toBe("open");
    await stage.pass(250);
    expect(sink.written).toContain('"reason":"token_expired"');
  });
});

describe("tokens that cannot be judged", () => {
  test.each([
    ["hangs", hangs],
    ["fails", fails],
  ])("a stream ends 5 s after the last good answer, where the question %s", async (_how, judge) => {
    let canSay = true;
    const sink = stage.open({ authenticate: () => (canSay ? Promise.resolve() : judge()) });
    await stage.pass(3_250); // good at 3 s
    canSay = false;
    await stage.pass(4_750);
    expect(sink.state).toBe("open");
    await stage.pass(250);
    expect(sink.written).toContain('"reason":"store_unavailable"');
    expect(stage.faults).toEqual([]);
  });

  test("a question that fails is put again a second later, so that a moment without the store ends nothing", async () => {
    const asked: number[] = [];
    const began = stage.atMs;
    const sink = stage.open({
      authenticate: () => {
        asked.push(stage.atMs - began);
        return asked.length % 2 === 1 ? fails() : Promise.resolve();
      },
    });
    await stage.pass(9_000);
    expect([sink.state, asked]).toEqual(["open", [3_000, 4_000, 7_000, 8_000]]);
  });

  test("of thousands that were opened at once, each is judged in time, and not all at the same moment", async () => {
    const askedAt = new Map<number, number[]>();
    const sinks = upTo(4_000).map((n) =>
      stage.open({
        streamsMax: 100_000,
        threadId: `thread-${n}`,
        authenticate: () => Promise.resolve(askedAt.set(n, [...(askedAt.get(n) ?? []), stage.atMs])),
      }),
    );
    const began = stage.atMs;
    await stage.pass(12_000);
    expect(sinks.filter(({ state }) => state !== "open")).toEqual([]);
    const perBeat = new Map<number, number>();
    for (const times of askedAt.values()) {
      expect(Math.max(...times.map((at, index) => at - (times[index - 1] ?? began)))).toBeLessThanOrEqual(4_000);
      for (const at of times) perBeat.set(at, (perBeat.get(at) ?? 0) + 1);
    }
    expect(askedAt.size).toBe(4_000);
    expect(Math.max(...perBeat.values())).toBe(800);
  });
});

test("a fault of reading what a stream has missed is logged once, and the reading tried again", async () => {
  const sink = stage.open();
  sink.isFull = true;
  stage.write(1, "here");
  for (let n = 0; n < 5; n++) stage.write(1, "here");
  stage.fault = new Error("broken row");
  sink.drain();
  await stage.pass(2_000);
  expect(sink.ids).toEqual([1]);
  expect(stage.faults).toHaveLength(1);
  expect(JSON.parse(stage.faults[0] ?? "")).toMatchObject({
    msg: "events of a stream cannot be read",
    threadId: THREAD,
    error: { name: "Error" },
  });
  stage.fault = undefined;
  await stage.pass(250);
  expect(sink.ids).toEqual(upTo(6));
});

describe("the share of a user", () => {
  const other = { ...USER, userId: "user-2" };

  test.each([
    [100, 25],
    [41, 11],
    [12, 10],
  ])("of the %d streams of its partner one user may have %d, and others still find room", (streamsMax, userMax) => {
    const sinks = upTo(userMax).map(() => stage.open({ streamsMax }));
    expect(() => stage.streams.requireRoom(USER, streamsMax)).toThrow(new RegExp(`The user has ${userMax} of the partner's ${streamsMax}`));
    expect(stage.open({ streamsMax }).written).toContain('"reason":"too_many_streams"');
    stage.streams.requireRoom(other, streamsMax);
    expect(stage.open({ streamsMax, owner: other }).state).toBe("open");
    sinks[0]?.destroy();
    stage.streams.requireRoom(USER, streamsMax);
  });

  test("where the partner has few, it is the partner's limit that counts", () => {
    for (const owner of [USER, other]) stage.open({ streamsMax: 2, owner });
    expect(() => stage.streams.requireRoom(USER, 2)).toThrow(/The partner has 2 streams/);
  });
});
