import { type RawBuilder, sql } from "kysely";
import type { Dialect } from "./dialect.ts";

/** Few enough for an index to be the shorter way to them. */
export const PURGE_ROWS_MAX = 100;

/** Deletes the rows of a table whose `expires_at` is over, by their key, in short transactions. Gives the number. */
export async function purgeExpired(
  dialect: Dialect,
  table: "spent_tokens" | "idempotent_requests" | "opaque_tokens" | "revocations",
  key: readonly string[],
  nowMs: number,
): Promise<number> {
  const columns = sql.join(key.map((column) => sql.ref(column)));
  const deletion = sql`DELETE FROM ${sql.table(table)} WHERE (${columns}) IN
    (SELECT ${columns} FROM ${sql.table(table)} WHERE expires_at < ${nowMs} ORDER BY expires_at LIMIT ${sql.lit(PURGE_ROWS_MAX)})`;
  return deleteInSteps(dialect, deletion, PURGE_ROWS_MAX);
}

/** Repeats a deletion of at most `rowsMax` rows until there are fewer, each time in a transaction of its own. Gives the number of all. */
export async function deleteInSteps(dialect: Dialect, deletion: RawBuilder<unknown>, rowsMax: number): Promise<number> {
  let deleted = 0;
  for (;;) {
    const { numAffectedRows } = await dialect.write((db) => deletion.execute(db));
    const count = Number(numAffectedRows ?? 0);
    deleted += count;
    if (count < rowsMax) return deleted;
  }
}
