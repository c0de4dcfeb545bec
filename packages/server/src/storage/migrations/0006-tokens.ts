import { type CreateTableBuilder, type Kysely, sql } from "kysely";

type Dialect = "sqlite" | "postgres";

/**
 * Opaque access tokens, what was revoked, the operator's own APIs and the scopes that open them. The built-in scopes are rows like any other: those
 * without a resource server open our own API.
 */
export async function tokens(db: Kysely<never>, dialect: Dialect): Promise<void> {
  await createTokens(db, dialect);
  await createResourceServers(db, dialect);
}

const bytes = (dialect: Dialect) => (dialect === "sqlite" ? sql`blob` : sql`bytea`);

function clustered<T extends string>(table: CreateTableBuilder<T>, dialect: Dialect): CreateTableBuilder<T> {
  return dialect === "sqlite" ? table.modifyEnd(sql`WITHOUT ROWID`) : table;
}

async function createTokens(db: Kysely<never>, dialect: Dialect): Promise<void> {
  const opaque = db.schema
    .createTable("opaque_tokens")
    .addColumn("token_hash", bytes(dialect), (column) => column.notNull().primaryKey())
    .addColumn("pepper_id", "text", (column) => column.notNull())
    .addColumn("token_id", "text", (column) => column.notNull())
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("audience", "text", (column) => column.notNull())
    .addColumn("scope", "text", (column) => column.notNull())
    .addColumn("kids", "text", (column) => column.notNull())
    .addColumn("issued_at", "bigint", (column) => column.notNull())
    .addColumn("expires_at", "bigint", (column) => column.notNull());
  await clustered(opaque, dialect).execute();
  await db.schema.createIndex("opaque_tokens_expiry").on("opaque_tokens").column("expires_at").execute();
  const revocations = db.schema
    .createTable("revocations")
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("subject_id", "text", (column) => column.notNull())
    .addColumn("kid", "text", (column) => column.notNull())
    .addColumn("partner_id", "text")
    .addColumn("cut_off_at", "bigint", (column) => column.notNull())
    .addColumn("revoked_at", "bigint", (column) => column.notNull())
    .addColumn("expires_at", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("revocations_key", ["subject_id", "kind", "kid"]);
  await clustered(revocations, dialect).execute();
  await db.schema.createIndex("revocations_order").on("revocations").columns(["revoked_at", "subject_id", "kind", "kid"]).execute();
  await db.schema.createIndex("revocations_expiry").on("revocations").column("expires_at").execute();
}

async function createResourceServers(db: Kysely<never>, dialect: Dialect): Promise<void> {
  await db.schema
    .createTable("resource_servers")
    .addColumn("resource_server_id", "text", (column) => column.notNull().primaryKey())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("audience", "text", (column) => column.notNull().unique())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("updated_at", "bigint", (column) => column.notNull())
    .execute();
  await db.schema
    .createTable("resource_server_secrets")
    .addColumn("resource_server_id", "text", (column) => column.notNull().references("resource_servers.resource_server_id"))
    .addColumn("secret_id", "text", (column) => column.notNull())
    .addColumn("secret_hash", bytes(dialect), (column) => column.notNull())
    .addColumn("pepper_id", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("last_used_at", "bigint")
    .addPrimaryKeyConstraint("resource_server_secrets_key", ["resource_server_id", "secret_id"])
    .execute();
  await db.schema
    .createTable("scopes")
    .addColumn("name", "text", (column) => column.notNull().primaryKey())
    .addColumn("principal", "text", (column) => column.notNull())
    .addColumn("resource_server_id", "text", (column) => column.references("resource_servers.resource_server_id"))
    .addColumn("description", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .execute();
  const builtIn = [
    ["thread", "user", "Threads and messages of the user"],
    ["account-management", "service_account", "Organizations, workspaces and users of the partner"],
    ["analytics", "service_account", "Messages and usage of the partner"],
  ];
  for (const [name, principal, description] of builtIn) {
    await sql`INSERT INTO scopes (name, principal, resource_server_id, description, created_at)
      VALUES (${name}, ${principal}, NULL, ${description}, 0)`.execute(db);
  }
}
