import { type Refusal, refusalToWire, TOKEN_REQUEST_BYTES_MAX } from "@cambist/protocol";
import { z } from "zod";
import type { Answer, AnswerDocs, RawRequest, Unread } from "../http/route.ts";
import { wrongSecretsStanding } from "../http/wrong-secrets.ts";
import type { Log } from "../telemetry/log.ts";

/** How the OAuth endpoints say no (RFC 6749 §5.2). */

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

/** An OAuth error as the API description has it. */
export function oauthError(
  description: string,
  more: { readonly retry?: boolean; readonly headers?: AnswerDocs["headers"] } = {},
): AnswerDocs {
  const headers = { ...(more.retry ? RETRY_AFTER : {}), ...more.headers };
  return { description, body: errorBody, ...(Object.keys(headers).length > 0 ? { headers } : {}) };
}

export const CLIENT_NOT_AUTHENTICATED = oauthError("The client is not authenticated.", {
  headers: { "WWW-Authenticate": "Where the request had an Authorization header." },
});

export const TURNED_AWAY = oauthError("The partner's limit is used up, or there were too many wrong secrets from this address.", {
  retry: true,
});

export function unreadRefusal(why: Unread): Refusal {
  switch (why) {
    case "body_too_large":
      return { code: "body_too_large", bytesMax: TOKEN_REQUEST_BYTES_MAX };
    case "method_not_allowed":
      return { code: "method_not_allowed" };
  }
}

/**
 * Logs a refusal. What a limit turns away comes in floods and is seen in the metrics: its lines are for debugging only. And with wrong secrets
 * there is no partner that stands in some way with its quota, so it is said how the client id and the address do.
 */
export function noteRefusal(
  log: Log,
  message: string,
  refusal: Refusal,
  request: { readonly raw: RawRequest; readonly partnerId?: string | undefined },
): void {
  const { raw, partnerId } = request;
  const isTurnedAway = refusal.code === "rate_limited" || refusal.code === "wrong_secrets_too_many";
  log[isTurnedAway ? "debug" : "info"](message, {
    trace_id: raw.traceId,
    client_id: partnerId,
    address: raw.address,
    refusal: refusal.code,
    description: refusalToWire(refusal).description,
  });
  if (refusal.code === "wrong_secrets_too_many") raw.standing = wrongSecretsStanding(refusal.retryAfterSeconds);
}

/** RFC 6749 §5.1, beside the `no-store` that every answer has. */
export const PRAGMA = { pragma: "no-cache" };

/** RFC 7617 §2. */
export const BASIC_CHALLENGE = 'Basic realm="cambist", charset="UTF-8"';

export function refusalAnswer(refusal: Refusal, raw: RawRequest, issuer: string): Answer {
  const wire = refusalToWire(refusal);
  return {
    status: wire.status,
    headers: {
      ...PRAGMA,
      ...(wire.status === 401 && raw.authorization.length > 0 ? { "www-authenticate": BASIC_CHALLENGE } : {}),
      ...("retryAfterSeconds" in refusal ? { "retry-after": String(refusal.retryAfterSeconds) } : {}),
    },
    body: {
      error: wire.error,
      error_description: wire.description,
      error_uri: `${issuer}/docs/errors/${refusal.code}`,
      trace_id: raw.traceId,
    },
  };
}
