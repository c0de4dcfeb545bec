import { once } from "node:events";
import { Agent, get, type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { routerPorts } from "../app.ts";
import { type Reply, send, startTestServer, type TestServer } from "../testing/server.ts";
import { defineRoute } from "./route.ts";
import { type HttpServer, httpServer } from "./router.ts";

const docs = { summary: "Test", tag: "operation", answers: { 200: { description: "Done." } } } as const;
const common = { auth: { kind: "public" }, docs } as const;
let goOn: (() => void) | undefined;

const routes = [
  defineRoute({
    ...common,
    operationId: "echo",
    method: "GET",
    path: "/echo/:word",
    params: z.strictObject({ word: z.string() }),
    query: z.looseObject({}),
    handle: ({ params, query }) => ({ status: 200, body: { ...params, query } }),
  }),
  defineRoute({ ...common, operationId: "count", method: "POST", path: "/count", bodyBytesMax: 10, handle: ({ raw }) => count(raw.body) }),
  defineRoute({
    ...common,
    operationId: "wait",
    method: "GET",
    path: "/wait",
    handle: () => new Promise((resolve) => (goOn = () => resolve({ status: 200, body: {} }))),
  }),
  defineRoute({
    ...common,
    operationId: "break",
    method: "GET",
    path: "/break",
    handle: () => ({ status: 200, body: {}, headers: { x: "a\nb" } }),
  }),
  defineRoute({
    ...common,
    operationId: "open",
    method: "GET",
    path: "/open",
    handle: () => ({ status: 200, body: "", stream: (sink) => void sink.write("begun") }),
  }),
];

function count(body: string) {
  return { status: 200, body: { bytes: body.length } };
}

/** Asks for the end of the connection. */
const LAST = "GET /echo/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const statusesOf = (received: string) => [...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));

describe("the router", () => {
  let server: TestServer;
  let node: HttpServer & { readonly url: string };
  const logLines: string[] = [];
  async function open(basePath = ""): Promise<typeof node> {
    const ports = routerPorts(server.deps);
    const log = { ...ports.log, error: (message: string) => void logLines.push(message) };
    const http = httpServer(routes, { ...ports, basePath, log });
    return { ...http, url: `http://127.0.0.1:${await http.listen("127.0.0.1", 0)}` };
  }
  /** Sends one part after the other. Gives all that comes until the server ends the connection. */
  async function talk(parts: readonly string[], { halfCloses = false } = {}): Promise<string> {
    const socket = connect({ port: Number(new URL(node.url).port), host: "127.0.0.1", allowHalfOpen: true });
    let received = "";
    socket.on("data", (chunk) => (received += chunk.toString("latin1")));
    const ended = once(socket, "end");
    for (const part of parts) await new Promise((written) => socket.write(part, written));
    if (halfCloses) socket.end();
    await ended;
    socket.destroy();
    return received;
  }
  const echo = (path: string): Promise<Reply> => send(node, "GET", path);
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    node = await open();
  });
  afterAll(async () => {
    await node.close(0);
    await server.stop();
  });

  test("a part of the path and the query are decoded; a name that comes twice is a list", async () => {
    expect((await echo("/echo/a%20b%2Fc?x=1&x=2&y=%C3%BC+z")).json).toEqual({ word: "a b/c", query: { x: ["1", "2"], y: "ü z" } });
  });

  test.each([
    ["400: a path that does not decode", "/echo/%ff", 400],
    ["400: a part of a path of more than 100 characters", `/echo/${"x".repeat(101)}`, 400],
    ["404: another case, or a slash more", "/Echo/a", 404],
    ["404: a slash more", "/echo/a/", 404],
    ["404: a path of which ours is a part", "/echo", 404],
  ])("%s", async (_name, path, status) => {
    expect(await echo(path)).toMatchObject({ status, json: { status, success: false } });
  });

  test("405 names the methods that there are; HEAD is answered like GET, without a body; another method of HTTP is 404", async () => {
    const refused = await send(node, "DELETE", "/echo/a");
    expect([refused.status, refused.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    const head = await send(node, "HEAD", "/echo/a");
    expect([head.status, head.text, head.headers.get("content-length")]).toEqual([200, "", "23"]);
    expect((await send(node, "PROPFIND", "/echo/a")).status).toBe(404);
  });

  test("413: a body that is too long, told before or found out; one that is not is read whole", async () => {
    const post = async (parts: readonly string[]): Promise<number | undefined> => {
      const asked = request(`${node.url}/count`, { method: "POST" });
      for (const part of parts) asked.write(part);
      asked.end();
      const [reply] = (await once(asked, "response")) as [IncomingMessage];
      reply.resume();
      return reply.statusCode;
    };
    expect(await post(["12345", "67890"])).toBe(200);
    expect(await post(["12345", "678901"])).toBe(413);
    expect(await post([])).toBe(200);
    expect((await send(node, "POST", "/count", { body: "x".repeat(11) })).json).toMatchObject({ detail: "The body is too large." });
  });

  test("after a body that nobody reads the connection goes on where it is short, and ends with the answer where it may be long", async () => {
    for (const [path, status] of [
      ["/count", 413],
      ["/nothing", 404],
      ["/echo/a", 405],
    ] as const) {
      const short = await talk([`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n`, "x".repeat(60_000), LAST]);
      expect(statusesOf(short)).toEqual([status, 200]);
      for (const length of ["Content-Length: 70000", "Transfer-Encoding: chunked"]) {
        const long = await talk([
          `POST ${path} HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n${length.startsWith("T") ? "11\r\n12345678901234567" : ""}`,
        ]);
        expect([statusesOf(long), /\r\nconnection: close\r\n/i.test(long)]).toEqual([[status], true]);
      }
    }
  });

  test("who says that it will send no more gets the answers to what it has sent", async () => {
    const asked = "GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\n";
    expect(statusesOf(await talk([asked + asked], { halfCloses: true }))).toEqual([200, 200]);
  });

  test("what is no HTTP is a 400, and behind a stream that is open no second answer in the midst of it", async () => {
    expect(statusesOf(await talk(["nonsense\r\n\r\n"]))).toEqual([400]);
    const socket = connect(Number(new URL(node.url).port), "127.0.0.1");
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      if (received.includes("begun")) socket.write("nonsense\r\n\r\n");
    });
    socket.on("error", () => undefined); // reset
    socket.write("GET /open HTTP/1.1\r\nHost: x\r\n\r\n");
    await new Promise((closed) => socket.once("close", closed));
    expect(statusesOf(received)).toEqual([200]);
  });

  test("who hangs up ends the stream", async () => {
    expect(await talk(["GET /open HTTP/1.1\r\nHost: x\r\n\r\n"], { halfCloses: true })).toContain("begun");
  });

  test("a header that cannot be sent ends the connection, is logged, and nothing else is harmed", async () => {
    await expect(echo("/break")).rejects.toThrow();
    expect(logLines).toEqual(["an answer could not be sent"]);
    expect((await echo("/echo/a")).status).toBe(200);
  });

  test("with a public URL that has a path, paths are the same with and without it", async () => {
    const below = await open("/api");
    for (const path of ["/api/echo/a", "/echo/a"]) expect((await send(below, "GET", path)).json).toMatchObject({ word: "a" });
    expect((await send(below, "GET", "/apiecho/a")).status).toBe(404);
    await below.close(0);
  });

  test("a stop waits for the request that is under way, whose answer closes its connection, and not for connections without one", async () => {
    const stopping = await open();
    const agent = new Agent({ keepAlive: true });
    const [idle] = (await once(get(`${stopping.url}/echo/a`, { agent }), "response")) as [IncomingMessage];
    idle.resume();
    const asked = get(`${stopping.url}/wait`);
    await expect.poll(() => goOn, { timeout: 5_000 }).toBeDefined();
    const closed = stopping.close(30_000);
    goOn?.();
    const [reply] = (await once(asked, "response")) as [IncomingMessage];
    reply.resume();
    expect([reply.statusCode, reply.headers.connection]).toEqual([200, "close"]);
    await closed;
    agent.destroy();
  });
});
