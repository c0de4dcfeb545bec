import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  admin,
  basic,
  createTestPartner,
  ISSUER,
  send,
  sendRaw,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { openCutStage } from "../openapi/stage.ts";
import { BOTH_GRANTS, clientForm, expectEnvelope, FORM_TYPE, OPAQUE_TOKEN_PATH, postForm } from "./expect-envelope.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { parseRawReply } from "./raw.ts";

/* A13, P13.12: every error of the second published endpoint, to the letter of its contract. */

describe("under /v1", () => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer("sqlite", { limitsWrongSecrets: true });
    partner = await createTestPartner(server, BOTH_GRANTS);
  });
  afterAll(() => server.stop());

  const post = (body: string | URLSearchParams, headers?: Record<string, string>, path?: string) => postForm(server, body, headers, path);
  const form = (more: Record<string, string> = {}, client = partner) => clientForm(client, more);
  const raw = async (...lines: readonly string[]) =>
    parseRawReply(await sendRaw(server, [...lines, "Host: cambist.test", "Connection: close", "", ""].join("\r\n")));

  test("401: one answer for an unknown client, a wrong secret, a disabled partner, one of another method; a challenge only to Basic and its like", async () => {
    const disabled = await createTestPartner(server, BOTH_GRANTS);
    await admin(server, "PATCH", `/partners/${disabled.clientId}`, { status: "disabled" });
    const byKey = await createTestPartner(server, { ...BOTH_GRANTS, token_endpoint_auth_method: "private_key_jwt" });
    const pairs = [
      [partner.clientId, "cambist_secret_wrong"],
      [`prt_${"0".repeat(32)}`, partner.clientSecret],
      ["nobody", "nothing"],
      [disabled.clientId, disabled.clientSecret],
      [byKey.clientId, partner.clientSecret],
    ] as const;
    for (const [clientId, clientSecret] of pairs) {
      const inBody = await post(form({ client_id: clientId, client_secret: clientSecret }));
      expectEnvelope(inBody, 401);
      expect(inBody.headers.get("www-authenticate")).toBeNull();
      const byBasic = await post("", { authorization: basic(clientId, clientSecret) });
      expectEnvelope(byBasic, 401);
      expect(byBasic.headers.get("www-authenticate")).toMatch(/^Basic realm=/);
    }
    const token = (await post(form())).json["data"] as { access_token: string };
    for (const authorization of [`Bearer ${token.access_token}`, "Digest x", "Basic %"])
      expectEnvelope(await post("", { authorization }), 401);
  });

  test("403: a partner that is not allowed client credentials, which is every new one", async () => {
    const plain = await createTestPartner(server);
    expectEnvelope(await post(form({}, plain)), 403);
    await admin(server, "PATCH", `/partners/${plain.clientId}`, BOTH_GRANTS);
    expect((await post(form({}, plain))).status).toBe(200);
  });

  test("404: every path that is not there, by every method", async () => {
    for (const path of [
      "/v1",
      "/v1/",
      "/v1?x=/v2",
      "/v1/x",
      "/v1/auth",
      `${OPAQUE_TOKEN_PATH}/`,
      `${OPAQUE_TOKEN_PATH}/x`,
      "/v1//auth/token",
      "/v1/AUTH/TOKEN",
      "/%761/x",
      "/v%31",
    ]) {
      for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) expectEnvelope(await send(server, method, path), 404);
      const head = await send(server, "HEAD", path);
      expect([head.status, head.headers.get("content-type"), head.text], path).toEqual([404, "application/json", ""]);
    }
    expectEnvelope(await raw("GET http://cambist.test/v1/x HTTP/1.1"), 404);
  });

  test("405: any other method of the endpoint, with Allow", async () => {
    for (const method of ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
      const reply = await send(server, method, OPAQUE_TOKEN_PATH);
      expectEnvelope(reply, 405);
      expect(reply.headers.get("allow")).toBe("POST");
    }
    expectEnvelope(await raw(`TRACE ${OPAQUE_TOKEN_PATH} HTTP/1.1`), 405);
    const head = await send(server, "HEAD", OPAQUE_TOKEN_PATH);
    expect([head.status, head.headers.get("allow"), head.text]).toEqual([405, "POST", ""]);
  });

  test("413: a body over the limit, said or not; where there is no endpoint or another method, nobody looks at it", async () => {
    expectEnvelope(await post(form({ scope: "x".repeat(70_000) })), 413);
    const megabytes = "x".repeat(1_100_000);
    expectEnvelope(await send(server, "POST", "/v1/x", { headers: FORM_TYPE, body: megabytes }), 404);
    expectEnvelope(await send(server, "PUT", OPAQUE_TOKEN_PATH, { headers: FORM_TYPE, body: megabytes }), 405);
    const lines = [`POST ${OPAQUE_TOKEN_PATH} HTTP/1.1`, "Host: cambist.test", "Connection: close", "Transfer-Encoding: chunked"];
    const chunked = [...lines, `Content-Type: ${FORM_TYPE["content-type"]}`, "", "11170", "x".repeat(70_000), "0", "", ""].join("\r\n");
    expectEnvelope(parseRawReply(await sendRaw(server, chunked)), 413);
  });

  test("415: a body that is no form, or does not say so", async () => {
    const { clientId: client_id, clientSecret: client_secret } = partner;
    for (const [type, body] of [
      ["application/json", JSON.stringify({ client_id, client_secret })],
      ["multipart/form-data; boundary=x", "--x--"],
      ["text/plain", form().toString()],
      ["application/x-www-form-urlencoded; charset=latin1", form().toString()],
      ["application/x-www-form-urlencoded, application/json", form().toString()],
      ["text", form().toString()],
    ] as const) {
      expectEnvelope(await post(body, { "content-type": type }), 415);
    }
    expectEnvelope(await raw(`POST ${OPAQUE_TOKEN_PATH} HTTP/1.1`, "Content-Length: 0"), 415);
  });

  test("429: the partner's limit, and too many wrong secrets; when to come back is said in each form", async () => {
    const limited = await createTestPartner(server, { ...BOTH_GRANTS, rate_limits: { requests_per_minute: 1 } });
    const granted = await post(form({}, limited));
    expect(granted.status).toBe(200);
    expect(granted.headers.get("x-ratelimit-limit")).toBe("1");
    const usedUp = await post(form({}, limited));
    const guess = () => post(form({ client_secret: "wrong" }, limited));
    let guessed = await guess();
    for (let n = 0; n < 50 && guessed.status === 401; n++) guessed = await guess();
    for (const { headers, ...reply } of [usedUp, guessed]) {
      expectEnvelope({ headers, ...reply }, 429);
      expect(Number(headers.get("x-ratelimit-limit"))).toBeGreaterThanOrEqual(1);
      expect(headers.get("x-ratelimit-remaining")).toBe("0");
      expect(Number(headers.get("x-ratelimit-reset"))).toBeGreaterThanOrEqual(1);
      expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(Number(headers.get("x-ratelimit-reset")));
    }
    expect(usedUp.headers.get("x-ratelimit-limit")).toBe("1");
  });

  test("what is not HTTP enough to have a path is answered in the server's own form", async () => {
    for (const [lines, status] of [
      [[`GET ${OPAQUE_TOKEN_PATH} HTTP/1.1`, `X: ${"x".repeat(20_000)}`], 431],
      [["GET /v1 x HTTP/1.1"], 400],
    ] as const) {
      const reply = await raw(...lines);
      expect([reply.status, reply.headers.get("content-type")]).toEqual([status, "application/problem+json"]);
    }
  });

  test("and nowhere else", async () => {
    for (const path of ["/v10", "/v1x/auth/token", "/V1/auth/token", "/v2/auth/token", "/x/v1/auth/token", "/?/v1/"]) {
      const reply = await send(server, "GET", path);
      expect([reply.status, reply.headers.get("content-type")], path).toEqual([404, "application/problem+json"]);
    }
  });
});

test("a public URL with a path: the same under it, and without it", async () => {
  const server = await startTestServer("sqlite", { publicUrl: `${ISSUER}/some/base` });
  try {
    const { clientId, clientSecret } = await createTestPartner(server, BOTH_GRANTS);
    const body = new URLSearchParams({ client_id: clientId, client_secret: clientSecret }).toString();
    for (const base of ["", "/some/base"]) {
      expect((await send(server, "POST", `${base}${OPAQUE_TOKEN_PATH}`, { headers: FORM_TYPE, body })).status).toBe(200);
      expectEnvelope(await send(server, "POST", `${base}${OPAQUE_TOKEN_PATH}`, { headers: FORM_TYPE }), 400, {
        client_id: "is missing",
        client_secret: "is missing",
      });
      for (const path of ["/v1", "/v1/x"]) expectEnvelope(await send(server, "GET", `${base}${path}`), 404);
      expectEnvelope(await send(server, "GET", `${base}/v1/%zz`), 400);
      expectEnvelope(await send(server, "GET", `${base}${OPAQUE_TOKEN_PATH}`), 405);
    }
  } finally {
    await server.stop();
  }
});

test("500: a fault of the server, in the handler and before it, says nothing of what it is", async () => {
  const server = await startTestServer("sqlite");
  try {
    const { clientId, clientSecret } = await createTestPartner(server, BOTH_GRANTS);
    const body = new URLSearchParams({ client_id: clientId, client_secret: clientSecret }).toString();
    for (const table of ["opaque_tokens", "exchanges"]) {
      await server.database.query(`ALTER TABLE ${table} RENAME TO lost_${table}`);
      expectEnvelope(await send(server, "POST", OPAQUE_TOKEN_PATH, { headers: FORM_TYPE, body }), 500);
    }
    expectEnvelope(await send(server, "GET", OPAQUE_TOKEN_PATH), 500);
    expectEnvelope(await send(server, "POST", OPAQUE_TOKEN_PATH, { headers: FORM_TYPE, body: "x".repeat(70_000) }), 500);
    expectNothingSecretLogged(server);
  } finally {
    await server.stop();
  }
});

test("503: the store is away, with Retry-After, whatever was asked", async () => {
  const stage = await openCutStage();
  try {
    const { clientId, clientSecret } = stage.partner;
    const body = new URLSearchParams({ client_id: clientId, client_secret: clientSecret }).toString();
    const replies = await Promise.all([
      send(stage.server, "POST", OPAQUE_TOKEN_PATH, { headers: FORM_TYPE, body }),
      send(stage.server, "POST", OPAQUE_TOKEN_PATH, { headers: FORM_TYPE, body: "grant_type=x" }),
      send(stage.server, "GET", OPAQUE_TOKEN_PATH),
    ]);
    for (const reply of replies) {
      expectEnvelope(reply, 503);
      expect(Number(reply.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    }
    expectEnvelope(await send(stage.server, "GET", "/v1/x"), 404);
  } finally {
    await stage.stop();
  }
});
