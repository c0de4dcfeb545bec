import { type Kysely, sql } from "kysely";

/**
 * The whole account API. Users carry their organization's id, which never changes: filters and erasure need no join. `revision` is a new
 * one with every change (ETag); no token with an `iat` at or before `cut_off_at`, seconds, is good.
 */
export async function accounts(db: Kysely<never>, dialect: "sqlite" | "postgres"): Promise<void> {
  const bytes = dialect === "sqlite" ? sql`blob` : sql`bytea`;
  await db.schema.alterTable("users").addColumn("org_id", "text").execute();
  await sql`UPDATE users SET org_id = (SELECT w.org_id FROM workspaces w WHERE w.partner_id = users.partner_id AND w.workspace_id = users.workspace_id)`.execute(
    db,
  );
  for (const [table, id] of [
    ["organizations", "org_id"],
    ["workspaces", "workspace_id"],
    ["users", "user_id"],
  ] as const) {
    await sql`ALTER TABLE ${sql.table(table)} ADD COLUMN revision text NOT NULL DEFAULT ''`.execute(db);
    await sql`UPDATE ${sql.table(table)} SET revision = ${sql.ref(id)}`.execute(db);
    await sql`ALTER TABLE ${sql.table(table)} ADD COLUMN cut_off_at bigint NOT NULL DEFAULT 0`.execute(db);
  }
  await db.schema.createIndex("workspaces_org_id").on("workspaces").columns(["partner_id", "org_id", "workspace_id"]).execute();
  await db.schema.createIndex("users_workspace_id").on("users").columns(["partner_id", "workspace_id", "user_id"]).execute();
  await db.schema.createIndex("users_org_id").on("users").columns(["partner_id", "org_id", "user_id"]).execute();
  await db.schema
    .createTable("idempotent_requests")
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("request_key", bytes, (column) => column.notNull())
    .addColumn("fingerprint", bytes, (column) => column.notNull())
    .addColumn("answer", "text")
    .addColumn("entity_id", "text")
    .addColumn("expires_at", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("idempotent_requests_key", ["partner_id", "request_key"])
    .execute();
  await db.schema.createIndex("idempotent_requests_expiry").on("idempotent_requests").column("expires_at").execute();
  await db.schema.createIndex("idempotent_requests_entity").on("idempotent_requests").columns(["partner_id", "entity_id"]).execute();
  await db.schema
    .createTable("provisioning_quotas")
    .addColumn("partner_id", "text", (column) => column.notNull().primaryKey())
    .addColumn("hour", "bigint", (column) => column.notNull())
    .addColumn("used", "bigint", (column) => column.notNull())
    .execute();
  if (dialect === "sqlite") await fixStatistics(db);
  else await fixDistinctPartners(db);
}

/**
 * PostgreSQL takes a partner for an average one: among a thousand small ones, it would read all organizations of a large one by an index that
 * begins with the partner, where the primary key names one. So it is told that partners are few, and large.
 */
async function fixDistinctPartners(db: Kysely<never>): Promise<void> {
  for (const table of ["organizations", "workspaces", "users"]) {
    await sql`ALTER TABLE ${sql.table(table)} ALTER COLUMN partner_id SET (n_distinct = 10)`.execute(db);
  }
}

/**
 * What SQLite takes a partner to have: many entities, few below one parent. Without statistics it takes a whole table for small and reads all
 * users of a partner, by the primary key, where an index names ten of them; and ANALYZE on a young store would say the same for ever.
 */
const STATISTICS: readonly (readonly [table: string, index: string, rows: string])[] = [
  ["workspaces", "workspaces", "1000000 100000 1"],
  ["workspaces", "sqlite_autoindex_workspaces_2", "1000000 100000 1"],
  ["workspaces", "workspaces_org_id", "1000000 100000 10 1"],
  ["users", "users", "1000000 100000 1"],
  ["users", "sqlite_autoindex_users_2", "1000000 100000 1"],
  ["users", "users_workspace_id", "1000000 100000 10 1"],
  ["users", "users_org_id", "1000000 100000 10 1"],
];

async function fixStatistics(db: Kysely<never>): Promise<void> {
  await sql`ANALYZE sqlite_schema`.execute(db); // makes their table
  for (const row of STATISTICS) await sql`INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (${sql.join(row)})`.execute(db);
  await sql`ANALYZE sqlite_schema`.execute(db); // has this connection read them; the others do with the new schema
}
