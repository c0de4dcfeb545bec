import { refusalToWire } from "@cambist/protocol";
import { newTraceId } from "../ids.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { envelopeAnswer, isUnderEnvelope } from "./envelope.ts";
import { Problem, problemAnswer } from "./problem.ts";
import type { Answer } from "./route.ts";

export interface ShedPorts {
  readonly issuer: string;
  /** See RouterPorts. */
  readonly basePath: string;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** What Node hands out for an answer, as far as it is used here. */
interface Response {
  writeHead(status: number, headers: Readonly<Record<string, string | number>>): unknown;
  end(text: string): unknown;
}

/** Asked by whoever keeps this process alive and sends it requests: they must hear from it above all when it has too many. */
const NEVER_SHED = new Set(["/livez", "/readyz", "/metrics"]);
/** Those who are turned away together should not come back together. */
const RETRY_SECONDS_MAX = 3;
const LOG_EVERY_MS = 10_000;
const DETAIL = "The server has more requests than it can answer in time; try again.";

/**
 * Answers 503 to a request whose body is unread: nothing is looked up, spent or recorded for it. Says false for what is never turned away, and
 * does nothing then. Does not decide that it is time to turn requests away: that is {@link Overload.isOver}.
 */
export function shedder(ports: ShedPorts): (url: string, response: Response) => boolean {
  let shed = 0;
  let logged = { shed: 0, atMs: -Infinity };
  return (url, response) => {
    const path = url.startsWith(`${ports.basePath}/`) ? url.slice(ports.basePath.length) : url;
    if (NEVER_SHED.has(path.split("?", 1)[0] ?? "")) return false;
    const nowMs = Date.now();
    const { status, headers, body } = shedAnswer(path, newTraceId(nowMs), ports.issuer);
    const text = JSON.stringify(body);
    response.writeHead(status, {
      "content-type": "application/json",
      ...headers,
      "retry-after": (shed % RETRY_SECONDS_MAX) + 1,
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "content-length": Buffer.byteLength(text),
    });
    response.end(text);
    shed++;
    ports.metrics.countShed();
    if (nowMs - logged.atMs >= LOG_EVERY_MS) {
      ports.log.warn("overloaded: requests are turned away", { since_last_line: shed - logged.shed });
      logged = { shed, atMs: nowMs };
    }
    return true;
  };
}

/** In the form that errors have under the path. */
function shedAnswer(path: string, traceId: string, issuer: string): Answer {
  if (isUnderEnvelope(path)) return envelopeAnswer(503);
  if (!path.startsWith("/oauth2/")) return problemAnswer(new Problem(503, DETAIL), traceId);
  const { status, error } = refusalToWire({ code: "temporarily_unavailable", retryAfterSeconds: 1 });
  const body = { error, error_description: DETAIL, error_uri: `${issuer}/docs/errors/temporarily_unavailable`, trace_id: traceId };
  return { status, headers: { pragma: "no-cache" }, body };
}
