import { StoreUnavailable } from "@cambist/protocol";
import { describe, inject, test } from "vitest";
import { holdPostgres, holdSqlite } from "../packages/server/src/testing/database.ts";
import {
  createTalker,
  createThread,
  isComplete,
  isEnd,
  LedAgent,
  openStream,
  sendMessage,
} from "../packages/server/src/testing/event-stream.ts";
import { call, createTestPartner, send, startTestServer, type TestServer } from "../packages/server/src/testing/server.ts";
import { openPostgresLine, type PostgresLine } from "./postgres-line.ts";
import { faultsOf, outcomeOf, readWhole, type Sent, textOf } from "./threads-whole.ts";

interface Store {
  readonly server: TestServer;
  readonly agent: LedAgent;
  /** Takes it away; gives what brings it back. */
  takeAway(): Promise<() => Promise<void> | void>;
  stop(): Promise<void>;
}

let lastStart: Promise<unknown> = Promise.resolve();

/** One after the other: on a busy machine, all of them at once would wait for their connections for longer than a server does. */
function startInTurn(...how: Parameters<typeof startTestServer>): Promise<TestServer> {
  const started = lastStart.then(() => startTestServer(...how));
  lastStart = started.catch(() => undefined);
  return started;
}

async function lockedSqlite(): Promise<Store> {
  const agent = new LedAgent();
  const server = await startInTurn("sqlite", { agent });
  const takeAway = async () => {
    const other = await holdSqlite(server.database);
    return () => other.release();
  };
  return { server, agent, takeAway, stop: () => server.stop() };
}

async function lockedPostgres(): Promise<Store> {
  const agent = new LedAgent();
  const server = await startInTurn("postgres", { agent });
  const takeAway = async () => {
    const other = await holdPostgres(server.database, "LOCK TABLE threads, thread_tasks, thread_events IN ACCESS EXCLUSIVE MODE");
    return () => other.release();
  };
  return { server, agent, takeAway, stop: () => server.stop() };
}

async function lineToPostgres(): Promise<Store & { readonly line: PostgresLine }> {
  const agent = new LedAgent();
  const line = await openPostgresLine(new URL(inject("postgresUrl")));
  const server = await startInTurn("postgres", { agent }, (url) => line.route(url));
  const takeAway = () => {
    line.cut();
    return Promise.resolve(() => line.restore());
  };
  const stop = async () => {
    await server.stop();
    line.close();
  };
  return { server, agent, takeAway, stop, line };
}

/** A user, a thread and a stream of it. */
async function open({ server }: Store) {
  const { token } = await createTalker(await createTestPartner(server));
  const threadId = await createThread(server, token);
  return { token, threadId, stream: await openStream(server, threadId, token) };
}

const isChunk = (text: string) => (event: { readonly kind: string; readonly data: Record<string, unknown> }) =>
  event.kind === "message_chunk" && event.data["message"] === text;

describe.concurrent("when the store is away amid an answer", () => {
  test.for([
    ["SQLite is locked by another process", lockedSqlite],
    ["PostgreSQL's tables are locked", lockedPostgres],
    ["PostgreSQL is cut off", lineToPostgres],
  ] as const)(
    "%s: nothing is lost, nothing comes twice, the answer is whole once it is back",
    { timeout: 60_000 },
    async ([, start], { expect }) => {
      const store = await start();
      const { server, agent } = store;
      const { token, threadId, stream } = await open(store);
      const message = "question";
      const { taskId } = await sendMessage(server, threadId, token, message);
      await agent.asked(1);
      agent.say(0, "before ");
      await stream.until(isChunk("before "));
      const bringBack = await store.takeAway();
      for (let count = 0; count < 50; count++) agent.say(0, `during ${count} `);
      const refused = await call(server, "POST", `/v2/threads/${threadId}/messages`, token, { message: "lost" });
      expect(refused.status).toBe(503);
      expect(refused.headers.get("retry-after")).toBe("1");
      expect((await send(server, "GET", "/livez")).status).toBe(200);
      expect(textOf(stream.events), "nothing is shown that is not kept").toBe("before ");
      await bringBack();
      await stream.until(isChunk("during 49 "));
      agent.say(0, "after");
      agent.end(0);
      const events = await stream.until(isComplete);
      const whole = await readWhole(server, token, threadId, { taskId, message });
      expect(whole.events).toEqual(events);
      expect(faultsOf(whole, [{ taskId, message }])).toEqual([]); // and the message that was refused is not there
      expect(outcomeOf(events)).toBe("answered");
      expect(textOf(events)).toBe(`before ${Array.from({ length: 50 }, (_, count) => `during ${count} `).join("")}after`);
      stream.close();
      await store.stop();
    },
  );

  test("for longer than a lease: the node that is at work does not take the task from itself", { timeout: 60_000 }, async ({ expect }) => {
    const store = await lineToPostgres();
    const { server, agent } = store;
    const { token, threadId, stream } = await open(store);
    const sent = { message: "question", ...(await sendMessage(server, threadId, token, "question")) };
    await agent.asked(1);
    agent.say(0, "before, ");
    await stream.until(isChunk("before, "));
    const bringBack = await store.takeAway();
    agent.say(0, "during, ");
    await expect.poll(async () => (await send(server, "GET", "/readyz")).status).toBe(503);
    server.clock.offsetMs += 60_000;
    await stream.until(isEnd); // its token could not be judged for a minute
    const { tasks } = server.deps.store;
    const kept = { ...tasks };
    let looked = 0;
    Object.assign(tasks, {
      append: () => Promise.reject(new StoreUnavailable("away")),
      claim: (...args: Parameters<typeof kept.claim>) => kept.claim(...args).finally(() => looked++),
    });
    await bringBack();
    const before = looked;
    await expect.poll(() => looked, { timeout: 10_000 }).toBeGreaterThan(before + 1); // before anything is written, which prolongs the lease
    Object.assign(tasks, kept);
    agent.say(0, "after");
    agent.end(0);
    const whole = await readWhole(server, token, threadId, sent);
    expect(faultsOf(whole, [sent])).toEqual([]);
    expect([textOf(whole.events), outcomeOf(whole.events)]).toEqual(["before, during, after", "answered"]);
    expect(agent.questions).toHaveLength(1);
    await store.stop();
  });

  test(
    "a commit whose answer is lost: what was written is not written again, and readers get each event once",
    { timeout: 60_000 },
    async ({ expect }) => {
      const store = await lineToPostgres();
      const { server, agent } = store;
      const { token, threadId, stream } = await open(store);
      const sent: Sent[] = [];
      for (let round = 0; round < 6; round++) {
        sent.push({ message: `question ${round}`, ...(await sendMessage(server, threadId, token, `question ${round}`)) });
        await agent.asked(round + 1);
        store.line.loseCommit(round % 3, threadId);
        for (const word of ["one ", "two ", "three ", "four "]) {
          agent.say(round, `${word}${round} `);
          await stream.until(isChunk(`${word}${round} `));
        }
        agent.end(round);
        await stream.until(({ kind, data }) => kind === "task_status" && data["task_id"] === sent[round]?.taskId);
      }
      const whole = await readWhole(server, token, threadId, sent.at(-1) as Sent);
      expect(faultsOf(whole, sent)).toEqual([]);
      expect(stream.events).toEqual(whole.events);
      stream.close();
      await store.stop();
    },
  );

  test(
    "while a task is looked at, before its agent is asked: it is asked once the store is back",
    { timeout: 60_000 },
    async ({ expect }) => {
      const store = await lineToPostgres();
      const { server, agent } = store;
      const { token, threadId, stream } = await open(store);
      const { tasks } = server.deps.store;
      const kept = { ...tasks };
      let cuts = 0;
      const cut = () => {
        cuts++;
        store.line.cut();
      };
      tasks.claim = async (...args) => {
        const claimed = await kept.claim(...args);
        if (claimed.length > 0) cut();
        return claimed;
      };
      tasks.findQuestion = (...args) => {
        if (cuts === 1) cut();
        return kept.findQuestion(...args);
      };
      const sent = { message: "question", ...(await sendMessage(server, threadId, token, "question")) };
      for (const time of [1, 2]) {
        await expect.poll(() => cuts, { timeout: 10_000 }).toBe(time);
        expect((await send(server, "GET", "/readyz")).status).toBe(503);
        store.line.restore();
      }
      await agent.asked(1);
      agent.say(0, "an answer");
      agent.end(0);
      const whole = await readWhole(server, token, threadId, sent);
      expect(faultsOf(whole, [sent])).toEqual([]);
      expect(outcomeOf(whole.events)).toBe("answered");
      stream.close();
      await store.stop();
    },
  );

  test(
    "streams whose token cannot be judged for 5 s end with store_unavailable, and not before; a reader that comes back misses nothing",
    { timeout: 60_000 },
    async ({ expect }) => {
      const store = await lineToPostgres();
      const { server, agent } = store;
      const { token, threadId, stream } = await open(store);
      const sent = { message: "question", ...(await sendMessage(server, threadId, token, "question")) };
      await agent.asked(1);
      agent.say(0, "before, ");
      await stream.until(isChunk("before, "));
      const bringBack = await store.takeAway();
      await expect.poll(async () => (await send(server, "GET", "/readyz")).status).toBe(503);
      expect(stream.events.some(isEnd), "a moment without the store is nothing").toBe(false);
      server.clock.offsetMs += 6_000;
      const [end] = (await stream.until(isEnd)).slice(-1);
      expect(end?.data).toEqual({ reason: "store_unavailable" });
      await stream.ended;
      const refused = await openStream(server, threadId, token);
      expect(refused.response.statusCode).toBe(503);
      refused.close();
      agent.say(0, "during, ");
      await bringBack();
      const again = await openStream(server, threadId, token, { "last-event-id": String(end?.id) });
      agent.say(0, "after");
      agent.end(0);
      const rest = await again.until(isComplete);
      expect(textOf(rest)).toBe("during, after");
      const whole = await readWhole(server, token, threadId, sent);
      expect(faultsOf(whole, [sent])).toEqual([]);
      again.close();
      await store.stop();
    },
  );
});
