import { setTimeout as sleep } from "node:timers/promises";
import { StoreUnavailable } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AgentEvent, Question } from "../packages/server/src/agents/agent.ts";
import { createApp } from "../packages/server/src/app.ts";
import { openDeps } from "../packages/server/src/deps.ts";
import { DIALECTS } from "../packages/server/src/testing/database.ts";
import {
  createTalker,
  createThread,
  isComplete,
  isEnd,
  LedAgent,
  openStream,
  sendMessage,
} from "../packages/server/src/testing/event-stream.ts";
import { call, createTestPartner, startTestServer, type TestServer } from "../packages/server/src/testing/server.ts";
import { byTask, faultsOf, outcomeOf, readWhole, type Sent, textOf } from "./threads-whole.ts";

/** A message that begins so is answered without being led. */
const QUICK = "quick";

class NodeAgent extends LedAgent {
  /** What was asked of it so, and when it was at work on it. */
  readonly quick: (Question & { readonly fromMs: number; untilMs: number })[] = [];

  override async *answer(question: Question, signal: AbortSignal): AsyncIterable<AgentEvent> {
    if (!question.message.startsWith(QUICK)) return yield* super.answer(question, signal);
    const asked = { ...question, fromMs: performance.now(), untilMs: Infinity };
    this.quick.push(asked);
    yield { kind: "chunk", text: `to ${question.message}: ` };
    await sleep(5);
    yield { kind: "chunk", text: "this" };
    asked.untilMs = performance.now();
  }
}

/** One of the nodes on a database, with an agent and a clock of its own. */
interface Node {
  readonly url: string;
  readonly agent: NodeAgent;
  readonly clock: { offsetMs: number };
  readonly deps: TestServer["deps"];
}

async function startOther({ deps }: TestServer): Promise<Node & { stop(): Promise<void> }> {
  const [agent, clock] = [new NodeAgent(), { offsetMs: 0 }];
  const nowMs = () => Date.now() + clock.offsetMs;
  const own = await openDeps({ ...deps.config, port: 0 }, { agent, nowMs, log: deps.log });
  const app = createApp(own);
  return { url: `http://127.0.0.1:${await app.start()}`, agent, clock, deps: own, stop: () => app.stop() };
}

const isChunk = (text: string) => (event: { readonly kind: string; readonly data: Record<string, unknown> }) =>
  event.kind === "message_chunk" && event.data["message"] === text;

describe.each(DIALECTS)("two nodes on one %s", (dialect) => {
  const agent = new NodeAgent();
  let server: TestServer;
  let first: Node;
  let second: Awaited<ReturnType<typeof startOther>>;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    first = { url: server.url, agent, clock: server.clock, deps: server.deps };
    second = await startOther(server);
    ({ token } = await createTalker(await createTestPartner(server)));
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  /** A task, which node it is on, and the number of its question there. */
  async function ask(message = "question") {
    const threadId = await createThread(first, token);
    const before = [first, second].map((node) => node.agent.questions.length);
    const sent: Sent = { message, ...(await sendMessage(first, threadId, token, message)) };
    const isAsked = (index: number) => ([first, second][index]?.agent.questions.length ?? 0) > (before[index] ?? 0);
    await expect.poll(() => isAsked(0) || isAsked(1), { interval: 5, timeout: 10_000 }).toBe(true);
    const [at, other] = isAsked(0) ? [first, second] : [second, first]; // the one that took it, which is nearly always the one it was sent to
    return { threadId, sent, at, other, number: at.agent.questions.length - 1 };
  }

  test("a reader at the other node gets every event, in order, soon after it was said", async () => {
    const { threadId, sent, at, other, number } = await ask();
    const readers = await Promise.all([at, other].map((node) => openStream(node, threadId, token, { "last-event-id": "0" })));
    for (let count = 0; count < 5; count++) {
      at.agent.say(number, `word ${count} `);
      const saidMs = performance.now();
      for (const reader of readers) await reader.until(isChunk(`word ${count} `));
      expect(performance.now() - saidMs).toBeLessThan(5_000);
    }
    at.agent.end(number);
    const [here, there] = await Promise.all(readers.map((reader) => reader.until(isComplete)));
    expect(there).toEqual(here);
    const whole = await readWhole(other, token, threadId, sent);
    expect(faultsOf(whole, [sent])).toEqual([]);
    expect(whole.events).toEqual(here);
    for (const reader of readers) reader.close();
  });

  test("cancelled at the other node: the agent is told within 5 s, and the answer ends as cancelled", async () => {
    const { threadId, sent, at, other, number } = await ask();
    at.agent.say(number, "some words");
    const reader = await openStream(other, threadId, token);
    await reader.until(isChunk("some words"));
    const cancelledMs = performance.now();
    expect((await call(other, "DELETE", `/v2/threads/${threadId}/task`, token)).status).toBe(200);
    const signal = at.agent.questions[number]?.signal;
    await expect.poll(() => signal?.aborted, { interval: 20, timeout: 10_000 }).toBe(true);
    expect(performance.now() - cancelledMs).toBeLessThan(5_000);
    at.agent.say(number, "too late");
    const events = await reader.until(isComplete);
    expect([outcomeOf(events), textOf(events)]).toEqual(["cancelled", "some words\n\nUser cancelled message"]);
    expect(faultsOf(await readWhole(at, token, threadId, sent), [sent])).toEqual([]);
    reader.close();
  });

  test("deleted at the other node: the work is given up, streams end, and nothing of the thread is left", async () => {
    const { threadId, at, other, number } = await ask();
    at.agent.say(number, "some words");
    const reader = await openStream(at, threadId, token);
    await reader.until(isChunk("some words"));
    const deletedMs = performance.now();
    expect((await call(other, "DELETE", `/v2/threads/${threadId}`, token)).status).toBe(200);
    const signal = at.agent.questions[number]?.signal;
    await expect.poll(() => signal?.aborted, { interval: 20, timeout: 10_000 }).toBe(true);
    const end = (await reader.until(isEnd)).at(-1);
    expect(end?.data).toEqual({ reason: "thread_deleted" });
    expect(performance.now() - deletedMs).toBeLessThan(5_000);
    at.agent.say(number, "too late");
    at.agent.end(number);
    await reader.ended;
    for (const table of ["threads", "thread_messages", "thread_tasks", "thread_events"]) {
      await expect.poll(() => server.database.query(`SELECT 1 FROM ${table} WHERE thread_id = $1`, [threadId])).toEqual([]);
    }
  });

  test("a node that cannot renew its lease: the other one ends the task as failed, and what the first one says late is not written nor shown", async () => {
    const { threadId, sent, at, other, number } = await ask();
    const readers = await Promise.all([at, other].map((node) => openStream(node, threadId, token, { "last-event-id": "0" })));
    at.agent.say(number, "shown");
    for (const reader of readers) await reader.until(isChunk("shown"));
    const { tasks } = at.deps.store;
    const reached = { ...tasks };
    const away = () => Promise.reject(new StoreUnavailable("away"));
    Object.assign(tasks, { renew: away, append: away });
    at.agent.say(number, " and late");
    other.clock.offsetMs += 11_000;
    const [here, there] = await Promise.all(readers.map((reader) => reader.until(isComplete)));
    other.clock.offsetMs = 0;
    expect(at.agent.questions[number]?.signal.aborted, "it does not know yet").toBe(false);
    Object.assign(tasks, reached);
    await expect.poll(() => at.agent.questions[number]?.signal.aborted, { timeout: 10_000 }).toBe(true);
    expect(there).toEqual(here);
    expect([outcomeOf(here ?? []), textOf(here ?? [])]).toEqual(["failed", "shown\n\nThe answer could not be completed."]);
    expect(
      other.agent.questions.filter(({ taskId }) => taskId === sent.taskId),
      "it is not answered twice",
    ).toEqual([]);
    const next: Sent = { message: `${QUICK} next`, ...(await sendMessage(at, threadId, token, `${QUICK} next`)) };
    const whole = await readWhole(at, token, threadId, next);
    expect(faultsOf(whole, [sent, next])).toEqual([]);
    expect(outcomeOf(whole.events)).toBe("answered");
    for (const reader of readers) reader.close();
  });

  test("16 messages at once, by both nodes: one is answered after the other, each once, in the order in which they are listed", async () => {
    const threadId = await createThread(first, token);
    const send = async (index: number): Promise<Sent> => {
      const message = `${QUICK} ${index}`;
      return { message, ...(await sendMessage(index % 2 === 0 ? first : second, threadId, token, message)) };
    };
    const sent = await Promise.all(Array.from({ length: 16 }, (_, index) => send(index)));
    const idle = async () =>
      (await call(second, "GET", `/v2/threads/${threadId}/progress`, token)).json["progress_data"] as { status: string };
    await expect.poll(async () => (await idle()).status, { timeout: 30_000 }).toBe("Complete");
    const listed = await call(first, "GET", `/v2/threads/${threadId}/messages?limit_num=200`, token);
    const order = (listed.json["messages"] as { message: string }[]).map(({ message }) => message);
    const inOrder = sent.toSorted((left, right) => order.indexOf(left.message) - order.indexOf(right.message));
    const whole = await readWhole(second, token, threadId, inOrder.at(-1) as Sent);
    expect(faultsOf(whole, inOrder)).toEqual([]);
    expect(byTask(whole.events).map(outcomeOf)).toEqual(sent.map(() => "answered"));
    const asked = [...first.agent.quick, ...second.agent.quick].filter((quick) => quick.threadId === threadId);
    expect(asked.map(({ taskId }) => taskId).toSorted()).toEqual(sent.map(({ taskId }) => taskId).toSorted());
    const byBegin = asked.toSorted((left, right) => left.fromMs - right.fromMs);
    byBegin.forEach((one, index) => expect(one.fromMs).toBeGreaterThanOrEqual(byBegin[index - 1]?.untilMs ?? 0));
    expect(byBegin.map(({ taskId }) => taskId)).toEqual(inOrder.map(({ taskId }) => taskId));
    expect(
      byBegin.map(({ history }) => history.length),
      "all that was said before, and nothing that waits",
    ).toEqual(byBegin.map((_one, index) => 2 * index));
  });
});
