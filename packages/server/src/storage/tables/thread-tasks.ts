import { type Kysely, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import type { ClaimedTask, EventBatch, LeasedTask, LeaseState, StoredQuestion, TaskEnd, TaskOutput, TaskStore } from "../thread-store.ts";
import { writeEvents, writeOutputs } from "./task-output.ts";
import { eraseDeleted } from "./thread-deletion.ts";
import { purgeEvents } from "./thread-events.ts";
import { listFiles, readFile } from "./thread-files.ts";
import { lastEventIdOf, MESSAGE_COLUMNS, ofHeadTask, toMessage, whereThread } from "./thread-rows.ts";
import { messageRow, takePosition } from "./threads.ts";

export function taskStore(dialect: Dialect): TaskStore {
  return {
    claim: (lease, limit, nowMs, exceptOf = []) => dialect.write((db) => claim(db, lease, { limit, exceptOf }, nowMs)),
    findQuestion: (task, countMax) => dialect.read((db) => findQuestion(db, task, countMax)),
    readFile: (thread, fileId) => dialect.read((db) => readFile(db, thread, fileId)),
    append: (outputs, { nowMs, untilMs }) =>
      dialect.write(async (db) => {
        const held = await prolong(db, dialect, outputs, untilMs);
        const ids = new Set(held.map(({ taskId }) => taskId));
        const written = outputs.filter(({ taskId }) => ids.has(taskId));
        await writeOutputs(db, dialect, written, nowMs);
        return held;
      }),
    renew: (tasks, untilMs) => dialect.write((db) => prolong(db, dialect, tasks, untilMs)),
    finish: (output, end, nowMs) => dialect.write((db) => finish(db, dialect, output, { end, nowMs })),
    async release(task) {
      const given = { lease_id: "", lease_until: 0, attempts: sql<number>`attempts - 1`, first_event_id: null };
      await dialect.write((db) =>
        db
          .updateTable("thread_tasks")
          .set(given)
          .where("partner_id", "=", task.partnerId)
          .where("task_id", "=", task.taskId)
          .where("lease_id", "=", task.leaseId)
          .execute(),
      );
    },
    async purgeEvents(nowMs) {
      await eraseDeleted(dialect);
      return purgeEvents(dialect, nowMs);
    },
  };
}

interface ClaimedRow {
  readonly partner_id: string;
  readonly thread_id: string;
  readonly task_id: string;
  /** null: the thread was deleted a moment ago. */
  readonly user_id: string | null;
  readonly position: number;
  readonly attempts: number;
  readonly first_event_id: number;
  readonly is_cancelled: number;
}

/**
 * The lease in the outer condition is what decides between two nodes: the second one finds it taken. Those that wait and those whose lease is over are
 * looked for apart, each by the index, lest either keep the other waiting.
 */
async function claim(
  db: Transaction<Schema>,
  { leaseId, untilMs }: { readonly leaseId: string; readonly untilMs: number },
  { limit, exceptOf }: { readonly limit: number; readonly exceptOf: readonly string[] },
  nowMs: number,
): Promise<ClaimedTask[]> {
  const ofOthers = exceptOf.length === 0 ? sql`` : sql`t.partner_id NOT IN (${sql.join(exceptOf)}) AND `;
  const lastEvent = lastEventIdOf(sql`e.partner_id = thread_tasks.partner_id AND e.thread_id = thread_tasks.thread_id`);
  const some = sql`SELECT t.partner_id, t.task_id, t.created_at FROM thread_tasks t WHERE ${ofOthers}`;
  const claimed = await sql<ClaimedRow>`UPDATE thread_tasks SET lease_id = ${leaseId}, lease_until = ${untilMs}, attempts = attempts + 1,
      first_event_id = coalesce(first_event_id, 1 + ${lastEvent})
    WHERE lease_until < ${nowMs} AND (partner_id, task_id) IN (SELECT partner_id, task_id FROM (
        SELECT * FROM (${some} t.lease_until = 0 ORDER BY t.created_at LIMIT ${limit}) AS waiting
        UNION ALL SELECT * FROM (${some} t.lease_until > 0 AND t.lease_until < ${nowMs} ORDER BY t.lease_until LIMIT ${limit}) AS lapsed
      ) AS ready ORDER BY created_at LIMIT ${limit})
    RETURNING partner_id, thread_id, task_id, position, attempts, first_event_id, is_cancelled,
      (SELECT h.user_id FROM threads h WHERE h.partner_id = thread_tasks.partner_id AND h.thread_id = thread_tasks.thread_id) AS user_id`.execute(
    db,
  );
  return claimed.rows.flatMap((row) => (row.user_id === null ? [] : [toClaimed(row, row.user_id, leaseId)]));
}

function toClaimed(row: ClaimedRow, userId: string, leaseId: string): ClaimedTask {
  return {
    partnerId: row.partner_id,
    threadId: row.thread_id,
    taskId: row.task_id,
    userId,
    leaseId,
    attempts: row.attempts,
    eventsAfter: row.first_event_id - 1,
    isCancelled: row.is_cancelled === 1,
    position: row.position,
  };
}

/** What was said before: also answers that came after the message, which had to wait for them; not the messages that wait behind it. */
async function findQuestion(db: Kysely<Schema>, task: ClaimedTask, countMax: number): Promise<StoredQuestion | undefined> {
  const select = () =>
    db
      .selectFrom("thread_messages")
      .select([...MESSAGE_COLUMNS, "position"])
      .where(whereThread(task));
  const asked = await select().select("file_ids").where("position", "=", task.position).executeTakeFirst();
  if (asked === undefined) return undefined;
  const before = await select()
    .where(sql<boolean>`(is_user_message = 0 OR position < ${task.position})`)
    .orderBy("position", "desc")
    .limit(countMax)
    .execute();
  const files = await listFiles(db, task, JSON.parse(asked.file_ids) as string[]);
  return { message: toMessage(asked).message, files, history: before.toReversed().map(toMessage) };
}

/** In PostgreSQL this holds the rows until the commit: a node that takes a task over waits, and finds that it is at work. */
async function prolong(
  db: Transaction<Schema>,
  dialect: Pick<Dialect, "unpack">,
  tasks: readonly LeasedTask[],
  untilMs: number,
): Promise<LeaseState[]> {
  const json = JSON.stringify(tasks.map((task) => ({ partner_id: task.partnerId, task_id: task.taskId, lease_id: task.leaseId })));
  const leased = dialect.unpack(json, { partner_id: "text", task_id: "text", lease_id: "text" });
  const held = await sql<{ task_id: string; is_cancelled: number }>`UPDATE thread_tasks SET lease_until = ${untilMs}
    WHERE (partner_id, task_id, lease_id) IN (SELECT partner_id, task_id, lease_id FROM ${leased} r) RETURNING task_id, is_cancelled`.execute(
    db,
  );
  return held.rows.map((row) => ({ taskId: row.task_id, isCancelled: row.is_cancelled === 1 }));
}

/**
 * The task's row first, as in `append`: in PostgreSQL, two that hold what the other one wants would wait for each other. Then the thread's, as for a
 * message that is sent: of the two, the second one sees the first.
 */
async function finish(
  db: Transaction<Schema>,
  dialect: Pick<Dialect, "unpack">,
  output: TaskOutput,
  { end, nowMs }: { readonly end: TaskEnd; readonly nowMs: number },
): Promise<EventBatch[] | undefined> {
  const { partnerId, threadId, taskId, leaseId, firstId } = output;
  const ended = await db
    .deleteFrom("thread_tasks")
    .where("partner_id", "=", partnerId)
    .where("task_id", "=", taskId)
    .where("lease_id", "=", leaseId)
    .executeTakeFirst();
  if (ended.numDeletedRows === 0n) return undefined;
  const place = await takePosition(db, { partnerId, threadId }, nowMs);
  if (place === undefined) return undefined;
  await db
    .insertInto("thread_messages")
    .values({
      partner_id: partnerId,
      thread_id: threadId,
      ...messageRow({ messageId: end.messageId, taskId, message: end.message }, false, end.citations),
      position: place.position,
      sent_at: place.sentAtMs,
    })
    .execute();
  const next = await db
    .updateTable("thread_tasks")
    .set({ lease_until: 0 })
    .where("partner_id", "=", partnerId)
    .where("task_id", "=", ofHeadTask<string>("task_id", output))
    .executeTakeFirst();
  const isIdle = next.numUpdatedRows === 0n;
  await writeOutputs(db, dialect, [isIdle ? output : { ...output, log: "" }], nowMs); // the next one's log begins
  const streamed: EventBatch = { partnerId, threadId, firstId, events: output.events };
  const last: EventBatch = {
    partnerId,
    threadId,
    firstId: firstId + output.events.length,
    events: end.events({ sentAtMs: place.sentAtMs, isIdle }),
  };
  await writeEvents(db, dialect, [last], null);
  return [streamed, last].filter(({ events }) => events.length > 0);
}
