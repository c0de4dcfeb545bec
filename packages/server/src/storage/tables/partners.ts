import { type CutOffs, PROVISIONING_HOURLY_DEFAULT } from "@cambist/protocol";
import type { Kysely, Selectable, Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import { noteEnded } from "../ended-tokens.ts";
import type { PartnersTable, Schema } from "../schema.ts";
import type { NewPartner, Page, Partner, PartnerChange, PartnerSecret, PartnerSettings, PartnerStore, Taken } from "../store.ts";
import { isOriginAllowed, writeOrigins } from "./partner-origins.ts";
import { partnerSecrets, secretRow } from "./partner-secrets.ts";
import { holdAllowedScopes } from "./resource-servers.ts";
import { recordEnd, revoke } from "./tokens.ts";

const CACHED_PARTNERS_MAX = 10_000;

export function partnerStore(dialect: Dialect): PartnerStore {
  const cache = new Map<string, Partner>();

  /** One small read of the version for an unchanged partner: the record with its keys and settings is parsed once. */
  async function find(clientId: string): Promise<Partner | undefined> {
    const version = await dialect.findPartnerVersion(clientId);
    if (version === undefined) return undefined;
    const cached = cache.get(clientId);
    if (cached?.version === version) return cached;
    const partner = await dialect.read((db) => readPartner(db, clientId));
    if (partner === undefined) return undefined;
    if (cache.size >= CACHED_PARTNERS_MAX) cache.delete(cache.keys().next().value as string);
    cache.set(clientId, partner);
    return partner;
  }

  /** The database decides who of two was first. Which of the two columns it was about stands in its message. */
  async function unlessTaken<T>(work: () => Promise<T>): Promise<T | Taken> {
    try {
      return await work();
    } catch (thrown) {
      if (!dialect.isUniqueViolation(thrown)) throw thrown;
      return thrown instanceof Error && thrown.message.includes("jwks_uri") ? "jwks_uri_taken" : "issuer_taken";
    }
  }

  return {
    find,
    create: (partner, nowMs) => unlessTaken(() => dialect.write((db) => createPartner(db, partner, nowMs))),
    list: (page) => dialect.read((db) => listPartners(db, page)),
    isOriginAllowed: (origin) => dialect.read((db) => isOriginAllowed(db, origin)),
    update: (clientId, change, nowMs) =>
      unlessTaken(async () => {
        for (;;) {
          const updated = await dialect.write((db) => updatePartner(db, clientId, change, nowMs));
          if (updated === "collided") continue;
          if (typeof updated === "string") return updated;
          // what was issued until the commit belongs to the time before, as with every other cut-off
          if (updated.isEnded && nowMs() >= (updated.partner.cutOffs.seconds + 1) * 1000) {
            await revoke(dialect, { kind: "partner", clientId }, nowMs);
            return (await find(clientId)) ?? "absent";
          }
          return updated.partner;
        }
      }),
    ...partnerSecrets(dialect),
  };
}

async function createPartner(db: Transaction<Schema>, partner: NewPartner, nowMs: number): Promise<Partner | "scope_unknown"> {
  if (!(await holdAllowedScopes(db, partner.allowedScopes))) return "scope_unknown";
  await db
    .insertInto("partners")
    .values({
      client_id: partner.clientId,
      name: partner.name,
      status: "active",
      version: 1,
      issuer: partner.issuer,
      audience: partner.audience,
      jwks: JSON.stringify(partner.jwks),
      jwks_uri: partner.jwksUri,
      settings: JSON.stringify(settingsOf(partner)),
      created_at: nowMs,
      updated_at: nowMs,
    })
    .execute();
  await writeOrigins(db, partner.clientId, partner.allowedOrigins);
  if (partner.secret !== undefined) {
    await db
      .insertInto("partner_secrets")
      .values(secretRow(partner.clientId, { ...partner.secret, createdAtMs: nowMs }))
      .execute();
  }
  return (await readPartner(db, partner.clientId)) as Partner;
}

/** The version in the condition keeps two writers from overwriting each other's change. */
async function updatePartner(
  db: Transaction<Schema>,
  clientId: string,
  change: PartnerChange,
  nowMs: () => number,
): Promise<{ readonly partner: Partner; readonly isEnded: boolean } | "absent" | "collided" | "scope_unknown"> {
  if (change.allowedScopes !== undefined && !(await holdAllowedScopes(db, change.allowedScopes))) return "scope_unknown";
  const before = await readPartner(db, clientId);
  if (before === undefined) return "absent";
  const after = { ...before, ...change };
  const updated = await db
    .updateTable("partners")
    .set({
      name: after.name,
      status: after.status,
      issuer: after.issuer,
      audience: after.audience,
      jwks: JSON.stringify(after.jwks),
      jwks_uri: after.jwksUri,
      settings: JSON.stringify(settingsOf(after)),
      version: before.version + 1,
      updated_at: nowMs(),
    })
    .where("client_id", "=", clientId)
    .where("version", "=", before.version)
    .returning("client_id")
    .execute();
  if (updated.length === 0) return "collided";
  await writeOrigins(db, clientId, after.allowedOrigins); // also where they stay: a node of an earlier version writes settings without them
  // enabling does too: what was issued in the moment of disabling does not come back
  const isEnded = after.status !== before.status;
  const ended = { kind: "partner", id: clientId, partnerId: clientId } as const;
  if (isEnded) await recordEnd(db, ended, nowMs());
  // tokens with a scope that was taken away live on and open nothing: what they have open is looked at again
  else if (before.allowedScopes.some((scope) => !after.allowedScopes.includes(scope))) noteEnded(db, ended);
  return { partner: (await readPartner(db, clientId)) as Partner, isEnded };
}

async function readPartner(db: Kysely<Schema>, clientId: string): Promise<Partner | undefined> {
  const row = await db.selectFrom("partners").selectAll().where("client_id", "=", clientId).executeTakeFirst();
  if (row === undefined) return undefined;
  const secrets = await db.selectFrom("partner_secrets").selectAll().where("partner_id", "=", clientId).orderBy("created_at").execute();
  const ends = await db
    .selectFrom("revocations")
    .select(["kind", "kid", "cut_off_at"])
    .where("subject_id", "=", clientId)
    .where("kind", "in", ["partner", "partner_key"])
    .execute();
  return toPartner(
    row,
    secrets.map((secret) => ({
      secretId: secret.secret_id,
      hash: secret.secret_hash,
      pepperId: secret.pepper_id,
      createdAtMs: secret.created_at,
    })),
    {
      seconds: Math.max(0, ...ends.filter(({ kind }) => kind === "partner").map((end) => end.cut_off_at)),
      keys: ends.filter(({ kind }) => kind === "partner_key").map((end) => ({ kid: end.kid, seconds: end.cut_off_at })),
    },
  );
}

/** Secrets and cut-offs are left out: a list needs none. */
async function listPartners(db: Kysely<Schema>, page: { after: string | undefined; limit: number }): Promise<Page<Partner>> {
  let query = db
    .selectFrom("partners")
    .selectAll()
    .orderBy("client_id")
    .limit(page.limit + 1);
  if (page.after !== undefined) query = query.where("client_id", ">", page.after);
  const rows = await query.execute();
  const items = rows.slice(0, page.limit).map((row) => toPartner(row, [], NO_CUT_OFFS));
  return { items, next: rows.length > page.limit ? items.at(-1)?.clientId : undefined };
}

function settingsOf(partner: PartnerSettings): PartnerSettings {
  return {
    subjectNamespace: partner.subjectNamespace,
    replay: partner.replay,
    assertionLifetimeSecondsMax: partner.assertionLifetimeSecondsMax,
    clockSkewSeconds: partner.clockSkewSeconds,
    accessTokenLifetimeSeconds: partner.accessTokenLifetimeSeconds,
    allowedAlgorithms: partner.allowedAlgorithms,
    allowedGrants: partner.allowedGrants,
    allowedScopes: partner.allowedScopes,
    tokenEndpointAuthMethod: partner.tokenEndpointAuthMethod,
    provisioning: partner.provisioning,
    homeWorkspaceId: partner.homeWorkspaceId,
    provisioningHourlyMax: partner.provisioningHourlyMax,
    billingFeatures: partner.billingFeatures,
    rateLimits: partner.rateLimits,
    allowedOrigins: partner.allowedOrigins,
  };
}

/** Settings that a record of an earlier version does not have. */
const LATER_SETTINGS = {
  provisioning: "off",
  homeWorkspaceId: null,
  provisioningHourlyMax: PROVISIONING_HOURLY_DEFAULT,
  billingFeatures: null,
  rateLimits: null,
  allowedOrigins: [],
} as const;

const NO_CUT_OFFS: CutOffs = { seconds: 0, keys: [] };

function toPartner(row: Selectable<PartnersTable>, secrets: readonly PartnerSecret[], cutOffs: CutOffs): Partner {
  return {
    ...LATER_SETTINGS,
    ...(JSON.parse(row.settings) as Omit<PartnerSettings, keyof typeof LATER_SETTINGS>),
    clientId: row.client_id,
    name: row.name,
    status: row.status,
    version: row.version,
    issuer: row.issuer,
    audience: row.audience,
    jwks: JSON.parse(row.jwks) as unknown,
    jwksUri: row.jwks_uri,
    secrets,
    cutOffs,
    createdAtMs: row.created_at,
    updatedAtMs: row.updated_at,
  };
}
