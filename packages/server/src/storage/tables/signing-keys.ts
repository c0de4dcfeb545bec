import type { Dialect } from "../dialect.ts";
import type { SigningKeyStore } from "../store.ts";

export function signingKeyStore(dialect: Dialect): SigningKeyStore {
  return {
    list: () =>
      dialect.read(async (db) => {
        const rows = await db.selectFrom("signing_keys").selectAll().orderBy("created_at").orderBy("kid").execute();
        return rows.map((row) => ({
          kid: row.kid,
          algorithm: row.algorithm,
          state: row.state,
          publicJwk: JSON.parse(row.public_jwk) as Record<string, unknown>,
          sealedPrivateKey: row.private_key_sealed,
          sealingKeyId: row.sealing_key_id,
          createdAtMs: row.created_at,
        }));
      }),

    addIfAbsent: (key, nowMs) =>
      dialect.write(async (db) => {
        await db
          .insertInto("signing_keys")
          .values({
            kid: key.kid,
            algorithm: key.algorithm,
            state: key.state,
            public_jwk: JSON.stringify(key.publicJwk),
            private_key_sealed: key.sealedPrivateKey,
            sealing_key_id: key.sealingKeyId,
            created_at: nowMs,
          })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
      }),
  };
}
