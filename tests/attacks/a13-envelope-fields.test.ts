import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  basic,
  createTestPartner,
  ISSUER,
  send,
  sendRaw,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { BOTH_GRANTS, clientForm, expectEnvelope, FORM_TYPE, OPAQUE_TOKEN_PATH, postForm } from "./expect-envelope.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { parseRawReply } from "./raw.ts";

/* A13, P13.12: the requests of the second published token endpoint, and which of their fields it finds at fault. */

describe("POST /v1/auth/token", () => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    partner = await createTestPartner(server, BOTH_GRANTS);
  });
  afterAll(() => server.stop());

  const post = (body: string | URLSearchParams, headers?: Record<string, string>, path?: string) => postForm(server, body, headers, path);
  const form = (more: Record<string, string> = {}, client = partner) => clientForm(client, more);
  const raw = async (...lines: readonly string[]) =>
    parseRawReply(await sendRaw(server, [...lines, "Host: cambist.test", "Connection: close", "", ""].join("\r\n")));

  test.each([
    ["as published", {}],
    ["with the grant named", { grant_type: "client_credentials" }],
    ["with a scope", { scope: "analytics" }],
    ["with parameters that it does not know", { device: "x", audience: `${ISSUER}/v2` }],
  ])("200: the sample request, %s", async (_what, more) => {
    const reply = await post(form(more));
    expect({ status: reply.status, json: reply.json }).toEqual({
      status: 200,
      json: { data: { access_token: expect.stringMatching(/^sk-[0-9a-f]{32}$/) as unknown, token_type: "Bearer", expires_in: 3600 } },
    });
    expect(reply.headers.get("content-type")).toBe("application/json");
    expect(reply.headers.get("cache-control")).toBe("no-store");
    expect(reply.headers.get("pragma")).toBe("no-cache");
  });

  test("200: by HTTP Basic", async () => {
    expect((await post("", { authorization: basic(partner.clientId, partner.clientSecret) })).status).toBe(200);
  });

  describe("400: the fields at fault, and no others", () => {
    test.each<[string, Record<string, string | undefined>, Record<string, string>]>([
      ["no field at all", { client_id: undefined, client_secret: undefined }, { client_id: "is missing", client_secret: "is missing" }],
      ["no secret", { client_secret: undefined }, { client_secret: "is missing" }],
      ["an empty secret", { client_secret: "" }, { client_secret: "is missing" }],
      ["no client id", { client_id: undefined }, { client_id: "is missing" }],
      ["another grant", { grant_type: "password" }, { grant_type: "must be client_credentials, or left out" }],
      [
        "the grant of the other endpoint",
        { grant_type: "urn:ietf:params:oauth:grant-type:token-exchange" },
        { grant_type: "must be client_credentials, or left out" },
      ],
      ["a scope for users", { scope: "thread" }, { scope: "scope 'thread' is not for a service account." }],
      [
        "one that it may have beside one that it may not",
        { scope: "analytics thread" },
        { scope: "scope 'thread' is not for a service account." },
      ],
      ["an unknown scope", { scope: "admin" }, { scope: "scope 'admin' does not exist." }],
      ["a malformed scope", { scope: "a  b" }, { scope: "scope is not a list of names with single spaces between them." }],
      [
        "another API",
        { audience: "https://x.example" },
        { audience: `audience is not an API that this partner may have tokens for; leave it out, or send ${ISSUER}/v2.` },
      ],
      [
        "an assertion of an unknown type",
        { client_secret: undefined, client_assertion: "x", client_assertion_type: "x" },
        { client_assertion_type: "client_assertion_type 'x' is not offered; send urn:ietf:params:oauth:client-assertion-type:jwt-bearer." },
      ],
      [
        "half an assertion",
        { client_secret: undefined, client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" },
        { client_assertion: "is missing" },
      ],
    ])("%s", async (_what, changes, trace) => {
      const body = form();
      for (const [name, value] of Object.entries(changes)) {
        if (value === undefined) body.delete(name);
        else body.set(name, value);
      }
      expectEnvelope(await post(body), 400, trace);
    });

    test("half of a Basic pair", async () => {
      for (const [pair, trace] of [
        [`${partner.clientId}:`, { client_secret: "is missing" }],
        [":", { client_id: "is missing", client_secret: "is missing" }],
      ] as const) {
        const reply = await post("", { authorization: `Basic ${Buffer.from(pair).toString("base64")}` });
        expectEnvelope(reply, 400, trace);
        expect(reply.headers.get("www-authenticate")).toBeNull();
      }
    });

    test("another client id beside Basic", async () => {
      const reply = await post("client_id=other", { authorization: basic(partner.clientId, partner.clientSecret) });
      const description = "client_id in the body differs from the one in the Authorization header or the client_assertion.";
      expectEnvelope(reply, 400, { client_id: description });
    });

    test("a scope that exists and is not allowed to the partner; P7.7: never fewer in its place", async () => {
      const narrow = await createTestPartner(server, { ...BOTH_GRANTS, allowed_scopes: ["account-management"] });
      const reason = "scope 'analytics' is not allowed for this partner; the operator can allow it.";
      for (const scope of ["analytics", "account-management analytics"])
        expectEnvelope(await post(form({ scope }, narrow)), 400, { scope: reason });
      const users = await createTestPartner(server, { ...BOTH_GRANTS, allowed_scopes: ["thread"] });
      expectEnvelope(await post(form({}, users)), 400, { scope: "No scope of this partner is for a service account." });
    });

    test("a parameter twice, by its name, were it what it may", async () => {
      expectEnvelope(await post(`${form().toString()}&client_id=x`), 400, {
        client_id: "'client_id' is given more than once; send it once.",
      });
      for (const name of ["__proto__", "constructor", "é".repeat(100)]) {
        const encoded = encodeURIComponent(name);
        const shown = name.replaceAll("é", "?").slice(0, 80);
        const reply = await post(`${encoded}=1&${encoded}=2`);
        expectEnvelope(
          reply,
          400,
          JSON.parse(`{${JSON.stringify(shown)}: 0}`, (key, value: unknown) => (key === shown ? expect.any(String) : value)),
        );
      }
      for (const secret of [partner.clientSecret, `sk-${"0123456789abcdef".repeat(2)}`]) {
        const reply = await post(`${secret}&${secret}`);
        expect(reply.status).toBe(400);
        expect(reply.text).not.toContain(secret);
        expect(reply.text).toContain("redacted");
      }
      expectNothingSecretLogged(server);
    });

    test("no field, where none is at fault", async () => {
      const { clientId, clientSecret } = partner;
      const authorization = basic(clientId, clientSecret);
      const replies = await Promise.all([
        post("client_id=%zz"),
        post("client_id=%ff"),
        post(`é=${form().toString()}`),
        post(form(), { authorization }),
        post(form(), { dpop: "x" }),
        post(form(), {}, `${OPAQUE_TOKEN_PATH}?x=1`),
        post(Array.from({ length: 65 }, (_, n) => `p${n}=1`).join("&")),
        raw(
          `POST ${OPAQUE_TOKEN_PATH} HTTP/1.1`,
          `Authorization: ${authorization}`,
          `Authorization: ${authorization}`,
          "Content-Length: 0",
          `Content-Type: ${FORM_TYPE["content-type"]}`,
        ),
        send(server, "GET", "/v1/%zz"),
        send(server, "POST", "/v1/auth/%c3", { headers: FORM_TYPE, body: form().toString() }),
      ]);
      for (const reply of replies) expectEnvelope(reply, 400);
    });
  });
});
