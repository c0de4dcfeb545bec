import { type Selectable, sql } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { PartnerJwksTable } from "../schema.ts";
import type { FetchedJwks, FetchedKey, PartnerJwksStore } from "../store.ts";

export function partnerJwksStore(dialect: Dialect): PartnerJwksStore {
  return {
    find: (clientId, jwksUri) =>
      dialect.read(async (db) => {
        const row = await db.selectFrom("partner_jwks").selectAll().where("partner_id", "=", clientId).executeTakeFirst();
        return row?.jwks_uri === jwksUri ? toFetchedJwks(row) : undefined;
      }),

    update: (clientId, jwksUri, change) =>
      dialect.write(async (db) => {
        // an UPDATE that changes nothing: two nodes that write for one partner queue here, and a new URL is not overtaken by an old answer
        const held = await db
          .updateTable("partners")
          .set({ version: sql`version` })
          .where("client_id", "=", clientId)
          .where("jwks_uri", "=", jwksUri)
          .returning("client_id")
          .execute();
        if (held.length === 0) return "outdated";
        const row = await db.selectFrom("partner_jwks").selectAll().where("partner_id", "=", clientId).executeTakeFirst();
        const before = row?.jwks_uri === jwksUri ? toFetchedJwks(row) : undefined;
        const after = change(before);
        const values = {
          jwks_uri: jwksUri,
          keys: JSON.stringify(after.keys),
          fetched_at: after.fetchedAtMs ?? null,
          fresh_until: after.freshUntilMs ?? null,
          failed_at: after.failedAtMs ?? null,
          failure: after.failure ?? null,
        };
        await db
          .insertInto("partner_jwks")
          .values({ partner_id: clientId, ...values })
          .onConflict((conflict) => conflict.column("partner_id").doUpdateSet(values))
          .execute();
        if (usedKeys(before) !== usedKeys(after)) {
          await db
            .updateTable("partners")
            .set({ version: sql`version + 1` })
            .where("client_id", "=", clientId)
            .execute();
        }
        return "updated";
      }),
  };
}

/** Which keys verify, and under which names. */
function usedKeys(jwks: FetchedJwks | undefined): string {
  const used = jwks?.keys.filter((key) => key.state === "used") ?? [];
  return JSON.stringify(
    used.map(({ kid, algorithm, thumbprint }) => JSON.stringify([kid, algorithm, thumbprint])).toSorted((a, b) => (a < b ? -1 : 1)),
  );
}

function toFetchedJwks(row: Selectable<PartnerJwksTable>): FetchedJwks {
  return {
    keys: JSON.parse(row.keys) as FetchedKey[],
    fetchedAtMs: row.fetched_at ?? undefined,
    freshUntilMs: row.fresh_until ?? undefined,
    failedAtMs: row.failed_at ?? undefined,
    failure: row.failure ?? undefined,
  };
}
