import { createServer, type RequestListener, type Server, STATUS_CODES } from "node:http";
import { newTraceId } from "../ids.ts";
import { hasLongRest } from "./body.ts";
import type { Overload } from "./overload.ts";
import { Problem, problemAnswer } from "./problem.ts";
import { isNeverShed, shedder, type ShedPorts } from "./shed.ts";

/** What stands in front of the router: Node's own server, with limits, that turns away what is too much. */

const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 15_000;
const KEEP_ALIVE_MS_MAX = 72_000;
const HEADER_BYTES_MAX = 16 * 1024;
const SERVER_OPTIONS = {
  // Node's own limits are 60 s and 300 s, looked at every 30 s: a thousand slow senders would hold a thousand sockets (slowloris)
  headersTimeout: HEADERS_MS_MAX,
  requestTimeout: REQUEST_MS_MAX,
  connectionsCheckingInterval: 1_000,
  keepAliveTimeout: KEEP_ALIVE_MS_MAX,
  maxHeaderSize: HEADER_BYTES_MAX,
};

/** Of Node's server, though its types do not have it: who has sent all that it will send, and says so, gets its answers all the same. */
interface HalfOpen {
  httpAllowHalfOpen?: boolean;
}

/** An answer of which the client takes nothing for so long is given up, and its memory with it. */
const STALLED_MS_MAX = 30_000;

/** What is too much is turned away before the router sees it: under overload it is most of what comes. */
export function guardedServer(
  handle: RequestListener,
  ports: ShedPorts & { readonly overload: Overload },
  stalledMsMax = STALLED_MS_MAX,
): Server {
  const { overload, basePath } = ports;
  const shed = shedder(ports);
  const server: Server & HalfOpen = createServer(SERVER_OPTIONS, (request, response) => {
    const { url = "" } = request;
    if (isNeverShed(url, basePath)) return handle(request, response);
    const work = () => {
      if (!request.destroyed) handle(request, response); // whoever has hung up meanwhile costs nothing more
    };
    if (!overload.takeOn(work)) shed(url, response, hasLongRest(request));
  });
  server.httpAllowHalfOpen = true;
  return server.setTimeout(stalledMsMax); // of a connection on which nothing moves; one that waits for its next request has keepAliveTimeout
}

/** What is not HTTP enough to become a request, answered as far as the connection still takes an answer. @param code of Node's error. */
export function unreadAnswer(code: string): string {
  const [status, detail] = UNREADABLE[code] ?? [400, "The request is not HTTP/1.1."];
  const { body, headers } = problemAnswer(new Problem(status, detail), newTraceId(Date.now()));
  const text = JSON.stringify(body);
  const lines = { ...headers, "content-length": String(Buffer.byteLength(text)), "cache-control": "no-store", connection: "close" };
  const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${head.join("")}\r\n${text}`;
}

const UNREADABLE: Readonly<Record<string, readonly [status: number, detail: string]>> = {
  HPE_HEADER_OVERFLOW: [431, `The headers are over ${HEADER_BYTES_MAX} bytes.`],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "The request did not arrive in time."],
};
