import { createRemoteJWKSet, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { decodeJwt } from "../testing/jwt.ts";
import { createTestPartner, createTestUser, exchange, ISSUER, startTestServer, subjectToken, type TestServer } from "../testing/server.ts";

describe.each(DIALECTS)("the token endpoint on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  test("200: a service account gets its token, and a user gets one", async () => {
    const partner = await createTestPartner(server);
    const own = await exchange(partner, subjectToken(partner));
    expect(own.json).toMatchObject({ token_type: "Bearer", expires_in: 3600, scope: "account-management analytics" });
    const user = await createTestUser(partner);
    const reply = await exchange(partner, subjectToken(partner, { sub: user.userId }), { auth: "basic" });
    expect(reply.status).toBe(200);
    expect(decodeJwt(reply.json["access_token"] as string).payload).toMatchObject({
      iss: ISSUER,
      sub: user.userId,
      aud: `${ISSUER}/v2`,
      org_id: user.orgId,
      workspace_id: user.workspaceId,
      scope: "thread",
    });
  });

  test("400: a spent subject token", async () => {
    const partner = await createTestPartner(server);
    const token = subjectToken(partner);
    expect((await exchange(partner, token)).status).toBe(200);
    const again = await exchange(partner, token);
    expect(again).toMatchObject({ status: 400, json: { error: "invalid_request", error_uri: `${ISSUER}/docs/errors/token_replayed` } });
  });
});

describe("a secret or a token in the wrong place", () => {
  test("is neither said, logged nor recorded", async () => {
    const server = await startTestServer("sqlite");
    const partner = await createTestPartner(server);
    const token = subjectToken(partner);
    const replies = [];
    for (const parameter of ["grant_type", "scope", "subject_token_type", "requested_token_type", "client_id"]) {
      for (const value of [partner.clientSecret, token]) replies.push(await exchange(partner, token, { form: { [parameter]: value } }));
    }
    for (const secret of [partner.clientSecret, token]) {
      expect(replies.map((reply) => reply.status)).not.toContain(200);
      expect(replies.filter((reply) => reply.text.includes(secret))).toEqual([]);
      expect(server.logLines.filter((line) => line.includes(secret))).toEqual([]);
      expect(JSON.stringify(await server.database.query("SELECT * FROM exchanges"))).not.toContain(secret);
    }
    await server.stop();
  });
});

describe.each(DIALECTS)("an sk- token, a JWT or a secret as a claim of a subject token on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  test.each(["sub", "jti"])("is neither in the row of the exchange nor in a log line: %s", async (claim) => {
    const partner = await createTestPartner(server);
    const opaque = `sk-${"0123456789abcdef".repeat(2)}`;
    const secrets = [opaque, `the token ${opaque}`, partner.clientSecret, subjectToken(partner)];
    for (const secret of secrets) {
      const reply = await exchange(partner, subjectToken(partner, { [claim]: secret }));
      expect(reply.status === 200, `${claim} ${reply.text}`).toBe(claim === "jti" && secret.length <= 255);
      expect(reply.text).not.toContain(secret);
      expect(server.logLines.join("")).not.toContain(secret);
    }
    const rows = await server.database.query("SELECT * FROM exchanges WHERE client_id = $1", [partner.clientId]);
    expect(rows).toHaveLength(secrets.length);
    for (const secret of secrets) expect(JSON.stringify(rows)).not.toContain(secret);
    const column = claim === "sub" ? "subject" : "jti";
    expect(rows.map((row) => row[column])).toContain("(token redacted)");
  });
});

describe("RS256 by configuration", () => {
  test("200: the access token is signed by an RSA key that is published", async () => {
    const server = await startTestServer("sqlite", { signingAlgorithm: "RS256" });
    const partner = await createTestPartner(server);
    const reply = await exchange(partner, subjectToken(partner));
    const keys = createRemoteJWKSet(new URL(`${server.url}/.well-known/jwks.json`));
    const verified = await jwtVerify(String(reply.json["access_token"]), keys, {
      issuer: ISSUER,
      audience: `${ISSUER}/v2`,
      typ: "at+jwt",
      algorithms: ["RS256"],
    });
    expect(verified.payload.sub).toBe(partner.clientId);
    await server.stop();
  });
});
