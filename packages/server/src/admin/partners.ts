import { takeInJwks } from "@cambist/protocol";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { isClientId, newClientId, newClientSecret, newSecretId } from "../ids.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { MasterKeys } from "../keys/master-key.ts";
import type { Outbound } from "../keys/outbound.ts";
import type { PartnerKeys } from "../keys/partner-keys.ts";
import type {
  ListedSecret,
  NewPartner,
  Partner,
  PartnerChange,
  PartnerJwksStore,
  PartnerStore,
  SigningKeyStore,
  Taken,
} from "../storage/store.ts";
import type { Log } from "../telemetry/log.ts";
import { createPartnerBody, updatePartnerBody } from "./partner-fields.ts";

export interface AdminDeps {
  readonly partners: PartnerStore;
  readonly partnerJwks: PartnerJwksStore;
  readonly signingKeys: SigningKeyStore;
  readonly keyring: Keyring;
  readonly partnerKeys: PartnerKeys;
  readonly outbound: Outbound;
  readonly masterKeys: MasterKeys;
  readonly issuer: string;
  readonly nowMs: () => number;
  readonly log: Log;
}

const PAGE_LIMIT_MAX = 200;
const PAGE_LIMIT_DEFAULT = 50;
const OPERATOR = { kind: "operator" } as const;
/** Holds a secret, or may: never in a cache. */
const NO_STORE = { "cache-control": "no-store" };

/** What is not one of our ids names nothing: a 404 like any other absent id. */
export const clientIdParams = z.object({ client_id: z.string().transform((id) => (isClientId(id) ? id : "")) });

const listQuery = z.strictObject({
  cursor: z.string().refine(isClientId, "is not a cursor that this server gave out").optional(),
  limit: z.coerce.number().int().min(1).max(PAGE_LIMIT_MAX).default(PAGE_LIMIT_DEFAULT),
});

/** Partners (contract §9), by the operator token. */
export function partnerRoutes(deps: AdminDeps): Route[] {
  const { partners } = deps;
  return [
    defineRoute({
      operationId: "createPartner",
      method: "POST",
      path: "/admin/v1/partners",
      auth: OPERATOR,
      body: createPartnerBody,
      async handle({ body }) {
        const { partner, clientSecret } = await createPartner(body, deps);
        const answer = {
          partner: partnerView(partner),
          client_secret: clientSecret ?? null,
          token_endpoint: `${deps.issuer}/oauth2/token`,
        };
        return { status: 201, headers: NO_STORE, body: answer };
      },
    }),
    defineRoute({
      operationId: "listPartners",
      method: "GET",
      path: "/admin/v1/partners",
      auth: OPERATOR,
      query: listQuery,
      async handle({ query }) {
        const page = await partners.list({ after: query.cursor, limit: query.limit });
        return { status: 200, headers: NO_STORE, body: { partners: page.items.map(partnerView), next_cursor: page.next ?? null } };
      },
    }),
    defineRoute({
      operationId: "getPartner",
      method: "GET",
      path: "/admin/v1/partners/:client_id",
      auth: OPERATOR,
      params: clientIdParams,
      async handle({ params }) {
        const partner = await partners.find(params.client_id);
        if (partner === undefined) throw partnerAbsent();
        const secrets = await partners.listSecrets(params.client_id);
        return { status: 200, headers: NO_STORE, body: { partner: { ...partnerView(partner), secrets: secrets.map(secretView) } } };
      },
    }),
    defineRoute({
      operationId: "updatePartner",
      method: "PATCH",
      path: "/admin/v1/partners/:client_id",
      auth: OPERATOR,
      params: clientIdParams,
      body: updatePartnerBody,
      async handle({ params, body }) {
        if (body.issuer !== undefined && isClientId(body.issuer) && body.issuer !== params.client_id) throw issuerOfAnother();
        const partner = await partners.update(params.client_id, await toChange(body, deps), deps.nowMs());
        if (partner === "absent") throw partnerAbsent();
        if (typeof partner === "string") throw alreadyTaken(partner);
        deps.log.info("partner updated", { client_id: partner.clientId, fields: Object.keys(body).join(" "), status: partner.status });
        return { status: 200, headers: NO_STORE, body: { partner: partnerView(partner) } };
      },
    }),
  ];
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
    allowedScopes: fields.allowed_scopes,
    tokenEndpointAuthMethod: fields.token_endpoint_auth_method,
    secret: clientSecret === undefined ? undefined : { secretId: newSecretId(), ...deps.masterKeys.hashSecret(clientSecret) },
  };
  const partner = await deps.partners.create(created, deps.nowMs());
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
  return { keys: intake.value.used.map(({ kid, algorithm, jwk }) => ({ ...jwk, ...(kid === undefined ? {} : { kid }), alg: algorithm })) };
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
    allowedScopes: body.allowed_scopes,
    tokenEndpointAuthMethod: body.token_endpoint_auth_method,
  };
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

export function partnerAbsent(): Problem {
  return new Problem(404, "There is no such partner.");
}

function issuerOfAnother(): Problem {
  return invalidField("issuer", "must not be another partner's client id");
}

function invalidField(field: string, message: string): Problem {
  return new Problem(422, `${field}: ${message}`, { fields: [{ field, message }] });
}

function alreadyTaken(taken: Taken): Problem {
  const field = taken === "issuer_taken" ? "issuer" : "jwks_uri";
  return new Problem(409, `${field} belongs to another partner; two partners with one ${field} would be one tenant.`);
}

function partnerView(partner: Partner) {
  return {
    client_id: partner.clientId,
    name: partner.name,
    status: partner.status,
    issuer: partner.issuer,
    audience: partner.audience,
    jwks: partner.jwks,
    jwks_uri: partner.jwksUri,
    subject_namespace: partner.subjectNamespace,
    replay: partner.replay,
    assertion_lifetime_seconds_max: partner.assertionLifetimeSecondsMax,
    clock_skew_seconds: partner.clockSkewSeconds,
    access_token_lifetime_seconds: partner.accessTokenLifetimeSeconds,
    allowed_algorithms: partner.allowedAlgorithms,
    allowed_grants: partner.allowedGrants,
    allowed_scopes: partner.allowedScopes,
    token_endpoint_auth_method: partner.tokenEndpointAuthMethod,
    created_at: new Date(partner.createdAtMs).toISOString(),
    updated_at: new Date(partner.updatedAtMs).toISOString(),
  };
}

function secretView(secret: ListedSecret) {
  return {
    secret_id: secret.secretId,
    created_at: new Date(secret.createdAtMs).toISOString(),
    last_used_at: secret.lastUsedAtMs === undefined ? null : new Date(secret.lastUsedAtMs).toISOString(),
  };
}
