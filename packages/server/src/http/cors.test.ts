import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { StoreUnavailable } from "@cambist/protocol";
import { z } from "zod";
import { routerPorts } from "../app.ts";
import { DIALECTS } from "../testing/database.ts";
import {
  admin,
  createTestPartner,
  createTestUser,
  exchange,
  type Reply,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";
import { defineRoute } from "./route.ts";
import { httpServer } from "./router.ts";

const docs = { summary: "A page", tag: "operation", answers: { 200: { description: "It." } } } as const;
const forUsers = { auth: { kind: "user", scope: "thread" }, docs } as const;
const readPage = defineRoute({
  operationId: "readPage",
  method: "GET",
  path: "/pages",
  browser: true,
  ...forUsers,
  query: z.strictObject({ limit: z.coerce.number().optional() }),
  handle: () => ({ status: 200, body: { page: 1 } }),
});
const writePage = defineRoute({
  operationId: "writePage",
  method: "POST",
  path: "/pages",
  browser: true,
  bodyBytesMax: 100,
  ...forUsers,
  body: z.strictObject({ text: z.string() }),
  handle: () => ({ status: 200, body: { success: true } }),
});
/** At the path of the others, and not for browsers. */
const erasePage = defineRoute({
  operationId: "erasePage",
  method: "DELETE",
  path: "/pages",
  ...forUsers,
  handle: () => ({ status: 200, body: { success: true } }),
});
const closedPage = defineRoute({
  operationId: "closedPage",
  method: "GET",
  path: "/closed",
  ...forUsers,
  handle: () => ({ status: 200, body: {} }),
});

const ORIGIN = "https://app.acme.example";
const LOCAL = "http://localhost:3000";
const OTHERS = "https://app.other.example";
const STOPPED = "https://app.stopped.example";
const VARY_PREFLIGHT = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
const EXPOSED = "Last-Event-ID, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate";

const corsOf = ({ headers }: Reply) => Object.fromEntries([...headers].filter(([name]) => name.startsWith("access-control-")));
const allowing = (origin: string) => ({ "access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED });

type Node = { readonly url: string; close(graceMs: number): Promise<void> };

async function openNode(
  { deps }: TestServer,
  isOriginAllowed = (origin: string) => deps.store.partners.isOriginAllowed(origin),
): Promise<Node> {
  const server = httpServer([readPage, writePage, erasePage, closedPage], { ...routerPorts(deps), isOriginAllowed });
  const port = await server.listen("127.0.0.1", 0);
  return { url: `http://127.0.0.1:${port}`, close: (graceMs) => server.close(graceMs) };
}

function preflight(node: Node, origin: string, path = "/pages"): Promise<Reply> {
  const headers = { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" };
  return send(node, "OPTIONS", path, { headers });
}

describe.each(DIALECTS)("calls from a browser on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let nodes: readonly [Node, Node, away: Node];
  let node: Node;
  let partner: TestPartner;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    const away = () => Promise.reject(new StoreUnavailable("away", 1));
    nodes = [await openNode(server), await openNode(second), await openNode(server, away)];
    [node] = nodes;
    partner = await createTestPartner(server, { allowed_origins: [ORIGIN, LOCAL] });
    const user = await createTestUser(partner);
    token = String((await exchange(partner, subjectToken(partner, { sub: user.userId }))).json["access_token"]);
    await createTestPartner(server, { allowed_origins: [OTHERS, LOCAL] });
    const stopped = await createTestPartner(server, { allowed_origins: [STOPPED] });
    await admin(server, "PATCH", `/partners/${stopped.clientId}`, { status: "disabled" });
  });
  afterAll(async () => {
    for (const each of nodes) await each.close(0);
    await second.stop();
    await server.stop();
  });

  function call(
    method: string,
    origin: string | undefined,
    more: { readonly as?: string; readonly body?: string; readonly at?: Node; readonly path?: string } = {},
  ) {
    const headers: Record<string, string> = origin === undefined ? {} : { origin };
    if (more.as !== "") headers["authorization"] = `Bearer ${more.as ?? token}`;
    if (more.body !== undefined) headers["content-type"] = "application/json";
    return send(more.at ?? node, method, more.path ?? "/pages", { headers, ...(more.body === undefined ? {} : { body: more.body }) });
  }

  describe("a preflight", () => {
    test.each([ORIGIN, LOCAL, OTHERS])("204: %s, which an active partner lists, on every node", async (origin) => {
      for (const each of [nodes[0], nodes[1]]) {
        const reply = await preflight(each, origin);
        expect(reply).toMatchObject({ status: 204, text: "" });
        expect(corsOf(reply)).toEqual({
          "access-control-allow-origin": origin,
          "access-control-allow-methods": "GET, HEAD, POST",
          "access-control-allow-headers": "Authorization, Content-Type, Last-Event-ID, Idempotency-Key",
          "access-control-max-age": "600",
        });
        expect(reply.headers.get("vary")).toBe(VARY_PREFLIGHT);
        for (const name of ["content-length", "content-type", "transfer-encoding"]) expect(reply.headers.has(name), name).toBe(false);
      }
    });

    test.each([
      ["what nobody lists", "https://attacker.example"],
      ["of a disabled partner", STOPPED],
      ["null", "null"],
      ["another port", `${ORIGIN}:8443`],
      ["the port of https, which a browser leaves out", `${ORIGIN}:443`],
      ["another scheme", "http://app.acme.example"],
      ["another case", "https://App.acme.example"],
      ["with a slash", `${ORIGIN}/`],
      ["a host under it", "https://a.app.acme.example"],
      ["a host that begins like it", `${ORIGIN}.attacker.example`],
      ["another port of one's own machine", "http://localhost:3001"],
      ["two of them", `${ORIGIN}, ${OTHERS}`],
      ["a pattern", "*"],
      ["empty", ""],
      ["bytes", "https://\u00ff\u00fe"],
      ["long", `https://${"a".repeat(8_000)}.example`],
    ])("204 without a word, by which the browser refuses: %s", async (_case, origin) => {
      const reply = await preflight(node, origin);
      expect(reply).toMatchObject({ status: 204, text: "" });
      expect(corsOf(reply)).toEqual({});
      expect(reply.headers.get("vary")).toBe(VARY_PREFLIGHT);
    });

    test("405: without an origin, or without a method, it is none", async () => {
      for (const headers of [{}, { "access-control-request-method": "POST" }, { origin: "https://attacker.example" }] as Record<
        string,
        string
      >[]) {
        const reply = await send(node, "OPTIONS", "/pages", { headers });
        expect(reply.status).toBe(405);
        expect(reply.headers.get("allow")).toBe("GET, HEAD, POST, DELETE");
        expect(corsOf(reply)).toEqual({});
      }
    });

    test("405, as ever: of a route that is not for browsers", async () => {
      const reply = await preflight(node, ORIGIN, "/closed");
      expect(reply).toMatchObject({ status: 405 });
      expect(corsOf(reply)).toEqual({});
      expect(reply.headers.has("vary")).toBe(false);
    });

    test("refused on every node as soon as the origin is taken off the list, or the partner disabled", async () => {
      const own = "https://moving.example";
      const { clientId } = await createTestPartner(server, { allowed_origins: [own] });
      const asked = async () =>
        Promise.all([nodes[0], nodes[1]].map(async (each) => Object.keys(corsOf(await preflight(each, own))).length > 0));
      expect(await asked()).toEqual([true, true]);
      for (const [change, expected] of [
        [{ allowed_origins: ["https://moved.example"] }, false],
        [{ allowed_origins: [own, own] }, true],
        [{ name: "Renamed" }, true],
        [{ status: "disabled" }, false],
        [{ status: "active" }, true],
        [{ allowed_origins: [] }, false],
      ] as const) {
        expect((await admin(server, "PATCH", `/partners/${clientId}`, change)).status).toBe(200);
        expect(await asked(), JSON.stringify(change)).toEqual([expected, expected]);
      }
    });
  });

  describe("an answer", () => {
    test.each(["GET", "HEAD"])("200: %s is readable by the origins of the caller's partner only", async (method) => {
      for (const origin of [ORIGIN, LOCAL]) {
        const reply = await call(method, origin);
        expect(reply).toMatchObject({ status: 200, text: method === "GET" ? '{"page":1}' : "" });
        expect(corsOf(reply)).toEqual(allowing(origin));
        expect(reply.headers.get("vary")).toBe("Origin");
      }
      for (const origin of [OTHERS, STOPPED, "https://attacker.example", "null", `${ORIGIN}:443`, `${ORIGIN}, ${ORIGIN}`, undefined]) {
        const reply = await call(method, origin);
        expect(reply.status, origin).toBe(200);
        expect(corsOf(reply), origin).toEqual({});
        expect(reply.headers.get("vary"), origin).toBe("Origin");
      }
    });

    test("200: and to a route that is not for browsers, to none", async () => {
      for (const [method, path] of [
        ["GET", "/closed"],
        ["DELETE", "/pages"],
      ] as const) {
        const reply = await call(method, ORIGIN, { path });
        expect(reply.status).toBe(200);
        expect(corsOf(reply)).toEqual({});
        expect(reply.headers.has("vary")).toBe(false);
      }
    });

    test.each([
      [400, "POST", "{"],
      [422, "POST", '{"text":1}'],
      [422, "GET", undefined],
    ] as const)("%i: an error of a known caller is for its partner's origins: %s", async (status, method, body) => {
      const path = method === "GET" ? "/pages?limit=x" : "/pages";
      const more = body === undefined ? { path } : { path, body };
      expect(corsOf(await call(method, ORIGIN, more))).toEqual(allowing(ORIGIN));
      const reply = await call(method, OTHERS, more);
      expect(reply.status).toBe(status);
      expect(corsOf(reply)).toEqual({});
      expect(reply.headers.get("vary")).toBe("Origin");
    });

    test("401, 403, 405, 413: an error of nobody known is for every origin that is listed, and for no other", async () => {
      const service = await serviceAccountToken(partner);
      const calls = [
        [401, (origin?: string) => call("GET", origin, { as: "" })],
        [401, (origin?: string) => call("GET", origin, { as: "garbage" })],
        [403, (origin?: string) => call("GET", origin, { as: service })],
        [405, (origin?: string) => call("PUT", origin)],
        [413, (origin?: string) => call("POST", origin, { body: JSON.stringify({ text: "x".repeat(200) }) })],
      ] as const;
      for (const [status, ask] of calls) {
        for (const origin of [ORIGIN, OTHERS, STOPPED, "https://attacker.example", "null", undefined]) {
          const reply = await ask(origin);
          expect(reply.status).toBe(status);
          expect(corsOf(reply), `${status} ${origin}`).toEqual(origin === ORIGIN || origin === OTHERS ? allowing(origin) : {});
          expect(reply.headers.get("vary"), `${status} ${origin}`).toBe("Origin");
        }
      }
    });

    test("401: also when its partner was disabled meanwhile, whose origin is nobody's then", async () => {
      const own = "https://ends.example";
      const ending = await createTestPartner(server, { allowed_origins: [own] });
      const user = await createTestUser(ending);
      const as = String((await exchange(ending, subjectToken(ending, { sub: user.userId }))).json["access_token"]);
      expect(corsOf(await call("GET", own, { as }))).toEqual(allowing(own));
      await admin(server, "PATCH", `/partners/${ending.clientId}`, { allowed_origins: [] });
      const withdrawn = await call("GET", own, { as });
      expect([withdrawn.status, corsOf(withdrawn)]).toEqual([200, {}]);
      await admin(server, "PATCH", `/partners/${ending.clientId}`, { allowed_origins: [own], status: "disabled" });
      const dead = await call("GET", own, { as });
      expect([dead.status, corsOf(dead)]).toEqual([401, {}]);
    });
  });

  describe("while the store does not say who lists an origin", () => {
    let logged = 0;
    beforeEach(() => {
      logged = server.logLines.length;
    });
    const expectLogged = () => expect(server.logLines.slice(logged).join("")).toContain("cannot be looked up");

    test("a preflight is 204 and allows nothing", async () => {
      const reply = await preflight(nodes[2], ORIGIN);
      expect([reply.status, corsOf(reply)]).toEqual([204, {}]);
      expectLogged();
    });

    test.each([
      [401, "GET"],
      [405, "PUT"],
    ] as const)("%i stays what it is, and is readable by no page", async (status, method) => {
      const reply = await call(method, ORIGIN, { as: "", at: nodes[2] });
      expect([reply.status, corsOf(reply)]).toEqual([status, {}]);
      expect(reply.json).toMatchObject({ success: false, status });
      expectLogged();
    });

    test("200 asks nothing of it: the caller's partner is known", async () => {
      expect(corsOf(await call("GET", ORIGIN, { at: nodes[2] }))).toEqual(allowing(ORIGIN));
    });
  });
});
