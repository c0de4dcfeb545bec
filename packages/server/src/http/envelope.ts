import { z } from "zod";
import type { Answer } from "./route.ts";

/** The errors of everything under `/v1` (contract §3): one envelope, whatever went wrong. */

/** Status → code, code_reason and message, as published; a status that is not here is told as 400 or 500. */
const ERRORS = {
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
} as const satisfies Record<number, readonly [code: string, reason: string, message: string]>;

export const envelopeErrorBody = z
  .strictObject({
    error: z.strictObject({
      code: z.string(),
      code_reason: z.string(),
      message: z.string(),
      error_trace: z.record(z.string(), z.string()).optional().describe("Field → what is wrong with it, where fields are at fault."),
    }),
  })
  .meta({ id: "EnvelopeError", description: "Of everything under /v1." });

/** Also where a client writes its two characters percent-encoded, or the host in front of the path: the router takes them for the same (RFC 9112 §3.2.2). */
const UNDER_ENVELOPE = /^(?:https?:\/\/[^/]*)?\/(?:v|%76)(?:1|%31)(?:[/?#]|$)/;

/** @param url path and query, as they came. */
export function isUnderEnvelope(url: string): boolean {
  return UNDER_ENVELOPE.test(url);
}

/**
 * An error of anything under `/v1`. It holds nothing but what the contract gives it: no trace id, no sentence of another form.
 *
 * @param errorTrace field → reason, where fields are at fault.
 */
export function envelopeAnswer(status: number, headers: Answer["headers"] = {}, errorTrace: Readonly<Record<string, string>> = {}): Answer {
  const known = status in ERRORS ? (status as keyof typeof ERRORS) : status < 500 ? 400 : 500;
  const [code, reason, message] = ERRORS[known];
  const trace = Object.keys(errorTrace).length > 0 ? { error_trace: errorTrace } : {};
  return { status: known, headers, body: { error: { code, code_reason: reason, message, ...trace } } };
}
