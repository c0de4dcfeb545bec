import { type Kysely, sql } from "kysely";
import type { Dialect } from "../dialect.ts";
import { deleteInSteps, PURGE_ROWS_MAX } from "../purge.ts";
import type { Schema } from "../schema.ts";
import type { EventBatch, EventPosition, ThreadStore } from "../thread-store.ts";
import { type EventRow, toEventBatch, whereThread } from "./thread-rows.ts";

/** Of one thread, in one go. */
const BATCHES_MAX = 64;
/** Of all threads, in one go: what is left is read the next time. */
const NEW_BATCHES_MAX = 1_000;
const NEW_BYTES_MAX = 4_000_000;
/** Of each thread, where many are asked about: more than this is not even counted. */
const NEW_BATCHES_EACH = 10;

export function eventReader(dialect: Dialect): Pick<ThreadStore, "readEvents" | "readNewEvents" | "listDeleted"> {
  return {
    readEvents: (after, charactersMax) => dialect.read((db) => readEvents(db, after, charactersMax)),
    readNewEvents: (positions) => readNewEvents(dialect, positions),
    async listDeleted(threads) {
      const json = JSON.stringify(threads.map((at) => ({ partner_id: at.partnerId, thread_id: at.threadId })));
      const asked = dialect.unpack(json, { partner_id: "text", thread_id: "text" });
      const gone = await dialect.read((db) =>
        sql<{ partner_id: string; thread_id: string }>`SELECT p.partner_id, p.thread_id FROM ${asked} p
          WHERE NOT EXISTS (SELECT 1 FROM threads t WHERE t.partner_id = p.partner_id AND t.thread_id = p.thread_id AND t.user_id IS NOT NULL)`.execute(
          db,
        ),
      );
      return gone.rows.map((row) => ({ partnerId: row.partner_id, threadId: row.thread_id }));
    },
  };
}

/**
 * From the batch on in which the position lies; of that one, only what is behind it. The page is made out of lengths in bytes, which both databases know
 * without a look at the text itself: else 64 batches would be read for each page.
 */
async function readEvents(db: Kysely<Schema>, after: EventPosition, charactersMax: number): Promise<readonly EventBatch[]> {
  const key = whereThread(after);
  const { lastEventId } = after;
  const found = await sql<EventRow>`SELECT e.partner_id, e.thread_id, e.first_id, e.events FROM
    (SELECT first_id, sum(bytes) OVER (ORDER BY first_id) - bytes AS before FROM
      (SELECT first_id, octet_length(events) AS bytes FROM thread_events
        WHERE ${key} AND last_id > ${lastEventId}
          AND first_id >= coalesce((SELECT max(first_id) FROM thread_events WHERE ${key} AND first_id <= ${lastEventId}), 0)
        ORDER BY first_id LIMIT ${sql.lit(BATCHES_MAX)}) AS page_sizes) AS page
    CROSS JOIN thread_events e
    WHERE ${key} AND e.first_id = page.first_id AND page.before < ${charactersMax} ORDER BY e.first_id`.execute(db);
  return found.rows.map((row) => behind(toEventBatch(row), lastEventId));
}

/**
 * The first batch behind each position, then the second of each, and so on: where not all are read, those that have fallen behind most get as much as
 * any other. Of those at one place, whoever comes first is drawn by lot, lest the same ones be left out each time. What there is to be read is
 * counted as in a page; the texts themselves are read last.
 */
async function readNewEvents(dialect: Dialect, positions: readonly EventPosition[]): Promise<readonly EventBatch[]> {
  if (positions.length === 0) return [];
  const from = Math.floor(Math.random() * positions.length);
  const json = JSON.stringify(
    [...positions.slice(from), ...positions.slice(0, from)].map((at, turn) => ({
      partner_id: at.partnerId,
      thread_id: at.threadId,
      last_event_id: at.lastEventId,
      turn,
    })),
  );
  const asked = dialect.unpack(json, { partner_id: "text", thread_id: "text", last_event_id: "bigint", turn: "bigint" });
  const eachMax = Math.max(NEW_BATCHES_EACH, Math.floor(NEW_BATCHES_MAX / positions.length));
  const ofAsked = sql`b.partner_id = p.partner_id AND b.thread_id = p.thread_id`;
  // cross joins keep SQLite from reading all events: it begins with what is asked for, and looks each up by the key
  const found = await dialect.read((db) =>
    sql<EventRow & { readonly last_event_id: number }>`SELECT e.partner_id, e.thread_id, e.first_id, e.events, page.last_event_id FROM
      (SELECT behind.*, sum(bytes) OVER (ORDER BY place, turn) - bytes AS before FROM
        (SELECT e.partner_id, e.thread_id, e.first_id, octet_length(e.events) AS bytes, p.last_event_id, p.turn,
            row_number() OVER (PARTITION BY p.turn ORDER BY e.first_id) AS place
          FROM ${asked} p CROSS JOIN thread_events e
          WHERE e.partner_id = p.partner_id AND e.thread_id = p.thread_id AND e.last_id > p.last_event_id
            AND e.first_id >= coalesce((SELECT max(b.first_id) FROM thread_events b WHERE ${ofAsked} AND b.first_id <= p.last_event_id), 0)
            AND e.first_id <= coalesce((SELECT b.first_id FROM thread_events b WHERE ${ofAsked} AND b.first_id > p.last_event_id
              ORDER BY b.first_id LIMIT 1 OFFSET ${eachMax - 1}), ${sql.lit(Number.MAX_SAFE_INTEGER)})) AS behind) AS page
      CROSS JOIN thread_events e
      WHERE e.partner_id = page.partner_id AND e.thread_id = page.thread_id AND e.first_id = page.first_id
        AND page.before < ${sql.lit(NEW_BYTES_MAX)} ORDER BY page.before LIMIT ${sql.lit(NEW_BATCHES_MAX)}`.execute(db),
  );
  return found.rows.map((row) => behind(toEventBatch(row), row.last_event_id));
}

/** A batch may have grown since it was read: see task-output.ts. */
function behind(batch: EventBatch, lastEventId: number): EventBatch {
  const known = lastEventId + 1 - batch.firstId;
  return known <= 0 ? batch : { ...batch, firstId: lastEventId + 1, events: batch.events.slice(known) };
}

/** But for tasks that are not done: whoever takes one up goes on behind its last event. */
export async function purgeEvents(dialect: Dialect, nowMs: number): Promise<number> {
  const deletion = sql`DELETE FROM thread_events WHERE (partner_id, thread_id, first_id) IN
    (SELECT e.partner_id, e.thread_id, e.first_id FROM thread_events e WHERE e.expires_at < ${nowMs}
      AND NOT EXISTS (SELECT 1 FROM thread_tasks t
        WHERE t.partner_id = e.partner_id AND t.thread_id = e.thread_id AND t.first_event_id <= e.first_id)
      ORDER BY e.expires_at LIMIT ${sql.lit(PURGE_ROWS_MAX)})`;
  return deleteInSteps(dialect, deletion, PURGE_ROWS_MAX);
}
