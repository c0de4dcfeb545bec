import {
  handleTokenRequest,
  type Refusal,
  refusalToWire,
  StoreUnavailable,
  type TokenEndpointPorts,
  TOKEN_REQUEST_BYTES_MAX,
} from "@cambist/protocol";
import { type Answer, defineRoute, type RawRequest, type Route, type Unread } from "../http/route.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

export interface TokenRouteDeps {
  readonly ports: TokenEndpointPorts;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** The token endpoint (RFC 6749 §3.2, RFC 8693 §2): HTTP around {@link handleTokenRequest}, which decides everything. */
export function tokenRoutes(deps: TokenRouteDeps): Route[] {
  return [
    defineRoute({
      operationId: "exchangeToken",
      method: "POST",
      path: "/oauth2/token",
      auth: { kind: "oauth_client" },
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
    return { status: 200, headers: NO_STORE, body: result.value };
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

/** RFC 6749 §5.1: neither a token nor a refusal of one is kept by a cache. */
const NO_STORE = { "cache-control": "no-store", pragma: "no-cache" };

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
      ...NO_STORE,
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
