import { sql } from "kysely";
import type { Dialect } from "./dialect.ts";

/** Few enough for an index to be the shorter way to them. */
const PURGE_ROWS_MAX = 100;

/** Deletes the rows of a partner-keyed table whose `expires_at` is over, in short transactions. Gives the number. */
export async function purgeExpired(
  dialect: Dialect,
  table: "spent_tokens" | "idempotent_requests",
  key: "spend_key" | "request_key",
  nowMs: number,
): Promise<number> {
  let purged = 0;
  for (;;) {
    const deleted = await dialect.write((db) =>
      sql`DELETE FROM ${sql.table(table)} WHERE (partner_id, ${sql.ref(key)}) IN
        (SELECT partner_id, ${sql.ref(key)} FROM ${sql.table(table)} WHERE expires_at < ${nowMs} ORDER BY expires_at LIMIT ${sql.lit(PURGE_ROWS_MAX)})`.execute(
        db,
      ),
    );
    const count = Number(deleted.numAffectedRows ?? 0);
    purged += count;
    if (count < PURGE_ROWS_MAX) return purged;
  }
}
