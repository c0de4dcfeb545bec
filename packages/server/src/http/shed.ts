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
  writeHead(status: number, headers: string[]): unknown;
  end(text: string, encoding: "latin1"): unknown;
}

/** Asked by whoever keeps this process alive and sends it requests: they must hear from it above all when it has too many. */
const NEVER_SHED = new Set(["/livez", "/readyz", "/metrics"]);
/** Those who are turned away together should not come back together. */
const RETRY_SECONDS_MAX = 3;
const LOG_EVERY_MS = 10_000;
const DETAIL = "The server has more requests than it can answer in time; try again.";

/** The rest is put in the line of {@link Overload}, or turned away. */
export function isNeverShed(url: string, basePath: string): boolean {
  return NEVER_SHED.has(pathBelow(url, basePath).split("?", 1)[0] ?? "");
}

/** Path and query, without the path of the public URL. */
export function pathBelow(url: string, basePath: string): string {
  return basePath !== "" && url.startsWith(`${basePath}/`) ? url.slice(basePath.length) : url;
}

/**
 * Answers 503 to a request whose body is unread: nothing is looked up, spent or recorded for it. Does not decide that it is time to turn requests
 * away: that is {@link Overload.takeOn}; nor which are spared: {@link isNeverShed}.
 */
export function shedder(ports: ShedPorts): (url: string, response: Response, endsConnection: boolean) => void {
  const formOf = forms(ports.issuer);
  let shed = 0;
  let logged = { shed: 0, atMs: -Infinity };
  return (url, response, endsConnection) => {
    const nowMs = Date.now();
    const { head, text } = formOf(pathBelow(url, ports.basePath));
    const more = ["retry-after", String((shed % RETRY_SECONDS_MAX) + 1)];
    if (endsConnection) more.push("connection", "close");
    response.writeHead(503, [...head, ...more]);
    response.end(text.join(newTraceId(nowMs)), "latin1");
    shed++;
    ports.metrics.countShed();
    if (nowMs - logged.atMs >= LOG_EVERY_MS) {
      ports.log.warn("overloaded: requests are turned away", { since_last_line: shed - logged.shed });
      logged = { shed, atMs: nowMs };
    }
  };
}

/** Made once: past what a node can do, it is mostly these that it sends. */
interface Form {
  /** Names and values in turns: as Node takes them without a look at each. */
  readonly head: readonly string[];
  /** What stands around the trace id. */
  readonly text: readonly string[];
}

/** In the form that errors have under the path. */
function forms(issuer: string): (path: string) => Form {
  const envelope = form(envelopeAnswer(503));
  const problem = form(problemAnswer(new Problem(503, DETAIL), TRACE_ID));
  const { error } = refusalToWire({ code: "temporarily_unavailable", retryAfterSeconds: 1 });
  const body = { error, error_description: DETAIL, error_uri: `${issuer}/docs/errors/temporarily_unavailable`, trace_id: TRACE_ID };
  const oauth = form({ status: 503, headers: { pragma: "no-cache" }, body });
  return (path) => (isUnderEnvelope(path) ? envelope : path.startsWith("/oauth2/") ? oauth : problem);
}

/** In the place of one, of its length. */
const TRACE_ID = "0".repeat(32);

function form({ headers, body }: Answer): Form {
  const text = JSON.stringify(body);
  const all = {
    "content-type": "application/json",
    ...headers,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-length": String(text.length),
  };
  return { head: Object.entries(all).flat(), text: text.split(TRACE_ID) };
}
