import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import findMyWay, { type HTTPMethod } from "find-my-way";
import { newTraceId } from "../ids.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Authenticate } from "./auth.ts";
import { BodyTooLarge, hasLongRest, readBody } from "./body.ts";
import type { ClientAddress } from "./client-address.ts";
import { corsHeaders, type CorsPorts, isPreflight, preflightAnswer } from "./cors.ts";
import { errorAnswer, failureAnswer } from "./failure-answer.ts";
import { guardedServer, unreadAnswer } from "./guarded-server.ts";
import { parseBody, validateInput } from "./input.ts";
import { boundaryOf, parseMultipart } from "./multipart.ts";
import { Problem } from "./problem.ts";
import { envelopeRateLimitHeaders, rateLimitHeaders } from "./rate-limit.ts";
import type { Answer, Principal, RawRequest, Route } from "./route.ts";
import { sendAnswer } from "./send-answer.ts";
import { pathBelow } from "./shed.ts";
import { Uploads } from "./uploads.ts";

export interface RouterPorts extends CorsPorts {
  readonly authenticate: Authenticate;
  readonly clientAddress: ClientAddress;
  readonly metrics: Metrics;
  /** The path of the public URL, without a slash at its end: routes answer under it too, whether or not a proxy takes it away. */
  readonly basePath: string;
  readonly issuer: string;
}

export interface HttpServer {
  /** Gives the port, which the system chooses where 0 was asked for. */
  listen(host: string, port: number): Promise<number>;
  /** Takes no new connection, lets requests under way finish until `graceMs`, then cuts them off. */
  close(graceMs: number): Promise<void>;
}

/** One request on its way to its answer. */
interface Passage {
  readonly traceId: string;
  readonly request: IncomingMessage;
  /** Path and query, without the path of the public URL. */
  readonly url: string;
  /** Go with whatever the answer will be. */
  headers: Readonly<Record<string, string>>;
}

/** Of the path and the query. */
interface Parameters {
  readonly params: unknown;
  readonly query: unknown;
}

/** What answers at a path. Never rejects. */
type Answering = (passage: Passage, parameters: Parameters) => Answer | Promise<Answer>;

/** The only file that knows the library that finds the route of a path: routes in, a server out. */
export function httpServer(routes: readonly Route[], ports: RouterPorts): HttpServer {
  const answerOf = dispatcher(routes, ports);
  let isClosing = false;
  const server = guardedServer((request, response) => void answer(request, response), ports);
  /** Connections with an answer in the middle of which, or of its request, more comes: another answer would be taken for a part of it, or nobody's. */
  const midway = new WeakSet<Duplex>();
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (midway.has(socket)) socket.destroy();
    else socket.end(unreadAnswer(error.code ?? ""));
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const traceId = newTraceId(Date.now());
    const passage: Passage = { traceId, request, url: pathBelow(request.url ?? "/", ports.basePath), headers: {} };
    try {
      const given = await answerOf(passage);
      if (isClosing || hasLongRest(request)) passage.headers = { ...passage.headers, connection: "close" };
      if (given.stream !== undefined || !request.complete) midway.add(request.socket);
      sendAnswer(response, given, passage.headers);
    } catch (error) {
      ports.log.error("an answer could not be sent", { trace_id: traceId, error });
      response.destroy();
    }
  }

  return {
    listen: (host, port) =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host, port }, () => {
          server.off("error", reject);
          const address = server.address();
          resolve(typeof address === "object" && address !== null ? address.port : port);
        });
      }),
    async close(graceMs) {
      isClosing = true;
      const cutOff = setTimeout(() => server.closeAllConnections(), graceMs);
      await new Promise<void>((resolve) => void server.close(() => resolve())); // with the connections that are idle
      clearTimeout(cutOff);
    },
  };
}

const MALFORMED = new Problem(400, "The request is malformed.");
const MISSING = new Problem(404, "There is no such endpoint; /openapi.json lists what there is.");

/** Paths are matched as RFC 3986 has them: by case, and with what is percent-encoded decoded. */
function dispatcher(routes: readonly Route[], ports: RouterPorts): (passage: Passage) => Answer | Promise<Answer> {
  const table = findMyWay({ onBadUrl: () => undefined, onMaxParamLength: () => undefined });
  const add = (methods: readonly HTTPMethod[], path: string, answering: Answering) =>
    table.on([...methods], path, () => undefined, answering);
  const callPorts = { ...ports, uploads: new Uploads() };
  for (const route of routes) add(methodsOf(route), route.path, (passage, asked) => answerRoute(route, passage, asked, callPorts));
  for (const path of new Set(routes.map((route) => route.path))) {
    const there = routes.filter((route) => route.path === path);
    const methods = new Set(there.flatMap(methodsOf));
    const others = METHODS.filter((method) => !methods.has(method));
    add(others, path, answerOtherMethod(there, ports));
  }
  return (passage) => {
    const found = table.find(passage.request.method as HTTPMethod, passage.url);
    if (found === null) return errorAnswer(MISSING, passage);
    const answering = found.store as Answering | null;
    if (answering === null) return errorAnswer(MALFORMED, passage); // it does not decode, or a part of the path is too long
    return answering(passage, { params: found.params, query: found.searchParams });
  };
}

const METHODS: readonly HTTPMethod[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/** HEAD wherever there is GET (RFC 9110 §9.1). */
function methodsOf({ method }: Route): HTTPMethod[] {
  return method === "GET" ? [method, "HEAD"] : [method];
}

/** @param there the routes of one path. */
function answerOtherMethod(there: readonly Route[], ports: RouterPorts): Answering {
  const methods = there.flatMap(methodsOf);
  const allow = { allow: methods.join(", ") };
  const problem = new Problem(405, `Use ${methods.join(" or ")} here.`);
  const forBrowsers = there.filter((route) => route.browser).flatMap(methodsOf);
  return async (passage) => {
    const { request } = passage;
    try {
      if (forBrowsers.length > 0) {
        const asking = { method: request.method ?? "", headers: request.headers };
        if (isPreflight(asking)) return await preflightAnswer(request.headers, forBrowsers, ports);
        passage.headers = await corsHeaders(request.headers, undefined, ports);
      }
      const refused = await there[0]?.refuseUnread?.(rawRequest(passage, "", ports), "method_not_allowed");
      const given = refused ?? errorAnswer(problem, passage);
      return { ...given, headers: { ...given.headers, ...allow } };
    } catch (thrown) {
      return failureAnswer(thrown, passage, ports);
    }
  };
}

type CallPorts = RouterPorts & { readonly uploads: Uploads };

async function answerRoute(route: Route, passage: Passage, parameters: Parameters, ports: CallPorts): Promise<Answer> {
  const { request } = passage;
  try {
    const isRead = !route.takesMultipart && hasBody(request);
    const body = isRead ? (await readBody(request, route.bodyBytesMax)).toString("latin1") : "";
    const started = performance.now();
    const answer = await answerCall(route, passage, { ...parameters, raw: rawRequest(passage, body, ports) }, ports);
    ports.metrics.observeRequest(route.operationId, answer.status, performance.now() - started);
    return answer;
  } catch (thrown) {
    const answer = await answerFailure(route, thrown, passage, ports);
    ports.metrics.observeRequest(route.operationId, answer.status, 0);
    return answer;
  }
}

/** What GET and HEAD bring has no meaning (RFC 9110 §9.3.1), and stays unread. */
function hasBody({ method, headers }: IncomingMessage): boolean {
  if (method === "GET" || method === "HEAD") return false;
  return headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0";
}

async function answerCall(route: Route, passage: Passage, asked: Parameters & { readonly raw: RawRequest }, ports: CallPorts) {
  const { raw } = asked;
  let principal: Principal | undefined;
  let endUpload: (() => void) | undefined;
  ports.overload.begin();
  try {
    principal = await ports.authenticate(route.auth, raw);
    if (route.takesMultipart) endUpload = ports.uploads.begin(principal);
    const body = route.takesMultipart ? await readForm(route, passage, raw, ports) : route.schemas.body ? parseBody(route, raw) : undefined;
    const input = validateInput(route, { body, query: asked.query, params: asked.params });
    return await route.handle({ ...input, principal, raw });
  } finally {
    endUpload?.();
    if (route.browser) passage.headers = await corsHeaders(passage.request.headers, principal, ports);
    ports.overload.end();
    if (raw.standing !== undefined) passage.headers = { ...passage.headers, ...standingHeaders(route, raw.standing) };
  }
}

/** Asks again who it is once all of it has come: the token may have ended by then. */
async function readForm(route: Route, { request }: Passage, raw: RawRequest, ports: RouterPorts): Promise<unknown> {
  const boundary = boundaryOf(raw.mediaType);
  const bytes = await ports.overload.aside(readBody(request, route.bodyBytesMax));
  await ports.authenticate(route.auth, raw);
  return parseMultipart(boundary, bytes);
}

/** Under `/v1` also in the form that its clients read (contract §3). */
function standingHeaders({ path }: Route, standing: NonNullable<RawRequest["standing"]>): Record<string, string> {
  return path.startsWith("/v1/") ? envelopeRateLimitHeaders(standing) : rateLimitHeaders(standing);
}

async function answerFailure(route: Route, error: unknown, passage: Passage, ports: RouterPorts): Promise<Answer> {
  try {
    // what fails in answerCall has them already; here is what did not come so far
    if (route.browser && !("vary" in passage.headers)) passage.headers = await corsHeaders(passage.request.headers, undefined, ports);
    if (route.refuseUnread && error instanceof BodyTooLarge) {
      return await route.refuseUnread(rawRequest(passage, "", ports), "body_too_large");
    }
  } catch (thrown) {
    return failureAnswer(thrown, passage, ports);
  }
  return failureAnswer(error, passage, ports);
}

function rawRequest({ traceId, request, url }: Passage, body: string, { clientAddress }: RouterPorts): RawRequest {
  const { rawHeaders, headers } = request;
  const authorization: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.length === 13 && rawHeaders[i]?.toLowerCase() === "authorization") authorization.push(rawHeaders[i + 1] ?? "");
  }
  return {
    traceId,
    method: request.method ?? "",
    // the connection may be gone already, and its address with it; Node joins several headers with commas
    address: clientAddress(request.socket.remoteAddress ?? "", headers["x-forwarded-for"] as string | undefined),
    authorization,
    mediaType: headers["content-type"],
    hasQuery: url.includes("?"),
    hasDpopProof: headers["dpop"] !== undefined,
    ifMatch: headers["if-match"],
    idempotencyKey: headers["idempotency-key"] as string | undefined, // Node joins several with a comma and a space
    lastEventId: headers["last-event-id"] as string | undefined,
    url,
    body,
  };
}
