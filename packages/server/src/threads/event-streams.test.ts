import { StoreUnavailable } from "@cambist/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Problem } from "../http/problem.ts";
import { PARTNER, StreamsStage, THREAD, USER, upTo } from "../testing/event-streams.ts";

describe("streams of a node", () => {
  let stage: StreamsStage;
  beforeEach(() => {
    stage = new StreamsStage();
  });
  afterEach(() => {
    stage.close();
    expect(stage.faults).toEqual([]);
  });

  test("what is written here and elsewhere, in turn, comes once and in order", async () => {
    const sink = stage.open();
    for (const where of ["here", "elsewhere", "here", "elsewhere", "elsewhere", "here", "here"] as const) stage.write(3, where);
    await stage.pass(500);
    stage.write(2, "here");
    await stage.pass(250);
    expect(sink.ids).toEqual(upTo(23));
  });

  test("from every position on, the rest comes once, also from inside what was written in one go, and with more published meanwhile", async () => {
    for (const count of [1, 5, 2, 4]) stage.write(count, "elsewhere");
    for (let from = 0; from <= 12; from++) {
      const sink = stage.open({ lastEventId: from, threadLastEventId: 12 });
      stage.write(2, "here");
      await stage.pass(250);
      expect(sink.ids, `from ${from}`).toEqual(upTo(14, from + 1));
      sink.destroy();
      stage.stored.pop();
    }
  });

  test("a reader that is behind holds up nobody and nothing in memory: it gets the rest, a page at a time, when it takes it", async () => {
    const [slow, quick] = [stage.open(), stage.open()];
    slow.isFull = true;
    for (let n = 0; n < 50; n++) stage.write(1, "here");
    await stage.pass(1_000);
    expect(quick.ids).toEqual(upTo(50));
    expect(slow.ids).toEqual([1]);
    slow.drain();
    await stage.pass(250);
    expect(slow.ids).toEqual(upTo(50));
  });

  test("a reader that takes nothing for 30 s is cut off; one that only has nothing to read is not", async () => {
    const [stuck, idle] = [stage.open(), stage.open()];
    stuck.isFull = true;
    stage.write(2, "here");
    await stage.pass(29_500);
    expect(stuck.state).toBe("open");
    await stage.pass(1_000);
    expect(stuck.state).toBe("destroyed");
    expect(idle.state).toBe("open");
  });

  test("a comment every 15 s keeps the way open, and is no event", async () => {
    const sink = stage.open();
    await stage.pass(46_000);
    expect(sink.written.match(/^:$/gm)).toHaveLength(3);
    expect(sink.written.replaceAll(":\n\n", "")).toBe("retry: 2000\nid: 0\n\n");
  });

  test("a token that is withdrawn ends the stream within 5 s wherever that was, and at once where this node did it", async () => {
    let isGood = true;
    const judge = () => (isGood ? Promise.resolve() : Promise.reject(new Problem(401, "ended")));
    const [elsewhere, here] = [stage.open({ authenticate: judge }), stage.open({ authenticate: judge })];
    await stage.pass(1_000);
    isGood = false;
    stage.streams.judgeAgain({ kind: "user", id: "user-2", partnerId: PARTNER });
    await stage.pass(250);
    expect(here.state).toBe("open");
    await stage.pass(3_000);
    expect(elsewhere.written).toContain('"reason":"token_ended"');
    isGood = true;
    const third = stage.open({ authenticate: judge });
    isGood = false;
    stage.streams.judgeAgain({ kind: "workspace", id: "workspace-1", partnerId: PARTNER });
    await new Promise(setImmediate);
    expect([third.state, third.written.includes('"reason":"token_ended"')]).toEqual(["ended", true]);
  });

  test("between a withdrawal and the judgement nothing is shown; one that is good has it then, in order, and one that is not never", async () => {
    const answers: { readonly yes: () => void; readonly no: () => void }[] = [];
    const judge = () => new Promise<void>((yes, no) => answers.push({ yes, no: () => no(new Problem(401, "ended")) }));
    const sinks = [stage.open({ authenticate: judge }), stage.open({ authenticate: judge })] as const;
    await stage.pass(3_250);
    expect(answers).toHaveLength(2); // asked before the withdrawal, and answered after it
    stage.write(1, "here");
    stage.streams.judgeAgain({ kind: "partner", id: PARTNER, partnerId: PARTNER });
    expect(answers).toHaveLength(4);
    stage.write(2, "here");
    for (const { yes } of answers.slice(0, 2)) yes();
    await stage.pass(250);
    stage.write(1, "elsewhere");
    await stage.pass(250);
    for (const sink of sinks) expect(sink.ids).toEqual([1]);
    answers[2]?.yes();
    answers[3]?.no();
    await stage.pass(250);
    stage.write(1, "here");
    await stage.pass(250);
    expect(sinks.map(({ ids, state }) => [ids, state])).toEqual([
      [upTo(5), "open"],
      [[1], "ended"],
    ]);
  });

  test("while nobody can say whether the token is good, the stream goes on for 5 s, and then ends", async () => {
    let canSay = true;
    const sink = stage.open({ authenticate: () => (canSay ? Promise.resolve() : Promise.reject(new StoreUnavailable("away"))) });
    await stage.pass(4_000);
    [canSay, stage.isAway] = [false, true];
    await stage.pass(3_500);
    expect(sink.state).toBe("open");
    await stage.pass(6_000);
    expect(sink.written).toContain('"reason":"store_unavailable"');
  });

  test("a thread that another node has deleted ends its streams", async () => {
    const sink = stage.open();
    stage.deleted = [{ partnerId: PARTNER, threadId: THREAD }];
    await stage.pass(2_500);
    expect(sink.written).toContain('"reason":"thread_deleted"');
  });

  test("over as many as the partner may have, a stream is refused, and one that had found room is ended", () => {
    const open3 = [stage.open(), stage.open(), stage.open()];
    expect(() => stage.streams.requireRoom(USER, 3)).toThrow(/3 streams/);
    stage.streams.requireRoom({ ...USER, partnerId: "prt_2" }, 3);
    expect(stage.open().written).toContain('"reason":"too_many_streams"');
    open3[0]?.destroy();
    stage.streams.requireRoom(USER, 3);
    expect(stage.open().state).toBe("open");
  });

  test("when the server stops, everybody is told, also who comes after that; who takes nothing is cut off", () => {
    const [reader, stuck] = [stage.open(), stage.open()];
    stuck.isFull = true;
    stage.write(1, "here");
    stage.streams.close();
    expect(reader.written).toContain('"reason":"server_stopping"');
    expect(stuck.state).toBe("destroyed");
    expect(stage.open().written).toContain('"reason":"server_stopping"');
  });
});
