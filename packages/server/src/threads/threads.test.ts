import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { createTalker, createThread, isComplete, openStream, sendMessage, talkerToken } from "../testing/event-stream.ts";
import { call, createTestPartner, createTestUser, send, startTestServer, type TestPartner, type TestServer } from "../testing/server.ts";

describe.each(DIALECTS)("threads on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
    ({ token } = await createTalker(partner));
  });
  afterAll(() => server.stop());

  const threadsOf = (of: string, query = "") => call(server, "GET", `/v2/threads${query}`, of);
  const names = (json: Record<string, unknown>) => (json["threads"] as { thread_name: string }[]).map((thread) => thread.thread_name);

  describe("200", () => {
    test("a thread is created, listed, renamed and deleted, with the contract's members and no others", async () => {
      const mine = await createTalker(partner);
      const made = await call(server, "POST", "/v2/threads", mine.token, { thread_name: "Budget" });
      expect(made.status).toBe(200);
      expect(made.json).toEqual({ thread_id: expect.stringMatching(/^[0-9a-f-]{36}$/) });
      const { thread_id: id } = made.json as { thread_id: string };
      const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string;
      const listed = { thread_id: id, thread_name: "Budget", created_at: time, updated_at: time };
      expect((await threadsOf(mine.token)).json).toEqual({ threads: [listed], next_cursor: null });
      const renamed = await call(server, "PATCH", `/v2/threads/${id}`, mine.token, { name: "Budget 2027" });
      expect([renamed.status, renamed.json]).toEqual([200, { success: true }]);
      expect(names((await threadsOf(mine.token)).json)).toEqual(["Budget 2027"]);
      const deleted = await call(server, "DELETE", `/v2/threads/${id}`, mine.token);
      expect([deleted.status, deleted.json]).toEqual([200, { success: true }]);
      expect((await threadsOf(mine.token)).json).toEqual({ threads: [], next_cursor: null });
      expect((await call(server, "DELETE", `/v2/threads/${id}`, mine.token)).status).toBe(404);
    });

    test("a list goes on behind its cursor, newest first, and gives each thread once, also when one is made or deleted meanwhile", async () => {
      const mine = await createTalker(partner);
      for (let n = 1; n <= 7; n++) {
        server.clock.offsetMs++; // two of one millisecond have no order
        await createThread(server, mine.token, `Thread ${n}`);
      }
      const first = (await threadsOf(mine.token, "?limit=3")).json;
      expect(names(first)).toEqual(["Thread 7", "Thread 6", "Thread 5"]);
      server.clock.offsetMs++;
      await createThread(server, mine.token, "Thread 8");
      const [{ thread_id: shown }] = first["threads"] as [{ thread_id: string }];
      await call(server, "DELETE", `/v2/threads/${shown}`, mine.token);
      const second = (await threadsOf(mine.token, `?limit=3&cursor=${String(first["next_cursor"])}`)).json;
      expect(names(second)).toEqual(["Thread 4", "Thread 3", "Thread 2"]);
      const third = (await threadsOf(mine.token, `?limit=3&cursor=${String(second["next_cursor"])}`)).json;
      expect([names(third), third["next_cursor"]]).toEqual([["Thread 1"], null]);
    });

    test("an answer: both messages with their members, artifact and citation, the progress of it, and a thread that is updated", async () => {
      const id = await createThread(server, token);
      expect((await call(server, "GET", `/v2/threads/${id}/progress`, token)).json).toEqual({ progress_data: null });
      const { messageId, lastEventId } = await sendMessage(server, id, token, "Hello there");
      const stream = await openStream(server, id, token, { "last-event-id": lastEventId });
      const answer = (await stream.until(isComplete)).find(({ kind }) => kind === "message")?.data;
      stream.close();
      const { json } = await call(server, "GET", `/v2/threads/${id}/messages`, token);
      expect(json).toMatchObject({ total_message_count: 2, start_index: 0 });
      const [asked, answered] = json["messages"] as Record<string, unknown>[];
      const time = expect.stringMatching(/Z$/) as string;
      expect(asked).toEqual({ message_id: messageId, message: "Hello there", is_user_message: true, message_time: time, citations: [] });
      expect(answered).toEqual(answer);
      expect(answered).toMatchObject({ is_user_message: false, citations: [{ title: expect.any(String) as string }] });
      const [, block] = /```json\n(.*)\n```/.exec(String(answered?.["message"])) ?? [];
      const reference = JSON.parse(block ?? "") as { type: string; artifact_id: string };
      expect(reference).toEqual({ type: "output_artifact", artifact_id: expect.any(String) as string });
      const artifact = await call(server, "GET", `/v2/threads/${id}/artifacts/${reference.artifact_id}`, token);
      expect(artifact.json).toMatchObject({ artifact_id: reference.artifact_id, artifact: { type: "table" } });
      const progress = (await call(server, "GET", `/v2/threads/${id}/progress`, token)).json["progress_data"];
      expect(progress).toEqual({ log: expect.stringMatching(/\w/) as string, status: "Complete" });
    });

    test("a message comes as a form, too, byte for byte what was sent", async () => {
      const id = await createThread(server, token);
      const message = "line 1\r\nline 2\n\ndata: x & é=%41+€ 🦊 \u0000";
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/x-www-form-urlencoded" };
      const sent = await send(server, "POST", `/v2/threads/${id}/messages`, { headers, body: new URLSearchParams({ message }).toString() });
      expect(sent.status).toBe(200);
      const { json } = await call(server, "GET", `/v2/threads/${id}/messages`, token);
      expect((json["messages"] as { message: string }[])[0]?.message).toBe(message);
    });

    test("messages are paged from the newest back, oldest first within a page, and counted between two times", async () => {
      const id = await createThread(server, token);
      const partnerId = partner.clientId;
      const day = Date.UTC(2026, 0, 1);
      for (let n = 0; n < 9; n++) {
        await server.database.query(
          `INSERT INTO thread_messages (partner_id, thread_id, position, message_id, task_id, is_user_message, message, citations, sent_at)
            VALUES ($1, $2, $3, $4, $4, 1, $5, '[]', $6)`,
          [partnerId, id, n, `00000000-0000-4000-8000-00000000000${n}`, JSON.stringify(`m${n}`), day + n * 86_400_000],
        );
      }
      await server.database.query("UPDATE threads SET message_count = 9 WHERE partner_id = $1 AND thread_id = $2", [partnerId, id]);
      const list = async (query: string) => {
        const { json } = await call(server, "GET", `/v2/threads/${id}/messages?${query}`, token);
        return [
          (json["messages"] as { message: string }[]).map(({ message }) => message).join(" "),
          json["total_message_count"],
          json["start_index"],
        ];
      };
      expect(await list("")).toEqual(["m0 m1 m2 m3 m4 m5 m6 m7 m8", 9, 0]);
      expect(await list("limit_num=3")).toEqual(["m6 m7 m8", 9, 0]);
      expect(await list("limit_num=3&start_index=3")).toEqual(["m3 m4 m5", 9, 3]);
      expect(await list("limit_num=5&start_index=7")).toEqual(["m0 m1", 9, 7]);
      expect(await list("start_index=9")).toEqual(["", 9, 9]);
      expect(await list("limit_num=1000000000")).toEqual(["m0 m1 m2 m3 m4 m5 m6 m7 m8", 9, 0]);
      expect(await list("start=2026-01-03&end=2026-01-05")).toEqual(["m2 m3 m4", 3, 0]);
      expect(await list("start=2026-01-03T02:00:00%2B02:00&end=2026-01-05T00:00:00&limit_num=1&start_index=1")).toEqual(["m3", 3, 1]);
      expect(await list("start=2026-01-09T00:00:00.001Z")).toEqual(["", 0, 0]);
    });

    test("an agent gets what was said before, and what its user, workspace and organization are entitled to, each once", async () => {
      const user = await createTestUser(partner, { entitlements: [{ billing_feature_id: "charts" }, { billing_feature_id: "pro" }] });
      const mine = await talkerToken(partner, user.userId);
      const id = await createThread(server, mine);
      for (const message of ["First", "Second"]) {
        const { lastEventId } = await sendMessage(server, id, mine, message);
        const stream = await openStream(server, id, mine, { "last-event-id": lastEventId });
        const text = String((await stream.until(isComplete)).find(({ kind }) => kind === "message")?.data["message"]);
        expect(text).toContain(message === "First" ? "0 earlier" : "2 earlier");
        expect(text).toMatch(/charts.*pro/);
        stream.close();
      }
    });
  });

  describe("404 hides existence", () => {
    test("of a thread of another user of the same workspace, of another partner, and of what can be no id: on every route", async () => {
      const { workspaceId } = await createTalker(partner);
      const serviceToken = await (await import("../testing/server.ts")).serviceAccountToken(partner);
      const users = await Promise.all(
        [1, 2].map(async () => {
          const made = await call(server, "PUT", "/v2/account-management/user", serviceToken, { workspace_id: workspaceId });
          return talkerToken(partner, (made.json as { user: { user_id: string } }).user.user_id);
        }),
      );
      const [mine = "", other = ""] = users;
      const id = await createThread(server, mine);
      const strangers = [other, (await createTalker(await createTestPartner(server))).token];
      const requests = (thread: string): readonly (readonly [string, string, unknown?])[] => [
        ["PATCH", `/v2/threads/${thread}`, { name: "x" }],
        ["DELETE", `/v2/threads/${thread}`],
        ["GET", `/v2/threads/${thread}/messages`],
        ["POST", `/v2/threads/${thread}/messages`, { message: "x" }],
        ["GET", `/v2/threads/${thread}/progress`],
        ["DELETE", `/v2/threads/${thread}/task`],
        ["GET", `/v2/threads/stream/${thread}`],
        ["GET", `/v2/threads/${thread}/artifacts/00000000-0000-4000-8000-000000000000`],
      ];
      for (const stranger of strangers) {
        for (const thread of [id, "00000000-0000-4000-8000-000000000000", "nothing", `${id}0`, "%00"]) {
          for (const [method, path, body] of requests(thread)) {
            const reply = await call(server, method, path, stranger, body);
            expect([reply.status, reply.json["detail"]], `${method} ${path}`).toEqual([
              404,
              `There is no such ${path.includes("artifacts") ? "artifact" : "thread"}.`,
            ]);
          }
        }
      }
      expect((await call(server, "GET", `/v2/threads/${id}/messages`, mine)).json).toMatchObject({ total_message_count: 0 });
      expect(names((await threadsOf(mine)).json)).toEqual(["A thread"]);
    });
  });

  test("422: what is not valid is named as the reference names it, beside the problem's own members", async () => {
    const id = await createThread(server, token);
    const missing = await call(server, "POST", `/v2/threads/${id}/messages`, token, {});
    expect(missing.headers.get("content-type")).toBe("application/problem+json");
    expect(missing.json).toMatchObject({
      status: 422,
      detail: [{ loc: ["body", "message"], msg: "is missing", type: "missing" }],
      message: "message: is missing",
      errors: [{ field: "message", message: "is missing" }],
      success: false,
    });
    const bad: readonly (readonly [string, string, unknown, readonly (string | number)[]])[] = [
      ["POST", "/v2/threads", { thread_name: "" }, ["body", "thread_name"]],
      ["POST", "/v2/threads", { thread_name: "x".repeat(256) }, ["body", "thread_name"]],
      ["POST", "/v2/threads", { thread_name: "a\nb" }, ["body", "thread_name"]],
      ["POST", "/v2/threads", { thread_name: "a", more: 1 }, ["body", "more"]],
      ["PATCH", `/v2/threads/${id}`, { name: 7 }, ["body", "name"]],
      ["POST", `/v2/threads/${id}/messages`, { message: "" }, ["body", "message"]],
      ["POST", `/v2/threads/${id}/messages`, { message: "x".repeat(100_001) }, ["body", "message"]],
      ["POST", `/v2/threads/${id}/messages`, { message: "x", file_ids: ["f"] }, ["body", "file_ids", 0]],
      ["GET", "/v2/threads?limit=0", undefined, ["query", "limit"]],
      ["GET", "/v2/threads?cursor=x", undefined, ["query", "cursor"]],
      ["GET", `/v2/threads/${id}/messages?start_index=-1`, undefined, ["query", "start_index"]],
      ["GET", `/v2/threads/${id}/messages?start=10000-01-01`, undefined, ["query", "start"]],
      ["GET", `/v2/threads/${id}/messages?start=2026-02-30T25:00:00Z`, undefined, ["query", "start"]],
      ["GET", `/v2/threads/${id}/messages?end=2026-02-29`, undefined, ["query", "end"]],
      ["GET", `/v2/threads/${id}/messages?start=2026-01-02&end=2026-01-01`, undefined, ["query", "start"]],
    ];
    for (const [method, path, body, loc] of bad) {
      const reply = await call(server, method, path, token, body);
      expect(
        [reply.status, (reply.json["detail"] as { loc: unknown }[])[0]?.loc],
        `${method} ${path} ${JSON.stringify(body)?.slice(0, 80)}`,
      ).toEqual([422, loc]);
    }
  });

  test("409: of messages that wait, one too many is not stored", async () => {
    const id = await createThread(server, token);
    const sent = await Promise.all(
      Array.from({ length: 40 }, () => call(server, "POST", `/v2/threads/${id}/messages`, token, { message: "slow and slow and slow" })),
    );
    const stored = sent.filter(({ status }) => status === 200).length;
    expect(sent.every(({ status }) => status === 200 || status === 409)).toBe(true);
    expect(stored).toBeGreaterThanOrEqual(20);
    expect(stored).toBeLessThan(40);
    const { json } = await call(server, "GET", `/v2/threads/${id}/messages?limit_num=200`, token);
    expect((json["messages"] as { is_user_message: boolean }[]).filter((message) => message.is_user_message)).toHaveLength(stored);
    await call(server, "DELETE", `/v2/threads/${id}`, token);
  });
});
