import { describe, test } from "vitest";
import { createThread, isEnd, openStream, sendMessage } from "../../packages/server/src/testing/event-stream.ts";
import { call } from "../../packages/server/src/testing/server.ts";
import { faultsOf, outcomeOf, readWhole } from "../threads-whole.ts";
import { freePort, makeDataDir, startServer } from "./spawn.ts";
import { demoUserToken } from "./threads-client.ts";

const STREAMS = 20;
/** Ten words a second: these have ended before the stop has, and those have not. */
const SHORT = `slow ${"word ".repeat(20)}`;
const LONG = `slow ${"word ".repeat(300)}`;

describe.concurrent("a graceful stop amid conversations", () => {
  test(
    "every stream is told and ended at once, answers that can finish do, exit 0 within 10 s; after the start all threads are idle",
    { timeout: 120_000 },
    async ({ expect, onTestFinished }) => {
      const dataDir = makeDataDir();
      const port = await freePort();
      const env = { CAMBIST_DATA_DIR: dataDir.path };
      let server = await startServer("sandbox", port, env);
      onTestFinished(() => server.signal("SIGKILL")); // where it has not ended by itself
      const token = await demoUserToken(server, dataDir.path);
      const threads = await Promise.all(Array.from({ length: STREAMS }, () => createThread(server, token)));
      const streams = await Promise.all(threads.map((threadId) => openStream(server, threadId, token)));
      const busy = await Promise.all(
        threads.slice(0, 5).map(async (threadId, index) => {
          const message = index < 3 ? SHORT : LONG;
          return { threadId, sent: { message, ...(await sendMessage(server, threadId, token, message)) } };
        }),
      );
      const isChunk = ({ kind }: { readonly kind: string }) => kind === "message_chunk";
      await Promise.all(streams.slice(0, busy.length).map((stream) => stream.until(isChunk)));

      const stoppedMs = performance.now();
      server.signal("SIGTERM");
      await Promise.all(streams.map(({ ended }) => ended));
      expect(performance.now() - stoppedMs, "while answers have 7 s to finish").toBeLessThan(5_000);
      for (const { events } of streams) {
        expect(events.at(-1)).toMatchObject({ kind: "stream_end", data: { reason: "server_stopping" } });
        expect(events.filter(isEnd)).toHaveLength(1);
      }
      expect(await server.exited, "1 where it takes 10 s by its own clock").toBe(0);
      expect(performance.now() - stoppedMs, "the same with what a busy machine adds").toBeLessThan(15_000);

      server = await startServer("sandbox", port, env);
      const outcomes = [];
      for (const [index, { threadId, sent }] of busy.entries()) {
        const shown = streams[index]?.events.filter((event) => !isEnd(event)) ?? [];
        const rest = await openStream(server, threadId, token, { "last-event-id": String(shown.at(-1)?.id) });
        const whole = await readWhole(server, token, threadId, sent);
        const missed = await rest.until(({ id }) => id === whole.events.at(-1)?.id);
        expect(faultsOf(whole, [sent])).toEqual([]);
        expect([...shown, ...missed]).toEqual(whole.events);
        outcomes.push(outcomeOf(whole.events));
        rest.close();
      }
      expect(outcomes).toEqual(["answered", "answered", "answered", "failed", "failed"]);
      const progress = await call(server, "GET", `/v2/threads/${threads.at(-1)}/progress`, token);
      expect(progress.json).toEqual({ progress_data: null });
      server.signal("SIGTERM");
      expect(await server.exited).toBe(0);
      dataDir.remove();
    },
  );

  test(
    "a promise that is rejected while nobody listens is logged, and the process lives",
    { timeout: 120_000 },
    async ({ expect, onTestFinished }) => {
      const dataDir = makeDataDir();
      const careless = "process.on('SIGUSR2', () => Promise.reject(new Error('left behind')))";
      const env = { CAMBIST_DATA_DIR: dataDir.path, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(careless)}` };
      const server = await startServer("sandbox", await freePort(), env);
      onTestFinished(() => server.signal("SIGKILL"));
      server.signal("SIGUSR2");
      await expect.poll(() => server.output()).toMatch(/"level":"error".*left behind/);
      expect((await fetch(`${server.url}/livez`)).status).toBe(200);
      server.signal("SIGTERM");
      expect(await server.exited).toBe(0);
      dataDir.remove();
    },
  );
});
