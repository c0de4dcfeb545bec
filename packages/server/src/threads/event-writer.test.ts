import { setTimeout as sleep } from "node:timers/promises";
import { StoreUnavailable } from "@cambist/protocol";
import { expect, test } from "vitest";
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

function writerOver(append: (outputs: readonly TaskOutput[]) => void) {
  const published: EventBatch[] = [];
  const faults: unknown[] = [];
  const commits: (readonly TaskOutput[])[] = [];
  const writer = new EventWriter({
    tasks: {
      append: async (outputs) => {
        await Promise.resolve();
        append(outputs);
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

test("a first word is written at once, a thousand more in a few commits, all in order", async () => {
  const { writer, published, commits } = writerOver(() => undefined);
  const talk = new Talk("a");
  const began = performance.now();
  talk.words.push("first");
  writer.add(talk);
  while (published.length === 0) await sleep(1);
  expect(performance.now() - began).toBeLessThan(90);
  for (let n = 0; n < 1_000; n++) {
    talk.words.push(String(n));
    writer.add(talk);
    if (n % 10 === 0) await sleep(1);
  }
  await sleep(250);
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
    await sleep(10);
    if (n % 10 !== 5) continue;
    const other = new Talk(`other ${n}`);
    other.words.push("first");
    const added = performance.now();
    writer.add(other);
    while (wordsOf(published, other.taskId).length === 0) await sleep(1);
    expect(performance.now() - added).toBeLessThan(60);
  }
  await sleep(150);
  expect(wordsOf(published, "long")).toEqual(Array.from({ length: 30 }, (_n, n) => String(n)));
  const rows = commits.flat().filter(({ taskId }) => taskId === "long").length;
  expect(rows).toBeLessThan((performance.now() - began) / 100 + 2);
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
    await sleep(120);
  }
  expect(published).toEqual([]);
  isAway = false;
  await sleep(500);
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
  await sleep(150);
  expect(["a", "bad", "b"].map((taskId) => wordsOf(published, taskId).length)).toEqual([1, 0, 1]);
  expect(talks[1]?.states).toEqual([undefined]);
  expect(faults).toHaveLength(2); // together, and alone
});
