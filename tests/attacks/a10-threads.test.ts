import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { createThread, openStream } from "../../packages/server/src/testing/event-stream.ts";
import { call, send, sendRaw, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { type AnsweredThread, HOME, openAnswered, openPeople, type People, REQUESTS, rowsOfThread } from "./a10-setting.ts";
import { anonymous, ask, expectProblem } from "./a9-setting.ts";
import { parseRawReply } from "./raw.ts";

/*
 * A10, whose thread it is, and what a client may come back with: P10.1, P10.3. Streams that end (P10.2): a10-streams.test.ts. Forged events
 * (P10.4): a10-forged-events.test.ts. Readers that take what is not theirs to take: a10-readers.test.ts.
 * Not tested, since the feature does not exist yet: analytics (P10.5–P10.8).
 */

/** What can be no id of a thread, whatever is done to it on its way. */
const MALFORMED = (id: string) => [
  "x",
  id.toUpperCase(),
  id.replaceAll("-", ""),
  `${id}0`,
  id.slice(0, -1),
  `${id}%00`,
  `${id}%0d%0aLast-Event-ID:%200`,
  `%20${id}`,
  `{${id}}`,
  `urn:uuid:${id}`,
  `${id};x=1`,
  `${id}%2Fmessages`,
  `..%2F${id}`,
  "%27%20OR%201=1--",
  "__proto__",
  "constructor",
  "null",
  "*",
  "%F0%9F%92%A9",
  "%EF%BF%BD",
  id.replace(/^./, "%EF%BC%91"),
];

describe.each(DIALECTS)("threads of others on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let people: People;
  let thread: AnsweredThread;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    people = await openPeople(server);
    thread = await openAnswered(server, people.mine);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second];

  test("P10.1: every route of a thread is tried", () => {
    const routes = server.app.routes.filter(({ path }) => path.includes(":thread_id")).map(({ operationId }) => operationId);
    expect(Object.keys(REQUESTS).toSorted()).toEqual(routes.toSorted());
  });

  test("P10.1 404: to whoever it does not belong to, a thread reads exactly like none on every route and both nodes, and keeps what it has", async () => {
    const before = await rowsOfThread(server, thread.threadId);
    for (const [who, other] of Object.entries(people.others)) {
      for (const [operationId, requestFor] of Object.entries(REQUESTS)) {
        for (const node of nodes()) {
          const foreign = await ask(node, other, requestFor(thread.threadId, thread.artifactId));
          const absent = await ask(node, other, requestFor(randomUUID(), randomUUID()));
          expectProblem(foreign, 404);
          expect(anonymous(foreign), `${operationId}, ${who}`).toEqual(anonymous(absent));
        }
      }
    }
    expect(await rowsOfThread(server, thread.threadId)).toEqual(before);
  });

  test("P10.1 404: also with its Last-Event-ID, as a form, by HEAD, and where the request would be refused for something else", async () => {
    const before = await rowsOfThread(server, thread.threadId);
    const authorization = { authorization: `Bearer ${people.others["another user of the workspace"].token}` };
    const form = { "content-type": "application/x-www-form-urlencoded" };
    const requests: readonly (readonly [
      string,
      (id: string) => string,
      { readonly headers?: Record<string, string>; readonly body?: string },
    ])[] = [
      ["GET", (id) => `stream/${id}`, { headers: { "last-event-id": "1" } }],
      ["GET", (id) => `stream/${id}`, { headers: { "last-event-id": "0" } }],
      ["GET", (id) => `stream/${id}`, { headers: { "last-event-id": "not one" } }],
      ["HEAD", (id) => `stream/${id}`, {}],
      ["HEAD", (id) => `${id}/messages`, {}],
      ["POST", (id) => `${id}/messages`, { headers: form, body: "message=hello" }],
      ["POST", (id) => `${id}/messages`, { headers: form, body: `message=hello&file_ids%5B%5D=${randomUUID()}` }],
      ["GET", (id) => `${id}/messages?limit_num=0`, {}],
      ["PATCH", (id) => id, { headers: { "content-type": "application/json" }, body: "{}" }],
    ];
    for (const [method, path, more] of requests) {
      const reply = (id: string) =>
        send(server, method, `${HOME}/${path(id)}`, { ...more, headers: { ...authorization, ...more.headers } });
      const foreign = await reply(thread.threadId);
      expect([404, 422]).toContain(foreign.status);
      expect(anonymous(foreign), `${method} ${path("…")}`).toEqual(anonymous(await reply(randomUUID())));
    }
    expect(await rowsOfThread(server, thread.threadId)).toEqual(before);
  });

  test("P10.1 404: what is not written exactly as an id reads like none, to its own user too", async () => {
    const before = await rowsOfThread(server, thread.threadId);
    for (const talker of [people.mine, people.others["a user of another partner"]]) {
      for (const [operationId, requestFor] of Object.entries(REQUESTS)) {
        const absent = anonymous(await ask(server, talker, requestFor(randomUUID(), randomUUID())));
        for (const id of MALFORMED(thread.threadId)) {
          const reply = await ask(server, talker, requestFor(id, thread.artifactId));
          expectProblem(reply, 404);
          expect(anonymous(reply), `${operationId} ${id}`).toEqual(absent);
        }
        for (const id of ["x".repeat(100), "x".repeat(101), "%41".repeat(3_000)])
          expectProblem(await ask(server, talker, requestFor(id, thread.artifactId)), 400, 404);
      }
    }
    expect(await rowsOfThread(server, thread.threadId)).toEqual(before);
  });

  test("P10.1: each user lists its own threads, also behind the cursor of another one", async () => {
    const { mine, others } = people;
    const other = others["another user of the workspace"];
    const own = await createThread(server, other.token, "Own");
    for (let n = 0; n < 2; n++) await createThread(server, mine.token, "Mine");
    const { json: mineFirst } = await call(server, "GET", `${HOME}?limit=1`, mine.token);
    const cursor = String(mineFirst["next_cursor"]);
    for (const node of nodes()) {
      const listed = async (query: string) => {
        const { json } = await call(node, "GET", `${HOME}${query}`, other.token);
        return (json["threads"] as { thread_id: string }[]).map(({ thread_id }) => thread_id);
      };
      expect(await listed("")).toEqual([own]);
      expect([[own], []]).toContainEqual(await listed(`?cursor=${cursor}`));
      const forged = (position: string) => listed(`?cursor=${Buffer.from(position).toString("base64url")}`);
      expect(await forged(`999999999999999.${thread.threadId}`)).toEqual([own]);
      expect(await forged(`0.${thread.threadId}`)).toEqual([]);
    }
    for (const query of [
      "?user_id=x",
      `?thread_id=${own}`,
      "?limit=-1",
      "?limit=1e9",
      "?cursor=%00",
      `?cursor=${"A".repeat(9_000)}`,
      "?cursor=a&cursor=b",
    ])
      expect((await call(server, "GET", `${HOME}${query}`, other.token)).status, query).toBe(422);
    await call(server, "DELETE", `${HOME}/${own}`, other.token);
  });

  describe("what a client comes back with", () => {
    const path = () => `${HOME}/stream/${thread.threadId}`;
    const reopened = async (value: string) => {
      const lines = `Host: x\r\nConnection: close\r\nAuthorization: Bearer ${people.mine.token}\r\n`;
      const request = Buffer.from(`GET ${path()} HTTP/1.1\r\n${lines}Last-Event-ID: ${value}\r\n\r\n`);
      return parseRawReply(await sendRaw(server, request));
    };

    test.each(
      Object.entries({
        negative: "-1",
        signed: "+1",
        fractional: "1.5",
        "as a float": "1.0",
        "with an exponent": "1e1",
        hexadecimal: "0x1",
        "of other digits": "١",
        "a list": "1, 2",
        "with text behind it": "1 OR 1=1",
        "no number": "NaN",
        "without an end": "Infinity",
        "another thread's, further on": "1000",
        "over the safe integers": "9007199254740993",
        "of 15 KB": "1".repeat(15_000),
        "of 15 KB, small": "0".repeat(15_000),
      }),
    )("P10.3 400: a Last-Event-ID that is %s", async (_name, value) => {
      const reply = await reopened(value);
      expectProblem(reply, 400);
      expect(reply.text).not.toContain(value.slice(0, 100).padStart(5, " "));
    });

    test("P10.3 400: two of them; 431: one of 100 KB; 400: a NUL in it", async () => {
      expectProblem(await reopened("1\r\nLast-Event-ID: 2"), 400);
      expect((await reopened("1".repeat(100_000))).status).toBe(431);
      expect((await reopened("1\0")).status).toBe(400);
    });

    test("P10.3: one that another thread has given out gives events of this thread and of no other, on both nodes", async () => {
      const other = people.others["another user of the workspace"];
      const theirs = await openAnswered(server, other);
      for (const node of nodes()) {
        for (const value of ["0", "1", "3", "0003"]) {
          const stream = await openStream(node, thread.threadId, people.mine.token, { "last-event-id": value });
          const events = await stream.until(({ kind }) => kind === "task_status");
          expect(events[0]?.id).toBe(Number(value) + 1);
          expect(stream.text()).toContain(thread.artifactId);
          expect(stream.text()).not.toContain(theirs.artifactId);
          stream.close();
        }
      }
    });
  });
});
