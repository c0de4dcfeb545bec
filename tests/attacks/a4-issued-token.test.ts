import { createPublicKey, verify } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newTokenId } from "../../packages/server/src/ids.ts";
import { decodeJwt, makeTestKey, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  createTestUser,
  exchange,
  ISSUER,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";

/* What an issued token holds: P4.22, P6.16, P8.6. Of the partner's JWT it names the key that signed it, for that key's revocation, and nothing else. */

/** Claims and header of RFC 9068 and of other tokens, each with a value that would do harm if it were believed. */
const FORGED = {
  scope: "account-management analytics admin",
  roles: ["admin"],
  groups: ["operators"],
  entitlements: ["everything"],
  org_id: "00000000-0000-4000-8000-000000000000",
  workspace_id: "00000000-0000-4000-8000-000000000000",
  act: { sub: "prt_somebody" },
  may_act: { sub: "prt_somebody" },
  client_id: "prt_somebody",
  azp: "prt_somebody",
  cnf: { jkt: "x" },
  auth_time: 1,
  acr: "high",
  email: "somebody@example.com",
  token_type: "DPoP",
  partner_kids: ["another-key"],
};

const AUDIENCE = "urn:example:subject-tokens";
const PARTNER_ISSUER = "https://partner.test";

let server: TestServer;
let partner: TestPartner;
let user: TestUser;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  user = await createTestUser(partner, { external_user_id: "person-1", email: "person@example.com" });
  const changed = await admin(server, "PATCH", `/partners/${partner.clientId}`, { audience: AUDIENCE, issuer: PARTNER_ISSUER });
  expect(changed.status).toBe(200);
});
afterAll(() => server.stop());

/** The issued token of a partner's JWT that is full of claims of its own. */
async function issued(changes: Record<string, unknown>, form: Record<string, string> = {}): Promise<string> {
  const claims = { ...FORGED, iss: PARTNER_ISSUER, aud: AUDIENCE, ...changes };
  const reply = await exchange(partner, subjectToken(partner, claims), { form });
  expectGranted(reply);
  return reply.json["access_token"] as string;
}

const TOKEN_ID = expect.stringMatching(/^[\w-]{22}$/);

test("P4.22 P6.16: a user's token holds exactly our claims, and nothing of the partner's JWT", async () => {
  const before = server.nowSeconds();
  const { header, payload } = decodeJwt(await issued({ sub: user.userId, jti: "jti-of-the-partner" }));
  const iat = payload["iat"] as number;
  expect(header).toEqual({ alg: "ES256", typ: "at+jwt", kid: expect.stringMatching(/./) });
  expect(payload).toEqual({
    iss: ISSUER,
    sub: user.userId,
    aud: `${ISSUER}/v2`,
    exp: iat + 3600,
    iat: expect.any(Number),
    jti: TOKEN_ID,
    client_id: partner.clientId,
    scope: "thread",
    org_id: user.orgId,
    workspace_id: user.workspaceId,
    partner_kids: [partner.key.kid],
  });
  expect(iat).toBeGreaterThanOrEqual(before);
  expect(iat).toBeLessThanOrEqual(server.nowSeconds());
});

test("P4.22 P6.3 P6.16: a service account's token holds exactly our claims, without any of a user", async () => {
  const { header, payload } = decodeJwt(await issued({ sub: partner.clientId }, { scope: "analytics" }));
  const iat = payload["iat"] as number;
  expect(header).toEqual({ alg: "ES256", typ: "at+jwt", kid: expect.stringMatching(/./) });
  expect(payload).toEqual({
    iss: ISSUER,
    sub: partner.clientId,
    aud: `${ISSUER}/v2`,
    exp: iat + 3600,
    iat,
    jti: TOKEN_ID,
    client_id: partner.clientId,
    scope: "analytics",
    partner_kids: [partner.key.kid],
  });
});

test("P4.22: partner_kids names each of the partner's keys behind the token once, and is not there where a secret alone was", async () => {
  const allowed_grants = ["token-exchange", "client_credentials"];
  const own = makeTestKey("ES256", "assertions");
  const jwks = { keys: [own.publicJwk, partner.key.publicJwk] };
  const bySecret = await createTestPartner(server, { allowed_grants });
  const byKeys = await createTestPartner(server, { allowed_grants, jwks, token_endpoint_auth_method: "private_key_jwt" });
  const assertedBy = (key: TestKey) => ({
    client_assertion: subjectToken({ ...byKeys, key }, {}, { typ: "client-authentication+jwt" }),
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  });
  const credentials = async (client: Record<string, string>) => {
    const body = new URLSearchParams({ grant_type: "client_credentials", ...client });
    return expectGranted(await send(server, "POST", "/oauth2/token", { body }))["partner_kids"];
  };
  expect(await credentials({ client_id: bySecret.clientId, client_secret: bySecret.clientSecret })).toBeUndefined();
  expect(await credentials(assertedBy(own))).toEqual([own.kid]);
  for (const [key, kids] of [
    [own, [partner.key.kid, own.kid]],
    [partner.key, [partner.key.kid]],
  ] as const) {
    const reply = await exchange(byKeys, subjectToken(byKeys), { auth: "none", form: assertedBy(key) });
    expect(expectGranted(reply)["partner_kids"]).toEqual(kids);
  }
});

test("P4.22: how long the token lives is the partner's setting, whatever the life of its JWT", async () => {
  const now = server.nowSeconds();
  const own = await createTestPartner(server, { access_token_lifetime_seconds: 90 });
  for (const exp of [now + 10, now + 3_000]) {
    const reply = await exchange(own, subjectToken(own, { exp, iat: now - 20 }));
    const { payload } = decodeJwt(reply.json["access_token"] as string);
    expect(reply.json["expires_in"]).toBe(90);
    expect(payload["exp"]).toBe((payload["iat"] as number) + 90);
    expect(payload["iat"]).toBeGreaterThanOrEqual(now);
  }
});

test("P8.6: the token verifies by the published key that its kid names", async () => {
  const token = await issued({ sub: user.userId });
  const { kid } = decodeJwt(token).header as { kid: string };
  const jwks = await send(server, "GET", "/.well-known/jwks.json");
  const jwk = (jwks.json["keys"] as { kid: string }[]).find((key) => key.kid === kid);
  expect(jwk).not.toHaveProperty("d");
  const input = token.slice(0, token.lastIndexOf("."));
  const signature = Buffer.from(token.slice(input.length + 1), "base64url");
  const key = createPublicKey({ key: jwk as never, format: "jwk" });
  expect(verify("sha256", Buffer.from(input), { key, dsaEncoding: "ieee-p1363" }, signature)).toBe(true);
});

test("P8.6: 100 000 token ids of 128 bits, none twice", () => {
  const ids = new Set<string>();
  for (let i = 0; i < 100_000; i++) ids.add(newTokenId());
  expect(ids.size).toBe(100_000);
  for (const id of [...ids].slice(0, 1_000)) expect(Buffer.from(id, "base64url").length).toBe(16);
});

test("P8.6: the jti of an issued token is the one that is recorded, new for each", async () => {
  const tokens = await Promise.all(Array.from({ length: 50 }, () => issued({ sub: partner.clientId })));
  const ids = tokens.map((token) => decodeJwt(token).payload["jti"]);
  expect(new Set(ids).size).toBe(50);
  const rows = await server.database.query("SELECT token_id FROM exchanges WHERE outcome = 'granted'");
  expect(rows.map((row) => row["token_id"])).toEqual(expect.arrayContaining(ids));
});
