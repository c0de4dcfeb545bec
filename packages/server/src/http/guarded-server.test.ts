import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { openLog } from "../telemetry/log.ts";
import { openMetrics } from "../telemetry/metrics.ts";
import { guardedServer } from "./guarded-server.ts";
import { Overload } from "./overload.ts";

const ANSWER_BYTES = 40 * 1024 * 1024;
const STALLED_MS = 600;

/** A server that gives everybody a long answer, and clients that take it at their own pace. */
async function start() {
  const ends = { metrics: openMetrics(), log: openLog("silent"), issuer: "https://cambist.test", basePath: "" };
  const ports = { ...ends, overload: new Overload({ sheds: false }) };
  const sockets: Socket[] = [];
  const server = guardedServer((_request, response) => void response.end(Buffer.alloc(ANSWER_BYTES)), ports, STALLED_MS);
  server.on("connection", (socket) => void sockets.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const ask = async () => {
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    client.on("error", () => undefined); // reset
    client.pause();
    client.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    while (sockets.length === 0) await sleep(5);
    return { client, served: sockets.shift() as Socket };
  };
  return { server, ask };
}

test("a client that takes nothing of its answer is cut off; one that is slow, and one that asks again later, are not", async () => {
  const { server, ask } = await start();
  const { served: stuck } = await ask();
  const began = performance.now();
  const { client: slow } = await ask();
  let received = 0;
  slow.on("data", (chunk: Buffer) => {
    received += chunk.length;
    slow.pause();
    setTimeout(() => slow.resume(), 1);
  });
  slow.resume();
  await once(stuck, "close");
  expect(performance.now() - began).toBeGreaterThan(STALLED_MS - 50);
  while (received < ANSWER_BYTES) await sleep(20);
  await sleep(STALLED_MS * 2); // between two requests, only keepAliveTimeout counts
  expect(slow.destroyed).toBe(false);
  slow.removeAllListeners("data");
  const again = once(slow, "data") as Promise<[Buffer]>;
  slow.resume();
  slow.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  const [chunk] = await again;
  expect(chunk.toString("latin1", 0, 15)).toBe("HTTP/1.1 200 OK");
  slow.destroy();
  server.close();
});

test("who has reset its connection by its turn is not worked for; who only says that it will send no more is", async () => {
  const line: (() => void)[] = [];
  const overload = { takeOn: (work: () => void) => line.push(work) > 0 } as unknown as Overload;
  const ports = { metrics: openMetrics(), log: openLog("silent"), issuer: "https://cambist.test", basePath: "", overload };
  const asked: (string | undefined)[] = [];
  const served: Socket[] = [];
  const server = guardedServer((request, response) => response.end(void asked.push(request.url)), ports);
  server.on("connection", (socket) => void served.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const ask = async (path: string) => {
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    const before = line.length;
    client.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await expect.poll(() => line.length).toBe(before + 1);
    return { client, socket: served.at(-1) as Socket };
  };
  const reset = await ask("/reset");
  const closed = new Promise((resolve) => reset.socket.once("close", resolve)); // with an error
  reset.client.resetAndDestroy();
  await closed;
  const halved = await ask("/halved");
  const ended = once(halved.socket, "end");
  halved.client.end();
  await ended;
  const received = once(halved.client, "data") as Promise<[Buffer]>;
  for (const work of line) work();
  expect(asked).toEqual(["/halved"]);
  expect((await received)[0].toString("latin1", 0, 15)).toBe("HTTP/1.1 200 OK");
  await once(halved.client, "close"); // the server ends it with the answer
  server.close();
});
