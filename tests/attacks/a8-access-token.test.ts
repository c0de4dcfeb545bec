import { createHmac, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { decodeJwt, encodePart, makeTestKey, signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  bearerChallenge,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  ISSUER,
  type Reply,
  send,
  sendRaw,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../../packages/server/src/testing/server.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { parseRawReply } from "./raw.ts";

/*
 * A8, our access token at our own API: P8.1–P8.5. Every route without a token and with a wrong kind of one: tests/routes.test.ts. What the
 * token holds (P8.6): a4-issued-token.test.ts. What is published: a8-published.test.ts.
 */

const USER = "/v2/account-management/user";
const CHALLENGE = bearerChallenge();
const INSUFFICIENT = bearerChallenge(', error="insufficient_scope", scope="account-management"');

let server: TestServer;
let partner: TestPartner;
let user: TestUser;
let token: string;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  user = await createTestUser(partner);
  token = await serviceAccountToken(partner);
});
afterAll(() => server.stop());

const getUser = (headers: Record<string, string>) => send(server, "GET", `${USER}?user_id=${user.userId}`, { headers });
const withToken = (value: string, at = server) => call(at, "GET", `${USER}?user_id=${user.userId}`, value);

async function expectUnauthorized(reply: Reply, challenge: string): Promise<void> {
  expect(reply.status, reply.text).toBe(401);
  expect(reply.headers.get("www-authenticate")).toBe(challenge);
  expect(reply.headers.get("content-type")).toBe("application/problem+json");
  expect(reply.headers.get("cache-control")).toBe("no-store");
  expect(reply.text).not.toContain(user.userId);
  expectNothingSecretLogged(server);
  expect((await withToken(token)).status).toBe(200);
}
const expectInvalid = (reply: Reply) => expectUnauthorized(reply, bearerChallenge(', error="invalid_token"'));

test("P8.1 401: no token, and a challenge without an error code", async () => {
  await expectUnauthorized(await getUser({}), CHALLENGE);
  for (const authorization of ["Basic eDp5", "DPoP x", `Token ${token}`, "Negotiate", "x", "Bearerx"]) {
    await expectUnauthorized(await getUser({ authorization }), CHALLENGE);
  }
});

describe("P8.2 401 invalid_token", () => {
  test("garbage, or a token that is changed, cut or longer", async () => {
    const [header = "", payload = "", signature = ""] = token.split(".");
    const longer = encodePart({ ...decodeJwt(token).payload, exp: server.nowSeconds() + 9_999_999 });
    for (const value of [
      "x",
      "..",
      "a.b.c",
      "x".repeat(8_000),
      token.slice(0, -1),
      token.slice(1),
      `${token}A`,
      `${token}=`,
      `${token}.`,
      `${header}.${payload}.`,
      `${header}.${payload}`,
      `${header}.${longer}.${signature}`,
      `${payload}.${header}.${signature}`,
      token.toUpperCase(),
      subjectToken(partner),
      partner.clientSecret,
      partner.clientId,
    ]) {
      await expectInvalid(await withToken(value));
    }
    await expectInvalid(await getUser({ authorization: `Bearer ${token} ${token}` }));
    await expectInvalid(await getUser({ authorization: `Bearer ${token}, Bearer ${token}` }));
    await expectInvalid(await getUser({ authorization: `Bearer "${token}"` }));
    await expectInvalid(await getUser({ authorization: "Bearer" }));
  });

  test("one that has expired, on every route of its kind", async () => {
    const own = await startTestServer("sqlite");
    try {
      const brief = await createTestPartner(own, { access_token_lifetime_seconds: 60 });
      const expiring = await serviceAccountToken(brief);
      const ask = () => call(own, "GET", `${USER}?user_id=${randomUUID()}`, expiring);
      expect((await ask()).status).toBe(404);
      own.clock.offsetMs += 50_000;
      expect((await ask()).status).toBe(404);
      own.clock.offsetMs += 20_000;
      for (const route of own.app.routes.filter(({ auth }) => auth.kind === "service_account")) {
        const reply = await call(own, route.method, route.path, expiring);
        expect(reply.status, route.operationId).toBe(401);
        expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="invalid_token"'));
        expect(reply.json["detail"]).toContain("expired");
      }
    } finally {
      await own.stop();
    }
  });
});

test("P8.3 403: a thread token at account management, and what it lacks is said", async () => {
  const forUser = (await exchange(partner, subjectToken(partner, { sub: user.userId }))).json["access_token"] as string;
  const forAnalytics = (await exchange(partner, subjectToken(partner), { form: { scope: "analytics" } })).json["access_token"] as string;
  for (const insufficient of [forUser, forAnalytics]) {
    for (const route of server.app.routes.filter(({ auth }) => auth.kind === "service_account")) {
      const reply = await call(server, route.method, route.path, insufficient);
      expect(reply.status, route.operationId).toBe(403);
      expect(reply.headers.get("www-authenticate")).toBe(INSUFFICIENT);
      expect(reply.headers.get("content-type")).toBe("application/problem+json");
    }
  }
  expect((await withToken(token)).status).toBe(200);
});

describe("P8.4: a token is sent once, and in the header", () => {
  test("400 invalid_request: two Authorization headers, equal or not, whichever is good", async () => {
    for (const lines of [
      [`Bearer ${token}`, `Bearer ${token}`],
      [`Bearer ${token}`, "Bearer x"],
      ["Bearer x", `Bearer ${token}`],
      ["Basic eDp5", `Bearer ${token}`],
    ]) {
      const headers = lines.map((line) => `Authorization: ${line}\r\n`).join("");
      const received = await sendRaw(
        server,
        `GET ${USER}?user_id=${user.userId} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`,
      );
      const reply = parseRawReply(received);
      expect(reply.status).toBe(400);
      expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="invalid_request"'));
    }
  });

  /** The form and the query of RFC 6750 §2.2 and §2.3 are not offered: what stands there is refused as what it is, and never read as a token. */
  test("in the header, and in the body or the query: 415 for a form, 422 for a field or parameter that does not exist", async () => {
    const form = { "content-type": "application/x-www-form-urlencoded", authorization: `Bearer ${token}` };
    expect((await send(server, "PUT", USER, { headers: form, body: `access_token=${token}` })).status).toBe(415);
    for (const value of [token, "x"]) {
      expect((await call(server, "PUT", USER, token, { workspace_id: user.workspaceId, access_token: value })).status).toBe(422);
      expect((await call(server, "GET", `${USER}?user_id=${user.userId}&access_token=${value}`, token)).status).toBe(422);
    }
    expectNothingSecretLogged(server);
  });

  test("401: in the body, the query or a cookie alone", async () => {
    const form = { "content-type": "application/x-www-form-urlencoded" };
    const json = { "content-type": "application/json" };
    await expectUnauthorized(await send(server, "PUT", USER, { headers: form, body: `access_token=${token}` }), CHALLENGE);
    const body = JSON.stringify({ workspace_id: user.workspaceId, access_token: token });
    await expectUnauthorized(await send(server, "PUT", USER, { headers: json, body }), CHALLENGE);
    await expectUnauthorized(await send(server, "GET", `${USER}?user_id=${user.userId}&access_token=${token}`), CHALLENGE);
    await expectUnauthorized(await getUser({ cookie: `access_token=${token}; authorization=Bearer%20${token}` }), CHALLENGE);
    await expectUnauthorized(await getUser({ "x-access-token": token, "proxy-authorization": `Bearer ${token}` }), CHALLENGE);
  });
});

describe("P8.5 401: a platform JWT that is not quite one", () => {
  /** Signed by the server's own key. */
  function signed(header: Record<string, unknown>, claims: Record<string, unknown> = {}): string {
    const signer = server.deps.keyring.signer();
    const { payload } = decodeJwt(token);
    return signer.sign(
      JSON.stringify({ alg: "ES256", typ: "at+jwt", kid: signer.kid, ...header }),
      JSON.stringify({ ...payload, ...claims }),
    );
  }

  test("CONTROL 200: signed by our key with nothing changed, and typ as a media type", async () => {
    for (const typ of ["at+jwt", "AT+JWT", "application/at+jwt"]) expect((await withToken(signed({ typ }))).status).toBe(200);
  });

  test.each(["JWT", "jwt", "application/jwt", "", null, undefined, "at+jwt ", "dpop+jwt", "client-authentication+jwt", ["at+jwt"]])(
    "typ %j",
    async (typ) => {
      await expectInvalid(await withToken(signed({ typ })));
    },
  );

  test("alg none, another algorithm, an HMAC by the public key", async () => {
    const { header, payload } = decodeJwt(token);
    const jwk = server.deps.keyring.jwks().keys.find((key) => key["kid"] === header["kid"]);
    for (const alg of ["none", "None", "NONE", "", "ES384", "RS256", "HS256"]) {
      const input = `${encodePart({ ...header, alg })}.${encodePart(payload)}`;
      const signatures = ["", token.split(".")[2], createHmac("sha256", JSON.stringify(jwk)).update(input).digest("base64url")];
      for (const signature of signatures) await expectInvalid(await withToken(`${input}.${signature}`));
      await expectInvalid(await withToken(signed({ alg })));
    }
  });

  test("an unknown kid, none, the next key's, or a partner's key under our kid", async () => {
    const next = server.deps.keyring.jwks().keys.find((key) => key["kid"] !== decodeJwt(token).header["kid"]);
    for (const kid of ["unknown", "", undefined, "__proto__", "constructor", next?.["kid"], partner.key.kid]) {
      await expectInvalid(await withToken(signed({ kid })));
    }
    const { header, payload } = decodeJwt(token);
    const attacker = makeTestKey("ES256");
    await expectInvalid(await withToken(signJwt(header, payload, attacker)));
    await expectInvalid(await withToken(signJwt({ ...header, jwk: attacker.publicJwk }, payload, attacker)));
    await expectInvalid(await withToken(signed({ jku: "https://attacker.example/jwks.json" })));
    await expectInvalid(await withToken(signed({ crit: ["exp"] })));
  });

  test.each([
    ["another issuer", { iss: "https://other.example" }],
    ["our issuer for audience", { aud: ISSUER }],
    ["another API's audience", { aud: `${ISSUER}/v3` }],
    ["partner_kids that are no list of names", { partner_kids: ["key-1", 1] }],
    ["two audiences", { aud: [`${ISSUER}/v2`, "https://other.example"] }],
    ["no exp", { exp: undefined }],
    ["an exp that is text", { exp: "9999999999" }],
    ["no jti", { jti: undefined }],
    ["no client_id", { client_id: undefined }],
    ["an unknown client_id", { client_id: "prt_00000000000000000000000000000000", sub: "prt_00000000000000000000000000000000" }],
    ["no scope", { scope: undefined }],
    ["a scope that is a list", { scope: ["account-management"] }],
    ["an iat to come", { iat: 9_999_999_999, exp: 9_999_999_999 + 60 }],
  ])("%s", async (_what, claims) => {
    await expectInvalid(await withToken(signed({}, claims)));
  });
});

describe.each(DIALECTS)("a retired key on %s", (dialect) => {
  test("P8.5 401: once a key is gone from the store, a node that starts takes no token of it, and publishes it no more", async () => {
    const own = await startTestServer(dialect);
    const of = await createTestPartner(own);
    const old = await serviceAccountToken(of);
    const { kid } = decodeJwt(old).header as { kid: string };
    await own.database.query("DELETE FROM signing_keys WHERE kid = $1", [kid]);
    const started = await own.startSecondNode();
    try {
      const ask = (value: string) => call(started, "GET", `${USER}?user_id=${randomUUID()}`, value);
      const reply = await ask(old);
      expect(reply.status).toBe(401);
      expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="invalid_token"'));
      expect((await send(started, "GET", "/.well-known/jwks.json")).text).not.toContain(kid);
      const fresh = await exchange(of, subjectToken(of), { at: started });
      expect((await ask(fresh.json["access_token"] as string)).status).toBe(404);
    } finally {
      await started.stop();
      await own.stop();
    }
  });
});
