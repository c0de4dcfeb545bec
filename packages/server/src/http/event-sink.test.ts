import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { eventSink } from "./event-sink.ts";
import type { EventSink } from "./route.ts";

/** A stream to a client that reads when it is told to. */
async function openSink() {
  let opened: (sink: EventSink) => void = () => undefined;
  const sinkOnce = new Promise<EventSink>((resolve) => (opened = resolve));
  const server = createServer((_request, response) => {
    response.writeHead(200, { connection: "close" });
    opened(eventSink(response, response.socket!));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1").on("error", () => undefined);
  onTestFinished(() => {
    client.destroy();
    server.close();
  });
  client.pause();
  client.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  return { client, sink: await sinkOnce };
}

const turn = () => new Promise(setImmediate);

test("what the client's side has taken is not pending, what it has not is, and is told until it is taken", async () => {
  const { client, sink } = await openSink();
  sink.write(":\n\n");
  await expect.poll(() => sink.pendingBytes).toBe(0);
  const block = Buffer.alloc(256 * 1024, "x");
  for (let blocks = 0; sink.pendingBytes === 0 && blocks < 1_000; blocks++) {
    sink.write(block);
    await turn();
    await turn();
  }
  const pending = sink.pendingBytes;
  expect(pending).toBeGreaterThan(0);
  sink.write("a little");
  expect(sink.pendingBytes).toBeGreaterThanOrEqual(pending + 8);
  client.resume();
  await expect.poll(() => sink.pendingBytes, { timeout: 5_000 }).toBe(0);
});

test("a stream that has ended, to a client that does not take its end, closes when it is destroyed", async () => {
  const { sink } = await openSink();
  let isClosed = false;
  sink.onClose(() => (isClosed = true));
  for (let blocks = 0; sink.pendingBytes === 0 && blocks < 1_000; blocks++) {
    sink.write(Buffer.alloc(256 * 1024, "x"));
    await turn();
    await turn();
  }
  sink.end("the end");
  for (let turns = 0; turns < 50; turns++) await turn();
  expect(isClosed).toBe(false);
  sink.destroy();
  await expect.poll(() => isClosed).toBe(true);
});
