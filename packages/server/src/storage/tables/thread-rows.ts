import { type RawBuilder, sql } from "kysely";
import type { EventBatch, Message, StoredEvent, ThreadKey, ThreadOwner } from "../thread-store.ts";

/** What the tables of threads have in common. */

export function whereThread({ partnerId, threadId }: ThreadKey): RawBuilder<boolean> {
  return sql<boolean>`partner_id = ${partnerId} AND thread_id = ${threadId}`;
}

interface Filterable<Q> {
  where(column: "partner_id" | "user_id" | "thread_id", operator: "=", value: string): Q;
}

/** The thread itself, of this user. */
export function owned<Q extends Filterable<Q>>(query: Q, { partnerId, userId }: ThreadOwner, threadId: string): Q {
  return query.where("partner_id", "=", partnerId).where("thread_id", "=", threadId).where("user_id", "=", userId);
}

/** And nobody has deleted it: what is in it may not be erased yet. */
export function whereLiveThread(key: ThreadKey): RawBuilder<boolean> {
  return sql<boolean>`${whereThread(key)} AND EXISTS (SELECT 1 FROM threads h
    WHERE h.partner_id = ${key.partnerId} AND h.thread_id = ${key.threadId} AND h.user_id IS NOT NULL)`;
}

/** The id of the last event of the thread that `key` names; 0 where there was none. */
export function lastEventIdOf(key: RawBuilder<unknown>): RawBuilder<number> {
  return sql<number>`coalesce((SELECT e.last_id FROM thread_events e WHERE ${key} ORDER BY e.first_id DESC LIMIT 1), 0)`;
}

/** Of the first task of a thread that is not done: the one that is at work, or whose turn it is. NULL: the thread is idle. */
export function ofHeadTask<T>(column: "task_id" | "lease_until" | "first_event_id", key: ThreadKey): RawBuilder<T | null> {
  return sql`(SELECT ${sql.ref(column)} FROM thread_tasks WHERE ${whereThread(key)} ORDER BY position LIMIT 1)`;
}

export interface EventRow {
  readonly partner_id: string;
  readonly thread_id: string;
  readonly first_id: number;
  readonly events: string;
}

export function toEventBatch(row: EventRow): EventBatch {
  const { partner_id: partnerId, thread_id: threadId, first_id: firstId } = row;
  return { partnerId, threadId, firstId, events: JSON.parse(row.events) as StoredEvent[] };
}

export const MESSAGE_COLUMNS = ["message_id", "message", "is_user_message", "citations", "sent_at"] as const;

interface MessageRow {
  readonly message_id: string;
  readonly message: string;
  readonly is_user_message: number;
  readonly citations: string;
  readonly sent_at: number;
}

export function toMessage(row: MessageRow): Message {
  return {
    messageId: row.message_id,
    message: JSON.parse(row.message) as string,
    isUserMessage: row.is_user_message === 1,
    sentAtMs: row.sent_at,
    citations: JSON.parse(row.citations) as unknown[],
  };
}
