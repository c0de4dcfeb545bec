import {
  handleTokenRequest,
  type Refusal,
  refusalToWire,
  StoreUnavailable,
  type TokenEndpointPorts,
  TOKEN_REQUEST_BYTES_MAX,
} from "@cambist/protocol";
import { z } from "zod";
import { type Answer, defineRoute, type RawRequest, type Route, type RouteDocs, type Unread } from "../http/route.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

export interface TokenRouteDeps {
  readonly ports: TokenEndpointPorts;
  readonly log: Log;
  readonly metrics: Metrics;
}

const tokenForm = z.object({
  grant_type: z.literal("urn:ietf:params:oauth:grant-type:token-exchange"),
  subject_token: z.string().describe("The JWT that the partner signed, for one of its users or, with its client id as `sub`, for itself."),
  subject_token_type: z.literal("urn:ietf:params:oauth:token-type:jwt"),
  scope: z.string().optional().describe("Separated by spaces. Left out: everything that this principal may have."),
  requested_token_type: z.literal("urn:ietf:params:oauth:token-type:access_token").optional(),
  audience: z.string().optional().describe("The resource identifier of the API, or left out. Not beside `resource`."),
  resource: z.string().optional().describe("The resource identifier of the API, or left out. Not beside `audience`."),
  client_id: z.string().optional(),
  client_secret: z.string().optional().describe("With `client_id`, where the client authenticates by its secret and not by HTTP Basic."),
  client_assertion_type: z.literal("urn:ietf:params:oauth:client-assertion-type:jwt-bearer").optional(),
  client_assertion: z.string().optional().describe("With its type, where the client authenticates by private_key_jwt (RFC 7523)."),
});

const tokenBody = z.strictObject({
  access_token: z.string().describe("A JWT (RFC 9068)."),
  issued_token_type: z.literal("urn:ietf:params:oauth:token-type:access_token"),
  token_type: z.literal("Bearer"),
  expires_in: z.int().describe("Seconds."),
  scope: z.string(),
});

const OAUTH_ERRORS = {
  invalid_request: "invalid_request",
  invalid_client: "invalid_client",
  unauthorized_client: "unauthorized_client",
  unsupported_grant_type: "unsupported_grant_type",
  invalid_scope: "invalid_scope",
  invalid_target: "invalid_target",
  invalid_dpop_proof: "invalid_dpop_proof",
  slow_down: "slow_down",
  temporarily_unavailable: "temporarily_unavailable",
  server_error: "server_error",
} as const satisfies { [E in ReturnType<typeof refusalToWire>["error"]]: E };

const errorBody = z
  .strictObject({
    error: z.enum(OAUTH_ERRORS),
    error_description: z.string().describe("Which check failed."),
    error_uri: z.url().describe("The page of this refusal."),
    trace_id: z.string().describe("Finds the recorded exchange."),
  })
  .meta({ id: "OAuthError", description: "RFC 6749 §5.2." });

const RETRY_AFTER = { "Retry-After": "Seconds until it is worth trying again." };

const TOKEN_DOCS: RouteDocs = {
  summary: "Exchange Token",
  description: "Token exchange (RFC 8693): a JWT of the partner in, an access token out. No parameter twice; unknown ones are ignored.",
  tag: "token",
  form: tokenForm,
  answers: {
    200: { description: "An access token. There is never a refresh token.", body: tokenBody },
    400: { description: "The request, the subject token, the grant, the scope or the target is refused.", body: errorBody },
    401: {
      description: "The client is not authenticated.",
      body: errorBody,
      headers: { "WWW-Authenticate": "Where the request had an Authorization header." },
    },
    413: { description: `The body is over ${TOKEN_REQUEST_BYTES_MAX} bytes.`, body: errorBody },
    429: {
      description: "The subject is not a user yet, and the users that exchanges may make in an hour are made.",
      body: errorBody,
      headers: RETRY_AFTER,
    },
    500: { description: "The server failed.", body: errorBody },
    503: { description: "The store, or the URL of the partner's keys, does not answer.", body: errorBody, headers: RETRY_AFTER },
  },
};

/** The token endpoint (RFC 6749 §3.2, RFC 8693 §2): HTTP around {@link handleTokenRequest}, which decides everything. */
export function tokenRoutes(deps: TokenRouteDeps): Route[] {
  return [
    defineRoute({
      operationId: "exchangeToken",
      method: "POST",
      path: "/oauth2/token",
      auth: { kind: "oauth_client" },
      docs: TOKEN_DOCS,
      bodyBytesMax: TOKEN_REQUEST_BYTES_MAX,
      handle: ({ raw }) => exchangeToken(raw, deps),
      refuseUnread: (raw, why) => refuseUnread(raw, why, deps),
    }),
  ];
}

async function exchangeToken(raw: RawRequest, deps: TokenRouteDeps): Promise<Answer> {
  try {
    const { result, facts } = await handleTokenRequest(raw, deps.ports);
    if (!result.ok) return refusalAnswer(result.fault, raw, deps, facts.partnerId);
    deps.metrics.countExchange("granted", "");
    deps.log.debug("exchange granted", { trace_id: raw.traceId, client_id: facts.clientId, subject: facts.subject });
    return { status: 200, headers: PRAGMA, body: result.value };
  } catch (thrown) {
    deps.log.error("exchange failed", { trace_id: raw.traceId, error: thrown });
    return refusalAnswer({ code: "server_error" }, raw, deps);
  }
}

async function refuseUnread(raw: RawRequest, why: Unread, deps: TokenRouteDeps): Promise<Answer> {
  const refusal = unreadRefusal(raw, why);
  try {
    await deps.ports.recordRefusal({ traceId: raw.traceId, atMs: deps.ports.nowMs(), address: raw.address }, refusal);
    return refusalAnswer(refusal, raw, deps);
  } catch (thrown) {
    if (!(thrown instanceof StoreUnavailable)) throw thrown;
    return refusalAnswer({ code: "temporarily_unavailable", retryAfterSeconds: thrown.retryAfterSeconds }, raw, deps);
  }
}

function unreadRefusal(raw: RawRequest, why: Unread): Refusal {
  switch (why) {
    case "body_too_large":
      return { code: "body_too_large", bytesMax: TOKEN_REQUEST_BYTES_MAX };
    case "media_type_unsupported":
      return { code: "media_type_unsupported", got: raw.mediaType };
    case "method_not_allowed":
      return { code: "method_not_allowed" };
  }
}

/** RFC 6749 §5.1, beside the `no-store` that every answer has. */
const PRAGMA = { pragma: "no-cache" };

function refusalAnswer(refusal: Refusal, raw: RawRequest, deps: TokenRouteDeps, partnerId?: string): Answer {
  const wire = refusalToWire(refusal);
  deps.metrics.countExchange("refused", refusal.code);
  deps.log.info("exchange refused", {
    trace_id: raw.traceId,
    client_id: partnerId,
    address: raw.address,
    refusal: refusal.code,
    description: wire.description,
  });
  return {
    status: wire.status,
    headers: {
      ...PRAGMA,
      ...(wire.status === 401 && raw.authorization.length > 0 ? { "www-authenticate": 'Basic realm="cambist", charset="UTF-8"' } : {}),
      ...("retryAfterSeconds" in refusal ? { "retry-after": String(refusal.retryAfterSeconds) } : {}),
    },
    body: {
      error: wire.error,
      error_description: wire.description,
      error_uri: `${deps.ports.issuer}/docs/errors/${refusal.code}`,
      trace_id: raw.traceId,
    },
  };
}
