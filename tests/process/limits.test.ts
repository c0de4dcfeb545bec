import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, test } from "vitest";
import { readDemoClient } from "./demo-partner.ts";
import { freePort, makeDataDir, type ServerProcess, startServer } from "./spawn.ts";

/** A raw connection: what came back, and when it was closed. */
function open(port: number): { socket: Socket; received(): string; closed: Promise<number> } {
  const started = Date.now();
  const socket = connect(port, "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  return { socket, received: () => received, closed: new Promise((resolve) => socket.once("close", () => resolve(Date.now() - started))) };
}

const FORM = "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";

describe.concurrent("time and size limits of the running server", () => {
  const dataDir = makeDataDir();
  let port: number;
  let server: ServerProcess;
  beforeAll(async () => {
    port = await freePort();
    server = await startServer("sandbox", port, { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" });
  });
  afterAll(async () => {
    server.signal("SIGKILL");
    await server.exited;
    dataDir.remove();
  });

  test("headers that do not come within 10 s, and a body that does not within 15 s, end the connection; others are served meanwhile", async ({
    expect,
  }) => {
    const slowHeaders = Array.from({ length: 100 }, () => open(port));
    for (const { socket } of slowHeaders) socket.write(`${FORM}X-Drip: `);
    const dripping = setInterval(() => slowHeaders.forEach(({ socket }) => socket.write("x")), 1_000);
    const slowBody = open(port);
    slowBody.socket.write(`${FORM}Content-Length: 1000\r\n\r\ngrant_type=`);
    const silent = open(port);
    await sleep(5_000);
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
    for (const { closed } of slowHeaders) {
      const ms = await closed;
      expect(ms).toBeGreaterThan(9_000);
      expect(ms, "not by the limit for the whole request").toBeLessThan(14_900);
    }
    clearInterval(dripping);
    const ms = await slowBody.closed;
    expect(ms).toBeGreaterThan(14_000);
    expect(ms, "15 s, looked at each second, and what a busy machine adds").toBeLessThan(25_000);
    expect(slowBody.received()).toMatch(/^HTTP\/1\.1 408/);
    silent.socket.destroy();
  });

  test("headers over 16 KB are refused, and the server goes on", async ({ expect }) => {
    const big = open(port);
    big.socket.write(`${FORM}X-Big: ${"x".repeat(20_000)}\r\nContent-Length: 0\r\n\r\n`);
    await big.closed;
    expect(big.received()).toMatch(/^HTTP\/1\.1 431/);
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  });

  test("a body over 64 KB is refused before it is there", async ({ expect }) => {
    const big = open(port);
    big.socket.write(`${FORM}Content-Length: 1048576\r\n\r\nx`);
    await expect.poll(() => big.received()).toMatch(/^HTTP\/1\.1 413[^]*"error":"invalid_request"/);
    big.socket.destroy();
  });
});

describe.concurrent("a graceful stop", () => {
  test("not ready at once, requests under way are answered, new connections are refused, exit 0 within 10 s", async ({ expect }) => {
    const dataDir = makeDataDir();
    const port = await freePort();
    const server = await startServer("sandbox", port, { CAMBIST_DATA_DIR: dataDir.path });
    const client = readDemoClient(dataDir.path);
    const bodies = Array.from({ length: 50 }, () =>
      new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
        subject_token: client.sign(client.clientId),
        client_id: client.clientId,
        client_secret: client.clientSecret,
      }).toString(),
    );
    const underWay = bodies.map((body) => {
      const connection = open(port);
      connection.socket.write(`${FORM}Expect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 100)}`);
      return { ...connection, rest: body.slice(100) };
    });
    const never = open(port);
    never.socket.write(`${FORM}Expect: 100-continue\r\nContent-Length: 100\r\n\r\nx`);
    for (const connection of [...underWay, never]) await expect.poll(() => connection.received()).toContain("100 Continue"); // its head is there
    const stoppedMs = performance.now();
    server.signal("SIGTERM");
    await expect.poll(() => fetch(`${server.url}/readyz`).then(({ status }) => status, String)).toMatch(/fetch failed/);
    for (const { socket, rest } of underWay) socket.write(rest);
    for (const connection of underWay) {
      await connection.closed;
      expect(connection.received()).toMatch(/\r\nHTTP\/1\.1 200[^]*"access_token"/);
    }
    expect(await server.exited, "1 where it takes 10 s by its own clock").toBe(0);
    expect(performance.now() - stoppedMs, "the same with what a busy machine adds").toBeLessThan(15_000);
    expect(server.output()).toContain('"msg":"stopped"');
    dataDir.remove();
  });
});
