import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  createTalker,
  createThread,
  isComplete,
  isEnd,
  LedAgent,
  openStream,
  type ReceivedEvent,
  sendMessage,
  type TestTalker,
} from "../testing/event-stream.ts";
import { admin, call, createTestPartner, startTestServer, type TestPartner, type TestServer } from "../testing/server.ts";

const textOf = (events: readonly ReceivedEvent[]) =>
  events
    .filter(({ kind }) => kind === "message_chunk")
    .map(({ data }) => String(data["message"]))
    .join("");
const kindsOf = (events: readonly ReceivedEvent[]) => events.map(({ kind }) => kind);
const expectInOrder = (events: readonly ReceivedEvent[], from: number) =>
  expect(events.map(({ id }) => id)).toEqual(events.map((_event, index) => from + index));
const isChunk = (text: string) => (event: ReceivedEvent) => event.kind === "message_chunk" && event.data["message"] === text;

describe.each(DIALECTS)("streams of threads on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  let talker: TestTalker;
  let token: string;
  const agent = new LedAgent();
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    partner = await createTestPartner(server);
    talker = await createTalker(partner);
    ({ token } = talker);
  });
  afterAll(() => server.stop());

  /** Sends, and waits until the agent has been asked. Gives the number of the question. */
  async function ask(threadId: string, message = "question"): Promise<number> {
    const number = agent.questions.length;
    await sendMessage(server, threadId, token, message);
    await agent.asked(number + 1);
    return number;
  }

  test("200: events in the order of the contract, with ids 1, 2, 3, and chunks that add up to the message", async () => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token);
    expect(stream.response.headers).toMatchObject({ "content-type": "text/event-stream", "cache-control": "no-store, no-transform" });
    const question = await ask(id);
    agent.say(question, { kind: "log", line: "thinking" }, "Hello", ", ", "world");
    agent.say(question, { kind: "citation", citation: { title: "A book", url: null, snippet: "a line" } });
    agent.end(question);
    const events = await stream.until(isComplete);
    expectInOrder(events, 1);
    expect(kindsOf(events)).toEqual(["message_work_in_progress", ...Array<string>(4).fill("message_chunk"), "message", "task_status"]);
    expect(events.filter(({ data }) => data["final_chunk"] === true).map(({ id: at }) => at)).toEqual([5]);
    const message = events.find(({ kind }) => kind === "message")?.data;
    expect(message).toMatchObject({
      message: "Hello, world",
      is_user_message: false,
      citations: [{ title: "A book", url: null, snippet: "a line" }],
    });
    expect(textOf(events)).toBe("Hello, world");
    expect(events.at(-1)?.data).toMatchObject({ status: "Complete", outcome: "answered" });
    stream.close();
  });

  test("200: Last-Event-ID, whichever, gives what is behind it exactly once, and goes on with what comes", async () => {
    const id = await createThread(server, token);
    const live = await openStream(server, id, token);
    const question = await ask(id);
    for (const word of ["one ", "two ", "three "]) {
      agent.say(question, word);
      await live.until(isChunk(word));
    }
    agent.say(question, "four ", "five ");
    await live.until(isChunk("five "));
    const streams = await Promise.all([0, 1, 2, 3, 4, 5].map((last) => openStream(server, id, token, { "last-event-id": String(last) })));
    const fresh = await openStream(server, id, token);
    agent.say(question, "six");
    agent.end(question);
    const all = await live.until(isComplete);
    for (const [last, stream] of streams.entries()) {
      expect(await stream.until(isComplete)).toEqual(all.slice(last));
      stream.close();
    }
    expect(await fresh.until(isComplete)).toEqual(all); // the answer that is under way, from its beginning
    const later = await openStream(server, id, token, { "last-event-id": "3" });
    expect(await later.until(isComplete)).toEqual(all.slice(3));
    for (const stream of [live, fresh, later]) stream.close();
  });

  test("200: a stream of an idle thread begins with what comes; the Last-Event-ID of Send gives the whole answer, however late", async () => {
    const id = await createThread(server, token);
    const first = agent.questions.length;
    const { lastEventId } = await sendMessage(server, id, token, "first");
    agent.say(first, "first answer");
    agent.end(first);
    const whole = await openStream(server, id, token, { "last-event-id": lastEventId });
    expect(textOf(await whole.until(isComplete))).toBe("first answer");
    const fresh = await openStream(server, id, token);
    const second = await ask(id, "second");
    agent.say(second, "second answer");
    agent.end(second);
    expect(textOf(await fresh.until(isComplete))).toBe("second answer");
    whole.close();
    fresh.close();
  });

  test.each(["-1", "1.5", "0x1", "1, 2", "999999", "1e9", "x", "9".repeat(8000)])("400: Last-Event-ID %.10s", async (last) => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token, { "last-event-id": last });
    expect(stream.response.statusCode).toBe(400);
    await stream.ended;
    expect(stream.text()).toContain("Last-Event-ID");
  });

  test("a second message waits for its turn, and only the last one's end says Complete", async () => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token);
    const first = await ask(id, "first");
    await sendMessage(server, id, token, "second");
    await sendMessage(server, id, token, "third");
    agent.say(first, "1");
    agent.end(first);
    await agent.asked(first + 2);
    expect(agent.questions[first + 1]).toMatchObject({
      message: "second",
      history: [
        { by: "user", message: "first" },
        { by: "agent", message: "1" },
      ],
    });
    expect((await call(server, "GET", `/v2/threads/${id}/progress`, token)).json).toEqual({
      progress_data: { log: "", status: "Running" },
    });
    agent.say(first + 1, "2");
    agent.end(first + 1);
    await agent.asked(first + 3);
    agent.say(first + 2, "3");
    agent.end(first + 2);
    const events = await stream.until(isComplete);
    const ends = events.filter(({ kind }) => kind === "task_status").map(({ data }) => data["status"]);
    expect(ends).toEqual(["Running", "Running", "Complete"]);
    expect(textOf(events)).toBe("123");
    const { json } = await call(server, "GET", `/v2/threads/${id}/messages`, token);
    expect((json["messages"] as { message: string }[]).map(({ message }) => message)).toEqual(["first", "second", "third", "1", "2", "3"]);
    stream.close();
  });

  test("cancelling stops the agent, keeps what was said with the contract's words at its end, and lets the next message come", async () => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token);
    const question = await ask(id);
    agent.say(question, "So far");
    await stream.until(isChunk("So far"));
    await sendMessage(server, id, token, "next");
    expect((await call(server, "DELETE", `/v2/threads/${id}/task`, token)).json).toEqual({ success: true });
    await agent.asked(question + 2);
    expect(agent.questions[question]?.signal.aborted).toBe(true);
    agent.say(question, "too late");
    agent.end(question + 1);
    const events = await stream.until(isComplete);
    const ends = events.filter(({ kind }) => kind === "task_status").map(({ data }) => [data["status"], data["outcome"]]);
    expect(ends).toEqual([
      ["Running", "cancelled"],
      ["Complete", "answered"],
    ]);
    expect(events.find(({ kind }) => kind === "message")?.data["message"]).toBe("So far\n\nUser cancelled message");
    expect(textOf(events)).toBe("So far\n\nUser cancelled message");
    expect((await call(server, "DELETE", `/v2/threads/${id}/task`, token)).json).toEqual({ success: true });
    stream.close();
  });

  test("an agent that fails leaves what it said, an event that says so, and an idle thread", async () => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token);
    const question = await ask(id);
    agent.say(question, "Half");
    await stream.until(isChunk("Half"));
    agent.end(question, new Error("its secret cause"));
    const events = await stream.until(isComplete);
    expect(events.at(-1)?.data["outcome"]).toBe("failed");
    expect(events.find(({ kind }) => kind === "message")?.data["message"]).toBe("Half\n\nThe answer could not be completed.");
    expect(stream.text()).not.toContain("secret cause");
    stream.close();
  });

  test("deleting a thread gives up its answer and ends its streams", async () => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token);
    const question = await ask(id);
    await call(server, "DELETE", `/v2/threads/${id}`, token);
    const events = await stream.until(isEnd);
    expect(events.at(-1)?.data).toEqual({ reason: "thread_deleted" });
    await stream.ended;
    agent.say(question, "to nobody");
    const { signal } = agent.questions[question] ?? {};
    await new Promise<void>((resolve) => (signal?.aborted ? resolve() : signal?.addEventListener("abort", () => resolve())));
    await expect.poll(() => server.database.query("SELECT * FROM thread_events WHERE thread_id = $1", [id])).toEqual([]);
  });

  test("when the token expires, the stream ends with an event that says so", async () => {
    const id = await createThread(server, token);
    const stream = await openStream(server, id, token);
    server.clock.offsetMs += 3_601_000;
    try {
      expect((await stream.until(isEnd)).at(-1)?.data).toEqual({ reason: "token_expired" });
      await stream.ended;
    } finally {
      server.clock.offsetMs -= 3_601_000;
    }
  });

  test("when its user is disabled on this node, the stream ends at once; a stream of another user goes on", async () => {
    const other = await createTalker(partner);
    const ids = [await createThread(server, other.token), await createThread(server, token)] as const;
    const stream = await openStream(server, ids[0], other.token);
    const mine = await openStream(server, ids[1], token);
    const began = performance.now();
    expect((await admin(server, "POST", "/revocations", { user_id: other.userId })).status).toBe(200);
    expect((await stream.until(isEnd)).at(-1)?.data).toEqual({ reason: "token_ended" });
    const ms = performance.now() - began;
    console.log(`${dialect}: a revoked token's stream ended after ${ms.toFixed(0)} ms on the node that revoked it`);
    const question = agent.questions.length;
    await sendMessage(server, ids[1], token, "still there?");
    await agent.asked(question + 1);
    agent.end(question);
    await mine.until(isComplete);
    mine.close();
  });

  test("429: over as many streams as the partner may have open, until one is closed", async () => {
    const small = await createTestPartner(server, { rate_limits: { requests_per_minute: 6_000, burst: 1_000, streams: 2 } });
    const user = await createTalker(small);
    const id = await createThread(server, user.token);
    const open = [await openStream(server, id, user.token), await openStream(server, id, user.token)] as const;
    const refused = await openStream(server, id, user.token);
    expect(refused.response.statusCode).toBe(429);
    expect(refused.response.headers["retry-after"]).toBe("5");
    open[0].close();
    await open[0].ended;
    let again = await openStream(server, id, user.token);
    for (let tries = 0; again.response.statusCode === 429 && tries < 50; tries++) again = await openStream(server, id, user.token);
    expect(again.response.statusCode).toBe(200);
    for (const stream of [open[1], again]) stream.close();
  });
});
