import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { NOW, openTestStore, type TestStore } from "../testing/store.ts";
import {
  answer,
  chunks,
  claimOf,
  createOwner,
  createThread,
  erased,
  LEASE_MS,
  outputOf,
  requireTask,
  sendMessage,
} from "../testing/threads.ts";
import type { Store } from "./store.ts";
import type { ClaimedTask, ThreadOwner } from "./thread-store.ts";

const WHOLE = { startMs: undefined, endMs: undefined, startIndex: 0, limit: 100 };
const AT = { nowMs: NOW, untilMs: NOW + LEASE_MS };
const MANY = 1_000;

describe.each(DIALECTS)("what tasks bring about, in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let owner: ThreadOwner;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
    owner = await createOwner(opened);
  });
  afterAll(() => opened.close());

  async function openTask(messages = 1): Promise<ClaimedTask> {
    const threadId = await createThread(store, owner);
    for (let n = 0; n < messages; n++) await sendMessage(store, owner, threadId);
    return requireTask(store, threadId);
  }

  const eventsOf = ({ partnerId, threadId }: ClaimedTask) => store.threads.readEvents({ partnerId, threadId, lastEventId: 0 }, 1e9);
  const artifact = (artifactId: string) => ({ artifactId, artifact: { of: artifactId } });

  test("is written once, also by somebody who does not know whether it was, and comes again with more", async () => {
    const task = await openTask();
    const first = outputOf(task, { events: chunks("a", "b"), artifacts: [artifact("one")], log: "1" });
    await store.tasks.append([first], AT);
    const again = { ...first, events: chunks("a", "b", "c"), artifacts: [artifact("one"), artifact("two")], log: "2" };
    for (let twice = 0; twice < 2; twice++) expect(await store.tasks.append([again], AT)).toHaveLength(1);
    expect((await eventsOf(task)).map(({ firstId, events }) => [firstId, events])).toEqual([[1, chunks("a", "b", "c")]]);
    const known = { partnerId: owner.partnerId, threadId: task.threadId, lastEventId: 2 };
    for (const found of [await store.threads.readEvents(known, 10), await store.threads.readNewEvents([known])]) {
      expect(found).toEqual([{ partnerId: owner.partnerId, threadId: task.threadId, firstId: 3, events: chunks("c") }]);
    }
    for (const id of ["one", "two"]) expect(await store.threads.findArtifact(owner, task.threadId, id)).toEqual({ of: id });
    expect(await store.threads.findProgress(owner, task.threadId)).toMatchObject({ log: "2" });
    const batches = await store.tasks.finish({ ...again, events: chunks("a", "b", "c", "d") }, answer(), NOW);
    expect(batches?.map(({ firstId }) => firstId)).toEqual([1, 5]);
    expect(await eventsOf(task)).toEqual(batches);
  });

  test("of 1,000 tasks at once is written in one go, and each has its own", async () => {
    const fresh = await openTestStore(dialect);
    const [{ tasks, threads }, node] = fresh.nodes;
    const user = await createOwner(fresh);
    const into = (table: string, columns: string, values: string) =>
      fresh.database.query(`INSERT INTO ${table} (partner_id, thread_id, ${columns})
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${MANY - 1}) SELECT '${user.partnerId}', 'thread-' || i, ${values} FROM n`);
    await into(
      "threads",
      "user_id, name, message_count, last_message_at, progress_log, created_at, updated_at",
      `'${user.userId}', 'x', 1, 1, '""', 1, 1`,
    );
    await into(
      "thread_tasks",
      "task_id, position, lease_id, lease_until, attempts, is_cancelled, created_at",
      "'task-' || i, 0, '', 0, 0, i % 2, i",
    );
    const claimed = await tasks.claim({ leaseId: randomUUID(), untilMs: NOW }, MANY, 1);
    expect(claimed.map(({ taskId }) => taskId).toSorted()).toEqual(Array.from({ length: MANY }, (_, n) => `task-${n}`).toSorted());
    const texts = (task: ClaimedTask) => chunks(`${task.taskId} says`, "\u0000 🧵 \ud800");
    const outputs = claimed.map((task) =>
      outputOf(task, { events: texts(task), artifacts: [artifact(`of ${task.taskId}`)], log: `log of ${task.taskId}` }),
    );
    const begun = performance.now();
    const held = await tasks.append(outputs, AT);
    expect(performance.now() - begun, "milliseconds").toBeLessThan(5_000);
    expect(new Map(held.map(({ taskId, isCancelled }) => [taskId, isCancelled]))).toEqual(
      new Map(claimed.map(({ taskId }) => [taskId, Number(taskId.slice(5)) % 2 === 1])),
    );
    const found = await threads.readNewEvents(claimed.map(({ partnerId, threadId }) => ({ partnerId, threadId, lastEventId: 0 })));
    expect(new Map(found.map(({ threadId, firstId, events }) => [threadId, [firstId, events]]))).toEqual(
      new Map(claimed.map((task) => [task.threadId, [1, texts(task)]])),
    );
    for (const task of claimed.slice(0, 5)) {
      expect(await threads.findProgress(user, task.threadId)).toEqual({ log: `log of ${task.taskId}`, state: "running" });
      expect(await threads.findArtifact(user, task.threadId, `of ${task.taskId}`)).toEqual({ of: `of ${task.taskId}` });
    }
    expect(await node.tasks.renew(claimed, NOW)).toHaveLength(MANY);
    await fresh.close();
  });

  test("its end: the answer, what was streamed last, artifacts, log and last events, and no task any more", async () => {
    const task = await openTask();
    await store.tasks.append([outputOf(task, { events: chunks("a", "b") })], AT);
    const output = outputOf(task, { firstId: 3, events: chunks("c"), artifacts: [artifact("one")], log: "done" });
    const end = answer("abc", { citations: [{ url: "https://example.com" }] });
    const batches = await store.tasks.finish(output, end, NOW + 7);
    const thread = { partnerId: owner.partnerId, threadId: task.threadId };
    const last = [
      ["message", NOW + 7],
      ["status", true],
    ] as const;
    expect(batches).toEqual([
      { ...thread, firstId: 3, events: chunks("c") },
      { ...thread, firstId: 4, events: last },
    ]);
    expect((await eventsOf(task)).slice(1)).toEqual(batches);
    const { messageId, message, citations } = end;
    expect((await store.threads.listMessages(owner, task.threadId, WHOLE))?.messages[1]).toEqual({
      messageId,
      message,
      citations,
      isUserMessage: false,
      sentAtMs: NOW + 7,
    });
    expect(await store.threads.findArtifact(owner, task.threadId, "one")).toEqual({ of: "one" });
    expect(await store.threads.findProgress(owner, task.threadId)).toEqual({ log: "done", state: "complete" });
    expect((await store.threads.list(owner, { after: undefined, limit: 1_000 })).items).toContainEqual(
      expect.objectContaining({ threadId: task.threadId, updatedAtMs: NOW + 7 }),
    );
    expect(await claimOf(store, task.threadId)).toBeUndefined();
    expect(await store.tasks.finish(output, end, NOW + 8)).toBeUndefined();
    expect(await store.tasks.renew([task], NOW)).toEqual([]);
  });

  test("its end without anything streamed has the last events alone; an agent that never spoke may have none", async () => {
    const task = await openTask();
    expect(await store.tasks.finish(outputOf(task), answer("", { events: () => [] }), NOW)).toEqual([]);
    expect(await store.threads.findStreamStart(owner, task.threadId)).toEqual({ lastEventId: 0, taskFrom: 0 });
    expect(await store.threads.listMessages(owner, task.threadId, WHOLE)).toMatchObject({ totalCount: 2 });
  });

  test("its end says that the thread is idle where no other message waits, and only there", async () => {
    const task = await openTask(3);
    const ends: boolean[] = [];
    const noting = answer("x", { events: ({ isIdle }) => [["status", ends.push(isIdle)]] });
    await store.tasks.finish(outputOf(task), noting, NOW);
    for (let n = 0; n < 2; n++) {
      await store.tasks.finish(outputOf(await requireTask(store, task.threadId)), { ...noting, messageId: randomUUID() }, NOW);
    }
    expect(ends).toEqual([false, false, true]);
  });

  test("an end and a message at once: where the end says idle, the message came behind it, and nothing waits unseen", async () => {
    for (let round = 0; round < 10; round++) {
      const task = await openTask();
      let isIdle: boolean | undefined;
      const end = answer("x", { events: (ending) => [["status", (isIdle = ending.isIdle)]] });
      const [, sent] = await Promise.all([
        store.tasks.finish(outputOf(task), end, NOW),
        sendMessage(opened.nodes[1], owner, task.threadId),
      ]);
      const messages = (await store.threads.listMessages(owner, task.threadId, WHOLE))?.messages ?? [];
      expect(messages.map(({ messageId }) => messageId).indexOf(sent.messageId)).toBe(isIdle === true ? 2 : 1);
      expect(await claimOf(store, task.threadId)).toMatchObject({ taskId: sent.taskId, eventsAfter: 1 });
    }
  });

  test("of a thread that is deleted meanwhile is not written, and hinders nobody", async () => {
    for (let round = 0; round < 10; round++) {
      const [deleted, kept] = [await openTask(), await openTask()];
      const outputs = [deleted, kept].map((task) => outputOf(task, { events: chunks("a"), artifacts: [artifact("one")], log: "l" }));
      const [held, gone, ended] = await Promise.all([
        store.tasks.append(outputs, AT),
        opened.nodes[1].threads.delete(owner, deleted.threadId),
        opened.nodes[1].tasks.finish(outputOf(deleted, { firstId: 2 }), answer(), NOW),
      ]);
      expect(gone).toBe(true);
      expect(held.map(({ taskId }) => taskId)).toContain(kept.taskId);
      if (ended === undefined) expect(held.length).toBeLessThanOrEqual(2);
      await erased(opened.nodes[1]);
      for (const table of ["threads", "thread_messages", "thread_tasks", "thread_events", "thread_artifacts"]) {
        expect(await opened.database.query(`SELECT 1 FROM ${table} WHERE thread_id = $1`, [deleted.threadId])).toEqual([]);
      }
      expect(await eventsOf(kept)).toHaveLength(1);
    }
  });
});
