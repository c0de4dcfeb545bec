import { randomUUID } from "node:crypto";
import type { TestServer } from "../../packages/server/src/testing/server.ts";
import type { Made, Tenant } from "./a9-setting.ts";

/* Rows behind the server's back: many at once, and where in the database a text is. */

const ROWS_AT_ONCE = 500;

/** Users of a workspace, in the time that the API takes for ten. Gives their ids. */
export async function addUsers(server: TestServer, { partner }: Tenant, workspace: Made, count: number): Promise<string[]> {
  const rows = Array.from({ length: count }, () => {
    const id = randomUUID();
    const values = [
      partner.clientId,
      id,
      `ext-${id}`,
      workspace.id,
      workspace.entity["org_id"],
      `${id}@x.example`,
      `Name ${id}`,
      "[]",
      "active",
      id.slice(0, 16),
    ];
    return { id, sql: `(${values.map((value) => `'${String(value)}'`).join(", ")}, 0, 0)` };
  });
  const columns =
    "partner_id, user_id, external_user_id, workspace_id, org_id, email, name, entitlements, status, revision, created_at, updated_at";
  for (let from = 0; from < count; from += ROWS_AT_ONCE) {
    const some = rows.slice(from, from + ROWS_AT_ONCE).map(({ sql }) => sql);
    await server.database.query(`INSERT INTO users (${columns}) VALUES ${some.join(", ")}`);
  }
  return rows.map(({ id }) => id);
}

export interface Found {
  readonly table: string;
  readonly column: string;
}

/** Every column of every table that holds the text, in whatever type: read from the schema, so that a new table is looked at too. */
export async function findInTables(server: TestServer, text: string): Promise<Found[]> {
  const isSqlite = "sqlitePath" in server.database.location;
  const tables = await server.database.query(
    isSqlite
      ? "SELECT name FROM sqlite_master WHERE type = 'table'"
      : "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
  );
  const found: Found[] = [];
  for (const { name } of tables) {
    const table = String(name);
    for (const row of await server.database.query(`SELECT * FROM "${table}"`)) {
      for (const [column, value] of Object.entries(row)) {
        const readings =
          value instanceof Uint8Array ? [Buffer.from(value).toString("latin1"), Buffer.from(value).toString("hex")] : [String(value)];
        if (readings.some((reading) => reading.toLowerCase().includes(text.toLowerCase()))) found.push({ table, column });
      }
    }
  }
  return found;
}
