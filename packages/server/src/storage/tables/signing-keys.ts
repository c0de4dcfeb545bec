import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema, SigningKeysTable } from "../schema.ts";
import type { KeySwitch, ListedSigningKey, SigningKeyStore, StoredSigningKey } from "../store.ts";
import { listMasterKeyUses } from "./master-key-uses.ts";

/** What is left of a private half that is destroyed. Not bound as a value: no bytes are NULL to some drivers of SQLite. */
const NO_BYTES = sql<Uint8Array>`substr(private_key_sealed, 1, 0)`;

export function signingKeyStore(dialect: Dialect): SigningKeyStore {
  return {
    list: () => dialect.read(listKeys),

    addIfAbsent: (key, nowMs) =>
      dialect.write(async (db) => {
        await db
          .insertInto("signing_keys")
          .values(keyRow(key, nowMs))
          .onConflict((conflict) => conflict.doNothing())
          .execute();
      }),

    schedule: (algorithm, { notBeforeMs, publishedMsMin }) =>
      dialect.write(async (db) => {
        const publishedLongEnough = sql<number>`created_at + cast(${publishedMsMin} AS bigint)`;
        const at = sql<number>`CASE WHEN ${publishedLongEnough} > ${notBeforeMs} THEN ${publishedLongEnough} ELSE ${notBeforeMs} END`;
        await db
          .updateTable("signing_keys")
          .set({ signs_from: at })
          .where("algorithm", "=", algorithm)
          .where("state", "=", "next")
          .where((where) => where.or([where("signs_from", "is", null), where("signs_from", ">", at)]))
          .execute();
        return listKeys(db);
      }),

    switch: (change, nowMs) =>
      dialect.write(async (db) => ((await takeFromCurrent(db, change)) ? giveToNext(db, change.successor, nowMs) : "outdated")),

    reseal: (kid, beforeKeyId, { sealed, keyId }) =>
      dialect.write(async (db) => {
        await db
          .updateTable("signing_keys")
          .set({ private_key_sealed: sealed, sealing_key_id: keyId })
          .where("kid", "=", kid)
          .where("sealing_key_id", "=", beforeKeyId)
          .execute();
      }),

    dropRetired: (nowMs) =>
      dialect.write(async (db) => {
        await db.deleteFrom("signing_keys").where("state", "=", "retired").where("drop_after", "<=", nowMs).execute();
      }),

    listMasterKeyUses: () => dialect.read(listMasterKeyUses),
  };
}

async function listKeys(db: Kysely<Schema>): Promise<ListedSigningKey[]> {
  const rows = await db.selectFrom("signing_keys").selectAll().orderBy("created_at").orderBy("kid").execute();
  return rows.map(toKey);
}

/** The statement that decides between several that switch: false where the key is no longer the current one. */
async function takeFromCurrent(db: Transaction<Schema>, { from, former }: KeySwitch): Promise<boolean> {
  if (former === "drop") {
    const dropped = await db
      .deleteFrom("signing_keys")
      .where("kid", "=", from)
      .where("state", "=", "current")
      .returning("algorithm")
      .execute();
    const [key] = dropped;
    if (key === undefined) return false;
    await db
      .deleteFrom("signing_keys")
      .where((where) => where.or([where("algorithm", "!=", key.algorithm), where("state", "=", "retired")]))
      .execute();
    return true;
  }
  const retirement = { state: "retired", drop_after: former.dropAfterMs, private_key_sealed: NO_BYTES, sealing_key_id: "" } as const;
  const retired = await db
    .updateTable("signing_keys")
    .set(retirement)
    .where("kid", "=", from)
    .where("state", "=", "current")
    .returning("algorithm")
    .execute();
  const [key] = retired;
  if (key === undefined) return false;
  // of an algorithm that was configured before: nothing else would ever end them
  await db.updateTable("signing_keys").set(retirement).where("algorithm", "!=", key.algorithm).where("state", "!=", "retired").execute();
  return true;
}

async function giveToNext(db: Transaction<Schema>, successor: StoredSigningKey, nowMs: number): Promise<ListedSigningKey[]> {
  const { algorithm } = successor;
  const promoted = await db
    .updateTable("signing_keys")
    .set({ state: "current", signs_from: sql<number>`CASE WHEN signs_from < ${nowMs} THEN signs_from ELSE ${nowMs} END` })
    .where("algorithm", "=", algorithm)
    .where("state", "=", "next")
    .returning("kid")
    .execute();
  if (promoted.length === 0) throw new Error(`the store has no next ${algorithm} signing key`); // and so the current one stays
  await db.insertInto("signing_keys").values(keyRow(successor, nowMs)).execute();
  return listKeys(db);
}

function keyRow(key: StoredSigningKey, nowMs: number): SigningKeysTable {
  return {
    kid: key.kid,
    algorithm: key.algorithm,
    state: key.state,
    public_jwk: JSON.stringify(key.publicJwk),
    private_key_sealed: key.sealedPrivateKey,
    sealing_key_id: key.sealingKeyId,
    created_at: nowMs,
    signs_from: null,
    drop_after: null,
  };
}

function toKey(row: Selectable<SigningKeysTable>): ListedSigningKey {
  return {
    kid: row.kid,
    algorithm: row.algorithm,
    state: row.state,
    publicJwk: JSON.parse(row.public_jwk) as Record<string, unknown>,
    sealedPrivateKey: row.private_key_sealed,
    sealingKeyId: row.sealing_key_id,
    createdAtMs: row.created_at,
    signsFromMs: row.signs_from ?? undefined,
    dropAfterMs: row.drop_after ?? undefined,
  };
}
