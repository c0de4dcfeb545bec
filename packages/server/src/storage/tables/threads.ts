import { type Kysely, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import type { NewMessage, Progress, ThreadOwner, ThreadPage, ThreadPosition, ThreadStore } from "../thread-store.ts";
import { deleteThread, type ThreadEraser } from "./thread-deletion.ts";
import { eventReader } from "./thread-events.ts";
import { fileStore } from "./thread-files.ts";
import { listMessages } from "./thread-messages.ts";
import { lastEventIdOf, ofHeadTask, owned, whereThread } from "./thread-rows.ts";

/** Every statement names the partner and the user: a finder without them does not exist. */
export function threadStore(dialect: Dialect, eraser: ThreadEraser): ThreadStore {
  return {
    async create({ partnerId, userId }, { threadId, name }, nowMs) {
      const row = { partner_id: partnerId, thread_id: threadId, user_id: userId, name, message_count: 0, last_message_at: 0 };
      const insert = (db: Transaction<Schema>) =>
        db
          .insertInto("threads")
          .values({ ...row, progress_log: null, created_at: nowMs, updated_at: nowMs })
          .execute();
      try {
        await dialect.write(insert);
        return "created";
      } catch (thrown) {
        if (dialect.isForeignKeyViolation(thrown)) return "absent"; // erased since its token was looked at
        throw thrown;
      }
    },
    list: (owner, page) => dialect.read((db) => listThreads(db, owner, page)),
    async rename(owner, threadId, name, nowMs) {
      const set = { name, updated_at: nowMs };
      const renamed = await dialect.write((db) => owned(db.updateTable("threads"), owner, threadId).set(set).executeTakeFirst());
      return renamed.numUpdatedRows > 0n;
    },
    async delete(owner, threadId) {
      const isDeleted = await deleteThread(dialect, owner, threadId);
      if (isDeleted) eraser.start();
      return isDeleted;
    },
    listMessages: (owner, threadId, range) => dialect.read((db) => listMessages(db, owner, threadId, range)),
    async send(owner, threadId, message, at) {
      try {
        return await dialect.write((db) => send(db, { owner, threadId, message }, at));
      } catch (thrown) {
        if (thrown instanceof TooManyWaiting) return "too_many_waiting";
        throw thrown;
      }
    },
    findProgress: (owner, threadId) => dialect.read((db) => findProgress(db, owner, threadId)),
    cancel: (owner, threadId) => dialect.write((db) => cancel(db, owner, threadId)),
    findArtifact: (owner, threadId, artifactId) => dialect.read((db) => findArtifact(db, owner, threadId, artifactId)),
    findStreamStart: (owner, threadId) => dialect.read((db) => findStreamStart(db, owner, threadId)),
    ...eventReader(dialect),
    ...fileStore(dialect),
  };
}

async function listThreads(
  db: Kysely<Schema>,
  { partnerId, userId }: ThreadOwner,
  { after, limit }: { readonly after: ThreadPosition | undefined; readonly limit: number },
): Promise<ThreadPage> {
  const behind = after === undefined ? sql`` : sql`AND (created_at, thread_id) < (${after.createdAtMs}, ${after.threadId})`;
  const found = await sql<{ thread_id: string; name: string; created_at: number; updated_at: number }>`
    SELECT thread_id, name, created_at, updated_at FROM threads WHERE partner_id = ${partnerId} AND user_id = ${userId} ${behind}
      ORDER BY created_at DESC, thread_id DESC LIMIT ${limit + 1}`.execute(db);
  const items = found.rows.slice(0, limit).map((row) => ({
    threadId: row.thread_id,
    name: row.name,
    createdAtMs: row.created_at,
    updatedAtMs: row.updated_at,
  }));
  return { items, next: found.rows.length > limit ? items.at(-1) : undefined };
}

/** Undoes what the transaction has written by then. */
class TooManyWaiting extends Error {}

/** The thread's row is written first, and held: two messages that come at once are one after the other. */
async function send(
  db: Transaction<Schema>,
  { owner, threadId, message }: { readonly owner: ThreadOwner; readonly threadId: string; readonly message: NewMessage },
  { nowMs, waitingMax }: { readonly nowMs: number; readonly waitingMax: number },
): Promise<{ readonly lastEventId: number } | "absent"> {
  const key = { partnerId: owner.partnerId, threadId };
  const thread = { partner_id: owner.partnerId, thread_id: threadId };
  const position = await takePosition(db, { ...owner, threadId }, nowMs);
  if (position === undefined) return "absent";
  const waiting = await db.selectFrom("thread_tasks").select("task_id").where(whereThread(key)).limit(waitingMax).execute();
  if (waiting.length >= waitingMax) throw new TooManyWaiting();
  if (waiting.length === 0) await owned(db.updateTable("threads"), owner, threadId).set({ progress_log: '""' }).execute();
  await db
    .insertInto("thread_messages")
    .values({ ...thread, ...messageRow(message, true), position: position.position, sent_at: position.sentAtMs })
    .execute();
  const unleased = { lease_id: "", lease_until: waiting.length === 0 ? 0 : null, attempts: 0, first_event_id: null, is_cancelled: 0 };
  await db
    .insertInto("thread_tasks")
    .values({ ...thread, task_id: message.taskId, position: position.position, ...unleased, created_at: nowMs })
    .execute();
  const last = await sql<{ id: number }>`SELECT ${lastEventIdOf(whereThread(key))} AS id`.execute(db);
  return { lastEventId: last.rows[0]?.id ?? 0 };
}

export interface Position {
  readonly position: number;
  readonly sentAtMs: number;
}

/**
 * The place of the next message and its time, which does not go back where a clock does. `userId` absent: whosever it is. Undefined: the thread is
 * absent, deleted or another user's.
 */
export async function takePosition(
  db: Transaction<Schema>,
  { partnerId, threadId, userId }: { readonly partnerId: string; readonly threadId: string; readonly userId?: string },
  nowMs: number,
): Promise<Position | undefined> {
  const ofUser = userId === undefined ? sql`user_id IS NOT NULL` : sql`user_id = ${userId}`;
  const taken = await sql<{ message_count: number; last_message_at: number }>`UPDATE threads SET message_count = message_count + 1,
      last_message_at = CASE WHEN last_message_at > ${nowMs} THEN last_message_at ELSE ${nowMs} END, updated_at = ${nowMs}
    WHERE partner_id = ${partnerId} AND thread_id = ${threadId} AND ${ofUser} RETURNING message_count, last_message_at`.execute(db);
  const [row] = taken.rows;
  return row === undefined ? undefined : { position: row.message_count - 1, sentAtMs: row.last_message_at };
}

export function messageRow(
  { messageId, taskId, message, fileIds = [] }: NewMessage,
  isUserMessage: boolean,
  citations: readonly unknown[] = [],
) {
  return {
    message_id: messageId,
    task_id: taskId,
    is_user_message: isUserMessage ? 1 : 0,
    message: JSON.stringify(message),
    citations: JSON.stringify(citations),
    file_ids: JSON.stringify(fileIds),
  };
}

async function findProgress(db: Kysely<Schema>, owner: ThreadOwner, threadId: string): Promise<Progress | null | undefined> {
  const leaseUntil = ofHeadTask<number>("lease_until", { ...owner, threadId }).as("lease_until");
  const thread = await owned(db.selectFrom("threads").select(["progress_log", leaseUntil]), owner, threadId).executeTakeFirst();
  if (thread === undefined) return undefined;
  if (thread.progress_log === null) return null;
  const state = thread.lease_until === null ? "complete" : thread.lease_until > 0 ? "running" : "queued";
  return { log: JSON.parse(thread.progress_log) as string, state };
}

async function cancel(
  db: Transaction<Schema>,
  owner: ThreadOwner,
  threadId: string,
): Promise<{ readonly taskId: string | undefined } | "absent"> {
  const head = ofHeadTask<string>("task_id", { ...owner, threadId }).as("task_id");
  for (;;) {
    const thread = await owned(db.selectFrom("threads").select(head), owner, threadId).executeTakeFirst();
    if (thread === undefined) return "absent";
    if (thread.task_id === null) return { taskId: undefined };
    const marked = await db
      .updateTable("thread_tasks")
      .set({ is_cancelled: 1 })
      .where("partner_id", "=", owner.partnerId)
      .where("task_id", "=", thread.task_id)
      .executeTakeFirst();
    if (marked.numUpdatedRows > 0n) return { taskId: thread.task_id }; // else it was done meanwhile, and another one is the first
  }
}

async function findArtifact(db: Kysely<Schema>, owner: ThreadOwner, threadId: string, artifactId: string): Promise<unknown> {
  const thread = await owned(db.selectFrom("threads").select("thread_id"), owner, threadId).executeTakeFirst();
  if (thread === undefined) return undefined;
  const row = await db
    .selectFrom("thread_artifacts")
    .select("artifact")
    .where(whereThread({ ...owner, threadId }))
    .where("artifact_id", "=", artifactId)
    .executeTakeFirst();
  return row === undefined ? undefined : (JSON.parse(row.artifact) as unknown);
}

/** One statement, so that both are of one moment. */
async function findStreamStart(
  db: Kysely<Schema>,
  owner: ThreadOwner,
  threadId: string,
): Promise<{ readonly lastEventId: number; readonly taskFrom: number } | undefined> {
  const key = { ...owner, threadId };
  const columns = [
    lastEventIdOf(sql`partner_id = ${owner.partnerId} AND thread_id = ${threadId}`).as("last_id"),
    ofHeadTask<number>("first_event_id", key).as("first_id"),
  ];
  const found = await owned(db.selectFrom("threads").select(columns), owner, threadId).executeTakeFirst();
  if (found === undefined) return undefined;
  return { lastEventId: found.last_id, taskFrom: found.first_id === null ? found.last_id : found.first_id - 1 };
}
