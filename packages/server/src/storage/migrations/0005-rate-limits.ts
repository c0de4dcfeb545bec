import { type Kysely, sql } from "kysely";

/** The buckets of partners' rate limits: what was left, and when. `level` has fractions, and is below zero where nodes together went too far. */
export async function rateLimits(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("rate_limit_buckets")
    .addColumn("partner_id", "text", (column) => column.notNull().primaryKey())
    .addColumn("level", sql`double precision`, (column) => column.notNull())
    .addColumn("updated_at", "bigint", (column) => column.notNull())
    .execute();
}
