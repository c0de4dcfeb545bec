import { type Kysely, sql } from "kysely";

/** Partners whose keys are behind a URL: what was fetched from it, and how it went. And what is known of the store as a whole. */
export async function partnerJwks(db: Kysely<never>): Promise<void> {
  await db.schema.alterTable("partners").addColumn("jwks_uri", "text").execute();
  await sql`CREATE UNIQUE INDEX partners_jwks_uri ON partners (jwks_uri)`.execute(db);
  await db.schema
    .createTable("partner_jwks")
    .addColumn("partner_id", "text", (column) => column.notNull().primaryKey().references("partners.client_id"))
    .addColumn("jwks_uri", "text", (column) => column.notNull())
    .addColumn("keys", "text", (column) => column.notNull())
    .addColumn("fetched_at", "bigint")
    .addColumn("fresh_until", "bigint")
    .addColumn("failed_at", "bigint")
    .addColumn("failure", "text")
    .execute();
  await db.schema
    .createTable("store_state")
    .addColumn("name", "text", (column) => column.notNull().primaryKey())
    .addColumn("value", "text", (column) => column.notNull())
    .execute();
}
