import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Agent, AgentEvent, Question } from "../../packages/server/src/agents/agent.ts";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  createTalker,
  createThread,
  isComplete,
  type OpenStream,
  openStream,
  sendMessage,
} from "../../packages/server/src/testing/event-stream.ts";
import { call, createTestPartner, send, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { HOME } from "./a10-setting.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";

/* A10, text that would be an event: P10.4, from users and from agents. Read by an independent parser, and once more line by line. */

const LONE_HIGH = "\ud800";
const LONE_LOW = "\udc00";
const FOREIGN = randomUUID();

/** Each would forge an event, end one, or break who reads it, if it came as it is. */
const TEXTS: Readonly<Record<string, string>> = {
  "an event after an empty line": '\n\nevent: task_status\ndata: {"task_status":{"status":"Complete"}}\n\n',
  "data after an empty line": "x\n\ndata: x\n\n",
  "carriage returns": "a\rb\r\rdata: x\r\r",
  "CRLF, twice": "a\r\n\r\ndata: x\r\n\r\n",
  "an id and a time to wait": "\nid: 999999\nretry: 1\n\n",
  "an id without a number": "\nid\n\n",
  "a comment": "\n: ping\n\n",
  "the end of the stream": '\n\nevent: stream_end\ndata: {"stream_end":{"reason":"token_expired"}}\n\n',
  "line separators": "a\u2028data: x\u2029\u0085b\u000b\u000c",
  "a byte order mark": "\ufeffdata: x\n\n",
  "NUL and other controls": "a\0b\x1b[31m\x07\x7f\x9b",
  "half surrogate pairs": `a${LONE_HIGH}b${LONE_LOW}c${LONE_HIGH}`,
  "what looks like an escape": "\\n\\ndata: x\\u000a\\u000adata: y\\",
  "the end of the JSON": '"}}\n\ndata: {"message_chunk":{"message":"forged","final_chunk":true}}',
  "the end of a chunk of HTTP": "\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
  "a reference to another thread's artifact": `\n\`\`\`json\n{"type":"output_artifact","artifact_id":"${FOREIGN}"}\n\`\`\`\n`,
  "names of an object's own parts": '{"__proto__":{"x":1},"constructor":1}',
};

/** What a browser's parser would see, looked at line by line (HTML standard, §9.2.5): each block is one event of ours, whole, and nothing else is there. */
function expectOnlyOwnEvents(raw: string, events: OpenStream["events"]): void {
  expect(raw).toMatch(/^[^\0-\t\v-\x1f\u0085\u2028\u2029]*$/); // not for one that reads lines as Python does, either
  expect(raw.endsWith("\n\n")).toBe(true);
  const blocks = raw.slice(0, -2).split("\n\n");
  expect(blocks.shift()).toMatch(/^retry: 2000\nid: \d+$/);
  const own = blocks.filter((block) => block !== ":");
  expect(own).toHaveLength(events.length);
  for (const [index, block] of own.entries()) {
    const [, id, kind = "", data = ""] = /^id: (\d+)\nevent: (\w+)\ndata: (\{.+\})$/.exec(block) ?? [];
    expect({ id: Number(id), kind, data: (JSON.parse(data) as Record<string, unknown>)[kind] }).toEqual(events[index]);
    expect(Object.keys(JSON.parse(data) as object)).toEqual([kind]);
  }
}

/** Says what the test has laid out for the thread, and nothing where there is nothing; knows what it was asked. */
class LaidOutAgent implements Agent {
  readonly events = new Map<string, readonly AgentEvent[]>();
  readonly asked: Question[] = [];

  async *answer(question: Question): AsyncIterable<AgentEvent> {
    this.asked.push(question);
    await Promise.resolve();
    yield* this.events.get(question.threadId) ?? [];
  }
}

describe.each(DIALECTS)("events that somebody would forge on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let token: string;
  const agent = new LaidOutAgent();
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    second = await server.startSecondNode();
    ({ token } = await createTalker(await createTestPartner(server)));
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const KINDS = ["message_work_in_progress", "message_chunk", "message_chunk", "message_chunk", "message", "task_status"];

  test.concurrent.each(Object.entries(TEXTS))(
    "P10.4: an agent that says %s says it, in every place, and brings about no event",
    async (_name, text) => {
      const threadId = await createThread(server, token);
      const live = await Promise.all([openStream(server, threadId, token), openStream(second, threadId, token)]);
      const citation = { title: text, url: text, snippet: text };
      agent.events.set(threadId, [
        { kind: "log", line: text },
        { kind: "chunk", text },
        { kind: "artifact", artifact: { [text]: text } },
        { kind: "citation", citation },
      ]);
      await sendMessage(server, threadId, token, "question");
      for (const stream of live) await stream.until(isComplete);
      const later = await openStream(second, threadId, token, { "last-event-id": "0" });
      await later.until(isComplete);
      for (const stream of [...live, later]) {
        expect(stream.events.map(({ kind }) => kind)).toEqual(KINDS);
        expect(stream.events.map(({ id }) => id)).toEqual(KINDS.map((_kind, index) => index + 1));
        expectOnlyOwnEvents(stream.text(), stream.events);
        expect(stream.events[0]?.data).toEqual({ log: text });
        expect(stream.events[1]?.data).toEqual({ message: text, final_chunk: false });
        stream.close();
      }
      const message = later.events[4]?.data ?? {};
      expect(message["citations"]).toEqual([citation]);
      const listed = await call(server, "GET", `${HOME}/${threadId}/messages`, token);
      expect((listed.json["messages"] as unknown[])[1]).toEqual(message);
      const reference = String(message["message"]).slice(text.length);
      const [, artifactId] = /^\n?```json\n\{"type":"output_artifact","artifact_id":"([^"]+)"\}\n```\n$/.exec(reference) ?? [];
      expect((await call(server, "GET", `${HOME}/${threadId}/artifacts/${artifactId}`, token)).json["artifact"]).toEqual({ [text]: text });
      expect((await call(server, "GET", `${HOME}/${threadId}/artifacts/${FOREIGN}`, token)).status).toBe(404);
      expect((await call(server, "GET", `${HOME}/${threadId}/progress`, token)).json["progress_data"]).toEqual({
        log: text,
        status: "Complete",
      });
    },
  );

  test.concurrent.each(Object.entries(TEXTS))(
    "P10.4: a user that writes %s has written it, and it reaches the agent as it is",
    async (_name, text) => {
      const isText = text.isWellFormed();
      const threadId = await createThread(server, token);
      const stream = await openStream(server, threadId, token);
      const path = `${HOME}/${threadId}/messages`;
      const asJson = await call(server, "POST", path, token, { message: text });
      expect(asJson.status, asJson.text).toBe(isText ? 200 : 400);
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/x-www-form-urlencoded" };
      const asForm = await send(server, "POST", path, { headers, body: `message=${encodeURIComponent(text.toWellFormed())}` });
      expect(asForm.status, asForm.text).toBe(200);
      const count = isText ? 2 : 1;
      await stream.until(() => stream.events.filter(({ kind }) => kind === "task_status").length === count);
      expectOnlyOwnEvents(stream.text(), stream.events);
      const asked = agent.asked.filter((question) => question.threadId === threadId);
      expect(asked.map(({ message }) => message)).toEqual(Array<string>(count).fill(text.toWellFormed()));
      const { json } = await call(second, "GET", path, token);
      const own = (json["messages"] as { message: string; is_user_message: boolean }[]).filter((message) => message.is_user_message);
      expect(own.map(({ message }) => message)).toEqual(Array<string>(count).fill(text.toWellFormed()));
      stream.close();
    },
  );

  test.concurrent.each(Object.entries(TEXTS))("P10.4: a thread that is named %s has that name, or is refused", async (_name, text) => {
    const isName = text.isWellFormed() && !/[\0-\x1f\x7f-\x9f]/.test(text);
    const made = await call(server, "POST", HOME, token, { thread_name: text });
    expect(made.status).toBe(isName ? 200 : text.isWellFormed() ? 422 : 400);
    const renamed = await call(server, "PATCH", `${HOME}/${await createThread(server, token)}`, token, { name: text });
    expect(renamed.status).toBe(made.status);
    const { json } = await call(server, "GET", `${HOME}?limit=200`, token);
    const names = (json["threads"] as { thread_name: string }[]).map((thread) => thread.thread_name);
    expect(names.filter((name) => name === text)).toHaveLength(isName ? 2 : 0);
  });

  test("P10.4: the log is lines of JSON all the same, and holds nothing of what was said", () => {
    expectNothingSecretLogged(server);
    for (const line of [...server.logLines, ...second.logLines]) {
      expect(line).toMatch(/^\{[^\r\n]*\}\n$/);
      expect(line).not.toContain(FOREIGN);
    }
  });
});
