import { type Kysely, sql } from "kysely";
import type { Schema } from "../schema.ts";
import type { MessagePage, MessageRange, ThreadOwner } from "../thread-store.ts";
import { MESSAGE_COLUMNS, toMessage, whereThread } from "./thread-rows.ts";

/** Positions have no gaps and times do not go back, so a page is a range of positions: found as quickly at the end of 100,000 as of 100. */
export async function listMessages(
  db: Kysely<Schema>,
  { partnerId, userId }: ThreadOwner,
  threadId: string,
  { startMs, endMs, startIndex, limit }: MessageRange,
): Promise<MessagePage | undefined> {
  const key = { partnerId, threadId };
  const thread = await db
    .selectFrom("threads")
    .select("message_count")
    .where(whereThread(key))
    .where("user_id", "=", userId)
    .executeTakeFirst();
  if (thread === undefined) return undefined;
  const first = startMs === undefined ? 0 : await positionAt(db, sql`${whereThread(key)} AND sent_at >= ${startMs}`, "asc");
  const last =
    endMs === undefined ? thread.message_count - 1 : await positionAt(db, sql`${whereThread(key)} AND sent_at <= ${endMs}`, "desc");
  if (first === undefined || last === undefined || first > last) return { messages: [], totalCount: 0 };
  const newest = last - startIndex;
  const oldest = Math.max(first, newest - limit + 1);
  const totalCount = last - first + 1;
  if (newest < oldest) return { messages: [], totalCount };
  const rows = await db
    .selectFrom("thread_messages")
    .select(MESSAGE_COLUMNS)
    .where(whereThread(key))
    .where("position", ">=", oldest)
    .where("position", "<=", newest)
    .orderBy("position")
    .limit(limit) // no fewer: so that PostgreSQL, whose guess of a range may be far too high, sees no reason to read the table
    .execute();
  return { messages: rows.map(toMessage), totalCount };
}

/** Of the first or the last message that meets the condition. */
async function positionAt(db: Kysely<Schema>, condition: ReturnType<typeof sql>, order: "asc" | "desc"): Promise<number | undefined> {
  const direction = sql.raw(order);
  const found = await sql<{ position: number }>`SELECT position FROM thread_messages WHERE ${condition}
    ORDER BY sent_at ${direction}, position ${direction} LIMIT 1`.execute(db);
  return found.rows[0]?.position;
}
