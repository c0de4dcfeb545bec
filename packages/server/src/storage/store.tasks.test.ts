import { randomUUID } from "node:crypto";
import { StoreUnavailable } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { answer, chunks, claimOf, createOwner, createThread, LEASE_MS, outputOf, requireTask, sendMessage } from "../testing/threads.ts";
import type { Dialect } from "./dialect.ts";
import { storeOver } from "./kysely-store.ts";
import type { Store } from "./store.ts";
import type { ClaimedTask, EventBatch, ThreadOwner } from "./thread-store.ts";

const WHOLE = { startMs: undefined, endMs: undefined, startIndex: 0, limit: 100 };
const at = (nowMs: number) => ({ nowMs, untilMs: nowMs + LEASE_MS });
const leaseAt = (nowMs: number) => ({ leaseId: randomUUID(), untilMs: nowMs + LEASE_MS });
/** When a lease of the helpers is over. */
const LATER = NOW + LEASE_MS + 2;

describe.each(DIALECTS)("tasks in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let other: Store;
  let owner: ThreadOwner;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    [store, other] = opened.nodes;
    owner = await createOwner(opened);
  });
  afterAll(() => opened.close());

  async function openThread(messages = 1): Promise<string> {
    const threadId = await createThread(store, owner);
    for (let n = 0; n < messages; n++) await sendMessage(store, owner, threadId);
    return threadId;
  }

  const eventsOf = async (threadId: string): Promise<readonly EventBatch[]> =>
    store.threads.readEvents({ partnerId: owner.partnerId, threadId, lastEventId: 0 }, 1e9);
  /** [id, data] of each. */
  const flat = (batches: readonly EventBatch[]) =>
    batches.flatMap(({ firstId, events }) => events.map(([, data], n) => [firstId + n, data]));

  /** All that a thread has, whatever it is. */
  const rowsOf = (threadId: string) =>
    Promise.all(
      ["threads", "thread_messages", "thread_tasks", "thread_events", "thread_artifacts"].map((table) =>
        opened.database.query(`SELECT * FROM ${table} WHERE thread_id = $1 ORDER BY 1, 2, 3`, [threadId]),
      ),
    );

  describe("claimed", () => {
    test("by 16 at once, each task goes to one of them, and of a thread only the first", async () => {
      const threads = await Promise.all(Array.from({ length: 20 }, () => openThread(2)));
      const claims = await opened.race((node) => node.tasks.claim(leaseAt(NOW + 1), 3, NOW + 1));
      for (const claim of claims) expect(claim.length).toBeLessThanOrEqual(3);
      const claimed = [...claims.flat(), ...(await store.tasks.claim(leaseAt(NOW + 1), 1_000, NOW + 1))];
      expect(claimed.map(({ threadId }) => threadId).toSorted()).toEqual(threads.toSorted());
      for (const task of claimed) {
        expect(task).toMatchObject({
          partnerId: owner.partnerId,
          userId: owner.userId,
          position: 0,
          attempts: 1,
          eventsAfter: 0,
          isCancelled: false,
        });
        expect(await store.tasks.findQuestion(task, 1)).toEqual({ message: "question", files: [], history: [] });
        expect(await store.tasks.finish(outputOf(task), answer(), NOW)).toBeDefined();
      }
      const second = await store.tasks.claim(leaseAt(NOW + 1), 1_000, NOW + 1);
      expect(second.map(({ threadId, position }) => `${threadId} ${position}`).toSorted()).toEqual(
        threads.map((id) => `${id} 1`).toSorted(),
      );
    });

    test("again once its lease is over, and not before", async () => {
      const threadId = await openThread();
      const task = await requireTask(store, threadId, NOW);
      for (const nowMs of [NOW, NOW + LEASE_MS]) expect(await claimOf(other, threadId, nowMs)).toBeUndefined();
      expect(await claimOf(other, threadId, NOW + LEASE_MS + 1)).toMatchObject({ taskId: task.taskId, attempts: 2 });
    });

    test("whose answer was lost, by the same lease again, and by no other; and not as one more attempt", async () => {
      const threads = [await openThread(), await openThread()];
      const database = await opened.database.open();
      let isLost = true;
      const write: Dialect["write"] = async (work) => {
        const written = await database.write(work);
        if (isLost) throw new StoreUnavailable("the answer to the commit is lost");
        return written;
      };
      const node = storeOver({ ...database, write });
      const lease = leaseAt(NOW + 1);
      for (let twice = 0; twice < 2; twice++) await expect(node.tasks.claim(lease, 1_000, NOW + 1)).rejects.toThrow(StoreUnavailable);
      isLost = false;
      expect(await node.tasks.claim(leaseAt(NOW + 2), 1_000, NOW + 2)).toEqual([]);
      const late = { ...lease, untilMs: LATER + 1_000 };
      const claimed = await node.tasks.claim(late, 1_000, NOW + 2);
      expect(claimed.map(({ threadId }) => threadId)).toEqual(expect.arrayContaining(threads));
      for (const task of claimed) expect(task).toMatchObject({ attempts: 1, leaseId: lease.leaseId, eventsAfter: 0 });
      expect(await claimOf(other, threads[0] ?? "", LATER)).toBeUndefined();
      for (const task of claimed) await node.tasks.finish(outputOf(task), answer(), NOW);
      await node.close();
    });

    test("by a lease again whose claim took nothing: what waits now", async () => {
      const database = await opened.database.open();
      let isAway = true;
      const write: Dialect["write"] = (work) => (isAway ? Promise.reject(new StoreUnavailable("away")) : database.write(work));
      const node = storeOver({ ...database, write });
      const threadId = await openThread();
      const lease = leaseAt(NOW + 1);
      await expect(node.tasks.claim(lease, 1_000, NOW + 1)).rejects.toThrow(StoreUnavailable);
      isAway = false;
      const claimed = await node.tasks.claim(lease, 1_000, NOW + 1);
      expect(claimed.map((task) => task.threadId)).toContain(threadId);
      for (const task of claimed) await node.tasks.finish(outputOf(task), answer(), NOW);
      await node.close();
    });

    test("oldest first, those whose lease is over among those that wait", async () => {
      const fresh = await openTestStore(dialect);
      const user = await createOwner(fresh);
      const [node] = fresh.nodes;
      const threads: string[] = [];
      const send = async (nowMs: number) => {
        threads.push(await createThread(node, user));
        await sendMessage(node, user, threads.at(-1) ?? "", "question", nowMs);
      };
      for (const nowMs of [1, 2]) await send(NOW + nowMs);
      expect(await node.tasks.claim(leaseAt(NOW + 3), 10, NOW + 3)).toHaveLength(2);
      for (const nowMs of [4, 5, 6]) await send(NOW + nowMs);
      const claimed = [];
      for (let n = 0; n < 3; n++)
        claimed.push((await node.tasks.claim(leaseAt(LATER + 10), 2, LATER + 10)).map(({ threadId }) => threadId).toSorted());
      expect(claimed).toEqual([threads.slice(0, 2).toSorted(), threads.slice(2, 4).toSorted(), threads.slice(4)]);
      await fresh.close();
    });
  });

  describe("of a holder whose lease is lost", () => {
    test("nothing is written, and it is told so: output, renewal, end, and giving it back", async () => {
      const threadId = await openThread(2);
      const former = await requireTask(store, threadId);
      await store.tasks.append([outputOf(former, { events: chunks("a") })], at(NOW));
      const task = await requireTask(other, threadId, LATER);
      expect(task).toMatchObject({ taskId: former.taskId, attempts: 2, eventsAfter: 0 });
      const before = await rowsOf(threadId);
      const lost = outputOf(former, {
        firstId: 2,
        events: chunks("b"),
        artifacts: [{ artifactId: "a", artifact: {} }],
        log: "lost",
      });
      expect(await store.tasks.append([lost], at(LATER))).toEqual([]);
      expect(await store.tasks.renew([former], LATER)).toEqual([]);
      expect(await store.tasks.finish(lost, answer(), LATER)).toBeUndefined();
      await store.tasks.release(former);
      expect(await rowsOf(threadId)).toEqual(before);
      expect(await other.tasks.append([outputOf(task, { firstId: 2, events: chunks("c") })], at(LATER))).toEqual([
        { taskId: task.taskId, isCancelled: false },
      ]);
      expect(flat(await eventsOf(threadId))).toEqual([
        [1, "a"],
        [2, "c"],
      ]);
    });

    test("its end leaves nothing behind where it shares a commit with others, and takes nothing from those", async () => {
      const [threadId, beside] = [await openThread(), await openThread()];
      const former = await requireTask(store, threadId);
      await requireTask(other, threadId, LATER);
      const before = await rowsOf(threadId);
      const kept = await requireTask(store, beside, LATER);
      const [, ended, batches] = await Promise.all([
        sendMessage(store, owner, beside),
        store.tasks.finish(outputOf(former, { events: chunks("x") }), answer(), NOW),
        store.tasks.finish(outputOf(kept, { events: chunks("y") }), answer(), NOW),
        sendMessage(store, owner, beside),
      ]);
      expect(ended).toBeUndefined();
      expect(batches).toHaveLength(2);
      expect(await rowsOf(threadId)).toEqual(before);
      expect(await store.threads.listMessages(owner, beside, WHOLE)).toMatchObject({ totalCount: 4 });
    });

    test("the others of the same write are written", async () => {
      const threads = [await openThread(), await openThread(), await openThread()] as const;
      const former = await requireTask(store, threads[0]);
      await requireTask(other, threads[0], LATER);
      const held = [await requireTask(store, threads[1], LATER), await requireTask(store, threads[2], LATER)];
      const outputs = [former, ...held].map((task) => outputOf(task, { events: chunks("a"), log: "l" }));
      const states = held.map(({ taskId }) => ({ taskId, isCancelled: false }));
      const byId = (a: { readonly taskId: string }, b: { readonly taskId: string }) => (a.taskId < b.taskId ? -1 : 1);
      expect((await store.tasks.append(outputs, at(LATER))).toSorted(byId)).toEqual(states.toSorted(byId));
      expect((await store.tasks.renew([former, ...held], LATER + 1)).toSorted(byId)).toEqual(states.toSorted(byId));
      expect(await Promise.all(threads.map(async (id) => (await eventsOf(id)).length))).toEqual([0, 1, 1]);
    });

    test("a takeover while it writes: no two events have one id, and none is lost that it was told is written", async () => {
      for (let round = 0; round < 15; round++) {
        const threadId = await openThread();
        const former = await requireTask(store, threadId);
        const written: unknown[] = [];
        const write = async (node: Store, task: ClaimedTask, events: readonly EventBatch[], text: string) => {
          const output = outputOf(task, { firstId: 1 + flat(events).length, events: chunks(`${text}1`, `${text}2`) });
          if ((await node.tasks.append([output], at(LATER))).length > 0) written.push(...flat([output]));
        };
        await Promise.all([
          write(store, former, [], "former"),
          ...[other, store, other].map(async (node) => {
            const task = (await node.tasks.claim(leaseAt(LATER), 1_000, LATER)).find((claimed) => claimed.threadId === threadId);
            if (task !== undefined) await write(node, task, await eventsOf(threadId), "taker");
          }),
        ]);
        const events = flat(await eventsOf(threadId));
        expect(events.map(([id]) => id)).toEqual(events.map((_, n) => n + 1));
        expect(events).toEqual(written.toSorted((a, b) => Number((a as unknown[])[0]) - Number((b as unknown[])[0])));
        expect(events.length).toBeGreaterThan(0);
      }
    });
  });

  test("a held lease goes on by every write and renewal, also where it was over and nobody came", async () => {
    const threadId = await openThread();
    const task = await requireTask(store, threadId);
    for (const prolong of [
      (untilMs: number) => store.tasks.append([outputOf(task)], { nowMs: NOW, untilMs }),
      (untilMs: number) => store.tasks.renew([task], untilMs),
    ]) {
      expect(await prolong(LATER)).toHaveLength(1);
      expect(await claimOf(other, threadId, LATER)).toBeUndefined();
    }
    expect(await store.tasks.renew([], LATER)).toEqual([]);
    expect(await store.tasks.append([], at(NOW))).toEqual([]);
  });

  test("a task that is given back waits as before, and its events come behind what was streamed of it", async () => {
    const threadId = await openThread();
    const task = await requireTask(store, threadId);
    await store.tasks.append([outputOf(task, { events: chunks("a", "b") })], at(NOW));
    await store.tasks.release(task);
    expect(await store.threads.findProgress(owner, threadId)).toMatchObject({ state: "queued" });
    expect(await store.threads.findStreamStart(owner, threadId)).toEqual({ lastEventId: 2, taskFrom: 2 });
    expect(await claimOf(other, threadId)).toMatchObject({ taskId: task.taskId, attempts: 1, eventsAfter: 2 });
  });

  test("cancel marks the first that is not done, and the next write or renewal is told", async () => {
    const threadId = await createThread(store, owner);
    expect(await store.threads.cancel(owner, threadId)).toEqual({ taskId: undefined });
    const [first, second] = [await sendMessage(store, owner, threadId), await sendMessage(store, owner, threadId)];
    const task = await requireTask(store, threadId);
    expect(await store.tasks.renew([task], LATER)).toEqual([{ taskId: first.taskId, isCancelled: false }]);
    for (let twice = 0; twice < 2; twice++) expect(await store.threads.cancel(owner, threadId)).toEqual({ taskId: first.taskId });
    const marked = [{ taskId: first.taskId, isCancelled: true }];
    expect(await store.tasks.append([outputOf(task, { events: chunks("a") })], at(NOW))).toEqual(marked);
    expect(await store.tasks.renew([task], LATER)).toEqual(marked);
    await store.tasks.finish(outputOf(task, { firstId: 2 }), answer(), NOW);
    const next = await requireTask(store, threadId);
    expect(next).toMatchObject({ taskId: second.taskId, isCancelled: false });
    await store.tasks.release(next);
    expect(await store.threads.cancel(owner, threadId)).toEqual({ taskId: second.taskId });
    expect(await claimOf(store, threadId)).toMatchObject({ taskId: second.taskId, isCancelled: true });
  });
});
