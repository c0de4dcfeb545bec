import { StoreUnavailable } from "@cambist/protocol";
import type { Log } from "../telemetry/log.ts";
import { envelopeAnswer, isUnderEnvelope } from "./envelope.ts";
import { listsFaults, Problem, problemAnswer } from "./problem.ts";
import type { Answer, Unread } from "./route.ts";

/** What of a request is needed to answer that it failed. */
interface FailedRequest {
  /** The trace id. */
  readonly id: string;
  readonly url: string;
  readonly raw: { readonly complete: boolean };
}

/** In the form of the path, whether or not there is a route at it (contract §3). */
export function errorAnswer(problem: Problem, { id, url }: FailedRequest): Answer {
  return isUnderEnvelope(url)
    ? envelopeAnswer(problem.status, problem.headers)
    : problemAnswer(problem, id, listsFaults(url) ? "list" : "text");
}

/** What went wrong before or in a handler, as an answer. What is not known here is a fault of ours: logged, and told as no more than that. */
export function failureAnswer(error: unknown, request: FailedRequest, { log }: { readonly log: Log }): Answer {
  if (error instanceof Problem) return errorAnswer(error, request);
  if (error instanceof StoreUnavailable) {
    log.warn("store unavailable", { trace_id: request.id, error });
    const headers = { "retry-after": String(error.retryAfterSeconds) };
    return errorAnswer(new Problem(503, "The store does not answer; try again.", { headers }), request);
  }
  const code: string = frameworkCode(error) ?? "";
  switch (code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return errorAnswer(new Problem(413, "The body is too large."), request);
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return errorAnswer(new Problem(415, "Send the body as Content-Type: application/json."), request);
    default:
      if (isRefusedByFramework(error) || isCutOff(error, request))
        return errorAnswer(new Problem(400, "The request is malformed."), request);
      log.error("request failed", { trace_id: request.id, error });
      return errorAnswer(new Problem(500, "The server failed; the operator finds the cause by the trace_id."), request);
  }
}

/** A request that the framework itself refuses, for instance a URL that does not decode: no fault of ours. */
function isRefusedByFramework(error: unknown): boolean {
  if (!frameworkCode(error)?.startsWith("FST_")) return false;
  const { statusCode } = error as { readonly statusCode?: unknown };
  return typeof statusCode === "number" && statusCode >= 400 && statusCode < 500;
}

/** The client went away in the middle of its body: nobody reads the answer. */
function isCutOff(error: unknown, request: FailedRequest): boolean {
  return frameworkCode(error) === "ECONNRESET" && !request.raw.complete;
}

function frameworkCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

const UNREAD: Readonly<Record<string, Unread>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "body_too_large",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "media_type_unsupported",
};

/** Why the framework has not read the body, where it has not. */
export function unreadBecauseOf(error: unknown): Unread | undefined {
  return UNREAD[frameworkCode(error) ?? ""];
}
