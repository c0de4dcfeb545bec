import {
  handleOpaqueTokenRequest,
  OPAQUE_TOKEN_LIFETIME_SECONDS,
  redact,
  type Refusal,
  type RefusalCode,
  refusalToWire,
  TOKEN_REQUEST_BYTES_MAX,
} from "@cambist/protocol";
import { z } from "zod";
import { envelopeAnswer, envelopeErrorBody } from "../http/envelope.ts";
import { type Answer, type AnswerDocs, defineRoute, type RawRequest, type Route, type RouteDocs } from "../http/route.ts";
import { BASIC_CHALLENGE, PRAGMA } from "./refusal-answer.ts";
import { answering, type TokenRouteDeps } from "./token-answers.ts";

const form = z.object({
  client_id: z.string().optional().describe("Required, unless the client authenticates by HTTP Basic or by a client_assertion."),
  client_secret: z.string().optional().describe("With `client_id`."),
  grant_type: z.literal("client_credentials").optional(),
  scope: z.string().optional().describe("Separated by spaces. Left out: everything that the partner itself may have."),
  client_assertion_type: z.literal("urn:ietf:params:oauth:client-assertion-type:jwt-bearer").optional(),
  client_assertion: z.string().optional().describe("With its type, where the client authenticates by private_key_jwt (RFC 7523)."),
});

const tokenBody = z.strictObject({
  data: z.strictObject({
    access_token: z
      .string()
      .regex(/^sk-[0-9a-f]{32}$/)
      .describe("Opaque."),
    token_type: z.literal("Bearer"),
    expires_in: z.literal(OPAQUE_TOKEN_LIFETIME_SECONDS),
  }),
});

const refusedWith = (description: string, headers?: AnswerDocs["headers"]): AnswerDocs => ({
  description,
  body: envelopeErrorBody,
  ...(headers === undefined ? {} : { headers }),
});
const RETRY_AFTER = { "Retry-After": "Seconds until it is worth trying again." };

const DOCS: RouteDocs = {
  summary: "Create Token",
  description: "Client credentials in the second published form: an opaque token for the partner itself, in an envelope.",
  tag: "token",
  form,
  answers: {
    200: { description: "An opaque access token.", body: tokenBody },
    400: refusedWith("A parameter is missing or invalid; `error_trace` says which and why."),
    401: refusedWith("The client is not authenticated.", { "WWW-Authenticate": "Where the request had an Authorization header." }),
    403: refusedWith("The partner is not allowed client credentials."),
    413: refusedWith(`The body is over ${TOKEN_REQUEST_BYTES_MAX} bytes.`),
    415: refusedWith("The body is not a form."),
    429: refusedWith("The partner's limit is used up, or there were too many wrong secrets from this address.", {
      ...RETRY_AFTER,
      "X-RateLimit-Limit": "Requests in a minute.",
      "X-RateLimit-Remaining": "How many are left: none.",
      "X-RateLimit-Reset": "Seconds until there is one more.",
    }),
    500: refusedWith("The server failed."),
    503: refusedWith("The store does not answer.", RETRY_AFTER),
  },
};

/** The second published token endpoint (contract §3): the same rules as at the first one, and other words. */
export function v1AuthTokenRoutes(deps: TokenRouteDeps): Route[] {
  return [
    defineRoute({
      operationId: "createOpaqueToken",
      method: "POST",
      path: "/v1/auth/token",
      auth: { kind: "oauth_client" },
      docs: DOCS,
      bodyBytesMax: TOKEN_REQUEST_BYTES_MAX,
      ...answering(deps, {
        handle: handleOpaqueTokenRequest,
        granted: (data) => ({ status: 200, headers: PRAGMA, body: { data } }),
        refused: refusedAnswer,
      }),
    }),
  ];
}

function refusedAnswer(refusal: Refusal, raw: RawRequest): Answer {
  const headers = {
    ...PRAGMA,
    ...(statusOf(refusal) === 401 && raw.authorization.length > 0 ? { "www-authenticate": BASIC_CHALLENGE } : {}),
    ...("retryAfterSeconds" in refusal ? { "retry-after": String(refusal.retryAfterSeconds) } : {}),
  };
  return envelopeAnswer(statusOf(refusal), headers, errorTrace(refusal));
}

/** Where the two published endpoints differ. */
const STATUSES: Partial<Record<RefusalCode, number>> = {
  client_authentication_missing: 400,
  grant_not_allowed: 403,
  media_type_unsupported: 415,
};

function statusOf(refusal: Refusal): number {
  return STATUSES[refusal.code] ?? refusalToWire(refusal).status;
}

/** The field that all refusals with this code are about. */
const FIELDS: Partial<Record<RefusalCode, string>> = {
  client_id_mismatch: "client_id",
  client_assertion_type_unsupported: "client_assertion_type",
  target_ambiguous: "scope",
};

/** Which fields a refusal is about, if it is about any. */
function errorTrace(refusal: Refusal): Record<string, string> {
  const { error, description } = refusalToWire(refusal);
  if (refusal.code === "client_authentication_missing") return Object.fromEntries(refusal.missing.map((name) => [name, "is missing"]));
  if (refusal.code === "parameter_missing") return { [refusal.parameter]: "is missing" };
  if (refusal.code === "parameter_repeated") return { [shownName(refusal.parameter)]: description };
  if (refusal.code === "grant_type_unsupported") return { grant_type: "must be client_credentials, or left out" };
  if (refusal.code === "target_unknown") return { [refusal.parameter]: description };
  const field = error === "invalid_scope" ? "scope" : FIELDS[refusal.code];
  return field === undefined ? {} : { [field]: description };
}

const NAME_CHARACTERS_MAX = 80;

/** It may be a secret whose name was forgotten. */
function shownName(name: string): string {
  return redact(name)
    .replaceAll(/[^\x20-\x7e]/gu, "?")
    .slice(0, NAME_CHARACTERS_MAX);
}
