import { StoreUnavailable } from "@cambist/protocol";
import type { Log } from "../telemetry/log.ts";
import { envelopeAnswer, isUnderEnvelope } from "./envelope.ts";
import { listsFaults, Problem, problemAnswer } from "./problem.ts";
import type { Answer } from "./route.ts";

/** What of a request is needed to answer that it failed. */
interface FailedRequest {
  readonly traceId: string;
  readonly url: string;
}

/** In the form of the path, whether or not there is a route at it (contract §3). */
export function errorAnswer(problem: Problem, { traceId, url }: FailedRequest): Answer {
  return isUnderEnvelope(url)
    ? envelopeAnswer(problem.status, problem.headers)
    : problemAnswer(problem, traceId, listsFaults(url) ? "list" : "text");
}

/** What went wrong before or in a handler, as an answer. What is not known here is a fault of ours: logged, and told as no more than that. */
export function failureAnswer(error: unknown, request: FailedRequest, { log }: { readonly log: Log }): Answer {
  if (error instanceof Problem) return errorAnswer(error, request);
  if (error instanceof StoreUnavailable) {
    log.warn("store unavailable", { trace_id: request.traceId, error });
    const headers = { "retry-after": String(error.retryAfterSeconds) };
    return errorAnswer(new Problem(503, "The store does not answer; try again.", { headers }), request);
  }
  log.error("request failed", { trace_id: request.traceId, error });
  return errorAnswer(new Problem(500, "The server failed; the operator finds the cause by the trace_id."), request);
}
