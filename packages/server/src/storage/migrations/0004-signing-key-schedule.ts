import type { Kysely } from "kysely";

/**
 * From when a signing key signs (null: not scheduled, or since it was made), and when a retired one goes. When it was published is when it
 * was made. A private half that is destroyed is no bytes: its column may not be null, and SQLite could only change that by a new table.
 */
export async function signingKeySchedule(db: Kysely<never>): Promise<void> {
  await db.schema.alterTable("signing_keys").addColumn("signs_from", "bigint").execute();
  await db.schema.alterTable("signing_keys").addColumn("drop_after", "bigint").execute();
}
