import { jwkOf, takeInJwks } from "@cambist/protocol";
import type { z } from "zod";
import { Problem } from "../http/problem.ts";
import { isClientId, newClientId, newClientSecret, newSecretId } from "../ids.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { MasterKeys } from "../keys/master-key.ts";
import type { Outbound } from "../keys/outbound.ts";
import type { PartnerKeys } from "../keys/partner-keys.ts";
import type { AccountStore } from "../storage/account-store.ts";
import type { NewPartner, Partner, PartnerChange, PartnerJwksStore, PartnerStore, SigningKeyStore, Taken } from "../storage/store.ts";
import type { ResourceServerStore, TokenStore } from "../storage/token-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { createPartnerBody, updatePartnerBody } from "./partner-fields.ts";

export interface AdminDeps {
  readonly accounts: Pick<AccountStore, "find">;
  readonly partners: PartnerStore;
  readonly partnerJwks: PartnerJwksStore;
  readonly signingKeys: SigningKeyStore;
  readonly resourceServers: ResourceServerStore;
  readonly tokens: Pick<TokenStore, "revoke">;
  readonly keyring: Keyring;
  readonly partnerKeys: PartnerKeys;
  readonly outbound: Outbound;
  readonly masterKeys: MasterKeys;
  readonly issuer: string;
  /** The resource identifier of our own API. */
  readonly resource: string;
  /** To be called after a change of what scopes there are, or of which API one opens. */
  readonly onScopesChanged: () => void;
  readonly nowMs: () => number;
  readonly log: Log;
}

/** The secret is given out here and nowhere else: only its keyed hash is kept. One that would not be taken is not made. @throws Problem 409, 422. */
export async function createPartner(
  fields: z.output<typeof createPartnerBody>,
  deps: AdminDeps,
): Promise<{ readonly partner: Partner; readonly clientSecret: string | undefined }> {
  const clientId = newClientId();
  const clientSecret = fields.token_endpoint_auth_method === "client_secret" ? newClientSecret() : undefined;
  const created: NewPartner = {
    clientId,
    name: fields.name,
    issuer: fields.issuer ?? clientId,
    audience: fields.audience ?? deps.issuer,
    ...(await keySource(fields, deps)),
    subjectNamespace: fields.subject_namespace,
    replay: fields.replay,
    assertionLifetimeSecondsMax: fields.assertion_lifetime_seconds_max,
    clockSkewSeconds: fields.clock_skew_seconds,
    accessTokenLifetimeSeconds: fields.access_token_lifetime_seconds,
    allowedAlgorithms: fields.allowed_algorithms,
    allowedGrants: fields.allowed_grants,
    allowedScopes: [...new Set(fields.allowed_scopes)],
    tokenEndpointAuthMethod: fields.token_endpoint_auth_method,
    provisioning: fields.provisioning,
    homeWorkspaceId: fields.home_workspace_id,
    provisioningHourlyMax: fields.provisioning_hourly_max,
    billingFeatures: fields.billing_features,
    rateLimits: fields.rate_limits,
    allowedOrigins: fields.allowed_origins,
    secret: clientSecret === undefined ? undefined : { secretId: newSecretId(), ...deps.masterKeys.hashSecret(clientSecret) },
  };
  const partner = await deps.partners.create(created, deps.nowMs());
  if (partner === "scope_unknown") throw await scopeUnknown(fields.allowed_scopes, deps);
  if (typeof partner === "string") throw alreadyTaken(partner);
  deps.log.info("partner created", { client_id: clientId });
  return { partner, clientSecret };
}

/** Where the partner's keys are, one or the other. @throws Problem 422. */
async function keySource(
  fields: { readonly jwks?: unknown; readonly jwks_uri?: string | undefined },
  { outbound }: AdminDeps,
): Promise<Pick<NewPartner, "jwks" | "jwksUri">> {
  if (fields.jwks_uri === undefined) return { jwks: publicJwks(fields.jwks), jwksUri: null };
  const url = outbound.parseUrl(fields.jwks_uri);
  if (!url.ok) throw invalidField("jwks_uri", url.fault.sentence);
  const fault = await outbound.checkHost(url.value);
  if (fault !== undefined) throw invalidField("jwks_uri", fault.sentence);
  return { jwks: null, jwksUri: url.value.href };
}

/** What is kept of a key set: the keys that intake took, as it took them. */
function publicJwks(jwks: unknown): { keys: object[] } {
  const intake = takeInJwks(jwks);
  if (!intake.ok) throw new Problem(422, "jwks is not a key set.");
  return { keys: intake.value.used.map(jwkOf) };
}

/** @throws Problem 404, 409, 422. */
export async function updatePartner(clientId: string, fields: z.output<typeof updatePartnerBody>, deps: AdminDeps): Promise<Partner> {
  if (fields.issuer !== undefined && isClientId(fields.issuer) && fields.issuer !== clientId) {
    throw invalidField("issuer", "must not be another partner's client id");
  }
  const change = await toChange(fields, deps);
  await requireProvisionable(clientId, change, deps);
  const partner = await deps.partners.update(clientId, change, deps.nowMs);
  if (partner === "absent") throw partnerAbsent();
  if (partner === "scope_unknown") throw await scopeUnknown(fields.allowed_scopes ?? [], deps);
  if (typeof partner === "string") throw alreadyTaken(partner);
  deps.log.info("partner updated", { client_id: clientId, fields: Object.keys(fields).join(" "), status: partner.status });
  return partner;
}

/** Users can be made by exchanges only in a workspace of the partner, and under ids of its own choice. @throws Problem 404, 422. */
async function requireProvisionable(clientId: string, change: PartnerChange, { partners, accounts }: AdminDeps): Promise<void> {
  const before = await partners.find(clientId);
  if (before === undefined) throw partnerAbsent();
  const { provisioning, homeWorkspaceId, subjectNamespace } = { ...before, ...change };
  if (provisioning === "create" && subjectNamespace === "user_id") {
    throw invalidField("provisioning", "create needs subject_namespace external_user_id: a user_id is made by the server");
  }
  if (provisioning === "create" && homeWorkspaceId === null)
    throw invalidField("home_workspace_id", "is missing, and provisioning needs it");
  const isAsked = change.homeWorkspaceId !== undefined || change.provisioning === "create"; // an erased home bars no other change
  if (homeWorkspaceId === null || !isAsked) return;
  const home = await accounts.find("workspace", clientId, { id: homeWorkspaceId });
  if (home === undefined) throw invalidField("home_workspace_id", "is not a workspace of this partner");
}

async function toChange(body: z.output<typeof updatePartnerBody>, deps: AdminDeps): Promise<PartnerChange> {
  const source = body.jwks === undefined && body.jwks_uri === undefined ? undefined : await keySource(body, deps);
  const change: Record<keyof PartnerChange, unknown> = {
    name: body.name,
    status: body.status,
    issuer: body.issuer,
    audience: body.audience,
    jwks: source?.jwks,
    jwksUri: source?.jwksUri,
    subjectNamespace: body.subject_namespace,
    replay: body.replay,
    assertionLifetimeSecondsMax: body.assertion_lifetime_seconds_max,
    clockSkewSeconds: body.clock_skew_seconds,
    accessTokenLifetimeSeconds: body.access_token_lifetime_seconds,
    allowedAlgorithms: body.allowed_algorithms,
    allowedGrants: body.allowed_grants,
    allowedScopes: body.allowed_scopes && [...new Set(body.allowed_scopes)],
    tokenEndpointAuthMethod: body.token_endpoint_auth_method,
    provisioning: body.provisioning,
    homeWorkspaceId: body.home_workspace_id,
    provisioningHourlyMax: body.provisioning_hourly_max,
    billingFeatures: body.billing_features,
    rateLimits: body.rate_limits,
    allowedOrigins: body.allowed_origins,
  };
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

export function partnerAbsent(): Problem {
  return new Problem(404, "There is no such partner.");
}

function invalidField(field: string, message: string): Problem {
  return new Problem(422, `${field}: ${message}`, { fields: [{ field, message }] });
}

/** Names those that do not exist; one may have been removed in this very moment, and even be there again. */
async function scopeUnknown(asked: readonly string[], { resourceServers }: AdminDeps): Promise<Problem> {
  const known = new Set((await resourceServers.listScopes()).map(({ name }) => name));
  const unknown = asked.flatMap((name, index) =>
    known.has(name) ? [] : [{ field: `allowed_scopes.${index}`, message: `there is no scope ${name}` }],
  );
  const [first] = unknown;
  if (first === undefined) return invalidField("allowed_scopes", "one of them was just removed; look again");
  return new Problem(422, `${first.field}: ${first.message}`, { fields: unknown });
}

function alreadyTaken(taken: Taken): Problem {
  const field = taken === "issuer_taken" ? "issuer" : "jwks_uri";
  return new Problem(409, `${field} belongs to another partner; two partners with one ${field} would be one tenant.`);
}
