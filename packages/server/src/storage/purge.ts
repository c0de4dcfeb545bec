import { sql } from "kysely";
import type { Dialect } from "./dialect.ts";

/** Few enough for an index to be the shorter way to them. */
const PURGE_ROWS_MAX = 100;

/** Deletes the rows of a table whose `expires_at` is over, by their key, in short transactions. Gives the number. */
export async function purgeExpired(
  dialect: Dialect,
  table: "spent_tokens" | "idempotent_requests" | "opaque_tokens" | "revocations",
  key: readonly string[],
  nowMs: number,
): Promise<number> {
  const columns = sql.join(key.map((column) => sql.ref(column)));
  let purged = 0;
  for (;;) {
    const deleted = await dialect.write((db) =>
      sql`DELETE FROM ${sql.table(table)} WHERE (${columns}) IN
        (SELECT ${columns} FROM ${sql.table(table)} WHERE expires_at < ${nowMs} ORDER BY expires_at LIMIT ${sql.lit(PURGE_ROWS_MAX)})`.execute(
        db,
      ),
    );
    const count = Number(deleted.numAffectedRows ?? 0);
    purged += count;
    if (count < PURGE_ROWS_MAX) return purged;
  }
}
