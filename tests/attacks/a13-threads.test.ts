import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { createThread, sendMessage } from "../../packages/server/src/testing/event-stream.ts";
import {
  admin,
  bearerChallenge,
  call,
  exchange,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { type AnsweredThread, HOME, openAnswered, openPeople, type People, REQUESTS, rowsOfThread } from "./a10-setting.ts";
import { anonymous, ask, type Asked, expectProblem } from "./a9-setting.ts";

/*
 * A13, what the contract says of threads: P13.7, P13.9, P13.10, P13.11. Files: a13-files.test.ts; accounts: a13-accounts.test.ts; the sk- endpoint:
 * a13-envelope.test.ts.
 * Not tested, since the feature does not exist yet: analytics (P13.11's other half).
 */

/** RFC 9457's members, and a list of faults in the place of the sentence (contract §6). */
function expectFaults(reply: Awaited<ReturnType<typeof call>>, place: string): void {
  expect(reply.status, reply.text).toBe(422);
  expect(reply.headers.get("content-type")).toBe("application/problem+json");
  const detail = reply.json["detail"] as { loc: unknown[]; msg: unknown; type: unknown }[];
  expect(detail.length).toBeGreaterThan(0);
  for (const { loc, msg, type, ...more } of detail) {
    expect([loc[0], typeof msg, typeof type, more]).toEqual([place, "string", "string", {}]);
  }
  expectProblem({ ...reply, json: { ...reply.json, detail: reply.json["message"] } }, 422);
}

describe.each(DIALECTS)("threads as the contract has them on %s", (dialect) => {
  let server: TestServer;
  let people: People;
  let token: string;
  let thread: AnsweredThread;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    people = await openPeople(server);
    ({ token } = people.mine);
    thread = await openAnswered(server, people.mine);
  });
  afterAll(() => server.stop());

  test("P13.7: a thread's id that is the name of a route is an absent thread, and no route hides another", async () => {
    for (const name of ["stream", "messages", "progress", "task", "artifacts", "files"]) {
      for (const [operationId, requestFor] of Object.entries(REQUESTS)) {
        const reply = await ask(server, people.mine, requestFor(name, thread.artifactId));
        // of what begins with /stream/ the second segment is the thread's id, whatever it is called
        const isOther = name === "stream" && !["updateThread", "deleteThread", "streamThreadEvents", "getArtifact"].includes(operationId);
        expectProblem(reply, ...(isOther ? [404, 405] : [404]));
      }
    }
    const stream = `${HOME}/stream/${thread.threadId}`;
    const ofThread = `${HOME}/${thread.threadId}`;
    const paths = [
      `${HOME}/stream`,
      `${HOME}/stream/`,
      `${stream}/`,
      `${stream}/extra`,
      `${stream}/messages`,
      `${HOME}/`,
      `${HOME}//messages`,
    ];
    for (const path of [...paths, `${ofThread}/`, `${ofThread}//messages`, `${ofThread}/messages/x`, `${ofThread}/task/x`]) {
      for (const [method, body] of [["GET"], ["DELETE"], ["PATCH", { name: "x" }], ["POST", { message: "x" }]] as const)
        expectProblem(await call(server, method, path, token, body), 404, 405);
    }
    expect((await call(server, "GET", `${HOME}/${thread.threadId}/messages`, token)).json).toMatchObject({ total_message_count: 2 });
  });

  test("P13.9 404: an artifact of another thread under one's own reads like none, whoever's it is, and its own thread still has it", async () => {
    const own = await openAnswered(server, people.mine);
    const theirs = await Promise.all(Object.values(people.others).map(async (other) => openAnswered(server, other)));
    const find = (threadId: string, artifactId: string) => call(server, "GET", `${HOME}/${threadId}/artifacts/${artifactId}`, token);
    const absent = anonymous(await find(own.threadId, randomUUID()));
    for (const { threadId, artifactId } of [thread, ...theirs]) {
      const foreign = await find(own.threadId, artifactId);
      expectProblem(foreign, 404);
      expect(anonymous(foreign)).toEqual(absent);
      if (threadId !== thread.threadId) expect(anonymous(await find(threadId, own.artifactId))).toEqual(absent);
      for (const id of [
        threadId,
        own.threadId,
        artifactId.toUpperCase(),
        `${artifactId}%00`,
        `..%2F..%2F${threadId}%2Fartifacts%2F${artifactId}`,
        "*",
      ])
        expect(anonymous(await find(own.threadId, id)), id).toEqual(absent);
    }
    expect((await find(own.threadId, own.artifactId)).json).toMatchObject({ artifact_id: own.artifactId, artifact: { type: "table" } });
    await call(server, "DELETE", `${HOME}/${own.threadId}`, token);
    expect(anonymous(await find(own.threadId, own.artifactId))).toEqual(absent);
  });

  test("P13.9 404: a fenced block that names another thread's artifact opens nothing", async () => {
    const [theirs] = await Promise.all(Object.values(people.others).map((other) => openAnswered(server, other)));
    const block = `\`\`\`json\n{"type":"output_artifact","artifact_id":"${theirs?.artifactId}"}\n\`\`\``;
    const threadId = await createThread(server, token);
    await sendMessage(server, threadId, token, `slow ${block}`);
    await expect
      .poll(async () => (await call(server, "GET", `${HOME}/${threadId}/progress`, token)).json["progress_data"], { timeout: 10_000 })
      .toMatchObject({ status: "Complete" });
    const { text } = await call(server, "GET", `${HOME}/${threadId}/messages`, token);
    expect(text.split(theirs?.artifactId ?? "").length).toBe(3); // the demo agent has said it again
    expectProblem(await call(server, "GET", `${HOME}/${threadId}/artifacts/${theirs?.artifactId}`, token), 404);
  });

  test("P13.9 422: a file id that names no file of the thread, or is none, and nothing is sent", async () => {
    const before = await rowsOfThread(server, thread.threadId);
    for (const fileIds of [[randomUUID()], [thread.artifactId], ["../../x"], ["\0"], [""], Array(21).fill("x"), "x", [1], {}, [[]]]) {
      const reply = await call(server, "POST", `${HOME}/${thread.threadId}/messages`, token, { message: "x", file_ids: fileIds });
      expectFaults(reply, "body");
    }
    expect(await rowsOfThread(server, thread.threadId)).toEqual(before);
  });

  const list = (query: string) => call(server, "GET", `${HOME}/${thread.threadId}/messages?${query}`, token);

  test.each([
    ...["-1", "-0.5", "1.5", "x", "", "%20", "0x1", "1e1", "1e400", "NaN", "9007199254740993", "1,2", "%00"].map(
      (value) => `start_index=${value}`,
    ),
    ...["-1", "0", "0.5", "x", "", "%20", "0x10", "1e2", "-1e9", "NaN", "Infinity", "null"].map((value) => `limit_num=${value}`),
    ...[
      "10000-01-01",
      "+010000-01-01",
      "-000001-01-01",
      "26-01-01",
      "2026-13-01",
      "2026-02-30T25:00",
      "x",
      "",
      "0",
      "1700000000",
      "2026-W01",
      "now",
    ].map((value) => `start=${encodeURIComponent(value)}`),
    ...["10000-01-01T00:00:00Z", "2026-01-01T00:00:00 01:00", "2026-01-01T24:61:00Z", "2026-01-01T00:00:00+99:99"].map(
      (value) => `end=${encodeURIComponent(value)}`,
    ),
    "start=2026-01-02&end=2026-01-01",
    "start=2026-01-01T00:00:00Z&end=2026-01-01T00:00:00%2B01:00",
    "start=2026-01-01&start=2026-01-02",
    "limit_num=1&limit_num=2",
    "limit=1",
    "order_by=message",
    `start=${"2".repeat(9_000)}`,
  ])("P13.10 422: messages by %s", async (query) => {
    expectFaults(await list(query), "query");
  });

  test("P13.10 200: times naive and with an offset, up to the last year of four digits; a limit over the largest is the largest", async () => {
    const times = [
      "2020-01-01",
      "2020-01-01T00:00",
      "2020-01-01T00:00:00.123456789Z",
      "2020-01-01 00:00:00",
      "2020-01-01T00:00:00-14:00",
      "0001-01-01",
    ];
    for (const start of times) {
      const reply = await list(
        `start=${encodeURIComponent(start)}&end=${encodeURIComponent("9999-12-31T23:59:59.999+00:00")}&limit_num=1000000000`,
      );
      expect(reply.json, start).toMatchObject({ total_message_count: 2, start_index: 0, messages: [{ message: "hello" }, {}] });
    }
    for (const query of ["start=9999-12-31", "end=0001-01-01T00:00:00Z", "start=9999-12-31T23:59:59Z&end=9999-12-31T23:59:59Z"])
      expect((await list(query)).json, query).toEqual({ messages: [], total_message_count: 0, start_index: 0 });
    for (const index of ["2", "9007199254740991"])
      expect((await list(`start_index=${index}`)).json).toEqual({ messages: [], total_message_count: 2, start_index: Number(index) });
  });

  describe("P13.11: who may call", () => {
    const requests = (): Asked[] => [
      { method: "GET", path: HOME },
      { method: "POST", path: HOME, body: { thread_name: "x" } },
      ...Object.values(REQUESTS).map((requestFor) => requestFor(thread.threadId, thread.artifactId)),
    ];
    const expectForbidden = async (bearer: string) => {
      const before = await rowsOfThread(server, thread.threadId);
      for (const request of requests()) {
        const reply = await ask(server, { token: bearer }, request);
        expectProblem(reply, 403);
        expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="insufficient_scope", scope="thread"'));
      }
      expect(await rowsOfThread(server, thread.threadId)).toEqual(before);
    };

    test("P13.11 403: a service account's token on every route, whatever its scope, and a partner that names a user in a header", async () => {
      const { partner, serviceAccount, mine } = people;
      const analytics = await exchange(partner, subjectToken(partner), { form: { scope: "analytics" } });
      for (const bearer of [serviceAccount, String(analytics.json["access_token"])]) await expectForbidden(bearer);
      const headers = { "x-user-id": mine.userId, "x-user": mine.userId };
      expectProblem(await ask(server, { token: serviceAccount }, { method: "GET", path: HOME, headers }), 403);
    });

    test("P13.11 403: a user's token once its partner has lost the scope", async () => {
      const partner = `/partners/${people.partner.clientId}`;
      expect((await admin(server, "PATCH", partner, { allowed_scopes: ["account-management"] })).status).toBe(200);
      await expectForbidden(token);
      expect((await admin(server, "PATCH", partner, { allowed_scopes: ["thread", "account-management", "analytics"] })).status).toBe(200);
      expect((await ask(server, { token }, { method: "GET", path: HOME })).status).toBe(200);
    });
  });
});
