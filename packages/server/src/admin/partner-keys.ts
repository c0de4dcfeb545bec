import { SUBJECT_TOKEN_ALGORITHMS, takeInJwks } from "@cambist/protocol";
import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import { thumbprint } from "../keys/thumbprint.ts";
import type { FetchedJwks, Partner } from "../storage/store.ts";
import { type AdminDeps, partnerAbsent } from "./partner-record.ts";
import { clientIdParams } from "./partners.ts";

const OPERATOR = { kind: "operator" } as const;

const nullableTime = z.iso.datetime().nullable();
const keyView = z.strictObject({
  kid: z.string().nullable(),
  algorithm: z.enum(SUBJECT_TOKEN_ALGORITHMS).nullable(),
  thumbprint: z.string().nullable().describe("RFC 7638; null where the key was refused."),
  state: z.enum(["used", "refused", "gone"]).describe("`gone`: used once, and no longer in the set."),
  reason: z.string().nullable().describe("Why it was refused."),
  first_seen_at: nullableTime,
  last_seen_at: nullableTime,
});
const reportBody = z
  .discriminatedUnion("source", [
    z.strictObject({ client_id: z.string(), source: z.literal("jwks"), keys: z.array(keyView) }),
    z.strictObject({
      client_id: z.string(),
      source: z.literal("jwks_uri"),
      jwks_uri: z.url(),
      failing: z.boolean().describe("The latest fetch failed, and what is used, if anything, is from before."),
      last_fetch_at: nullableTime,
      fresh_until: nullableTime,
      last_failure_at: nullableTime,
      last_failure: z.string().nullable(),
      keys: z.array(keyView),
    }),
  ])
  .meta({ id: "PartnerKeyReport" });
const ANSWERS = {
  200: { description: "Each key, used or refused and why.", body: reportBody },
  404: { description: "There is no such partner." },
};

/** What an operator can see of a partner's keys, and do about them (contract §9). */
export function partnerKeyRoutes(deps: AdminDeps): Route[] {
  return [
    defineRoute({
      operationId: "getPartnerKeys",
      method: "GET",
      path: "/admin/v1/partners/:client_id/keys",
      auth: OPERATOR,
      docs: { summary: "Get Partner Keys", tag: "admin", answers: ANSWERS },
      params: clientIdParams,
      handle: async ({ params }) => ({
        status: 200,

        body: await keyReport(await requirePartner(params.client_id, deps), deps),
      }),
    }),
    defineRoute({
      operationId: "refreshPartnerKeys",
      method: "POST",
      path: "/admin/v1/partners/:client_id/keys/refresh",
      auth: OPERATOR,
      docs: {
        summary: "Refresh Keys",
        description: "Fetches the keys behind the partner's `jwks_uri` now. A fetch that fails is in the report.",
        tag: "admin",
        answers: ANSWERS,
      },
      params: clientIdParams,
      async handle({ params }) {
        const partner = await requirePartner(params.client_id, deps);
        await deps.partnerKeys.refresh(partner);
        return { status: 200, body: await keyReport(partner, deps) };
      },
    }),
  ];
}

async function requirePartner(clientId: string, { partners }: AdminDeps): Promise<Partner> {
  const partner = await partners.find(clientId);
  if (partner === undefined) throw partnerAbsent();
  return partner;
}

async function keyReport(partner: Partner, { partnerJwks }: AdminDeps): Promise<Record<string, unknown>> {
  if (partner.jwksUri === null) return { client_id: partner.clientId, source: "jwks", keys: registeredKeys(partner.jwks) };
  const fetched = await partnerJwks.find(partner.clientId, partner.jwksUri);
  return { client_id: partner.clientId, source: "jwks_uri", jwks_uri: partner.jwksUri, ...fetchReport(fetched) };
}

/** `failing`: the latest attempt failed, and what is used, if anything, is from before. */
function fetchReport(fetched: FetchedJwks | undefined): Record<string, unknown> {
  const { fetchedAtMs, freshUntilMs, failedAtMs, failure, keys = [] } = fetched ?? {};
  return {
    failing: failedAtMs !== undefined && failedAtMs > (fetchedAtMs ?? 0),
    last_fetch_at: time(fetchedAtMs),
    fresh_until: time(freshUntilMs),
    last_failure_at: time(failedAtMs),
    last_failure: failure ?? null,
    keys: keys.map((key) => ({
      kid: key.kid,
      algorithm: key.algorithm,
      thumbprint: key.thumbprint,
      state: key.state,
      reason: key.reason,
      first_seen_at: time(key.firstSeenAtMs),
      last_seen_at: time(key.lastSeenAtMs),
    })),
  };
}

/** As fetched ones are shown. Registration has refused a set with a key that cannot be used. */
function registeredKeys(jwks: unknown): Record<string, unknown>[] {
  const intake = takeInJwks(jwks);
  if (!intake.ok) return [];
  return intake.value.used.map((key) => ({
    kid: key.kid ?? null,
    algorithm: key.algorithm,
    thumbprint: thumbprint(key.jwk),
    state: "used",
    reason: null,
    first_seen_at: null,
    last_seen_at: null,
  }));
}

function time(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
