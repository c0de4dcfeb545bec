import { expect } from "vitest";
import { type Reply, send, type TestPartner, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectNothingSecret } from "./expect-refusal.ts";

export const OPAQUE_TOKEN_PATH = "/v1/auth/token";
export const FORM_TYPE = { "content-type": "application/x-www-form-urlencoded" };
/** Fields of a partner that may use both published token endpoints. */
export const BOTH_GRANTS = { allowed_grants: ["token-exchange", "client_credentials"] };

export function clientForm({ clientId, clientSecret }: Pick<TestPartner, "clientId" | "clientSecret">, more: Record<string, string> = {}) {
  return new URLSearchParams({ client_id: clientId, client_secret: clientSecret, ...more });
}

/** To the second published token endpoint, unless told another path. */
export function postForm(
  server: Pick<TestServer, "url">,
  body: string | URLSearchParams,
  headers: Record<string, string> = {},
  path = OPAQUE_TOKEN_PATH,
): Promise<Reply> {
  return send(server, "POST", path, { headers: { ...FORM_TYPE, ...headers }, body: body.toString() });
}

/** Status → code, code_reason and message. */
const ROWS = {
  400: ["400013", "invalid_request", "Missing or invalid parameters"],
  401: ["401021", "invalid_client", "Invalid client_id, client_secret, or session_key"],
  403: ["403001", "forbidden", "Access forbidden for this resource"],
  404: ["404001", "not_found", "Resource or endpoint not found"],
  405: ["405001", "method_not_allowed", "This method is not allowed for this endpoint"],
  413: ["413001", "payload_too_large", "The request body is too large"],
  415: ["415001", "unsupported_media_type", "Send the body as application/x-www-form-urlencoded"],
  429: ["429001", "rate_limit_exceeded", "Too many requests, try again later"],
  500: ["500999", "API_ERROR", "Api Error, please contact customer service"],
  503: ["503001", "temporarily_unavailable", "The service is temporarily unavailable, try again later"],
} as const;

/** One shape, whatever went wrong: nothing more and nothing less. */
export function expectEnvelope(reply: Reply, status: keyof typeof ROWS, errorTrace?: Readonly<Record<string, unknown>>): void {
  const [code, code_reason, message] = ROWS[status];
  const trace = errorTrace === undefined ? {} : { error_trace: errorTrace };
  expect({ status: reply.status, json: reply.json }, reply.text).toEqual({
    status,
    json: { error: { code, code_reason, message, ...trace } },
  });
  expect(reply.headers.get("content-type")).toBe("application/json");
  expect(reply.headers.get("cache-control")).toBe("no-store");
  expect(reply.headers.get("retry-after") === null).toBe(status !== 429 && status !== 503);
  expectNothingSecret(reply.text);
}
