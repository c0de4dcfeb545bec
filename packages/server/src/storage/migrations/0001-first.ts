import { type CreateTableBuilder, type Kysely, sql } from "kysely";

type Dialect = "sqlite" | "postgres";

/** Clustered by its key in SQLite, where the key is what every query asks by. */
function clustered<T extends string>(table: CreateTableBuilder<T>, dialect: Dialect): CreateTableBuilder<T> {
  return dialect === "sqlite" ? table.modifyEnd(sql`WITHOUT ROWID`) : table;
}

/** The first schema. */
export async function first(db: Kysely<never>, dialect: Dialect): Promise<void> {
  await createPartners(db, dialect);
  await createAccounts(db, dialect);
  await createExchanges(db, dialect);
}

const bytes = (dialect: Dialect) => (dialect === "sqlite" ? sql`blob` : sql`bytea`);

async function createPartners(db: Kysely<never>, dialect: Dialect): Promise<void> {
  await db.schema
    .createTable("partners")
    .addColumn("client_id", "text", (column) => column.notNull().primaryKey())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("version", "bigint", (column) => column.notNull())
    .addColumn("issuer", "text", (column) => column.notNull().unique())
    .addColumn("audience", "text", (column) => column.notNull())
    .addColumn("jwks", "text", (column) => column.notNull())
    .addColumn("settings", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("updated_at", "bigint", (column) => column.notNull())
    .execute();
  await db.schema
    .createTable("partner_secrets")
    .addColumn("partner_id", "text", (column) => column.notNull().references("partners.client_id"))
    .addColumn("secret_id", "text", (column) => column.notNull())
    .addColumn("secret_hash", bytes(dialect), (column) => column.notNull())
    .addColumn("pepper_id", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("last_used_at", "bigint")
    .addPrimaryKeyConstraint("partner_secrets_key", ["partner_id", "secret_id"])
    .execute();
  await db.schema
    .createTable("signing_keys")
    .addColumn("kid", "text", (column) => column.notNull().primaryKey())
    .addColumn("algorithm", "text", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("public_jwk", "text", (column) => column.notNull())
    .addColumn("private_key_sealed", bytes(dialect), (column) => column.notNull())
    .addColumn("sealing_key_id", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .execute();
  // one current and one next key for an algorithm: of several nodes that start at once, one INSERT wins
  await sql`CREATE UNIQUE INDEX signing_keys_state ON signing_keys (algorithm, state) WHERE state IN ('current', 'next')`.execute(db);
}

async function createAccounts(db: Kysely<never>, dialect: Dialect): Promise<void> {
  const organizations = db.schema
    .createTable("organizations")
    .addColumn("partner_id", "text", (column) => column.notNull().references("partners.client_id"))
    .addColumn("org_id", "text", (column) => column.notNull())
    .addColumn("external_org_id", "text")
    .addColumn("name", "text")
    .addColumn("email", "text")
    .addColumn("phone_number", "text")
    .addColumn("support_email", "text")
    .addColumn("org_type", "text")
    .addPrimaryKeyConstraint("organizations_key", ["partner_id", "org_id"])
    .addUniqueConstraint("organizations_external", ["partner_id", "external_org_id"]);
  await clustered(withCommonColumns(organizations), dialect).execute();
  const workspaces = db.schema
    .createTable("workspaces")
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("workspace_id", "text", (column) => column.notNull())
    .addColumn("external_workspace_id", "text")
    .addColumn("org_id", "text", (column) => column.notNull())
    .addColumn("name", "text")
    .addPrimaryKeyConstraint("workspaces_key", ["partner_id", "workspace_id"])
    .addUniqueConstraint("workspaces_external", ["partner_id", "external_workspace_id"])
    .addForeignKeyConstraint("workspaces_org", ["partner_id", "org_id"], "organizations", ["partner_id", "org_id"]);
  await clustered(withCommonColumns(workspaces), dialect).execute();
  const users = db.schema
    .createTable("users")
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("user_id", "text", (column) => column.notNull())
    .addColumn("external_user_id", "text")
    .addColumn("workspace_id", "text", (column) => column.notNull())
    .addColumn("email", "text")
    .addColumn("name", "text")
    .addPrimaryKeyConstraint("users_key", ["partner_id", "user_id"])
    .addUniqueConstraint("users_external", ["partner_id", "external_user_id"])
    .addForeignKeyConstraint("users_workspace", ["partner_id", "workspace_id"], "workspaces", ["partner_id", "workspace_id"]);
  await clustered(withCommonColumns(users), dialect).execute();
}

function withCommonColumns<T extends string>(table: CreateTableBuilder<T>): CreateTableBuilder<T> {
  return table
    .addColumn("entitlements", "text", (column) => column.notNull())
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("updated_at", "bigint", (column) => column.notNull());
}

async function createExchanges(db: Kysely<never>, dialect: Dialect): Promise<void> {
  const spent = db.schema
    .createTable("spent_tokens")
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("spend_key", bytes(dialect), (column) => column.notNull())
    .addColumn("expires_at", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("spent_tokens_key", ["partner_id", "spend_key"]);
  await clustered(spent, dialect).execute();
  await db.schema.createIndex("spent_tokens_expiry").on("spent_tokens").column("expires_at").execute();
  const text = ["refusal", "refusal_detail", "client_id", "partner_id", "grant_name", "kid", "subject", "jti", "scope", "token_id"];
  let exchanges = db.schema
    .createTable("exchanges")
    .addColumn("trace_id", "text", (column) => column.notNull().primaryKey())
    .addColumn("at", "bigint", (column) => column.notNull())
    .addColumn("outcome", "text", (column) => column.notNull()) as CreateTableBuilder<"exchanges">;
  for (const name of text) exchanges = exchanges.addColumn(name, "text");
  const table = exchanges.addColumn("address", "text", (column) => column.notNull());
  await clustered(table as CreateTableBuilder<"exchanges">, dialect).execute();
}
