import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { call, createTestPartner, createTestUser, exchange, startTestServer, subjectToken, type TestServer } from "../testing/server.ts";

describe.each(DIALECTS)("threads on %s", (dialect) => {
  let server: TestServer;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    const partner = await createTestPartner(server);
    const user = await createTestUser(partner);
    token = String((await exchange(partner, subjectToken(partner, { sub: user.userId }))).json["access_token"]);
  });
  afterAll(() => server.stop());

  test("smoke", async () => {
    const made = await call(server, "POST", "/v2/threads", token, { thread_name: "One" });
    console.log(made.status, made.text);
    const id = String(made.json["thread_id"]);
    const abort = new AbortController();
    const stream = await fetch(`${server.url}/v2/threads/stream/${id}`, { headers: { authorization: `Bearer ${token}` }, signal: abort.signal });
    console.log(stream.status, Object.fromEntries(stream.headers));
    const sentAt = performance.now();
    const sent = await call(server, "POST", `/v2/threads/${id}/messages`, token, { message: "Hello there" });
    console.log(sent.status, sent.text, Object.fromEntries(sent.headers));
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream.body as unknown as AsyncIterable<Uint8Array>) {
      if (text.split("\n\n").length < 4) console.log("at", performance.now() - sentAt);
      text += decoder.decode(chunk);
      if (text.includes("Complete")) break;
    }
    abort.abort();
    console.log(text);
    console.log((await call(server, "GET", `/v2/threads/${id}/messages`, token)).text);
    console.log((await call(server, "GET", `/v2/threads/${id}/progress`, token)).text);
    console.log((await call(server, "GET", `/v2/threads`, token)).text);
    console.log((await call(server, "GET", `/v2/threads/${id}/messages?limit_num=0`, token)).text);
    expect(1).toBe(1);
  });
});
