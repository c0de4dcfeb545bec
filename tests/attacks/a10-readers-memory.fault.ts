import { execFileSync } from "node:child_process";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createThread, isComplete, type OpenStream, openStream, sendMessage } from "../../packages/server/src/testing/event-stream.ts";
import { freePort, makeDataDir, type ServerProcess, startServer } from "../process/spawn.ts";
import { demoUserToken } from "../process/threads-client.ts";
import { HOME } from "./a10-setting.ts";

/* A10, what 200 readers that read nothing cost the real process while the agent writes several MB into their thread. */

const READERS = 200;
const GROWTH_MIB_MAX = 100;
/** As many as may wait in a thread. */
const MESSAGES = 20;
/** The demo agent says the words again. Each NUL is six bytes of JSON, in the chunk and once more in the message: 4.8 MB in all. */
const MESSAGE = `slow ${"\0".repeat(19_990)}`;

const rssMib = (pid: number) => Number(execFileSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" })) / 1024;

describe("readers that read nothing", () => {
  const dataDir = makeDataDir();
  let port: number;
  let server: ServerProcess;
  let token: string;
  let threadId: string;
  beforeAll(async () => {
    port = await freePort();
    server = await startServer("sandbox", port, { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" });
    token = await demoUserToken(server, dataDir.path);
    threadId = await createThread(server, token);
    await haveAnswered(await openStream(server, threadId, token)); // once without them: what it takes anyway
  });
  afterAll(async () => {
    server.signal("SIGKILL");
    await server.exited;
    dataDir.remove();
  });

  /** Has the messages answered, while somebody reads. */
  async function haveAnswered(reader: OpenStream): Promise<void> {
    for (let n = 0; n < MESSAGES; n++) await sendMessage(server, threadId, token, MESSAGE);
    const before = reader.events.length;
    await reader.until((event) => isComplete(event) && reader.events.indexOf(event) >= before);
  }

  /** They take the headers, and nothing from then on. */
  function openIdle(lastEventId: string): Promise<Socket[]> {
    const lines = `Host: x\r\nAuthorization: Bearer ${token}\r\nLast-Event-ID: ${lastEventId}\r\n`;
    return Promise.all(
      Array.from({ length: READERS }, async () => {
        const socket = connect(port, "127.0.0.1").on("error", () => undefined);
        socket.write(`GET ${HOME}/stream/${threadId} HTTP/1.1\r\n${lines}\r\n`);
        await new Promise<void>((resolve) => socket.once("data", () => resolve()));
        return socket.pause();
      }),
    );
  }

  async function peakDuring(work: () => Promise<unknown>): Promise<number> {
    const { pid = 0 } = server.child;
    let peak = rssMib(pid);
    const sampling = setInterval(() => (peak = Math.max(peak, rssMib(pid))), 100);
    await work();
    await sleep(500);
    clearInterval(sampling);
    return peak;
  }

  test("A10: cost the process less than 100 MB, and whoever reads gets everything meanwhile", { timeout: 120_000 }, async () => {
    const before = rssMib(server.child.pid ?? 0);
    const reader = await openStream(server, threadId, token);
    const idle = await openIdle("");
    const peak = await peakDuring(() => haveAnswered(reader));
    expect(peak - before).toBeLessThan(GROWTH_MIB_MAX);
    const messages = reader.events.filter(({ kind }) => kind === "message");
    expect(messages).toHaveLength(MESSAGES);
    for (const { data } of messages) expect(String(data["message"]).startsWith(MESSAGE)).toBe(true);
    for (const socket of idle) socket.destroy();
    reader.close();
  });

  test("A10: also where they come back for all that is kept, and take none of it", { timeout: 120_000 }, async () => {
    const before = rssMib(server.child.pid ?? 0);
    let idle: Socket[] = [];
    const peak = await peakDuring(async () => {
      idle = await openIdle("0");
      const reader = await openStream(server, threadId, token, { "last-event-id": "0" });
      const isLast = () => reader.events.filter(({ kind }) => kind === "message").length === 2 * MESSAGES;
      await reader.until(isLast);
      reader.close();
    });
    expect(peak - before).toBeLessThan(GROWTH_MIB_MAX);
    for (const socket of idle) socket.destroy();
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  });
});
