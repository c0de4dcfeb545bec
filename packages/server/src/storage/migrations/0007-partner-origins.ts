import { type CreateTableBuilder, type Kysely, sql } from "kysely";

type Dialect = "sqlite" | "postgres";

function clustered<T extends string>(table: CreateTableBuilder<T>, dialect: Dialect): CreateTableBuilder<T> {
  return dialect === "sqlite" ? table.modifyEnd(sql`WITHOUT ROWID`) : table;
}

/** The origins that partners allow, found by the origin alone: a preflight names no partner. Partners have none before. */
export async function partnerOrigins(db: Kysely<never>, dialect: Dialect): Promise<void> {
  const table = db.schema
    .createTable("partner_origins")
    .addColumn("partner_id", "text", (column) => column.notNull().references("partners.client_id"))
    .addColumn("origin", "text", (column) => column.notNull())
    .addPrimaryKeyConstraint("partner_origins_key", ["partner_id", "origin"]);
  await clustered(table, dialect).execute();
  await db.schema.createIndex("partner_origins_origin").on("partner_origins").column("origin").execute();
}
