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
  outputOf,
  requireTask,
  sendMessage,
  WAITING_MAX,
} from "../testing/threads.ts";
import type { Store } from "./store.ts";
import type { ThreadOwner } from "./thread-store.ts";

const TABLES = ["threads", "thread_messages", "thread_tasks", "thread_events", "thread_artifacts"];
const WHOLE = { startMs: undefined, endMs: undefined, startIndex: 0, limit: 100 };

describe.each(DIALECTS)("threads in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  async function rowsOf(threadId: string): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const table of TABLES) {
      const [row] = await opened.database.query(`SELECT count(*) AS n FROM ${table} WHERE thread_id = $1`, [threadId]);
      counts[table] = Number(row?.["n"]);
    }
    return counts;
  }
  const NOTHING = Object.fromEntries(TABLES.map((table) => [table, 0]));
  const EVERYTHING = { threads: 1, thread_messages: 3, thread_tasks: 1, thread_events: 2, thread_artifacts: 1 };

  /** One answered, one that waits, and an artifact with the id `artifact`. */
  async function fillThread(owner: ThreadOwner): Promise<string> {
    const threadId = await createThread(store, owner);
    await sendMessage(store, owner, threadId);
    await sendMessage(store, owner, threadId);
    const task = await requireTask(store, threadId);
    const artifacts = [{ artifactId: "artifact", artifact: { type: "table", rows: [1, null, "\u0000"] } }];
    await store.tasks.finish(outputOf(task, { events: chunks("a"), artifacts, log: "log" }), answer(), NOW);
    expect(await rowsOf(threadId)).toEqual(EVERYTHING);
    return threadId;
  }

  /** Of every method that takes an owner, what it says to one whose thread it is not. */
  async function everythingSaid(owner: ThreadOwner, threadId: string): Promise<readonly unknown[]> {
    const { threads } = store;
    const message = { messageId: randomUUID(), taskId: randomUUID(), message: "x" };
    return [
      await threads.rename(owner, threadId, "Mine", NOW),
      await threads.listMessages(owner, threadId, WHOLE),
      await threads.send(owner, threadId, message, { nowMs: NOW, waitingMax: WAITING_MAX }),
      await threads.findProgress(owner, threadId),
      await threads.cancel(owner, threadId),
      await threads.findArtifact(owner, threadId, "artifact"),
      await threads.findStreamStart(owner, threadId),
      (await threads.list(owner, { after: undefined, limit: 10 })).items,
      await threads.delete(owner, threadId),
    ];
  }
  const ABSENT: readonly unknown[] = [false, undefined, "absent", undefined, "absent", undefined, undefined, [], false];

  test("a thread is there for its own user alone, whatever is asked", async () => {
    const owner = await createOwner(opened);
    const threadId = await fillThread(owner);
    const before = await store.threads.list(owner, { after: undefined, limit: 10 });
    const colleague = await createOwner(opened, owner);
    const stranger = await createOwner(opened);
    const impostor = { partnerId: stranger.partnerId, userId: owner.userId };
    for (const other of [colleague, stranger, impostor]) expect(await everythingSaid(other, threadId)).toEqual(ABSENT);
    expect(await store.threads.list(owner, { after: undefined, limit: 10 })).toEqual(before);
    expect(await rowsOf(threadId)).toEqual(EVERYTHING);
    expect(await claimOf(store, threadId)).toMatchObject({ isCancelled: false });
    expect(await store.threads.findArtifact(owner, threadId, "artifact")).toEqual({ type: "table", rows: [1, null, "\u0000"] });
  });

  test("threads of two partners may have one id, and nothing else in common", async () => {
    const [one, other] = [await createOwner(opened), await createOwner(opened)];
    const threadId = await fillThread(one);
    expect(await store.threads.create(other, { threadId, name: "Other" }, NOW)).toBe("created");
    expect(await store.threads.listMessages(other, threadId, WHOLE)).toEqual({ messages: [], totalCount: 0 });
    expect(await store.threads.findArtifact(other, threadId, "artifact")).toBeUndefined();
    expect(await store.threads.findStreamStart(other, threadId)).toEqual({ lastEventId: 0, taskFrom: 0 });
    expect(await store.threads.cancel(other, threadId)).toEqual({ taskId: undefined });
    await store.threads.delete(other, threadId);
    await erased(store);
    expect(await rowsOf(threadId)).toEqual(EVERYTHING);
  });

  test("a list has each thread once, newest first, also those of one moment, whatever becomes of them meanwhile", async () => {
    const owner = await createOwner(opened);
    const made: { readonly threadId: string; readonly createdAtMs: number }[] = [];
    for (const createdAtMs of [5, 3, 3, 3, 9, 1, 3, 5]) made.push({ threadId: await createThread(store, owner, createdAtMs), createdAtMs });
    const expected = made.toSorted((a, b) => b.createdAtMs - a.createdAtMs || (a.threadId < b.threadId ? 1 : -1));
    for (const limit of [1, 2, 3, 8, 100]) {
      const listed = [];
      for (let after: (typeof made)[number] | undefined; ;) {
        const page = await store.threads.list(owner, { after, limit });
        listed.push(...page.items);
        await store.threads.rename(owner, page.items[0]?.threadId ?? "", `renamed at ${limit}`, NOW + limit);
        if (page.next === undefined) break;
        expect(page.items).toHaveLength(limit);
        after = page.items.at(-1);
      }
      expect(listed.map(({ threadId, createdAtMs }) => ({ threadId, createdAtMs }))).toEqual(expected);
    }
  });

  test("a new name is listed, with its time", async () => {
    const owner = await createOwner(opened);
    const threadId = await createThread(store, owner);
    expect(await store.threads.rename(owner, threadId, "Zweite Überschrift 🧵", NOW + 5)).toBe(true);
    const { items } = await store.threads.list(owner, { after: undefined, limit: 10 });
    expect(items).toEqual([{ threadId, name: "Zweite Überschrift 🧵", createdAtMs: NOW, updatedAtMs: NOW + 5 }]);
  });

  test("a deleted thread is absent and its rows are gone, also where there are more than a step takes", async () => {
    const owner = await createOwner(opened);
    const [threadId, kept] = [await fillThread(owner), await fillThread(owner)];
    for (const [table, columns, values] of [
      [
        "thread_messages",
        "position, message_id, task_id, is_user_message, message, citations, sent_at",
        "10 + i, i, i, 0, '\"x\"', '[]', 1",
      ],
      ["thread_events", "first_id, last_id, events", "10 + 3 * i, 12 + 3 * i, '[]'"],
      ["thread_artifacts", "artifact_id, artifact", "'a' || i, '{}'"],
    ] as const) {
      await opened.database.query(`INSERT INTO ${table} (partner_id, thread_id, ${columns})
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 450) SELECT partner_id, thread_id, ${values}
        FROM n, threads WHERE thread_id = '${threadId}'`);
    }
    expect(await store.threads.delete(owner, threadId)).toBe(true);
    expect(await everythingSaid(owner, threadId)).toEqual(ABSENT.with(7, [expect.objectContaining({ threadId: kept })]));
    await erased(store);
    expect(await rowsOf(threadId)).toEqual(NOTHING);
    expect(await rowsOf(kept)).toEqual(EVERYTHING);
  });

  test("of 16 deletions of one thread, one has deleted it", async () => {
    const owner = await createOwner(opened);
    const threadId = await fillThread(owner);
    const outcomes = await opened.race((node) => node.threads.delete(owner, threadId));
    expect(outcomes.filter(Boolean)).toHaveLength(1);
    await erased(store);
    expect(await rowsOf(threadId)).toEqual(NOTHING);
  });

  test("a deletion that was interrupted: the thread is absent, nobody gets its task or ends it, and the purge goes on", async () => {
    const owner = await createOwner(opened);
    const [begun, waiting] = [await fillThread(owner), await fillThread(owner)];
    const task = await requireTask(store, begun);
    for (const threadId of [begun, waiting]) {
      await opened.database.query("UPDATE threads SET user_id = NULL WHERE thread_id = $1 RETURNING 1", [threadId]);
    }
    for (const threadId of [begun, waiting]) expect(await everythingSaid(owner, threadId)).toEqual(ABSENT);
    expect(await claimOf(store, waiting)).toBeUndefined();
    expect(await store.tasks.finish(outputOf(task), answer(), NOW)).toBeUndefined();
    const keys = [begun, waiting].map((threadId) => ({ partnerId: owner.partnerId, threadId }));
    expect(await store.threads.listDeleted(keys)).toHaveLength(2);
    await Promise.all(opened.nodes.map((node) => node.tasks.purgeEvents(NOW)));
    for (const threadId of [begun, waiting]) expect(await rowsOf(threadId)).toEqual(NOTHING);
    expect(await store.threads.listDeleted(keys)).toHaveLength(2);
  });

  test("whoever asks which threads are deleted is not told of others", async () => {
    const owner = await createOwner(opened);
    const [kept, gone] = [await createThread(store, owner), await createThread(store, owner)];
    await store.threads.delete(owner, gone);
    const keyOf = (threadId: string) => ({ partnerId: owner.partnerId, threadId });
    expect(await store.threads.listDeleted([keyOf(kept), keyOf(gone)])).toEqual([keyOf(gone)]);
    expect(await store.threads.listDeleted([])).toEqual([]);
  });

  test("with a user, its threads are erased, and it can have no others", async () => {
    const owner = await createOwner(opened);
    const kept = await fillThread(await createOwner(opened, owner));
    const threadId = await fillThread(owner);
    const target = { partnerId: owner.partnerId, key: { id: owner.userId }, revisions: undefined };
    await store.accounts.write((writer) => writer.erase("user", target, () => NOW));
    await erased(store);
    expect(await rowsOf(threadId)).toEqual(NOTHING);
    expect(await rowsOf(kept)).toEqual(EVERYTHING);
    expect(await store.threads.create(owner, { threadId: randomUUID(), name: "Late" }, NOW)).toBe("absent");
    expect(await everythingSaid(owner, threadId)).toEqual(ABSENT);
  });

  test("with a workspace that is erased below, the threads of its users are, too", async () => {
    const owner = await createOwner(opened);
    const threadId = await fillThread(owner);
    await store.accounts.eraseBelow("workspace", owner.partnerId, owner.workspaceId);
    await erased(store);
    expect(await rowsOf(threadId)).toEqual(NOTHING);
  });

  test("progress: nothing, queued, at work, complete; the log begins anew with each message", async () => {
    const owner = await createOwner(opened);
    const threadId = await createThread(store, owner);
    const progress = () => store.threads.findProgress(owner, threadId);
    expect(await progress()).toBeNull();
    await sendMessage(store, owner, threadId);
    expect(await progress()).toEqual({ log: "", state: "queued" });
    const task = await requireTask(store, threadId);
    expect(await progress()).toEqual({ log: "", state: "running" });
    const at = { nowMs: NOW, untilMs: NOW + 1_000 };
    await store.tasks.append([outputOf(task, { log: "one\u0000\ntwo" })], at);
    await store.tasks.append([outputOf(task)], at);
    expect(await progress()).toEqual({ log: "one\u0000\ntwo", state: "running" });
    await sendMessage(store, owner, threadId);
    expect(await progress()).toEqual({ log: "one\u0000\ntwo", state: "running" });
    await store.tasks.finish(outputOf(task, { log: "three" }), answer(), NOW);
    expect(await progress()).toEqual({ log: "", state: "queued" });
    await store.tasks.finish(outputOf(await requireTask(store, threadId), { log: "four" }), answer(), NOW);
    expect(await progress()).toEqual({ log: "four", state: "complete" });
    await sendMessage(store, owner, threadId);
    expect(await progress()).toEqual({ log: "", state: "queued" });
  });
});
