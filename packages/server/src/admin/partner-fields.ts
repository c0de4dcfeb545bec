import {
  ACCESS_TOKEN_LIFETIME_SECONDS_DEFAULT,
  ASSERTION_LIFETIME_SECONDS_DEFAULT,
  ASSERTION_LIFETIME_SECONDS_MAX,
  ASSERTION_LIFETIME_SECONDS_MIN,
  CLIENT_AUTH_METHODS,
  CLIENT_ID_FORM,
  CLOCK_SKEW_SECONDS_DEFAULT,
  CLOCK_SKEW_SECONDS_MAX,
  describeJwksFault,
  describeKeyFault,
  PROVISIONING_HOURLY_DEFAULT,
  SCOPES,
  SUBJECT_TOKEN_ALGORITHMS,
  takeInJwks,
} from "@cambist/protocol";
import { z } from "zod";
import { isWebOrigin } from "../http/cors.ts";
import { isClientId } from "../ids.ts";
import { scopeName } from "./scope-name.ts";

/** What an operator may set of a partner (contract §9), and the defaults. */

const NAME_CHARACTERS_MAX = 255;
const URI_CHARACTERS_MAX = 1000;
/** What an index entry of PostgreSQL can hold, with room to spare. */
const URI_BYTES_MAX = 2000;
const ACCESS_TOKEN_LIFETIME_SECONDS_MIN = 60;
const ACCESS_TOKEN_LIFETIME_SECONDS_MAX = 86_400;
const PROVISIONING_HOURLY_MAX = 1_000_000;
const BILLING_FEATURES_MAX = 1_000;
const BILLING_FEATURE_CHARACTERS_MAX = 255;
const ALLOWED_SCOPES_MAX = 100;
const REQUESTS_PER_MINUTE_MAX = 1_000_000;
const BURST_MAX = 100_000;
const STREAMS_MAX = 100_000;
const ORIGINS_MAX = 50;
const ORIGIN_CHARACTERS_MAX = 300;

/** Settings of features that this version does not have: the value that changes nothing is taken, any other is refused by name. */
const notYet = (value: boolean) =>
  z.literal(value, { error: `is not available in this version; leave it out or send ${JSON.stringify(value)}` }).optional();

const visible = (charactersMax: number) =>
  z
    .string()
    .min(1, "is empty")
    .max(charactersMax, `is over ${charactersMax} characters`)
    .regex(/^\P{Cc}*$/u, "has a control character");

/** Compared character by character with a claim of every token; `prt_` and `rs_` are ids that the server makes. */
const uriText = visible(URI_CHARACTERS_MAX).refine((value) => Buffer.byteLength(value) <= URI_BYTES_MAX, `is over ${URI_BYTES_MAX} bytes`);
const issuer = uriText.refine((value) => !CLIENT_ID_FORM.test(value), "must not start with prt_ or rs_");
/** A partner may have its own client id for issuer, which is the default; that it is its own is checked where the partner is known. */
const changedIssuer = uriText.refine((value) => isClientId(value) || !CLIENT_ID_FORM.test(value), "must not start with prt_ or rs_");

const nonEmptySet = <const T extends readonly [string, ...string[]]>(values: T) =>
  z
    .array(z.enum(values))
    .min(1, "is empty")
    .transform((list) => [...new Set(list)]);

/** An operator who pastes a key set wants to know that each key works: one that cannot be used refuses the whole. */
const jwks = z.unknown().superRefine((value, context) => {
  if (value === undefined) return;
  const intake = takeInJwks(value);
  if (!intake.ok) {
    context.addIssue({ code: "custom", message: describeJwksFault(intake.fault) });
    return;
  }
  for (const { index, fault } of intake.value.refused) {
    context.addIssue({ code: "custom", path: ["keys", index], message: describeKeyFault(fault) });
  }
  if (intake.value.used.length === 0 && intake.value.refused.length === 0) context.addIssue({ code: "custom", message: "has no key" });
});

/** Without a burst, the requests of a whole minute may come at once. */
const rateLimits = z
  .strictObject({
    requests_per_minute: z.int().min(1).max(REQUESTS_PER_MINUTE_MAX),
    burst: z.int().min(1).max(BURST_MAX).optional(),
    streams: z.int().min(1).max(STREAMS_MAX).optional(),
  })
  .transform(({ requests_per_minute: requestsPerMinute, burst = Math.min(requestsPerMinute, BURST_MAX), streams }) => ({
    requestsPerMinute,
    burst,
    ...(streams === undefined ? {} : { streams }),
  }))
  .nullable();

/** Compared character by character with what a browser sends: in any other spelling it would never match. */
const webOrigin = visible(ORIGIN_CHARACTERS_MAX).superRefine((text, context) => {
  if (!isWebOrigin(text)) context.addIssue({ code: "custom", message: describeOriginFault(text) });
});
const origins = z
  .array(webOrigin)
  .max(ORIGINS_MAX, `has over ${ORIGINS_MAX} origins`)
  .transform((list) => [...new Set(list)]);

function describeOriginFault(text: string): string {
  const meant = URL.canParse(text) ? new URL(text).origin : "";
  if (isWebOrigin(meant)) return `is not an origin as a browser sends it; write ${meant}`;
  const form = "write https://app.example.com or https://app.example.com:8443; http is for localhost, 127.0.0.1 and [::1] only";
  return `is not a web origin that can be allowed: ${form}`;
}

const ONE_SOURCE = "give the partner's keys by exactly one of jwks_uri and jwks";

const settings = {
  name: visible(NAME_CHARACTERS_MAX),
  jwks: jwks.optional(),
  /** What kind of URL it may be is for the one that fetches from it to say. */
  jwks_uri: z.string().optional(),
  issuer,
  audience: visible(URI_CHARACTERS_MAX),
  subject_namespace: z.enum(["user_id", "external_user_id"]),
  replay: z.enum(["single_use", "reusable"]),
  assertion_lifetime_seconds_max: z.int().min(ASSERTION_LIFETIME_SECONDS_MIN).max(ASSERTION_LIFETIME_SECONDS_MAX),
  clock_skew_seconds: z.int().min(0).max(CLOCK_SKEW_SECONDS_MAX),
  access_token_lifetime_seconds: z.int().min(ACCESS_TOKEN_LIFETIME_SECONDS_MIN).max(ACCESS_TOKEN_LIFETIME_SECONDS_MAX),
  allowed_algorithms: nonEmptySet(SUBJECT_TOKEN_ALGORITHMS),
  allowed_grants: nonEmptySet(["token-exchange", "client_credentials"]),
  /** That each exists is for the store to say, as it writes. */
  allowed_scopes: z.array(scopeName).min(1, "is empty").max(ALLOWED_SCOPES_MAX, `has over ${ALLOWED_SCOPES_MAX} scopes`),
  token_endpoint_auth_method: z.enum(CLIENT_AUTH_METHODS),
  provisioning: z.enum(["off", "create"]),
  /** That it is one of the partner's is checked where the partner is known. */
  home_workspace_id: z.uuid().nullable(),
  provisioning_hourly_max: z.int().min(1).max(PROVISIONING_HOURLY_MAX),
  billing_features: z.array(visible(BILLING_FEATURE_CHARACTERS_MAX)).max(BILLING_FEATURES_MAX).nullable(),
  rate_limits: rateLimits,
  allowed_origins: origins,
};

const notYetSettings = {
  delegation: notYet(false),
  dpop_required: notYet(false),
};

export const createPartnerBody = z
  .strictObject({
    ...settings,
    ...notYetSettings,
    issuer: issuer.optional(),
    audience: settings.audience.optional(),
    subject_namespace: settings.subject_namespace.default("user_id"),
    replay: settings.replay.default("single_use"),
    assertion_lifetime_seconds_max: settings.assertion_lifetime_seconds_max.default(ASSERTION_LIFETIME_SECONDS_DEFAULT),
    clock_skew_seconds: settings.clock_skew_seconds.default(CLOCK_SKEW_SECONDS_DEFAULT),
    access_token_lifetime_seconds: settings.access_token_lifetime_seconds.default(ACCESS_TOKEN_LIFETIME_SECONDS_DEFAULT),
    allowed_algorithms: settings.allowed_algorithms.default([...SUBJECT_TOKEN_ALGORITHMS]),
    allowed_grants: settings.allowed_grants.default(["token-exchange"]),
    allowed_scopes: settings.allowed_scopes.default([...SCOPES]),
    token_endpoint_auth_method: settings.token_endpoint_auth_method.default("client_secret"),
    provisioning: z
      .literal("off", { error: "needs a home workspace: create the partner, then its workspace, then update the partner" })
      .default("off"),
    home_workspace_id: z
      .null({ error: "needs a workspace of the partner: create the partner, then its workspace, then update the partner" })
      .default(null),
    provisioning_hourly_max: settings.provisioning_hourly_max.default(PROVISIONING_HOURLY_DEFAULT),
    billing_features: settings.billing_features.default(null),
    rate_limits: settings.rate_limits.default(null),
    allowed_origins: settings.allowed_origins.default([]),
  })
  .superRefine(({ jwks: set, jwks_uri: uri }, context) => {
    if ((set === undefined) === (uri === undefined)) {
      context.addIssue({ code: "custom", path: [uri === undefined ? "jwks" : "jwks_uri"], message: ONE_SOURCE });
    }
  });

/** Every field may be left out, and nothing that is left out changes. */
export const updatePartnerBody = z
  .strictObject({ ...settings, status: z.enum(["active", "disabled"]) })
  .partial()
  .extend({ ...notYetSettings, issuer: changedIssuer.optional() })
  .superRefine(({ jwks: set, jwks_uri: uri }, context) => {
    if (set !== undefined && uri !== undefined) context.addIssue({ code: "custom", path: ["jwks_uri"], message: ONE_SOURCE });
  });
