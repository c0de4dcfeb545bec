import { ACCESS_TOKEN_LIFETIME_SECONDS_MAX, type OpaqueToken } from "@cambist/protocol";
import { type Kysely, sql, type Transaction } from "kysely";
import type { EntityKind } from "../account-store.ts";
import type { Dialect } from "../dialect.ts";
import { purgeExpired } from "../purge.ts";
import type { OpaqueTokensTable, RevocationsTable, Schema } from "../schema.ts";
import type { EndedTokens, Revocation, RevocationPosition, RevocationTarget, TokenStore } from "../token-store.ts";
import { type EndedTokensNotice, noteEnded } from "../ended-tokens.ts";
import { TABLES } from "./entities.ts";

/** Longer than any token lives that was issued before it, by whatever clock. */
const KEPT_MS = (ACCESS_TOKEN_LIFETIME_SECONDS_MAX + 600) * 1000;

export function tokenStore(dialect: Dialect, ends: EndedTokensNotice): TokenStore {
  return {
    onEnded: (listener) => ends.add(listener),
    async findOpaque(hashes) {
      for (const hash of hashes) {
        const row = await dialect.findOpaqueToken(hash);
        if (row !== undefined) return toOpaqueToken(row);
      }
      return undefined;
    },
    isRevoked: (tokenId) => dialect.isTokenRevoked(tokenId),
    revoke: (target, nowMs) => revoke(dialect, target, nowMs),
    listRevocations: (partnerId, after, limit) => dialect.read((db) => listRevocations(db, partnerId, after, limit)),
    async purge(nowMs) {
      const opaque = await purgeExpired(dialect, "opaque_tokens", ["token_hash"], nowMs);
      return opaque + (await purgeExpired(dialect, "revocations", ["subject_id", "kind", "kid"], nowMs));
    },
  };
}

function toOpaqueToken(row: OpaqueTokensTable): OpaqueToken {
  return {
    hash: row.token_hash,
    pepperId: row.pepper_id,
    tokenId: row.token_id,
    clientId: row.partner_id,
    audience: row.audience,
    scope: row.scope,
    kids: JSON.parse(row.kids) as string[],
    issuedAtSeconds: row.issued_at,
    expiresAtSeconds: row.expires_at / 1000,
  };
}

/** Writes down that all tokens of the subject with an `iat` up to now are dead; a later cut-off of the same subject takes the place of an earlier one. */
export async function recordEnd(db: Transaction<Schema>, ended: EndedTokens, nowMs: number): Promise<void> {
  const row: RevocationsTable = {
    kind: ended.kind,
    subject_id: ended.id,
    kid: ended.kid ?? "",
    partner_id: ended.partnerId,
    cut_off_at: Math.floor(nowMs / 1000),
    revoked_at: nowMs,
    expires_at: nowMs + KEPT_MS,
  };
  await db
    .insertInto("revocations")
    .values(row)
    .onConflict((conflict) =>
      conflict
        .columns(["subject_id", "kind", "kid"])
        .doUpdateSet({
          partner_id: sql<string | null>`coalesce(excluded.partner_id, revocations.partner_id)`,
          cut_off_at: row.cut_off_at,
          revoked_at: row.revoked_at,
          expires_at: row.expires_at,
        })
        .where("revocations.cut_off_at", "<=", row.cut_off_at),
    )
    .execute();
  noteEnded(db, ended);
}

/**
 * What is issued between the reading of the clock and the commit belongs to the time before: where the commit fell into a later second, that second
 * is written down once more. Not again after that: whoever reads the store after the first commit knows that there is a cut-off. The row that issuing
 * reads is held first, so that the clock is not read before its turn.
 */
export async function revoke(dialect: Dialect, target: RevocationTarget, nowMs: () => number): ReturnType<TokenStore["revoke"]> {
  const writtenMs = await dialect.write((db) => end(db, target, nowMs));
  if (writtenMs === undefined) return "absent";
  const durableMs = nowMs();
  const cutOffSeconds = Math.floor(writtenMs / 1000);
  if (target.kind === "token" || durableMs < (cutOffSeconds + 1) * 1000) return { cutOffSeconds };
  await dialect.write((db) => end(db, target, () => durableMs));
  return { cutOffSeconds: Math.floor(durableMs / 1000) };
}

/** Gives the moment that was written down, or undefined where there is no such subject. */
async function end(db: Transaction<Schema>, target: RevocationTarget, nowMs: () => number): Promise<number | undefined> {
  const ended = await hold(db, target, nowMs);
  if (ended === undefined) return undefined;
  const now = nowMs();
  await endTokens(db, ended, now);
  return now;
}

/** As {@link recordEnd}, and in the row of a user, workspace or organization too, where issuing and checking read it. */
export async function endTokens(db: Transaction<Schema>, ended: EndedTokens, nowMs: number): Promise<void> {
  if (isEntityKind(ended.kind)) {
    const { table, id } = TABLES[ended.kind];
    const seconds = Math.floor(nowMs / 1000);
    await sql`UPDATE ${sql.table(table)} SET cut_off_at = ${seconds} WHERE partner_id = ${ended.partnerId} AND ${sql.ref(id)} = ${ended.id}
      AND cut_off_at < ${seconds}`.execute(db);
  }
  await recordEnd(db, ended, nowMs);
}

function isEntityKind(kind: EndedTokens["kind"]): kind is EntityKind {
  return Object.hasOwn(TABLES, kind);
}

/** Locks what issuing reads, so that two writers queue here, and finds whose it is. */
async function hold(db: Transaction<Schema>, target: RevocationTarget, nowMs: () => number): Promise<EndedTokens | undefined> {
  switch (target.kind) {
    case "token":
      return { kind: "token", id: target.tokenId, partnerId: target.partnerId };
    case "partner":
    case "partner_key": {
      // another version is another record: every node reads it, and its cut-offs with it, at its next request
      const held = await db
        .updateTable("partners")
        .set({ version: sql`version + 1`, updated_at: nowMs() })
        .where("client_id", "=", target.clientId)
        .returning("client_id")
        .execute();
      if (held.length === 0) return undefined;
      const kid = target.kind === "partner_key" ? { kid: target.kid } : {};
      return { kind: target.kind, id: target.clientId, partnerId: target.clientId, ...kid };
    }
    case "user":
    case "workspace":
    case "organization":
      return holdEntity(db, target);
  }
}

/** The operator names no partner, and ids are unique over all of them: a look by the key for each. */
async function holdEntity(
  db: Transaction<Schema>,
  { kind, id }: Extract<RevocationTarget, { readonly kind: EntityKind }>,
): Promise<EndedTokens | undefined> {
  const { table, id: column } = TABLES[kind];
  const held = await sql<{ partner_id: string }>`UPDATE ${sql.table(table)} SET revision = revision
    WHERE partner_id IN (SELECT client_id FROM partners) AND ${sql.ref(column)} = ${id} RETURNING partner_id`.execute(db);
  const [row] = held.rows;
  return row === undefined ? undefined : { kind, id, partnerId: row.partner_id };
}

async function listRevocations(
  db: Kysely<Schema>,
  partnerId: string | undefined,
  after: RevocationPosition | undefined,
  limit: number,
): Promise<Revocation[]> {
  let query = db.selectFrom("revocations").selectAll();
  if (partnerId !== undefined) query = query.where("partner_id", "=", partnerId);
  if (after !== undefined) {
    query = query.where(
      sql<boolean>`(revoked_at, subject_id, kind, kid) > (${after.revokedAtMs}, ${after.subjectId}, ${after.kind}, ${after.kid})`,
    );
  }
  const rows = await query.orderBy("revoked_at").orderBy("subject_id").orderBy("kind").orderBy("kid").limit(limit).execute();
  return rows.map((row) => ({
    kind: row.kind,
    subjectId: row.subject_id,
    kid: row.kid,
    cutOffSeconds: row.cut_off_at,
    revokedAtMs: row.revoked_at,
    expiresAtMs: row.expires_at,
  }));
}
