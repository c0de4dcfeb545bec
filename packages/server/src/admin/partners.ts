import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import { isClientId } from "../ids.ts";
import type { Partner, RateLimits } from "../storage/store.ts";
import { PARTNER_DOCS, type PartnerView } from "./partner-docs.ts";
import { createPartnerBody, updatePartnerBody } from "./partner-fields.ts";
import { type AdminDeps, createPartner, partnerAbsent, updatePartner } from "./partner-record.ts";
import { secretView } from "./secret-view.ts";

const PAGE_LIMIT_MAX = 200;
const PAGE_LIMIT_DEFAULT = 50;
const OPERATOR = { kind: "operator" } as const;

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
      docs: PARTNER_DOCS.create,
      body: createPartnerBody,
      async handle({ body }) {
        const { partner, clientSecret } = await createPartner(body, deps);
        const answer = {
          partner: partnerView(partner),
          client_secret: clientSecret ?? null,
          token_endpoint: `${deps.issuer}/oauth2/token`,
        };
        return { status: 201, body: answer };
      },
    }),
    defineRoute({
      operationId: "listPartners",
      method: "GET",
      path: "/admin/v1/partners",
      auth: OPERATOR,
      docs: PARTNER_DOCS.list,
      query: listQuery,
      async handle({ query }) {
        const page = await partners.list({ after: query.cursor, limit: query.limit });
        return { status: 200, body: { partners: page.items.map(partnerView), next_cursor: page.next ?? null } };
      },
    }),
    defineRoute({
      operationId: "getPartner",
      method: "GET",
      path: "/admin/v1/partners/:client_id",
      auth: OPERATOR,
      docs: PARTNER_DOCS.get,
      params: clientIdParams,
      async handle({ params }) {
        const partner = await partners.find(params.client_id);
        if (partner === undefined) throw partnerAbsent();
        const secrets = await partners.listSecrets(params.client_id);
        return { status: 200, body: { partner: { ...partnerView(partner), secrets: secrets.map(secretView) } } };
      },
    }),
    defineRoute({
      operationId: "updatePartner",
      method: "PATCH",
      path: "/admin/v1/partners/:client_id",
      auth: OPERATOR,
      docs: PARTNER_DOCS.update,
      params: clientIdParams,
      body: updatePartnerBody,
      async handle({ params, body }) {
        return { status: 200, body: { partner: partnerView(await updatePartner(params.client_id, body, deps)) } };
      },
    }),
  ];
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
    provisioning: partner.provisioning,
    home_workspace_id: partner.homeWorkspaceId,
    provisioning_hourly_max: partner.provisioningHourlyMax,
    billing_features: partner.billingFeatures,
    rate_limits: partner.rateLimits && rateLimitsView(partner.rateLimits),
    allowed_origins: partner.allowedOrigins,
    created_at: new Date(partner.createdAtMs).toISOString(),
    updated_at: new Date(partner.updatedAtMs).toISOString(),
  } satisfies Record<keyof PartnerView, unknown>;
}

function rateLimitsView({ requestsPerMinute, burst, streams }: RateLimits) {
  return { requests_per_minute: requestsPerMinute, burst, ...(streams === undefined ? {} : { streams }) };
}
