import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BEAT_MS, StreamsStage, upTo } from "../testing/event-streams.ts";

describe("looking for what other nodes have written", () => {
  let stage: StreamsStage;
  beforeEach(() => {
    stage = new StreamsStage();
  });
  afterEach(() => {
    stage.close();
    expect(stage.faults).toEqual([]);
  });

  const openThreads = (count: number) => upTo(count).map((n) => stage.open({ threadId: `thread-${n}`, streamsMax: 100_000 }));
  const countById = (looks: readonly (readonly string[])[]) => {
    const counts = new Map<string, number>();
    for (const id of looks.flat()) counts.set(id, (counts.get(id) ?? 0) + 1);
    return counts;
  };

  test("where the store gives a part, the next one is asked for at once, twenty times, and then at the next beat", async () => {
    stage.newBatchesMax = 2;
    const sink = stage.open();
    for (let n = 0; n < 100; n++) stage.write(1, "elsewhere");
    await stage.pass(BEAT_MS);
    expect([stage.looks.length, sink.ids]).toEqual([20, upTo(40)]);
    await stage.pass(2 * BEAT_MS);
    expect(sink.ids).toEqual(upTo(100));
    const { length } = stage.looks;
    await stage.pass(4 * BEAT_MS);
    expect(stage.looks.length - length, "looks while nothing comes").toBe(4);
  });

  test("after a little, only the threads that it came of are looked at again; after much, all, since others may have been left out", async () => {
    openThreads(3);
    stage.write(1, "elsewhere", "thread-2");
    await stage.pass(BEAT_MS);
    expect(stage.looks).toEqual([["thread-1", "thread-2", "thread-3"], ["thread-2"]]);
    stage.looks.length = 0;
    stage.write(1, "elsewhere", "thread-2", "x".repeat(70_000));
    await stage.pass(BEAT_MS);
    expect(stage.looks).toEqual([
      ["thread-1", "thread-2", "thread-3"],
      ["thread-1", "thread-2", "thread-3"],
    ]);
  });

  test.each([500, 501, 750, 4_500])(
    "of %d threads, each is looked at in its turn, for events and for whether it is there",
    async (count) => {
      openThreads(count);
      const turn = Math.ceil(count / 500);
      await stage.pass(turn * 9 * BEAT_MS);
      const looked = countById(stage.looks);
      expect(looked.size).toBe(count);
      expect(Math.min(...looked.values()), "looks at a thread").toBeGreaterThanOrEqual(9);
      expect(countById(stage.deletionLooks).size, "threads that were looked for").toBe(count);
      expect(Math.max(...[...stage.looks, ...stage.deletionLooks].map(({ length }) => length))).toBe(500);
    },
  );

  test("a look that takes longer than a beat costs no thread its turn", async () => {
    openThreads(1_500);
    let finish: () => void = () => undefined;
    stage.looking = new Promise((resolve) => (finish = resolve));
    await stage.pass(4 * BEAT_MS);
    finish();
    await stage.pass(2 * BEAT_MS);
    expect(stage.looks.flat()).toEqual(upTo(1_500).map((n) => `thread-${n}`));
  });

  test("where something is missing before what this node writes, it is read at the next beat at the latest, also out of turn", async () => {
    const sinks = openThreads(1_500);
    let finish: () => void = () => undefined;
    stage.looking = new Promise((resolve) => (finish = resolve));
    await stage.pass(BEAT_MS);
    stage.write(1, "elsewhere", "thread-1400");
    stage.write(1, "here", "thread-1400");
    finish();
    await stage.pass(BEAT_MS);
    expect(sinks[1_399]?.ids).toEqual([1, 2]);
  });

  test("a thread that this node writes to is not looked at, and is again a second after the last words, or at the end of its task", async () => {
    const [first, second] = openThreads(2);
    for (let n = 0; n < 8; n++) {
      stage.write(1, "here", "thread-1");
      if (n === 3) stage.end("here", "thread-1");
      await stage.pass(BEAT_MS);
    }
    const [both, other] = [["thread-1", "thread-2"], ["thread-2"]];
    expect(stage.looks.map((look) => look.toSorted())).toEqual([other, other, other, both, other, other, other, other]);
    stage.looks.length = 0;
    await stage.pass(4 * BEAT_MS);
    expect(stage.looks.map((look) => look.toSorted())).toEqual([other, other, both, both]);
    expect([first?.ids, second?.ids]).toEqual([[1, 2, 3, 4, 6, 7, 8, 9], []]);
  });

  test("threads that are not looked at take nobody's turn: of 700, 600 of them this node's, the others are all looked at in each beat", async () => {
    openThreads(700);
    for (let n = 1; n <= 600; n++) stage.write(1, "here", `thread-${n}`);
    await stage.pass(2 * BEAT_MS);
    expect(stage.looks).toEqual([upTo(700, 601), upTo(700, 601)].map((look) => look.map((n) => `thread-${n}`)));
  });

  test("what another node writes where this one has just written comes within two seconds: its lease may be lost without its hearing of it", async () => {
    const sink = stage.open();
    stage.write(2, "here");
    stage.write(2, "elsewhere");
    await stage.pass(1_500);
    expect(sink.ids).toEqual(upTo(4));
  });

  test("the next answer of a thread comes at once, also where another node gives it", async () => {
    const sink = stage.open();
    stage.write(2, "here");
    stage.end("here");
    stage.write(2, "elsewhere");
    await stage.pass(BEAT_MS);
    expect(sink.ids).toEqual([1, 2, 4, 5]);
  });
});
