import { type Kysely, type RawBuilder, sql } from "kysely";
import type { Schema } from "../schema.ts";
import type { MessagePage, MessageRange, ThreadOwner } from "../thread-store.ts";
import { MESSAGE_COLUMNS, owned, toMessage, whereThread } from "./thread-rows.ts";

/** Of what is stored, in a page. An answer may be 1.2 MB: a character takes six bytes at most, as an escape of JSON. */
const PAGE_BYTES_MAX = 2_000_000;

/**
 * The position where a page of messages begins that ends with the newest one of these: `limit` of them at most, which are about `bytesMax`, one at
 * least; NULL where there is none. Both databases know lengths in bytes without a look at the text itself.
 */
export function pageStart(
  condition: RawBuilder<unknown>,
  { bytes, bytesMax, limit }: { readonly bytes: RawBuilder<number>; readonly bytesMax: number; readonly limit: number },
): RawBuilder<number> {
  return sql`(SELECT min(position) FROM (SELECT position, sum(bytes) OVER (ORDER BY position DESC) - bytes AS behind FROM
    (SELECT position, ${bytes} AS bytes FROM thread_messages WHERE ${condition} ORDER BY position DESC LIMIT ${limit}) AS page_sizes) AS page
    WHERE behind < ${sql.lit(bytesMax)})`;
}

/** Positions have no gaps and times do not go back, so a page is a range of positions: found as quickly at the end of 100,000 as of 100. */
export async function listMessages(
  db: Kysely<Schema>,
  owner: ThreadOwner,
  threadId: string,
  { startMs, endMs, startIndex, limit }: MessageRange,
): Promise<MessagePage | undefined> {
  const key = { ...owner, threadId };
  const thread = await owned(db.selectFrom("threads").select("message_count"), owner, threadId).executeTakeFirst();
  if (thread === undefined) return undefined;
  const first = startMs === undefined ? 0 : await positionAt(db, sql`${whereThread(key)} AND sent_at >= ${startMs}`, "asc");
  const last =
    endMs === undefined ? thread.message_count - 1 : await positionAt(db, sql`${whereThread(key)} AND sent_at <= ${endMs}`, "desc");
  if (first === undefined || last === undefined || first > last) return { messages: [], totalCount: 0 };
  const newest = last - startIndex;
  const oldest = Math.max(first, newest - limit + 1);
  const totalCount = last - first + 1;
  if (newest < oldest) return { messages: [], totalCount };
  const range = sql`${whereThread(key)} AND position >= ${oldest} AND position <= ${newest}`;
  const bytes = sql<number>`octet_length(message) + octet_length(citations)`;
  const rows = await db
    .selectFrom("thread_messages")
    .select(MESSAGE_COLUMNS)
    .where(whereThread(key))
    .where("position", ">=", pageStart(range, { bytes, bytesMax: PAGE_BYTES_MAX, limit }))
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
