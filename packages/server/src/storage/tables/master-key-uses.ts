import { type Kysely, sql } from "kysely";
import type { Schema } from "../schema.ts";
import type { MasterKeyUse } from "../store.ts";

/**
 * Every column that names the master key under which its row was hashed or sealed, and what its rows are called. A table that gets such a
 * column gets a line here: an operator drops the old master key when nothing in this list hangs on it.
 */
export const MASTER_KEY_COLUMNS = [
  { table: "signing_keys", column: "sealing_key_id", what: "signing_keys" },
  { table: "partner_secrets", column: "pepper_id", what: "secrets" },
  { table: "resource_server_secrets", column: "pepper_id", what: "secrets" },
  { table: "opaque_tokens", column: "pepper_id", what: "tokens" },
] as const satisfies readonly { readonly table: keyof Schema; readonly column: string; readonly what: MasterKeyUse["what"] }[];

/** How many rows hang on which master key. Retired signing keys hang on none. Reads all of them: not for the hot path. */
export async function listMasterKeyUses(db: Kysely<Schema>): Promise<MasterKeyUse[]> {
  const uses: MasterKeyUse[] = [];
  for (const { table, column, what } of MASTER_KEY_COLUMNS) {
    const { rows } = await sql<{ id: string; count: number }>`SELECT ${sql.ref(column)} AS id, count(*) AS count
      FROM ${sql.table(table)} WHERE ${sql.ref(column)} <> '' GROUP BY ${sql.ref(column)}`.execute(db);
    uses.push(...rows.map(({ id, count }) => ({ masterKeyId: id, what, count })));
  }
  return uses;
}
