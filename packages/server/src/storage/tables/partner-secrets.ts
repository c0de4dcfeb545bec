import { sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { PartnerSecretsTable, Schema } from "../schema.ts";
import type { PartnerSecret, PartnerStore } from "../store.ts";

export function secretRow(clientId: string, secret: PartnerSecret): PartnerSecretsTable {
  return {
    partner_id: clientId,
    secret_id: secret.secretId,
    secret_hash: secret.hash,
    pepper_id: secret.pepperId,
    created_at: secret.createdAtMs,
    last_used_at: null,
  };
}

/** The secrets of a partner. Whatever changes which secrets are valid moves the partner's version, and so ends what is cached of it. */
export function partnerSecrets(dialect: Dialect): Pick<PartnerStore, "listSecrets" | "addSecret" | "removeSecret" | "rehashSecret"> {
  return {
    listSecrets: (clientId) =>
      dialect.read(async (db) => {
        const rows = await db
          .selectFrom("partner_secrets")
          .select(["secret_id", "created_at", "last_used_at"])
          .where("partner_id", "=", clientId)
          .orderBy("created_at")
          .orderBy("secret_id")
          .execute();
        return rows.map((row) => ({ secretId: row.secret_id, createdAtMs: row.created_at, lastUsedAtMs: row.last_used_at ?? undefined }));
      }),

    addSecret: (clientId, secret, countMax) =>
      dialect.write(async (db) => {
        if (!(await bumpVersion(db, clientId))) return "absent"; // first, so that two writers of one partner queue here
        const { count } = await db
          .selectFrom("partner_secrets")
          .select((select) => select.cast<number>(select.fn.countAll(), "integer").as("count"))
          .where("partner_id", "=", clientId)
          .executeTakeFirstOrThrow();
        if (count >= countMax) return "too_many";
        await db.insertInto("partner_secrets").values(secretRow(clientId, secret)).execute();
        return "added";
      }),

    removeSecret: (clientId, secretId, unusedSinceMs) =>
      dialect.write(async (db) => {
        const secret = await db
          .selectFrom("partner_secrets")
          .select("last_used_at")
          .where("partner_id", "=", clientId)
          .where("secret_id", "=", secretId)
          .executeTakeFirst();
        if (secret === undefined) return "absent";
        if (unusedSinceMs !== undefined && (secret.last_used_at ?? 0) > unusedSinceMs) return "in_use";
        await db.deleteFrom("partner_secrets").where("partner_id", "=", clientId).where("secret_id", "=", secretId).execute();
        await bumpVersion(db, clientId);
        return "removed";
      }),

    rehashSecret: (clientId, secretId, before, { hash, pepperId }) =>
      dialect.write(async (db) => {
        const rehashed = await db
          .updateTable("partner_secrets")
          .set({ secret_hash: hash, pepper_id: pepperId })
          .where("partner_id", "=", clientId)
          .where("secret_id", "=", secretId)
          .where("secret_hash", "=", before)
          .returning("secret_id")
          .execute();
        if (rehashed.length > 0) await bumpVersion(db, clientId); // or every node would rehash it once more, out of its cached record
      }),
  };
}

async function bumpVersion(db: Transaction<Schema>, clientId: string): Promise<boolean> {
  const bumped = await db
    .updateTable("partners")
    .set({ version: sql`version + 1` })
    .where("client_id", "=", clientId)
    .returning("client_id")
    .execute();
  return bumped.length > 0;
}
