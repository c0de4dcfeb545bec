import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type App, createApp, routerPorts } from "../app.ts";
import { openDeps } from "../deps.ts";
import { openLog } from "../telemetry/log.ts";
import {
  createTestPartner,
  exchangeForm,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";
import { Overload } from "./overload.ts";
import { defineRoute } from "./route.ts";
import { type HttpServer, httpServer } from "./router.ts";

/** As many as may wait in any case. */
const ALWAYS_TAKEN = 64;

let server: TestServer;
let partner: TestPartner;
/** A second node on the same store, which turns requests away. */
let app: App;
let node: { readonly url: string; readonly port: number };
/** The same with a route that keeps the loop. */
let slowServer: HttpServer;
let slowNode: { readonly port: number };
/** The same with a clock that stands still: it never learns that it could answer more than ALWAYS_TAKEN in time. */
let crowdedServer: HttpServer;
let crowdedNode: { readonly port: number };
const logLines: string[] = [];

const SLOW_MS = 15;
/** Keeps the loop for longer than work may go on in one go. */
const slowRoute = defineRoute({
  operationId: "standStill",
  method: "POST",
  path: "/slow",
  auth: { kind: "public" },
  docs: { summary: "Stand Still", tag: "operation", answers: { 200: { description: "Later." } } },
  handle() {
    standStill(SLOW_MS);
    return { status: 200, body: {} };
  },
});

beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  const log = openLog("info", { write: (line) => void logLines.push(line) });
  const deps = await openDeps(server.deps.config, { log, overload: new Overload() });
  app = createApp(deps);
  slowServer = httpServer([...app.routes, slowRoute], routerPorts(deps));
  crowdedServer = httpServer([...app.routes, slowRoute], { ...routerPorts(deps), overload: new Overload({ nowMs: () => 0 }) });
  const port = await app.start();
  node = { url: `http://127.0.0.1:${port}`, port };
  slowNode = { port: await slowServer.listen("127.0.0.1", 0) };
  crowdedNode = { port: await crowdedServer.listen("127.0.0.1", 0) };
});

afterAll(async () => {
  await crowdedServer.close(0);
  await slowServer.close(0);
  await app.stop();
  await server.stop();
});

interface RawReply {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly text: string;
}

function readReply(received: string): RawReply {
  const [head = "", text = ""] = received.split("\r\n\r\n", 2);
  const [first = "", ...lines] = head.split("\r\n");
  const headers = lines.map((line): [string, string] => [
    line.slice(0, line.indexOf(":")).toLowerCase(),
    line.slice(line.indexOf(":") + 2),
  ]);
  return { status: Number(first.split(" ")[1]), headers: Object.fromEntries(headers), text };
}

/** One whole request and its answer; the connection stays. */
function ask(socket: Socket, text: string): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    let received = "";
    const onData = (chunk: Buffer) => {
      received += chunk.toString("latin1");
      const reply = readReply(received);
      if (!received.includes("\r\n\r\n") || reply.text.length < Number(reply.headers["content-length"])) return;
      socket.off("data", onData);
      resolve(reply);
    };
    socket.on("data", onData);
    socket.once("error", reject);
    socket.write(text);
  });
}

function request(method: string, path: string, body = ""): string {
  const type = "Content-Type: application/x-www-form-urlencoded";
  return `${method} ${path} HTTP/1.1\r\nHost: test\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

interface Together {
  readonly at?: { readonly port: number };
  readonly standStillMs?: number;
  /** What else to do with a connection after its answer. */
  readonly onAnswer?: (socket: Socket, index: number) => unknown;
}

/** Connections that the server has accepted. */
async function openAt(port: number, count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect(port, "127.0.0.1").setMaxListeners(0));
  await Promise.all(sockets.map((socket) => ask(socket, request("GET", "/livez"))));
  return sockets;
}

/** Sent to a loop that then stands still: it reads all of them in one turn. Over connections that the server has accepted already. */
async function askTogether(
  requests: readonly string[],
  { at = crowdedNode, standStillMs = 0, onAnswer }: Together = {},
): Promise<RawReply[]> {
  const sockets = await openAt(at.port, requests.length);
  const replies = sockets.map(async (socket, index) => {
    const reply = await ask(socket, requests[index] ?? "");
    await onAnswer?.(socket, index);
    return reply;
  });
  standStill(standStillMs);
  const all = await Promise.all(replies);
  for (const socket of sockets) socket.destroy();
  return all;
}

/** Answers to requests that come together with others, who take up all of the line. */
async function askBehindCrowd(requests: readonly string[], onAnswer?: (socket: Socket) => unknown): Promise<RawReply[]> {
  const crowd = Array.from({ length: ALWAYS_TAKEN }, () => request("GET", "/.well-known/jwks.json"));
  const replies = await askTogether([...crowd, ...requests], {
    onAnswer: (socket, index) => (index < crowd.length ? undefined : onAnswer?.(socket)),
  });
  expect(replies.slice(0, ALWAYS_TAKEN).map(({ status }) => status)).toEqual(crowd.map(() => 200)); // what is taken is answered
  return replies.slice(ALWAYS_TAKEN);
}

function standStill(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

const exchangeRequest = () => request("POST", "/oauth2/token", exchangeForm(partner, subjectToken(partner)).toString());
const statuses = (replies: readonly RawReply[]) => replies.map(({ status }) => status);
const rows = async (table: string) => (await server.database.query(`SELECT * FROM ${table}`)).length;

describe("503, more than can be answered in time", () => {
  test("Retry-After, spread over some seconds, and never to be stored", async () => {
    const replies = await askBehindCrowd(Array.from({ length: 6 }, exchangeRequest));
    expect(statuses(replies)).toEqual([503, 503, 503, 503, 503, 503]);
    expect(replies.map(({ headers }) => headers["retry-after"]).toSorted()).toEqual(["1", "1", "2", "2", "3", "3"]);
    for (const { headers } of replies) expect(headers).toMatchObject({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
  });

  test.each([
    ["/oauth2/introspect?x=1", "application/json", { error: "temporarily_unavailable" }],
    ["/v1/auth/token", "application/json", { error: { code: "503001", code_reason: "temporarily_unavailable" } }],
    ["/v2/account-management/user?user_id=x", "application/problem+json", { status: 503, success: false }],
    ["/docs/errors", "application/problem+json", { status: 503, success: false }],
  ])("%s in the form that errors have there", async (path, mediaType, body) => {
    const [reply] = await askBehindCrowd([request("POST", path, "a=b")]);
    expect([reply?.status, reply?.headers["content-type"]]).toEqual([503, mediaType]);
    expect(JSON.parse(reply?.text ?? "")).toMatchObject(body);
  });

  test("/oauth2/token with all members of an OAuth error", async () => {
    const [reply] = await askBehindCrowd([exchangeRequest()]);
    expect(JSON.parse(reply?.text ?? "")).toEqual({
      error: "temporarily_unavailable",
      error_description: expect.any(String),
      error_uri: `${server.deps.config.publicUrl}/docs/errors/temporarily_unavailable`,
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
  });

  test("nothing is spent or recorded for it: the same request passes afterwards", async () => {
    const before = [await rows("exchanges"), await rows("spent_tokens")];
    const exchange = exchangeRequest();
    expect(statuses(await askBehindCrowd([exchange]))).toEqual([503]);
    expect([await rows("exchanges"), await rows("spent_tokens")]).toEqual(before);
    expect(statuses(await askTogether([exchange]))).toEqual([200]);
  });

  test("the answer does not wait for the body, and the connection goes on after both", async () => {
    const head = request("POST", "/oauth2/token", "a=b").slice(0, -"a=b".length);
    const next: RawReply[] = [];
    const replies = await askBehindCrowd([head], async (socket) => next.push(await ask(socket, `a=b${request("GET", "/livez")}`)));
    expect([statuses(replies), statuses(next)]).toEqual([[503], [200]]);
  });

  test("it is counted, and a line says so at most once in ten seconds", async () => {
    const { text } = await send(node, "GET", "/metrics");
    expect(Number(/^cambist_http_requests_shed_total (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(0);
    const times = logLines
      .filter((line) => line.includes("overloaded"))
      .map((line) => Date.parse((JSON.parse(line) as { time: string }).time));
    expect(times.length).toBeGreaterThan(0);
    for (const [index, time] of times.slice(1).entries()) expect(time - (times[index] ?? 0)).toBeGreaterThan(9_900);
  });
});

describe("never turned away", () => {
  test("liveness, readiness and metrics", async () => {
    const paths = ["/livez", "/readyz", "/metrics", "/readyz?verbose"];
    expect(statuses(await askBehindCrowd(paths.map((path) => request("GET", path))))).toEqual([200, 200, 200, 200]);
  });

  test("64 requests at once, however slow the loop", async () => {
    const slow = [request("POST", "/slow"), request("POST", "/slow")];
    const requests = [...slow, ...Array.from({ length: ALWAYS_TAKEN - slow.length }, () => request("GET", "/.well-known/jwks.json"))];
    expect(new Set(statuses(await askTogether(requests, { standStillMs: 100 })))).toEqual(new Set([200]));
  });
});

describe("while there is much to do", () => {
  test("the excess hears before anything is done for those who came before it", async () => {
    const order: number[] = [];
    const requests = Array.from({ length: ALWAYS_TAKEN + 2 }, (_, n) => request("POST", n === 0 ? "/slow" : "/oauth2/token", "a=b"));
    const replies = await askTogether(requests, { onAnswer: (_socket, index) => order.push(index) });
    expect(order.slice(0, 2)).toEqual([ALWAYS_TAKEN, ALWAYS_TAKEN + 1]);
    expect(statuses(replies).slice(-2)).toEqual([503, 503]);
    expect(new Set(statuses(replies).slice(1, -2))).toEqual(new Set([401]));
  });

  test("whoever asks for liveness need not wait for the end of it", async () => {
    const order: string[] = [];
    const [liveness] = (await openAt(slowNode.port, 1)) as [Socket];
    const requests = Array.from({ length: 20 }, () => request("POST", "/slow"));
    await askTogether(requests, {
      at: slowNode,
      async onAnswer() {
        if (order.push("slow") === 1) order.push(`livez ${(await ask(liveness, request("GET", "/livez"))).status}`);
      },
    });
    liveness.destroy();
    expect(order.indexOf("livez 200")).toBeGreaterThan(0);
    expect(order.indexOf("livez 200")).toBeLessThan(10);
  });
});

describe("a stall of two seconds (P12.5)", () => {
  test("readiness fails, the excess is turned away, those who are taken are served, and all is well again", async () => {
    expect((await send(node, "GET", "/readyz")).status).toBe(200);
    const requests = Array.from({ length: 500 }, () => request("POST", "/oauth2/token", "grant_type=none"));
    const [readiness, ...replies] = await askTogether([request("GET", "/readyz"), ...requests], { at: node, standStillMs: 2_000 });
    expect([readiness?.status, readiness?.text]).toEqual([503, JSON.stringify({ status: "the server stood still" })]);
    expect(new Set(statuses(replies))).toEqual(new Set([401, 503]));
    expect(statuses(await askTogether([exchangeRequest()], { at: node }))).toEqual([200]);
    await vi.waitFor(async () => expect((await send(node, "GET", "/readyz")).status).toBe(200), { timeout: 20_000, interval: 50 });
  }, 40_000);
});
