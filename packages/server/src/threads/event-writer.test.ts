import { StoreUnavailable } from "@cambist/protocol";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { EventBatch, LeaseState, TaskOutput } from "../storage/thread-store.ts";
import { EventWriter, type OutputSource } from "./event-writer.ts";
import { chunkEvent } from "./thread-events.ts";

/** A task that has said some words. */
class Talk implements OutputSource {
  isNew = true;
  words: string[] = [];
  nextId = 1;
  readonly states: (LeaseState | undefined)[] = [];
  readonly taskId: string;
  constructor(taskId: string) {
    this.taskId = taskId;
  }
  take(): TaskOutput {
    this.isNew = false;
    const events = this.words.splice(0).map((word) => chunkEvent(word));
    const output = { partnerId: "prt_1", threadId: this.taskId, taskId: this.taskId, leaseId: "lease", firstId: this.nextId, events };
    this.nextId += events.length;
    return { ...output, artifacts: [], log: undefined };
  }
  written(state: LeaseState | undefined): void {
    this.states.push(state);
  }
  putBack({ events, firstId }: TaskOutput): void {
    this.words.unshift(...events.map(([, data]) => (data as { message: string }).message));
    this.nextId = firstId;
  }
}

function writerOver(append: (outputs: readonly TaskOutput[]) => void | Promise<void>) {
  const published: EventBatch[] = [];
  const faults: unknown[] = [];
  const commits: (readonly TaskOutput[])[] = [];
  const writer = new EventWriter({
    tasks: {
      append: async (outputs) => {
        await append(outputs);
        commits.push(outputs);
        return outputs.map(({ taskId }) => ({ taskId, isCancelled: false }));
      },
    },
    publish: (batch) => void published.push(batch),
    leaseMs: 10_000,
    nowMs: Date.now,
    onFault: (error) => void faults.push(error),
  });
  return { writer, published, faults, commits };
}

const wordsOf = (batches: readonly EventBatch[], taskId: string) =>
  batches
    .filter(({ threadId }) => threadId === taskId)
    .flatMap(({ events }) => events.map(([, data]) => (data as { message: string }).message));

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
afterEach(() => void vi.useRealTimers());
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("a first word is written at once, a thousand more in a few commits, all in order", async () => {
  const { writer, published, commits } = writerOver(() => undefined);
  const talk = new Talk("a");
  const began = performance.now();
  talk.words.push("first");
  writer.add(talk);
  await pass(1);
  expect(wordsOf(published, "a")).toEqual(["first"]);
  for (let n = 0; n < 1_000; n++) {
    talk.words.push(String(n));
    writer.add(talk);
    if (n % 10 === 0) await pass(5);
  }
  await pass(250);
  expect(wordsOf(published, "a")).toEqual(["first", ...Array.from({ length: 1_000 }, (_n, n) => String(n))]);
  expect(commits.length).toBeLessThan((performance.now() - began) / 100 + 2);
});

test("the first word of an answer does not wait for the others, which are written as seldom as before", async () => {
  const { writer, published, commits } = writerOver(() => undefined);
  const long = new Talk("long");
  const began = performance.now();
  for (let n = 0; n < 30; n++) {
    long.words.push(String(n));
    writer.add(long);
    await pass(10);
    if (n % 10 !== 5) continue;
    const other = new Talk(`other ${n}`);
    other.words.push("first");
    writer.add(other);
    await pass(1);
    expect(wordsOf(published, other.taskId)).toEqual(["first"]);
  }
  await pass(150);
  expect(wordsOf(published, "long")).toEqual(Array.from({ length: 30 }, (_n, n) => String(n)));
  const rows = commits.flat().filter(({ taskId }) => taskId === "long").length;
  expect(rows).toBeLessThan((performance.now() - began) / 100 + 2);
});

test("where writes take long, half of the time is left, first words are still written at once, and nothing waits for ever", async () => {
  let writingMs = 0;
  const { writer, published, commits } = writerOver(async () => {
    const began = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 70));
    writingMs += performance.now() - began;
  });
  const long = new Talk("long");
  const began = performance.now();
  for (let n = 0; n < 40; n++) {
    long.words.push(String(n));
    writer.add(long);
    await pass(20);
  }
  expect(writingMs / (performance.now() - began)).toBeLessThan(0.65); // and the one under way
  expect(commits.length).toBeGreaterThan(2);
  for (let n = 40; n < 60; n++) {
    const other = new Talk(`other ${n}`);
    for (const talk of [long, other]) {
      talk.words.push(String(n));
      writer.add(talk);
    }
    await pass(20);
  }
  expect(Number(wordsOf(published, "long").at(-1)), "while there are first words all the time").toBeGreaterThan(40);
  await pass(500);
  expect(wordsOf(published, "long")).toEqual(Array.from({ length: 60 }, (_n, n) => String(n)));
});

test("while the store is away nothing is shown, lost or written twice", async () => {
  let isAway = true;
  const { writer, published, faults } = writerOver(() => {
    if (isAway) throw new StoreUnavailable("away");
  });
  const talk = new Talk("a");
  for (const word of ["1", "2", "3"]) {
    talk.words.push(word);
    writer.add(talk);
    await pass(120);
  }
  expect(published).toEqual([]);
  isAway = false;
  await pass(500);
  expect(wordsOf(published, "a")).toEqual(["1", "2", "3"]);
  expect(published.map(({ firstId }) => firstId)).toEqual([1]);
  expect(faults).toEqual([]);
});

test("one task whose output the store refuses is given up, and the others are written", async () => {
  const { writer, published, faults } = writerOver((outputs) => {
    if (outputs.some(({ taskId }) => taskId === "bad")) throw new Error("refused");
  });
  const talks = ["a", "bad", "b"].map((taskId) => new Talk(taskId));
  for (const talk of talks) {
    talk.words.push("word");
    writer.add(talk);
  }
  await pass(150);
  expect(["a", "bad", "b"].map((taskId) => wordsOf(published, taskId).length)).toEqual([1, 0, 1]);
  expect(talks[1]?.states).toEqual([undefined]);
  expect(faults).toHaveLength(2); // together, and alone
});
