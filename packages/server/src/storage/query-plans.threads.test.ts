import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { faultsOf, openObserved, sentDuring, type Wire } from "../testing/query-plans.ts";
import { createHome, NOW, type TestStore } from "../testing/store.ts";
import { answer, chunks, createThread, erased, outputOf, sendMessage, WAITING_MAX } from "../testing/threads.ts";
import type { Store } from "./store.ts";
import type { ClaimedTask, ThreadOwner } from "./thread-store.ts";

const wire = vi.hoisted((): Wire => ({ sent: [] }));

vi.mock(import("./dialects/sqlite-driver.ts"), async (importOriginal) => {
  const { observedSqlite } = await import("../testing/query-plans.ts");
  return observedSqlite(await importOriginal(), wire);
});

afterAll(() => {
  vi.doUnmock("./dialects/sqlite-driver.ts");
  vi.resetModules();
});

const USERS = 200;
const THREADS = 20_000;
/** In the first thread; the others have one or two. */
const LONG = 20_000;
/** As wide as in life: of narrow rows, PostgreSQL soon has read all for the price of a hundred. */
const WIDE = "x".repeat(400);

/** A large partner and a small one; of each, half of all messages and events are in its first thread. */
async function fillWithThreads(opened: TestStore, partnerIds: readonly string[]): Promise<void> {
  const isSqlite = "sqlitePath" in opened.database.location;
  const unchecked = isSqlite ? "" : "SET LOCAL session_replication_role = replica; "; // a check of each foreign key takes most of the time
  const into = (table: string, columns: string, count: number, values: string) =>
    opened.database.query(`${unchecked}INSERT INTO ${table} (${columns})
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) SELECT ${values} FROM n`);
  for (const [n, partnerId] of partnerIds.entries()) {
    const [threads, long] = n === 0 ? [THREADS, LONG] : [THREADS / 20, LONG / 20];
    const { orgId, workspaceId } = await createHome(opened.nodes[0], partnerId);
    const user = "user_id, workspace_id, org_id, entitlements, status, revision, created_at, updated_at";
    await into(
      "users",
      `partner_id, ${user}`,
      USERS,
      `'${partnerId}', 'user-' || i, '${workspaceId}', '${orgId}', '[]', 'active', 'r', 1, 1`,
    );
    const thread = "thread_id, user_id, name, message_count, last_message_at, created_at, updated_at";
    const ofUser = `'user-' || (1 + i % ${USERS})`;
    await into(
      "threads",
      `partner_id, ${thread}`,
      threads,
      `'${partnerId}', 'thread-' || i, ${ofUser}, '${WIDE}', ${long}, ${NOW}, i / 2, i`,
    );
    const where = `'${partnerId}', 'thread-' || (CASE WHEN i <= ${long} THEN 1 ELSE i - ${long} + 1 END)`;
    const position = `CASE WHEN i <= ${long} THEN i - 1 ELSE 0 END`;
    const message = "position, message_id, task_id, is_user_message, message, citations, sent_at";
    const text = `'"${WIDE}"', '[]', ${NOW - long} + i`;
    await into(
      "thread_messages",
      `partner_id, thread_id, ${message}`,
      long + threads - 1,
      `${where}, ${position}, 'm' || i, 't' || i, i % 2, ${text}`,
    );
    const event = "first_id, last_id, events, expires_at";
    await into(
      "thread_events",
      `partner_id, thread_id, ${event}`,
      long + threads - 1,
      `${where}, 2 * i - 1, 2 * i, '[["chunk","${WIDE}"],["chunk",2]]', CASE WHEN i % 3 = 0 THEN NULL ELSE ${NOW} + i END`,
    );
    await into("thread_artifacts", "partner_id, thread_id, artifact_id, artifact", long, `'${partnerId}', 'thread-' || i, 'a' || i, '{}'`);
    const task = "task_id, position, lease_id, lease_until, attempts, first_event_id, is_cancelled, created_at";
    const file = "file_id, name, media_type, size, created_at, content";
    await into("thread_files", `partner_id, thread_id, ${file}`, long, `'${partnerId}', 'thread-' || i, 'f', 'n', 'm', 1, 1, ''`);
    const lease = `CASE WHEN i % 2 = 0 THEN 'l' ELSE '' END, CASE WHEN i % 2 = 0 THEN ${NOW} + i ELSE 0 END, 1, 1, 0, i`;
    await into(
      "thread_tasks",
      `partner_id, thread_id, ${task}`,
      threads / 2,
      `'${partnerId}', 'thread-' || (10 + i), 'task-' || i, 0, ${lease}`,
    );
  }
  if (!isSqlite) await opened.database.query("ANALYZE");
}

/** Rows that are unpacked from what was bound, or were found by an index before: never more than were asked for. */
const BOUNDED =
  /^(?:SCAN|reads all that the partner has: SEARCH) (?:json_each|waiting|lapsed|ready|behind|page|\(subquery)|^SCAN \d+-ROW VALUES CLAUSE \|/;
/** What is left of deletions is an index of its own. */
const DELETED = /threads_deleted/;
/** Messages without an answer are few, and PostgreSQL takes whatever is unpacked for a hundred rows: then it is as well to read them all. */
const TASKS = /^Seq Scan thread_tasks/;
/** Of what is new, or of those that are claimed at once. */
const SORTED = /^USE TEMP B-TREE FOR ORDER BY/;

describe.each(DIALECTS)("what the store asks %s of threads goes by an index", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let partnerId: string;
  let owner: ThreadOwner;
  let long: string;
  beforeAll(async () => {
    opened = await openObserved(dialect, wire);
    store = opened.nodes[0];
    partnerId = (await opened.createPartner()).clientId;
    await fillWithThreads(opened, [partnerId, (await opened.createPartner()).clientId]);
    owner = { partnerId, userId: "user-2" };
    long = "thread-1";
  });
  afterAll(async () => {
    await opened.close();
    vi.restoreAllMocks();
  });

  /** That at least so many statements were seen. */
  async function expectIndexed(least: number, work: () => Promise<unknown>, ...allowed: readonly RegExp[]): Promise<void> {
    const statements = await sentDuring(wire, work);
    expect(statements.length, statements.map(({ sql }) => sql).join("\n")).toBeGreaterThanOrEqual(least);
    const faults = await faultsOf(opened.database, statements);
    expect(faults.filter((fault) => ![BOUNDED, ...allowed].some((pattern) => pattern.test(fault)))).toEqual([]);
  }

  const claim = async (limit: number, nowMs = NOW): Promise<readonly ClaimedTask[]> =>
    store.tasks.claim({ leaseId: randomUUID(), untilMs: nowMs + 1_000 }, limit, nowMs);

  test("create, list, rename", async () => {
    await expectIndexed(1, () => createThread(store, owner));
    const first = await store.threads.list(owner, { after: undefined, limit: 10 });
    for (const after of [undefined, first.items.at(-1)]) {
      await expectIndexed(1, async () => expect((await store.threads.list(owner, { after, limit: 10 })).items).toHaveLength(10));
    }
    await expectIndexed(1, async () => expect(await store.threads.rename(owner, long, "y", NOW)).toBe(true));
  });

  test.each([
    ["the newest of all", { startMs: undefined, endMs: undefined, startIndex: 0 }],
    ["the oldest of all", { startMs: undefined, endMs: undefined, startIndex: LONG - 10 }],
    ["from a time on", { startMs: NOW - 100, endMs: undefined, startIndex: 0 }],
    ["up to a time", { startMs: undefined, endMs: NOW - LONG + 100, startIndex: 0 }],
    ["between two times", { startMs: NOW - LONG + 50, endMs: NOW - LONG + 100, startIndex: 5 }],
  ])("a page of messages of a long thread: %s", async (_name, range) => {
    await expectIndexed(2, () => store.threads.listMessages(owner, long, { ...range, limit: 10 }));
  });

  test("send, progress, cancel, artifact, where a stream starts", async () => {
    await expectIndexed(6, () => sendMessage(store, owner, long));
    await expectIndexed(1, async () => expect(await store.threads.findProgress(owner, long)).toMatchObject({ state: "queued" }));
    await expectIndexed(2, async () => expect(await store.threads.cancel(owner, long)).toMatchObject({ taskId: expect.any(String) }));
    await expectIndexed(2, async () => expect(await store.threads.findArtifact(owner, long, "a1")).toEqual({}));
    await expectIndexed(1, async () => expect(await store.threads.findStreamStart(owner, long)).toBeDefined());
    for (let n = 0; n < WAITING_MAX; n++) await sendMessage(store, { partnerId, userId: "user-5" }, "thread-4");
  });

  test("files: added, looked for and read", async () => {
    const file = { fileId: "g", name: "n", mediaType: "m", content: Buffer.from("x") };
    await expectIndexed(2, () => store.threads.addFile(owner, long, file, { countMax: 9, bytesMax: 9, nowMs: NOW }));
    await expectIndexed(2, async () => expect(await store.threads.findFiles(owner, long, ["g", "f", "none"])).toHaveLength(2));
    await expectIndexed(1, async () => expect(await store.tasks.readFile({ partnerId, threadId: long }, "g")).toHaveLength(1));
  });

  test("events behind a position, of one thread and of many, and whether threads are deleted", async () => {
    for (const lastEventId of [0, LONG, 2 * LONG]) {
      await expectIndexed(1, () => store.threads.readEvents({ partnerId, threadId: long, lastEventId }, 1_000), SORTED);
    }
    for (const count of [1, 1_000]) {
      const positions = Array.from({ length: count }, (_, n) => ({ partnerId, threadId: `thread-${n + 1}`, lastEventId: 2 * LONG - 10 }));
      await expectIndexed(1, () => store.threads.readNewEvents(positions), SORTED);
      await expectIndexed(1, () => store.threads.listDeleted(positions));
    }
  });

  test("claim, of those that wait and those whose lease is over", async () => {
    for (const limit of [1, 20]) await expectIndexed(1, async () => expect(await claim(limit, NOW + 100)).toHaveLength(limit), SORTED);
  });

  test("what tasks bring about, their ends, and those that are given back", async () => {
    const tasks = await claim(50, NOW + 200);
    const at = { nowMs: NOW, untilMs: NOW + 1_000 };
    const write = (task: ClaimedTask) =>
      outputOf(task, { firstId: 1_000_001, events: chunks("a"), artifacts: [{ artifactId: "b", artifact: {} }], log: "l" });
    const [first, second, ...others] = tasks as [ClaimedTask, ClaimedTask, ...ClaimedTask[]];
    await expectIndexed(1, async () => expect(await store.tasks.findQuestion(first, 10)).toBeDefined());
    for (const some of [[second], others]) {
      await expectIndexed(4, async () => expect(await store.tasks.append(some.map(write), at)).toHaveLength(some.length), TASKS);
      await expectIndexed(1, async () => expect(await store.tasks.renew(some, NOW + 2_000)).toHaveLength(some.length), TASKS);
    }
    await expectIndexed(7, async () => expect(await store.tasks.finish(write(first), answer(), NOW)).toHaveLength(2));
    await expectIndexed(1, () => store.tasks.release(second));
  });

  test("purge, deletion of a long thread, and what hangs on a thread or a user", async () => {
    await opened.database.query("UPDATE threads SET user_id = NULL WHERE partner_id = $1 AND thread_id = 'thread-3' RETURNING 1", [
      partnerId,
    ]);
    await expectIndexed(9, () => store.tasks.purgeEvents(NOW + 300), DELETED);
    await expectIndexed(
      9,
      async () => {
        expect(await store.threads.delete(owner, long)).toBe(true);
        await erased(store);
      },
      DELETED,
    );
    const steps = wire.sent.filter(({ sql }) => sql.startsWith('DELETE FROM "thread_messages"'));
    expect(steps.length, "steps, so that nobody is held up for long").toBeGreaterThanOrEqual(LONG / 200);
    const user = { partnerId, key: { id: "user-6" }, revisions: undefined };
    const eraseUser = async () => {
      await store.accounts.write((writer) => writer.erase("user", user, () => NOW));
      await erased(store);
    };
    await expectIndexed(9, eraseUser, DELETED, TASKS, /idempotent_requests/); // empty here
    const left = "SELECT 1 FROM threads WHERE partner_id = $1 AND (user_id = 'user-6' OR user_id IS NULL)";
    expect(await opened.database.query(left, [partnerId])).toEqual([]);
    const hangingOn = {
      threads: "user_id",
      thread_messages: "thread_id",
      thread_tasks: "thread_id",
      thread_events: "thread_id",
      thread_artifacts: "thread_id",
    };
    for (const [table, column] of Object.entries(hangingOn)) {
      const [one, other] = dialect === "sqlite" ? ["?", "?"] : ["$1", "$2"];
      const cascade = {
        sql: `DELETE FROM ${table} WHERE partner_id = ${one} AND ${column} = ${other}`,
        values: [partnerId, "thread-9"],
        prepared: true,
      };
      expect(await faultsOf(opened.database, [cascade])).toEqual([]);
    }
  });
});
