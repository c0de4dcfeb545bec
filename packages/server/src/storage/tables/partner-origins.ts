import type { Kysely, Transaction } from "kysely";
import type { Schema } from "../schema.ts";

/** Makes the partner's rows those of its setting. In the transaction that writes the setting: each says what the other says. */
export async function writeOrigins(db: Transaction<Schema>, partnerId: string, origins: readonly string[]): Promise<void> {
  await db.deleteFrom("partner_origins").where("partner_id", "=", partnerId).execute();
  if (origins.length === 0) return;
  await db
    .insertInto("partner_origins")
    .values(origins.map((origin) => ({ partner_id: partnerId, origin })))
    .execute();
}

/** Whether an active partner lists it. */
export async function isOriginAllowed(db: Kysely<Schema>, origin: string): Promise<boolean> {
  const row = await db
    .selectFrom("partner_origins")
    .innerJoin("partners", "partners.client_id", "partner_origins.partner_id")
    .select("partner_origins.partner_id")
    .where("partner_origins.origin", "=", origin)
    .where("partners.status", "=", "active")
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}
