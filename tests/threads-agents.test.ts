import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Agent, AgentEvent, Question } from "../packages/server/src/agents/agent.ts";
import type { ClaimedTask, TaskEnd } from "../packages/server/src/storage/thread-store.ts";
import { holdSqlite } from "../packages/server/src/testing/database.ts";
import { createTalker, createThread, isComplete, openStream, sendMessage } from "../packages/server/src/testing/event-stream.ts";
import { call, createTestPartner, send, startTestServer, type TestServer } from "../packages/server/src/testing/server.ts";
import { TaskRun } from "../packages/server/src/threads/task-run.ts";
import { repetitions } from "./repetitions.ts";
import { faultsOf, outcomeOf, readWhole, textOf } from "./threads-whole.ts";

const FAILED = "The answer could not be completed.";
const TINY = repetitions({ short: 30_000, long: 100_000 });
const chunk = (text: string): AgentEvent => ({ kind: "chunk", text });
const never = () => new Promise<never>(() => undefined);
const cyclic = (): Record<string, unknown> => {
  const loop: Record<string, unknown> = {};
  loop["loop"] = loop;
  return loop;
};

/** How many events were taken from an agent, by the name of what it does. */
const taken: Record<string, number> = {};

async function* forever(name: string, event: AgentEvent): AsyncGenerator<AgentEvent> {
  for (taken[name] = 0; ; taken[name] += 1) yield event; // without a pause
}

/** By the message: agents that an operator should not have plugged in. */
const NOISY: Readonly<Record<string, (signal: AbortSignal) => AsyncIterable<AgentEvent>>> = {
  async *"never ends, and ignores its signal"() {
    yield chunk("some words");
    await never();
  },
  async *"goes on after it was told to stop"(signal) {
    yield chunk("some words");
    while (!signal.aborted) await sleep(5);
    for (let count = 0; count < 100; count++) yield chunk("not heard");
  },
  async *"throws in a listener of its signal"(signal) {
    const rejecting: () => unknown = () => Promise.reject(new Error("a listener's promise"));
    signal.addEventListener("abort", rejecting);
    signal.addEventListener("abort", { handleEvent: null as never });
    signal.addEventListener("abort", () => {
      throw new Error("a listener");
    });
    yield chunk("some words");
    await sleep(60_000, undefined, { signal });
  },
  "says nothing without a pause": () => forever("says nothing without a pause", chunk("")),
  "throws at once": () => {
    throw new Error("at once");
  },
  "is nothing to iterate over": () => undefined as never,
  "throws in its iterator": () => ({
    [Symbol.asyncIterator]: () => ({
      next() {
        throw new Error("at once, too");
      },
      return() {
        throw new Error("and here");
      },
    }),
  }),
  async *"says what is no text"() {
    yield chunk("some words");
    yield { kind: "chunk", text: 5n as unknown as string };
  },
  async *"shows what is no JSON"() {
    yield chunk("some words");
    yield { kind: "artifact", artifact: cyclic() };
  },
  async *"cites what is no JSON"() {
    yield chunk("some words");
    yield { kind: "citation", citation: cyclic() as never };
  },
  async *"says 1 MB in one piece"() {
    yield chunk("some words");
    yield chunk("x".repeat(1_000_000));
  },
  async *"says over 200,000 characters"() {
    for (;;) yield chunk("x".repeat(999));
  },
  "writes to its log without end": () => forever("writes to its log without end", { kind: "log", line: "" }),
  async *"says tiny chunks by the ten thousand"() {
    for (let count = 0; count < TINY; count++) yield chunk("x");
  },
  "says tiny chunks while the store is away": () => forever("says tiny chunks while the store is away", chunk("x")),
};

const agent: Agent = { answer: ({ message }, signal) => (NOISY[message] ?? quick)(signal) };

async function* quick(): AsyncGenerator<AgentEvent> {
  yield chunk("quick");
}

describe("an agent that", () => {
  let server: TestServer;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer("sqlite", { agent });
    ({ token } = await createTalker(await createTestPartner(server)));
  });
  afterAll(() => server.stop());

  async function ask(message: string) {
    const threadId = await createThread(server, token);
    const stream = await openStream(server, threadId, token);
    return { threadId, stream, sent: { message, ...(await sendMessage(server, threadId, token, message)) } };
  }

  /** It is idle, nothing is amiss in it, and it takes a message that is answered. */
  async function expectWell(threadId: string, sent: { taskId: string; message: string }): Promise<void> {
    const next = { message: "next", ...(await sendMessage(server, threadId, token, "next")) };
    const whole = await readWhole(server, token, threadId, next);
    expect(faultsOf(whole, [sent, next])).toEqual([]);
    expect(outcomeOf(whole.events)).toBe("answered");
  }

  test.each(["never ends, and ignores its signal", "goes on after it was told to stop", "throws in a listener of its signal"])(
    "%s: cancelled, its thread is idle at once",
    async (name) => {
      const { threadId, stream, sent } = await ask(name);
      await stream.until(({ kind }) => kind === "message_chunk");
      const cancelledMs = performance.now();
      await call(server, "DELETE", `/v2/threads/${threadId}/task`, token);
      const events = await stream.until(isComplete);
      expect(performance.now() - cancelledMs, "neither by its lease of 10 s nor by its ten minutes").toBeLessThan(8_000);
      expect([outcomeOf(events), textOf(events)]).toEqual(["cancelled", "some words\n\nUser cancelled message"]);
      await expectWell(threadId, sent);
      stream.close();
    },
  );

  test("says nothing without a pause: everybody else is served, and it can be cancelled", async () => {
    const { threadId, stream, sent } = await ask("says nothing without a pause");
    await expect.poll(() => taken[sent.message]).toBeGreaterThan(1_000);
    const other = await ask("a short question");
    expect(outcomeOf(await other.stream.until(isComplete))).toBe("answered");
    await call(server, "DELETE", `/v2/threads/${threadId}/task`, token);
    expect(textOf(await stream.until(isComplete))).toBe("User cancelled message");
    await expectWell(threadId, sent);
    for (const { stream: open } of [other, { stream }]) open.close();
  });

  test.each([
    ["throws at once", FAILED],
    ["is nothing to iterate over", FAILED],
    ["throws in its iterator", FAILED],
    ["says what is no text", `some words\n\n${FAILED}`],
    ["shows what is no JSON", `some words\n\n${FAILED}`],
    ["cites what is no JSON", `some words\n\n${FAILED}`],
    ["says 1 MB in one piece", `some words\n\n${FAILED}`],
    ["says over 200,000 characters", `${"x".repeat(199_800)}\n\n${FAILED}`],
    ["writes to its log without end", FAILED],
  ])("%s: its answer fails, and its thread is idle", async (name, text) => {
    const { threadId, stream, sent } = await ask(name);
    const events = await stream.until(isComplete);
    expect([outcomeOf(events), textOf(events)]).toEqual(["failed", text]);
    await expectWell(threadId, sent);
    stream.close();
  });

  test(
    "says tiny chunks by the ten thousand: all of them come, nobody else waits for long, and little is held meanwhile",
    { timeout: 60_000 },
    async () => {
      const { threadId, stream, sent } = await ask("says tiny chunks by the ten thousand");
      const heapBefore = process.memoryUsage().heapUsed;
      let [slowestMs, heapMost] = [0, 0];
      for (let isOver = false; !isOver;) {
        const before = process.cpuUsage(); // what stands in the way is work of this process; what else the machine does counts for nothing
        expect((await send(server, "GET", "/livez")).status).toBe(200);
        const { user, system } = process.cpuUsage(before);
        slowestMs = Math.max(slowestMs, (user + system) / 1_000);
        heapMost = Math.max(heapMost, process.memoryUsage().heapUsed - heapBefore);
        isOver = stream.events.some(isComplete);
        await sleep(20);
      }
      expect([outcomeOf(stream.events), textOf(stream.events).length]).toEqual(["answered", TINY]);
      expect(slowestMs).toBeLessThan(500);
      expect(heapMost, "with all that this test has read of it").toBeLessThan(200_000_000);
      await expectWell(threadId, sent);
      stream.close();
    },
  );

  test("says tiny chunks while the store is away: it is made to wait, and goes on afterwards", async () => {
    const name = "says tiny chunks while the store is away";
    const { threadId, stream, sent } = await ask(name);
    await stream.until(({ kind }) => kind === "message_chunk");
    const other = await holdSqlite(server.database);
    let before = -1;
    await expect.poll(() => before === (before = taken[name] ?? 0), { interval: 300 }).toBe(true);
    const shown = stream.events.length;
    expect(before - shown).toBeLessThan(5_000);
    other.release();
    await stream.until(({ id }) => id > before + 100);
    await call(server, "DELETE", `/v2/threads/${threadId}/task`, token);
    expect(outcomeOf(await stream.until(isComplete))).toBe("cancelled");
    await expectWell(threadId, sent);
    stream.close();
  });

  test("never ends, and is not cancelled: it is stopped after ten minutes, and its answer fails", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const ends: TaskEnd[] = [];
    const signals: AbortSignal[] = [];
    const task: ClaimedTask = { ...KEYS, attempts: 1, eventsAfter: 0, isCancelled: false, position: 0 };
    const endless: Agent = {
      async *answer(_question: Question, signal) {
        signals.push(signal);
        yield chunk("some words");
        await never();
      },
    };
    const run = new TaskRun(task, {
      agent: endless,
      tasks: {
        findQuestion: () => Promise.resolve({ message: "question", files: [], history: [] }),
        finish: (_output, end) => Promise.resolve([void ends.push(end)].slice(1) as never[]),
        readFile: () => Promise.resolve(undefined),
        release: () => Promise.resolve(),
      },
      threads: { readEvents: () => Promise.resolve([]) },
      findAsker: () => Promise.resolve({ user: { userId: "user", workspaceId: "workspace", orgId: "org" }, entitlements: [] }),
      writer: { add: () => undefined, remove: () => Promise.resolve() },
      publish: () => undefined,
      nowMs: Date.now,
      log: server.deps.log,
      metrics: { countAnswer: () => undefined },
    });
    const done = run.work();
    await vi.advanceTimersByTimeAsync(10 * 60_000 - 1_000);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
    await vi.advanceTimersByTimeAsync(1_000);
    vi.useRealTimers();
    await done;
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(ends.map(({ message }) => message)).toEqual([`some words\n\n${FAILED}`]);
  });
});

const KEYS = { partnerId: "prt_1", threadId: "thread", taskId: "task", userId: "user", leaseId: "lease" };
