import { takeInJwks } from "@cambist/protocol";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { isClientId, newClientId, newClientSecret, newSecretId } from "../ids.ts";
import type { MasterKeys } from "../keys/master-key.ts";
import type { ListedSecret, NewPartner, Partner, PartnerChange, PartnerStore } from "../storage/store.ts";
import type { Log } from "../telemetry/log.ts";
import { createPartnerBody, updatePartnerBody } from "./partner-fields.ts";

export interface AdminDeps {
  readonly partners: PartnerStore;
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
        const answer = { partner: partnerView(partner), client_secret: clientSecret, token_endpoint: `${deps.issuer}/oauth2/token` };
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
        const partner = await partners.update(params.client_id, toChange(body), deps.nowMs());
        if (partner === "absent") throw partnerAbsent();
        if (partner === "issuer_taken") throw issuerTaken();
        deps.log.info("partner updated", { client_id: partner.clientId, fields: Object.keys(body).join(" "), status: partner.status });
        return { status: 200, headers: NO_STORE, body: { partner: partnerView(partner) } };
      },
    }),
  ];
}

/** The secret is given out here and nowhere else: only its keyed hash is kept. @throws Problem 409. */
export async function createPartner(
  fields: z.output<typeof createPartnerBody>,
  deps: AdminDeps,
): Promise<{ readonly partner: Partner; readonly clientSecret: string }> {
  const clientId = newClientId();
  const clientSecret = newClientSecret();
  const created: NewPartner = {
    clientId,
    name: fields.name,
    issuer: fields.issuer ?? clientId,
    audience: fields.audience ?? deps.issuer,
    jwks: publicJwks(fields.jwks),
    subjectNamespace: fields.subject_namespace,
    replay: fields.replay,
    assertionLifetimeSecondsMax: fields.assertion_lifetime_seconds_max,
    clockSkewSeconds: fields.clock_skew_seconds,
    accessTokenLifetimeSeconds: fields.access_token_lifetime_seconds,
    allowedAlgorithms: fields.allowed_algorithms,
    allowedGrants: fields.allowed_grants,
    allowedScopes: fields.allowed_scopes,
    tokenEndpointAuthMethod: "client_secret",
    secret: { secretId: newSecretId(), ...deps.masterKeys.hashSecret(clientSecret) },
  };
  const partner = await deps.partners.create(created, deps.nowMs());
  if (partner === "issuer_taken") throw issuerTaken();
  deps.log.info("partner created", { client_id: clientId });
  return { partner, clientSecret };
}

/** What is kept of a key set: the keys that intake took, as it took them. */
function publicJwks(jwks: unknown): { keys: object[] } {
  const intake = takeInJwks(jwks);
  if (!intake.ok) throw new Problem(422, "jwks is not a key set.");
  return { keys: intake.value.used.map(({ kid, algorithm, jwk }) => ({ ...jwk, ...(kid === undefined ? {} : { kid }), alg: algorithm })) };
}

function toChange(body: z.output<typeof updatePartnerBody>): PartnerChange {
  const change: Record<keyof PartnerChange, unknown> = {
    name: body.name,
    status: body.status,
    issuer: body.issuer,
    audience: body.audience,
    jwks: body.jwks === undefined ? undefined : publicJwks(body.jwks),
    subjectNamespace: body.subject_namespace,
    replay: body.replay,
    assertionLifetimeSecondsMax: body.assertion_lifetime_seconds_max,
    clockSkewSeconds: body.clock_skew_seconds,
    accessTokenLifetimeSeconds: body.access_token_lifetime_seconds,
    allowedAlgorithms: body.allowed_algorithms,
    allowedGrants: body.allowed_grants,
    allowedScopes: body.allowed_scopes,
    tokenEndpointAuthMethod: undefined,
  };
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

export function partnerAbsent(): Problem {
  return new Problem(404, "There is no such partner.");
}

function issuerOfAnother(): Problem {
  const message = "must not be another partner's client id";
  return new Problem(422, `issuer: ${message}`, { fields: [{ field: "issuer", message }] });
}

function issuerTaken(): Problem {
  return new Problem(409, "issuer belongs to another partner; two partners with one issuer would be one tenant.");
}

function partnerView(partner: Partner) {
  return {
    client_id: partner.clientId,
    name: partner.name,
    status: partner.status,
    issuer: partner.issuer,
    audience: partner.audience,
    jwks: partner.jwks,
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
