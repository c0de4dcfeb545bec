import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createTalker,
  createThread,
  isComplete,
  type OpenStream,
  openStream,
  sendMessage,
  type TestTalker,
} from "../../packages/server/src/testing/event-stream.ts";
import {
  admin,
  call,
  createTestPartner,
  send,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { HOME } from "./a10-setting.ts";
import { expectProblem, tally } from "./a9-setting.ts";

/*
 * A10, readers that take more than their share: as many streams as they like, and connections that they leave, fill or hold. What 200 of them that
 * read nothing cost the process: a10-readers-memory.fault.ts.
 */

const STREAMS_MAX = 5;
/** In which the server has seen that a connection is gone. */
const GONE = { timeout: 20_000 };

let server: TestServer;
let partner: TestPartner;
let talker: TestTalker;
let threadId: string;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  talker = await createTalker(partner);
  threadId = await createThread(server, talker.token);
  await limit({ requests_per_minute: 600_000, streams: STREAMS_MAX });
});
afterAll(() => server.stop());

async function limit(limits: object): Promise<void> {
  expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { rate_limits: limits })).status).toBe(200);
}

const open = () => openStream(server, threadId, talker.token);
const requestLines = (more = "", id = threadId) =>
  `GET ${HOME}/stream/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${talker.token}\r\n${more}\r\n`;

/** Of streams that are asked for at once, those that stay open. Some find room and are told a moment later that it is gone. */
async function openAtOnce(count: number): Promise<OpenStream[]> {
  const opened = await Promise.all(Array.from({ length: count }, open));
  for (const stream of opened) {
    await expect.poll(() => stream.text()).not.toBe("");
    const { response } = stream;
    expect([200, 429]).toContain(response.statusCode);
    if (response.statusCode === 429) expect(Number(response.headers["retry-after"])).toBeGreaterThan(0);
    else expect(stream.text()).toMatch(/^retry: 2000\nid: \d+\n\n$|"stream_end":\{"reason":"too_many_streams"\}/);
  }
  const staying = opened.filter((stream) => stream.response.statusCode === 200 && !stream.text().includes("stream_end"));
  for (const stream of opened) if (!staying.includes(stream)) stream.close();
  return staying;
}

/** How many more streams the partner may open, by opening them. */
async function roomLeft(): Promise<number> {
  const staying = await openAtOnce(STREAMS_MAX + 1);
  for (const stream of staying) stream.close();
  return staying.length;
}
async function expectAllRoom(): Promise<void> {
  await expect.poll(roomLeft, GONE).toBe(STREAMS_MAX);
}

/** A connection that a test writes to byte by byte, and what came back. */
function rawConnection(): { readonly socket: Socket; received(): string; readonly closed: Promise<unknown> } {
  const socket = connect(server.port, "127.0.0.1").on("error", () => undefined);
  let received = "";
  socket.on("data", (chunk) => (received += chunk.toString("latin1")));
  return { socket, received: () => received, closed: once(socket, "close") };
}

describe("the number of streams", () => {
  test("A10 429: of 50 that are opened at once no more are open than the partner may have, and a closed one makes room", async () => {
    const staying = await openAtOnce(50);
    expect(staying).toHaveLength(STREAMS_MAX);
    const refused = await call(server, "GET", `${HOME}/stream/${threadId}`, talker.token);
    expectProblem(refused, 429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    const other = await createTalker(await createTestPartner(server));
    const theirs = await openStream(server, await createThread(server, other.token), other.token);
    expect(theirs.response.statusCode).toBe(200);
    for (const stream of [...staying, theirs]) stream.close();
    await expectAllRoom();
  });

  test("A10 429 is told to nobody who may not see the thread, and what is refused takes no room", async () => {
    const stranger = await createTalker(partner);
    const opened = await Promise.all(Array.from({ length: STREAMS_MAX }, open));
    expect((await call(server, "GET", `${HOME}/stream/${threadId}`, stranger.token)).status).toBe(404);
    for (const stream of opened) stream.close();
    await expectAllRoom();
    for (let n = 0; n < 2 * STREAMS_MAX; n++) {
      const headers = { authorization: `Bearer ${talker.token}`, "last-event-id": "x" };
      expect((await send(server, "GET", `${HOME}/stream/${threadId}`, { headers })).status).toBe(400);
      expect((await call(server, "GET", `${HOME}/stream/x`, talker.token)).status).toBe(404);
    }
    await expectAllRoom();
  });

  test("A10 200: a HEAD ends at once, with the headers of the stream, and takes no room", async () => {
    await expectAllRoom();
    await expect.poll(async () => (await call(server, "HEAD", `${HOME}/stream/${threadId}`, talker.token)).status, GONE).toBe(200);
    for (let n = 0; n < 2 * STREAMS_MAX; n++) {
      const reply = await call(server, "HEAD", `${HOME}/stream/${threadId}`, talker.token);
      expect([reply.status, reply.headers.get("content-type"), reply.text]).toEqual([200, "text/event-stream", ""]);
    }
    expect((await openAtOnce(STREAMS_MAX)).map((stream) => stream.close())).toHaveLength(STREAMS_MAX);
  });

  test("A10: readers that go away before, while or after the stream begins leave their room to others", async () => {
    for (const waitMs of [0, 0, 1, 2, 5, 20, 50]) {
      const sockets = Array.from({ length: STREAMS_MAX * 2 }, () => rawConnection());
      for (const { socket } of sockets) socket.write(requestLines());
      await sleep(waitMs);
      for (const [index, { socket }] of sockets.entries()) {
        if (index % 2 === 0) socket.resetAndDestroy();
        else socket.destroy();
      }
      await Promise.all(sockets.map(({ closed }) => closed));
    }
    await expectAllRoom();
  });

  test("A10: of streams that are asked for behind one another on one connection, all leave their room when it goes", async () => {
    const raw = rawConnection();
    raw.socket.write(requestLines().repeat(STREAMS_MAX));
    await expect.poll(() => raw.received()).toContain("retry: 2000");
    await sleep(200);
    raw.socket.destroy();
    await raw.closed;
    await expectAllRoom();
    expect((await call(server, "GET", "/livez", "")).status).toBe(200);
  });
});

describe("what is said of a stream", () => {
  test("A10 200: not compressed, not kept and not held back on its way, whatever the client can take", async () => {
    const stream = await openStream(server, threadId, talker.token, {
      "accept-encoding": "gzip, br, zstd",
      accept: "*/*",
      "if-none-match": "*",
    });
    const { headers, statusCode } = stream.response;
    expect(statusCode).toBe(200);
    expect(headers).toMatchObject({
      "content-type": "text/event-stream",
      "cache-control": "no-store, no-transform",
      "x-accel-buffering": "no",
      "x-content-type-options": "nosniff",
      "transfer-encoding": "chunked",
    });
    for (const name of ["content-encoding", "content-length", "etag", "last-modified", "expires", "set-cookie"])
      expect(headers[name]).toBeUndefined();
    stream.close();
  });

  test("A10 200: to a client of HTTP/1.0 without chunks of HTTP; its connection ends with it", async () => {
    const own = await createThread(server, talker.token);
    const raw = rawConnection();
    raw.socket.write(requestLines("", own).replace("HTTP/1.1", "HTTP/1.0"));
    await expect.poll(() => raw.received()).toMatch(/\r\n\r\nretry: 2000\nid: 0\n\n$/);
    expect(raw.received()).not.toMatch(/^transfer-encoding:/im);
    await call(server, "DELETE", `${HOME}/${own}`, talker.token);
    await raw.closed;
    expect(raw.received()).toMatch(/\n\nid: 0\nevent: stream_end\ndata: \{"stream_end":\{"reason":"thread_deleted"\}\}\n\n$/);
  });

  test("A10: requests behind a stream on its connection get no answer, for it ends with the stream; others do not wait for it", async () => {
    const own = await createThread(server, talker.token);
    const raw = rawConnection();
    const livez = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    raw.socket.write(requestLines("", own) + livez.repeat(20) + requestLines("", own));
    await expect.poll(() => raw.received()).toContain("retry: 2000");
    const others = await Promise.all(Array.from({ length: 20 }, () => call(server, "GET", `${HOME}/${own}/progress`, talker.token)));
    expect(tally(others)).toEqual({ 200: 20 });
    await call(server, "DELETE", `${HOME}/${own}`, talker.token);
    await raw.closed;
    expect(raw.received().match(/^HTTP\/1\.1 /gm)).toHaveLength(1);
    expect(raw.received()).toMatch(/^connection: close\r$/im);
    expect(raw.received().endsWith("\r\n0\r\n\r\n")).toBe(true);
    await expectAllRoom();
  });

  test("A10 200: a stream behind another answer on its connection is read like any other", async () => {
    const raw = rawConnection();
    raw.socket.write(`GET /livez HTTP/1.1\r\nHost: x\r\n\r\n${requestLines("Last-Event-ID: 0\r\n")}`);
    await sendMessage(server, threadId, talker.token, "hello");
    await expect.poll(() => raw.received(), GONE).toMatch(/HTTP\/1\.1 200 [^]+HTTP\/1\.1 200 [^]+"status":"Complete"/);
    raw.socket.destroy();
    await expectAllRoom();
  });

  test("A10: a stream is no request that its partner's limit could end: it goes on where the limit is used up", async () => {
    const stream = await open();
    await limit({ requests_per_minute: 1, burst: 1, streams: STREAMS_MAX });
    const last = () => call(server, "GET", HOME, talker.token);
    await expect.poll(async () => (await last()).status, GONE).toBe(429);
    await sleep(3_600); // it is judged again
    expect(stream.events).toEqual([]);
    await limit({ requests_per_minute: 600_000, streams: STREAMS_MAX });
    await expect.poll(async () => (await last()).status, GONE).toBe(200);
    await sendMessage(server, threadId, talker.token, "hello");
    expect((await stream.until(isComplete)).at(-1)?.data).toMatchObject({ outcome: "answered" });
    stream.close();
  });
});
