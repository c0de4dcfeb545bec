import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../packages/server/src/testing/database.ts";
import { makeTestKey, type Part, signJwt } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  exchange,
  ISSUER,
  recordedExchange,
  type Reply,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../packages/server/src/testing/server.ts";
import { expectRefusal } from "./attacks/expect-refusal.ts";

const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const ASSERTION_TYP = "client-authentication+jwt";
const key = makeTestKey("ES256", "key-1");
const NOT_AUTHENTICATED = { status: 401, error: "invalid_client", code: "client_not_authenticated" } as const;
const INVALID = { status: 401, error: "invalid_client", code: "client_assertion_invalid" } as const;

function assertion(
  partner: TestPartner,
  changes: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
  signer = partner.key,
): string {
  const now = partner.server.nowSeconds();
  const claims = { iss: partner.clientId, sub: partner.clientId, aud: ISSUER, iat: now, exp: now + 60, jti: randomUUID(), ...changes };
  return signJwt({ alg: signer.algorithm, kid: signer.kid, typ: ASSERTION_TYP, ...header }, claims satisfies Part, signer);
}

function exchangeWith(
  partner: TestPartner,
  client_assertion: string,
  form: Record<string, string | undefined> = {},
  token?: string,
): Promise<Reply> {
  const fields = { client_assertion, client_assertion_type: ASSERTION_TYPE, ...form };
  return exchange(partner, token ?? subjectToken(partner), { auth: "none", form: fields });
}

describe.each(DIALECTS)("private_key_jwt (RFC 7523 §2.2 §3) on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server, { token_endpoint_auth_method: "private_key_jwt" }, key);
  });
  afterAll(() => server.stop());

  test("201: such a partner gets no secret", async () => {
    const jwks = { keys: [key.publicJwk] };
    const reply = await admin(server, "POST", "/partners", { name: "x", jwks, token_endpoint_auth_method: "private_key_jwt" });
    expect(reply).toMatchObject({ status: 201, json: { client_secret: null, partner: { token_endpoint_auth_method: "private_key_jwt" } } });
    const { client_id } = reply.json["partner"] as { client_id: string };
    expect(await server.database.query("SELECT 1 FROM partner_secrets WHERE partner_id = $1", [client_id])).toEqual([]);
  });

  test("200: an assertion in place of a secret, with and without client_id", async () => {
    expect((await exchangeWith(partner, assertion(partner))).status).toBe(200);
    expect((await exchangeWith(partner, assertion(partner), { client_id: partner.clientId })).status).toBe(200);
  });

  test.each([
    ["aud as an array of one", { aud: [ISSUER] }, {}],
    ["typ as a media type in capitals", {}, { typ: "application/Client-Authentication+JWT" }],
    ["no jti", { jti: undefined }, {}],
  ])("200: %s", async (_what, claims, header) => {
    expect((await exchangeWith(partner, assertion(partner, claims, header))).status).toBe(200);
  });

  describe("one kind of token never serves as the other", () => {
    test("401: a subject token of the service account as assertion", async () => {
      await expectRefusal(server, await exchangeWith(partner, subjectToken(partner)), INVALID);
    });

    test.each([undefined, "JWT", "at+jwt", "jwt-authentication+jwt", "client-authentication"])("401: typ %j", async (typ) => {
      await expectRefusal(server, await exchangeWith(partner, assertion(partner, {}, { typ })), INVALID);
    });

    test("400: an assertion as subject token", async () => {
      const reply = await exchangeWith(partner, assertion(partner), {}, assertion(partner));
      await expectRefusal(server, reply, { code: "jwt_typ_unexpected" });
    });
  });

  describe("one way to authenticate", () => {
    test("401: a secret, also one that the operator added", async () => {
      await expectRefusal(
        server,
        await exchange({ ...partner, clientSecret: "cambist_secret_x" }, subjectToken(partner)),
        NOT_AUTHENTICATED,
      );
      const added = await admin(server, "POST", `/partners/${partner.clientId}/secrets`);
      const withSecret = { ...partner, clientSecret: String(added.json["client_secret"]) };
      const reply = await exchange(withSecret, subjectToken(partner));
      await expectRefusal(server, reply, NOT_AUTHENTICATED);
      expect((await recordedExchange(server, String(reply.json["trace_id"])))?.["refusal_detail"]).toContain("wrong_method");
    });

    test("401: an assertion of a partner that has a secret", async () => {
      const other = await createTestPartner(server, {}, key);
      await expectRefusal(server, await exchangeWith(other, assertion(other)), NOT_AUTHENTICATED);
      expect((await exchange(other, subjectToken(other))).status).toBe(200);
    });

    test("400: both at once", async () => {
      const multiple = { code: "client_authentication_multiple" } as const;
      await expectRefusal(server, await exchangeWith(partner, assertion(partner), { client_id: "x", client_secret: "y" }), multiple);
    });

    test("from secret to key and back, by PATCH, at the next request", async () => {
      const moving = await createTestPartner(server, {}, key);
      const set = (token_endpoint_auth_method: string) =>
        admin(server, "PATCH", `/partners/${moving.clientId}`, { token_endpoint_auth_method });
      await set("private_key_jwt");
      expect((await exchangeWith(moving, assertion(moving))).status).toBe(200);
      expect((await exchange(moving, subjectToken(moving))).status).toBe(401);
      await set("client_secret");
      expect((await exchangeWith(moving, assertion(moving))).status).toBe(401);
      expect((await exchange(moving, subjectToken(moving))).status).toBe(200);
    });
  });

  describe("spent once, in the space of the subject tokens", () => {
    test("401: an assertion twice", async () => {
      const once = assertion(partner);
      expect((await exchangeWith(partner, once)).status).toBe(200);
      await expectRefusal(server, await exchangeWith(partner, once), { ...INVALID, code: "client_assertion_replayed" });
    });

    test("401: without jti, the same content under another signature", async () => {
      const claims = { jti: undefined, iat: server.nowSeconds() - 1, exp: server.nowSeconds() + 61 };
      expect((await exchangeWith(partner, assertion(partner, claims))).status).toBe(200); // ECDSA: each signature is another
      await expectRefusal(server, await exchangeWith(partner, assertion(partner, claims)), {
        ...INVALID,
        code: "client_assertion_replayed",
      });
    });

    test("401: the jti of a subject token that was exchanged, and the reverse", async () => {
      const [first, second] = [randomUUID(), randomUUID()];
      expect((await exchangeWith(partner, assertion(partner), {}, subjectToken(partner, { jti: first }))).status).toBe(200);
      await expectRefusal(server, await exchangeWith(partner, assertion(partner, { jti: first })), {
        ...INVALID,
        code: "client_assertion_replayed",
      });
      expect((await exchangeWith(partner, assertion(partner, { jti: second }))).status).toBe(200);
      const reply = await exchangeWith(partner, assertion(partner), {}, subjectToken(partner, { jti: second }));
      await expectRefusal(server, reply, { code: "token_replayed" });
    });

    test("also where the partner's subject tokens may be used again", async () => {
      const reusable = await createTestPartner(server, { token_endpoint_auth_method: "private_key_jwt", replay: "reusable" }, key);
      const [once, token] = [assertion(reusable), subjectToken(reusable)];
      expect((await exchangeWith(reusable, once, {}, token)).status).toBe(200);
      expect((await exchangeWith(reusable, assertion(reusable), {}, token)).status).toBe(200);
      expect((await exchangeWith(reusable, once, {}, token)).status).toBe(401);
    });

    test("of 32 requests at once with one assertion, one is granted", async () => {
      const once = assertion(partner);
      const replies = await Promise.all(Array.from({ length: 32 }, () => exchangeWith(partner, once)));
      expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(replies.filter(({ status }) => status === 401)).toHaveLength(31);
    });
  });

  describe("401: what the assertion says is wrong, told to the one who holds the key", () => {
    test.each([
      [
        "aud of the token endpoint",
        { aud: `${ISSUER}/oauth2/token` },
        /^Client assertion: aud is 'https:\/\/cambist.test\/oauth2\/token'; expected/,
      ],
      ["two audiences", { aud: [ISSUER, "https://other.example"] }, /^Client assertion: aud is 'an array of 2'/],
      ["no aud", { aud: undefined }, /aud is missing/],
      ["iss of another", { iss: "https://issuer.example" }, /iss is 'https:\/\/issuer.example'; expected/],
      ["no iss", { iss: undefined }, /iss is missing/],
      ["no exp", { exp: undefined }, /exp is missing/],
      ["no iat", { iat: undefined }, /iat is missing/],
      ["expired", { iat: 1_700_000_000, exp: 1_700_000_060 }, /exp is \d+ s in the past/],
      ["a jti that is a number", { jti: 7 }, /jti must be/],
    ])("%s", async (_what, claims, description) => {
      const reply = await exchangeWith(partner, assertion(partner, claims));
      await expectRefusal(server, reply, INVALID);
      expect(reply.json["error_description"]).toMatch(description);
    });

    test("the registered issuer is that of subject tokens; an assertion has the client id", async () => {
      const issuer = `https://idp-${randomUUID()}.example`;
      const federated = await createTestPartner(server, { token_endpoint_auth_method: "private_key_jwt", issuer }, key);
      const token = () => subjectToken(federated, { iss: issuer });
      expect((await exchangeWith(federated, assertion(federated), {}, token())).status).toBe(200);
      await expectRefusal(server, await exchangeWith(federated, assertion(federated, { iss: issuer }), {}, token()), INVALID);
    });
  });

  test("401: whoever does not hold a key gets one answer, whatever the cause", async () => {
    const stranger = makeTestKey("ES256", key.kid);
    const disabled = await createTestPartner(server, { token_endpoint_auth_method: "private_key_jwt" }, key);
    await admin(server, "PATCH", `/partners/${disabled.clientId}`, { status: "disabled" });
    const unknown = { ...partner, clientId: `prt_${"0".repeat(32)}` };
    const replies = [
      await exchangeWith(partner, assertion(partner, {}, {}, stranger)),
      await exchangeWith(partner, assertion(partner, {}, { kid: "other" })),
      await exchangeWith(partner, assertion(partner, {}, { alg: "RS256" })),
      await exchangeWith(partner, assertion(partner, { exp: 1 }, {}, stranger)),
      await exchangeWith(unknown, assertion(unknown)),
      await exchangeWith(partner, assertion(partner, { sub: "somebody" })),
      await exchangeWith(partner, assertion(partner, { sub: 7 })),
      await exchangeWith(disabled, assertion(disabled)),
    ];
    for (const reply of replies) await expectRefusal(server, reply, NOT_AUTHENTICATED);
    expect(new Set(replies.map(({ json }) => json["error_description"])).size).toBe(1);
  });

  describe("400: the request is malformed", () => {
    test("client_assertion without its type, or with another", async () => {
      await expectRefusal(server, await exchangeWith(partner, assertion(partner), { client_assertion_type: undefined }), {
        code: "parameter_missing",
      });
      const saml = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
      const unsupported = { code: "client_assertion_type_unsupported" } as const;
      await expectRefusal(server, await exchangeWith(partner, assertion(partner), { client_assertion_type: saml }), unsupported);
    });

    test("the type without client_assertion", async () => {
      await expectRefusal(server, await exchangeWith(partner, "", { client_assertion: undefined }), { code: "parameter_missing" });
    });

    test("client_id of another", async () => {
      const other = await createTestPartner(server, {}, key);
      await expectRefusal(server, await exchangeWith(partner, assertion(partner), { client_id: other.clientId }), {
        code: "client_id_mismatch",
      });
    });
  });

  test("no assertion and no subject token is in the log or in a row", async () => {
    const [once, token] = [assertion(partner), subjectToken(partner)];
    await exchangeWith(partner, once, {}, token);
    await exchangeWith(partner, once, {}, token);
    const rows = JSON.stringify(await server.database.query("SELECT * FROM exchanges"));
    for (const secret of [once, token]) {
      for (const part of [secret, secret.split(".")[2] ?? secret]) {
        expect(server.logLines.join("")).not.toContain(part);
        expect(rows).not.toContain(part);
      }
    }
  });
});
