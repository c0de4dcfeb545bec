import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { answer, chunks, createOwner, createThread, LEASE_MS, outputOf, requireTask, sendMessage } from "../testing/threads.ts";
import type { Store } from "./store.ts";
import type { ClaimedTask, EventBatch, ThreadOwner } from "./thread-store.ts";

const DAY_MS = 24 * 3600 * 1000;
const AT = { nowMs: NOW, untilMs: NOW + LEASE_MS };

describe.each(DIALECTS)("the events of threads in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let owner: ThreadOwner;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
    owner = await createOwner(opened);
  });
  afterAll(() => opened.close());

  const positionOf = (threadId: string, lastEventId: number) => ({ partnerId: owner.partnerId, threadId, lastEventId });
  /** [id, data] of each. */
  const flat = (batches: readonly EventBatch[]) =>
    batches.flatMap(({ firstId, events }) => events.map(([, data], n) => [firstId + n, data]));

  const batchCountOf = async (threadId: string) =>
    (await opened.database.query("SELECT first_id FROM thread_events WHERE thread_id = $1", [threadId])).length;

  async function openTask(nowMs = NOW): Promise<ClaimedTask> {
    const threadId = await createThread(store, owner);
    await sendMessage(store, owner, threadId, "question", nowMs);
    return requireTask(store, threadId);
  }

  /** Batches of these many events, told apart by their id: the chunks of a task, and its end. Gives all. */
  async function streamTask(task: ClaimedTask, sizes: readonly number[]): Promise<(readonly unknown[])[]> {
    let firstId = task.eventsAfter + 1;
    for (const size of sizes) {
      const events = chunks(...Array.from({ length: size }, (_, n) => `event ${firstId + n}`));
      await store.tasks.append([outputOf(task, { firstId, events })], AT);
      firstId += size;
    }
    await store.tasks.finish(outputOf(task, { firstId }), answer(), NOW);
    const streamed = Array.from({ length: firstId - 1 - task.eventsAfter }, (_, n) => task.eventsAfter + 1 + n);
    return [...streamed.map((id) => [id, `event ${id}`]), [firstId, NOW], [firstId + 1, expect.any(Boolean)]];
  }

  async function readAll(threadId: string, lastEventId: number, charactersMax: number): Promise<(readonly unknown[])[]> {
    const read = [];
    for (let last = lastEventId; ;) {
      const page = await store.threads.readEvents(positionOf(threadId, last), charactersMax);
      if (page.length === 0) return read;
      read.push(...flat(page));
      last = Number(read.at(-1)?.[0]);
    }
  }

  test("behind every position, also within a batch, each is read once and in order, on pages of any size", async () => {
    const task = await openTask();
    const { threadId } = task;
    await sendMessage(store, owner, threadId);
    const all = [...(await streamTask(task, [1, 4, 2, 1, 3])), ...(await streamTask(await requireTask(store, threadId), [2, 1]))];
    expect(all.map(([id]) => id)).toEqual(all.map((_, n) => n + 1));
    for (let last = 0; last <= all.length + 1; last++) {
      for (const charactersMax of [1, 60, 1e9]) expect(await readAll(threadId, last, charactersMax)).toEqual(all.slice(last));
      expect(flat(await store.threads.readNewEvents([positionOf(threadId, last)]))).toEqual(all.slice(last));
    }
  });

  test("a page ends with its characters, and has one batch at least and 64 at most", async () => {
    const task = await openTask();
    const { threadId } = task;
    const long = "x".repeat(10_000);
    for (let n = 1; n <= 70; n++) await store.tasks.append([outputOf(task, { firstId: n, events: chunks(n === 1 ? long : "x") })], AT);
    const lengths = [];
    for (const charactersMax of [1, 10_000, 10_100, 1e9]) {
      lengths.push((await store.threads.readEvents(positionOf(threadId, 0), charactersMax)).length);
    }
    expect(lengths).toEqual([1, 1, 7, 64]);
    expect(await readAll(threadId, 0, 1e9)).toHaveLength(70);
  });

  test("once the chunks' time is over, messages and ends are left, read once from every position", async () => {
    const task = await openTask();
    const { threadId } = task;
    await sendMessage(store, owner, threadId);
    const first = await streamTask(task, [3, 2]);
    const second = await streamTask(await requireTask(store, threadId), [20]);
    const beside = await streamTask(await openTask(), [1]);
    expect(beside).toHaveLength(3);
    await opened.database.query(`INSERT INTO thread_events (partner_id, thread_id, first_id, last_id, events, expires_at)
      WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 1120)
      SELECT partner_id, thread_id, i, i, '[]', 1 FROM n, threads WHERE thread_id = '${threadId}'`);
    expect(await store.tasks.purgeEvents(NOW + DAY_MS)).toBe(120); // more than a step of it takes
    expect(await readAll(threadId, 0, 1e9)).toEqual([...first, ...second]);
    expect(await store.tasks.purgeEvents(NOW + DAY_MS + 1)).toBeGreaterThanOrEqual(4);
    expect(await batchCountOf(threadId)).toBe(2);
    const left = [...first.slice(-2), ...second.slice(-2)];
    for (let last = 0; last <= first.length + second.length; last++) {
      const behind = left.filter(([id]) => Number(id) > last);
      expect(await readAll(threadId, last, 1)).toEqual(behind);
      expect(flat(await store.threads.readNewEvents([positionOf(threadId, last)]))).toEqual(behind);
    }
    expect(await store.threads.findStreamStart(owner, threadId)).toEqual({ lastEventId: 29, taskFrom: 29 });
  });

  test("chunks of a task that is not done stay, however late: whoever takes it up goes on behind them", async () => {
    const task = await openTask();
    await store.tasks.append([outputOf(task, { events: chunks("a", "b") })], AT);
    await store.tasks.purgeEvents(NOW + 3 * DAY_MS);
    const later = await requireTask(opened.nodes[1], task.threadId, NOW + 3 * DAY_MS);
    expect(later).toMatchObject({ attempts: 2, eventsAfter: 0 });
    expect(await readAll(task.threadId, later.eventsAfter, 100)).toEqual([
      [1, "a"],
      [2, "b"],
    ]);
    await store.tasks.finish(outputOf(later, { firstId: 3 }), answer(), NOW);
    expect(await batchCountOf(task.threadId)).toBe(2);
    await store.tasks.purgeEvents(NOW + 3 * DAY_MS);
    expect(await batchCountOf(task.threadId)).toBe(1);
  });

  test("of many threads at once, what is behind the position of each, and nothing of others", async () => {
    const tasks = [];
    for (let n = 0; n < 30; n++) tasks.push(await openTask());
    for (const [n, task] of tasks.entries())
      await streamTask(
        task,
        Array.from({ length: n % 4 }, () => 2),
      );
    const found = await store.threads.readNewEvents(tasks.map(({ threadId }, n) => positionOf(threadId, n % 5)));
    for (const [n, { threadId }] of tasks.entries()) {
      const own = found.filter((batch) => batch.threadId === threadId);
      expect(flat(own)).toEqual(await readAll(threadId, n % 5, 1e9));
    }
    expect(found.length).toBe(
      (await Promise.all(tasks.map(({ threadId }, n) => store.threads.readEvents(positionOf(threadId, n % 5), 1e9)))).flat().length,
    );
    expect(await store.threads.readNewEvents([])).toEqual([]);
    expect(await store.threads.readNewEvents([{ ...positionOf(tasks[1]?.threadId ?? "", 0), partnerId: "prt_other" }])).toEqual([]);
  });

  test("of more batches than are read in one go, the others come the next time", async () => {
    const [one, other] = [await openTask(), await openTask()];
    for (const { threadId } of [one, other]) {
      await opened.database.query(`INSERT INTO thread_events (partner_id, thread_id, first_id, last_id, events)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
        SELECT partner_id, thread_id, 2 * i - 1, 2 * i, '[["chunk",1],["chunk",2]]' FROM n, threads WHERE thread_id = '${threadId}'`);
    }
    const positions = new Map([one, other].map(({ threadId }) => [threadId, 0]));
    let rounds = 0;
    for (; ; rounds++) {
      const found = await store.threads.readNewEvents([...positions].map(([threadId, last]) => positionOf(threadId, last)));
      if (found.length === 0) break;
      for (const { threadId, firstId, events } of found) {
        expect(firstId).toBe((positions.get(threadId) ?? 0) + 1);
        positions.set(threadId, firstId + events.length - 1);
      }
    }
    expect([...positions.values()]).toEqual([1_400, 1_400]);
    expect(rounds).toBe(2);
  });

  test("of more than is read in one go, each thread gets what comes next to it before any gets more; nobody is left out each time", async () => {
    const fill = async (threadId: string, batches: number, characters: number) => {
      const events = JSON.stringify(chunks("x".repeat(characters)));
      for (let id = 1; id <= batches; id++) {
        await opened.database.query(
          "INSERT INTO thread_events (partner_id, thread_id, first_id, last_id, events) VALUES ($1, $2, $3, $3, $4)",
          [owner.partnerId, threadId, id, events],
        );
      }
    };
    const tasks = [];
    for (let n = 0; n < 10; n++) tasks.push(await openTask());
    const [behind, few] = [tasks.slice(0, 2), tasks.slice(2)];
    for (const { threadId } of behind) await fill(threadId, 12, 1_000_000);
    for (const { threadId } of few) await fill(threadId, 1, 10);
    const look = (some: readonly ClaimedTask[]) => store.threads.readNewEvents(some.map(({ threadId }) => positionOf(threadId, 0)));
    const first = await look(tasks);
    expect(
      first
        .slice(0, 10)
        .map(({ threadId }) => threadId)
        .toSorted(),
    ).toEqual(tasks.map(({ threadId }) => threadId).toSorted());
    expect(JSON.stringify(first).length).toBeLessThan(5_100_000);
    for (const { threadId } of few) {
      await opened.database.query("DELETE FROM thread_events WHERE thread_id = $1", [threadId]);
      await fill(threadId, 1, 1_000_000);
    }
    const seen = new Set<string>();
    for (let looks = 0; looks < 40 && seen.size < few.length; looks++) {
      const found = await look(few);
      expect(found).toHaveLength(4);
      for (const { threadId } of found) seen.add(threadId);
    }
    expect(seen.size).toBe(few.length);
  });

  test("a stream begins behind the last event; while a task is at work, with what that has said", async () => {
    const threadId = await createThread(store, owner);
    const start = () => store.threads.findStreamStart(owner, threadId);
    expect(await start()).toEqual({ lastEventId: 0, taskFrom: 0 });
    await sendMessage(store, owner, threadId);
    await sendMessage(store, owner, threadId);
    expect(await start()).toEqual({ lastEventId: 0, taskFrom: 0 });
    const task = await requireTask(store, threadId);
    await store.tasks.append([outputOf(task, { events: chunks("a", "b", "c") })], AT);
    expect(await start()).toEqual({ lastEventId: 3, taskFrom: 0 });
    await store.tasks.finish(outputOf(task, { firstId: 4 }), answer(), NOW);
    expect(await start()).toEqual({ lastEventId: 5, taskFrom: 5 });
    const second = await requireTask(store, threadId);
    expect(await start()).toEqual({ lastEventId: 5, taskFrom: 5 });
    await store.tasks.append([outputOf(second, { events: chunks("d") })], AT);
    expect(await start()).toEqual({ lastEventId: 6, taskFrom: 5 });
    await store.tasks.finish(outputOf(second, { firstId: 7 }), answer(), NOW);
    expect(await start()).toEqual({ lastEventId: 8, taskFrom: 8 });
  });
});
