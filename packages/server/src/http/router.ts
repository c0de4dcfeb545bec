import type { OutgoingHttpHeaders } from "node:http";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type HTTPMethods } from "fastify";
import { newTraceId } from "../ids.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Authenticate } from "./auth.ts";
import type { ClientAddress } from "./client-address.ts";
import { corsHeaders, type CorsPorts, isPreflight, preflightAnswer } from "./cors.ts";
import { eventSink } from "./event-sink.ts";
import { errorAnswer, failureAnswer, unreadBecauseOf } from "./failure-answer.ts";
import { guardedServer, unreadAnswer } from "./guarded-server.ts";
import { parseBody, validateInput } from "./input.ts";
import { boundaryOf, parseMultipart } from "./multipart.ts";
import { Problem } from "./problem.ts";
import { envelopeRateLimitHeaders, rateLimitHeaders } from "./rate-limit.ts";
import type { Answer, Principal, RawRequest, Route } from "./route.ts";
import { readBody, Uploads } from "./uploads.ts";

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

const METHODS: readonly HTTPMethods[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/** The only file that knows the web framework: routes in, a server out. */
export function httpServer(routes: readonly Route[], ports: RouterPorts): HttpServer {
  const app = Fastify({
    logger: false,
    genReqId: () => newTraceId(Date.now()),
    bodyLimit: Math.max(...routes.filter((route) => !route.takesMultipart).map((route) => route.bodyBytesMax)),
    serverFactory: (handle) => guardedServer(handle, ports),
    forceCloseConnections: "idle",
    clientErrorHandler: (error, socket) => void socket.end(unreadAnswer(error.code)),
    ...rewriting(ports.basePath),
    frameworkErrors: (error, request, reply) =>
      void sendAnswer(reply as FastifyReply, failureAnswer(error, request as FastifyRequest, ports)),
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  addRoutes(app, routes, ports);
  app.setErrorHandler((error, request, reply) => sendAnswer(reply, failureAnswer(error, request, ports)));
  app.setNotFoundHandler((request, reply) => {
    const missing = new Problem(404, "There is no such endpoint; /openapi.json lists what there is.");
    sendAnswer(reply, errorAnswer(missing, request));
  });
  return {
    async listen(host, port) {
      await app.listen({ host, port });
      const address = app.server.address();
      return typeof address === "object" && address !== null ? address.port : port;
    },
    async close(graceMs) {
      const cutOff = setTimeout(() => app.server.closeAllConnections(), graceMs);
      await app.close();
      clearTimeout(cutOff);
    },
  };
}

/** An option only where it is needed: it costs every request 3 % of its CPU. */
function rewriting(basePath: string): object {
  if (basePath === "") return {};
  return { rewriteUrl: ({ url = "/" }: { readonly url?: string }) => (url.startsWith(`${basePath}/`) ? url.slice(basePath.length) : url) };
}

function addRoutes(app: FastifyInstance, routes: readonly Route[], ports: RouterPorts): void {
  const methodsByPath = new Map<string, HTTPMethods[]>();
  const uploads = new Uploads();
  for (const route of routes) {
    methodsByPath.set(route.path, [...(methodsByPath.get(route.path) ?? []), ...methodsOf(route)]);
    const add = (scope: FastifyInstance) =>
      void scope.route({
        method: route.method,
        url: route.path,
        bodyLimit: route.bodyBytesMax,
        handler: (request, reply) => answerCall(route, request, reply, { ...ports, uploads }),
        errorHandler: (error, request, reply) => void answerFailure(route, error, { request, reply }, ports),
      });
    if (route.takesMultipart) app.register(leavingBodies(add));
    else add(app);
  }
  for (const [path, methods] of methodsByPath) {
    const route = routes.find((candidate) => candidate.path === path);
    const allow = { allow: methods.join(", ") };
    const problem = new Problem(405, `Use ${methods.join(" or ")} here.`, { headers: allow });
    const forBrowsers = routes.filter((candidate) => candidate.path === path && candidate.browser).flatMap(methodsOf);
    app.route({
      method: METHODS.filter((method) => !methods.includes(method)),
      url: path,
      async handler(request, reply) {
        if (forBrowsers.length > 0) {
          if (isPreflight(request)) return sendAnswer(reply, await preflightAnswer(request.headers, forBrowsers, ports));
          reply.headers(await corsHeaders(request.headers, undefined, ports));
        }
        const refused = await route?.refuseUnread?.(rawRequest(request, ports), "method_not_allowed");
        const answer = refused ?? errorAnswer(problem, request);
        return sendAnswer(reply, { ...answer, headers: { ...answer.headers, ...allow } });
      },
    });
  }
}

/** The body stays unread: the framework would read it before anybody has looked who sends it. */
function leavingBodies(add: (scope: FastifyInstance) => void) {
  return (scope: FastifyInstance, _options: unknown, done: () => void) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_request, _body, parsed) => parsed(null));
    add(scope);
    done();
  };
}

/** The framework answers HEAD wherever it answers GET. */
function methodsOf({ method }: Route): HTTPMethods[] {
  return method === "GET" ? [method, "HEAD"] : [method];
}

type CallPorts = RouterPorts & { readonly uploads: Uploads };

async function answerCall(route: Route, request: FastifyRequest, reply: FastifyReply, ports: CallPorts): Promise<FastifyReply> {
  const started = performance.now();
  const raw = rawRequest(request, ports);
  let answer: Answer;
  let principal: Principal | undefined;
  let endUpload: (() => void) | undefined;
  ports.overload.begin();
  try {
    principal = await ports.authenticate(route.auth, raw);
    if (route.takesMultipart) endUpload = ports.uploads.begin(principal);
    const body = route.takesMultipart ? await readForm(route, request, raw, ports) : route.schemas.body ? parseBody(route, raw) : undefined;
    const input = validateInput(route, { body, query: request.query, params: request.params });
    answer = await route.handle({ ...input, principal, raw });
  } finally {
    endUpload?.();
    if (route.browser) reply.headers(await corsHeaders(request.headers, principal, ports));
    ports.overload.end();
    if (raw.standing !== undefined) reply.headers(standingHeaders(route, raw.standing)); // stay where the answer will be that to what was thrown
  }
  ports.metrics.observeRequest(route.operationId, answer.status, performance.now() - started);
  return sendAnswer(reply, answer);
}

/** Asks again who it is once all of it has come: the token may have ended by then. */
async function readForm(route: Route, request: FastifyRequest, raw: RawRequest, ports: RouterPorts): Promise<unknown> {
  const boundary = boundaryOf(raw.mediaType);
  const bytes = await ports.overload.aside(readBody(request.raw, route.bodyBytesMax));
  await ports.authenticate(route.auth, raw);
  return parseMultipart(boundary, bytes);
}

/** Under `/v1` also in the form that its clients read (contract §3). */
function standingHeaders({ path }: Route, standing: NonNullable<RawRequest["standing"]>): Record<string, string> {
  return path.startsWith("/v1/") ? envelopeRateLimitHeaders(standing) : rateLimitHeaders(standing);
}

async function answerFailure(
  route: Route,
  error: unknown,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  ports: RouterPorts,
): Promise<FastifyReply> {
  const unread = unreadBecauseOf(error);
  // what fails in answerCall has them already; here is what did not come so far
  if (route.browser && !reply.hasHeader("vary")) reply.headers(await corsHeaders(request.headers, undefined, ports));
  let answer: Answer;
  try {
    answer =
      route.refuseUnread && unread ? await route.refuseUnread(rawRequest(request, ports), unread) : failureAnswer(error, request, ports);
  } catch (thrown) {
    answer = failureAnswer(thrown, request, ports);
  }
  ports.metrics.observeRequest(route.operationId, answer.status, 0);
  return sendAnswer(reply, answer);
}

function rawRequest(request: FastifyRequest, { clientAddress }: RouterPorts): RawRequest {
  const { rawHeaders } = request.raw;
  const authorization: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.length === 13 && rawHeaders[i]?.toLowerCase() === "authorization") authorization.push(rawHeaders[i + 1] ?? "");
  }
  return {
    traceId: request.id,
    method: request.method,
    // the connection may be gone already, and its address with it; Node joins several headers with commas
    address: clientAddress(request.ip ?? "", request.headers["x-forwarded-for"] as string | undefined),
    authorization,
    mediaType: request.headers["content-type"],
    hasQuery: request.url.includes("?"),
    hasDpopProof: request.headers["dpop"] !== undefined,
    ifMatch: request.headers["if-match"],
    idempotencyKey: request.headers["idempotency-key"] as string | undefined, // Node joins several with a comma and a space
    lastEventId: request.headers["last-event-id"] as string | undefined,
    url: request.url,
    body: Buffer.isBuffer(request.body) ? request.body.toString("latin1") : "",
  };
}

/**
 * Past the framework, which has nothing left to add: Node sends head and body in one piece, where a body of bytes would be two, and JSON gets no
 * charset, which it has none of (RFC 8259 §11).
 */
function sendAnswer(reply: FastifyReply, answer: Answer): FastifyReply {
  const { status, headers, body } = answer;
  if (answer.stream !== undefined) return openStream(reply, answer, answer.stream);
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const hasBody = status !== 204; // which has no length either (RFC 9110 §8.6)
  reply.hijack();
  reply.raw.writeHead(status, {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store", // most answers hold a secret or somebody's data: a cache keeps what its route says it may, and nothing else
    ...(hasBody && { "content-type": typeof body === "string" ? "text/plain; charset=utf-8" : "application/json" }),
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    ...headers,
    ...(hasBody && { "content-length": Buffer.byteLength(text) }),
  });
  reply.raw.end(text);
  return reply;
}

/** Stays open: nothing may hold it back on its way, keep it, or change it. */
function openStream(reply: FastifyReply, { status, headers }: Answer, stream: NonNullable<Answer["stream"]>): FastifyReply {
  reply.hijack();
  reply.raw.writeHead(status, {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no", // nginx
    connection: "close", // with the stream's end: a server that stops must not wait for a connection that nobody uses
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    ...headers,
  });
  reply.request.raw.socket.setTimeout(0); // whoever streams knows itself who takes nothing
  if (reply.request.method === "HEAD") reply.raw.end();
  else stream(eventSink(reply.raw, reply.request.raw.socket));
  return reply;
}
