import { type Kysely, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import type { ClaimedTask, EventBatch, LeasedTask, LeaseState, StoredQuestion, TaskEnd, TaskOutput, TaskStore } from "../thread-store.ts";
import { type Unpacking, writeEvents, writeOutputs } from "./task-output.ts";
import type { ThreadEraser } from "./thread-deletion.ts";
import { purgeEvents } from "./thread-events.ts";
import { listFiles, readFile } from "./thread-files.ts";
import { pageStart } from "./thread-messages.ts";
import { lastEventIdOf, ofHeadTask, whereLiveThread, whereThread } from "./thread-rows.ts";
import { messageRow, takePosition } from "./threads.ts";

export function taskStore(dialect: Dialect, eraser: ThreadEraser): TaskStore {
  /** The lease of a claim that got no answer: no index leads to what it may have taken, so that its repetition alone looks for that. */
  let unanswered: string | undefined;
  return {
    async claim(lease, limit, nowMs, exceptOf = []) {
      const isRepeated = lease.leaseId === unanswered;
      try {
        return await dialect.write((db) => claim(db, lease, { limit, exceptOf, isRepeated }, nowMs));
      } catch (thrown) {
        unanswered = lease.leaseId;
        throw thrown;
      }
    },
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
      const purged = await purgeEvents(dialect, nowMs);
      await eraser.run();
      return purged;
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

type Lease = { readonly leaseId: string; readonly untilMs: number };

const CLAIMED = sql`partner_id, thread_id, task_id, position, attempts, first_event_id, is_cancelled,
  (SELECT h.user_id FROM threads h WHERE h.partner_id = thread_tasks.partner_id AND h.thread_id = thread_tasks.thread_id) AS user_id`;

async function claim(
  db: Transaction<Schema>,
  lease: Lease,
  { isRepeated, ...which }: { readonly limit: number; readonly exceptOf: readonly string[]; readonly isRepeated: boolean },
  nowMs: number,
): Promise<ClaimedTask[]> {
  const before = isRepeated ? await claimAgain(db, lease) : [];
  const rows = before.length > 0 ? before : await claimNew(db, lease, which, nowMs);
  return rows.flatMap((row) => (row.user_id === null ? [] : [toClaimed(row, row.user_id, lease.leaseId)]));
}

/** What was taken under this very lease by a claim whose answer was lost: it is begun now, and not once more. */
async function claimAgain(db: Transaction<Schema>, { leaseId, untilMs }: Lease): Promise<readonly ClaimedRow[]> {
  const again = await sql<ClaimedRow>`UPDATE thread_tasks SET lease_until = ${untilMs}
    WHERE lease_until > 0 AND lease_id = ${leaseId} RETURNING ${CLAIMED}`.execute(db);
  return again.rows;
}

/**
 * The lease in the outer condition is what decides between two nodes: the second one finds it taken. Those that wait and those whose lease is over are
 * looked for apart, each by the index, lest either keep the other waiting.
 */
async function claimNew(
  db: Transaction<Schema>,
  { leaseId, untilMs }: Lease,
  { limit, exceptOf }: { readonly limit: number; readonly exceptOf: readonly string[] },
  nowMs: number,
): Promise<readonly ClaimedRow[]> {
  const ofOthers = exceptOf.length === 0 ? sql`` : sql`t.partner_id NOT IN (${sql.join(exceptOf)}) AND `;
  const lastEvent = lastEventIdOf(sql`e.partner_id = thread_tasks.partner_id AND e.thread_id = thread_tasks.thread_id`);
  const some = sql`SELECT t.partner_id, t.task_id, t.created_at FROM thread_tasks t WHERE ${ofOthers}`;
  const claimed = await sql<ClaimedRow>`UPDATE thread_tasks SET lease_id = ${leaseId}, lease_until = ${untilMs}, attempts = attempts + 1,
      first_event_id = coalesce(first_event_id, 1 + ${lastEvent})
    WHERE lease_until < ${nowMs} AND (partner_id, task_id) IN (SELECT partner_id, task_id FROM (
        SELECT * FROM (${some} t.lease_until = 0 ORDER BY t.created_at LIMIT ${limit}) AS waiting
        UNION ALL SELECT * FROM (${some} t.lease_until > 0 AND t.lease_until < ${nowMs} ORDER BY t.lease_until LIMIT ${limit}) AS lapsed
      ) AS ready ORDER BY created_at LIMIT ${limit})
    RETURNING ${CLAIMED}`.execute(db);
  return claimed.rows;
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

/** What an agent may be given of what was said before: 200,000 characters, each of which takes six bytes at most, as an escape of JSON. */
const HISTORY_BYTES_MAX = 1_200_000;

/** What was said before: also answers that came after the message, which had to wait for them; not the messages that wait behind it. */
async function findQuestion(db: Kysely<Schema>, task: ClaimedTask, countMax: number): Promise<StoredQuestion | undefined> {
  const messages = db.selectFrom("thread_messages").where(whereLiveThread(task));
  const asked = await messages.select(["message", "file_ids"]).where("position", "=", task.position).executeTakeFirst();
  if (asked === undefined) return undefined;
  const isBefore = sql<boolean>`(is_user_message = 0 OR position < ${task.position})`;
  const page = { bytes: sql<number>`octet_length(message)`, bytesMax: HISTORY_BYTES_MAX, limit: countMax };
  const before = await messages
    .select(["message", "is_user_message"])
    .where(isBefore)
    .where("position", ">=", pageStart(sql`${whereThread(task)} AND ${isBefore}`, page))
    .orderBy("position")
    .limit(countMax)
    .execute();
  const files = await listFiles(db, task, JSON.parse(asked.file_ids) as string[]);
  const history = before.map((row) => ({ message: JSON.parse(row.message) as string, isUserMessage: row.is_user_message === 1 }));
  return { message: JSON.parse(asked.message) as string, files, history };
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
  dialect: Unpacking,
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
