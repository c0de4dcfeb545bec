import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey, signJwt, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  bearerChallenge,
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  recordedExchange,
  type Reply,
  serviceAccountToken,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";

/*
 * A6, tenants and subjects: P6.1–P6.6, P5.20, P13.3. Scopes (P6.11–P6.15): a6-scope.test.ts. Disabling (P6.7–P6.10): a6-disable.test.ts.
 * aud of the issued token (P6.16): a4-issued-token.test.ts.
 * The second half of P6.5, a service-account token at a user's route: packages/server/src/http/user-token.test.ts.
 */

const USER = "/v2/account-management/user";

/** Two tenants whose different keys have one kid (P5.20). */
const KEY_A = makeTestKey("ES256", "one-kid");
const KEY_B = makeTestKey("ES256", "one-kid");

describe.each(DIALECTS)("tenants on %s", (dialect) => {
  let server: TestServer;
  let a: TestPartner;
  let b: TestPartner;
  let userOfA: TestUser;
  let userOfB: TestUser;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    a = await createTestPartner(server, {}, KEY_A);
    b = await createTestPartner(server, {}, KEY_B);
    userOfA = await createTestUser(a, { external_user_id: "external-of-a" });
    userOfB = await createTestUser(b, { external_user_id: "external-of-b" });
  });
  afterAll(() => server.stop());

  test("P6.1 400: a JWT that B issued and signed is refused from A", async () => {
    const token = (changes: Record<string, unknown>, key: TestKey) =>
      signJwt({ alg: "ES256", kid: key.kid }, subjectClaims(b, changes), key);
    await expectRefusal(server, await exchange(a, token({}, KEY_B)), { code: "jwt_signature_invalid" });
    await expectRefusal(server, await exchange(a, token({ sub: userOfB.userId }, KEY_B)), { code: "jwt_signature_invalid" });
    await expectRefusal(server, await exchange(a, token({ sub: a.clientId }, KEY_A)), { code: "issuer_mismatch" });
    expectGranted(await exchange(b, token({}, KEY_B)));
  });

  test("P6.1 400: two partners with one key are still two tenants", async () => {
    const twin = await createTestPartner(server, {}, KEY_A);
    await expectRefusal(server, await exchange(a, subjectToken(twin)), { code: "issuer_mismatch" });
    await expectRefusal(server, await exchange(twin, subjectToken(a, { sub: userOfA.userId })), { code: "issuer_mismatch" });
    await expectRefusal(server, await exchange(twin, subjectToken(twin, { sub: userOfA.userId })), { code: "subject_unknown" });
  });

  test("P6.1 409: an issuer belongs to one partner", async () => {
    await createTestPartner(server, { issuer: "https://tenant.test" }, KEY_A);
    const second = await admin(server, "POST", "/partners", {
      name: "B",
      jwks: { keys: [KEY_B.publicJwk] },
      issuer: "https://tenant.test",
    });
    expect(second.status).toBe(409);
    expect((await admin(server, "PATCH", `/partners/${b.clientId}`, { issuer: "https://tenant.test" })).status).toBe(409);
  });

  test("P5.20 400: one kid in two key sets is two keys, in whatever order they are used", async () => {
    for (let round = 0; round < 3; round++) {
      for (const [partner, other] of [[a, b] as const, [b, a] as const]) {
        expectGranted(await exchange(partner, subjectToken(partner)));
        const crossed = signJwt({ alg: "ES256", kid: "one-kid" }, subjectClaims(partner), other.key);
        await expectRefusal(server, await exchange(partner, crossed), { code: "jwt_signature_invalid" });
      }
    }
    const crossedAtOnce = await Promise.all(
      Array.from({ length: 20 }, (_, i) => {
        const [partner, other] = i % 2 === 0 ? [a, b] : [b, a];
        const key = i % 4 < 2 ? partner.key : other.key;
        return exchange(partner, signJwt({ alg: "ES256", kid: "one-kid" }, subjectClaims(partner), key));
      }),
    );
    expect(crossedAtOnce.map((reply) => reply.status)).toEqual(Array.from({ length: 20 }, (_, i) => (i % 4 < 2 ? 200 : 400)));
  });

  test("P6.2 400: a user of another partner reads exactly like one that never existed", async () => {
    const foreign = await exchange(a, subjectToken(a, { sub: userOfB.userId }));
    const absent = await exchange(a, subjectToken(a, { sub: randomUUID() }));
    for (const reply of [foreign, absent]) await expectRefusal(server, reply, { code: "subject_unknown" });
    expect(anonymous(foreign)).toEqual(anonymous(absent));
    const rows = await Promise.all([foreign, absent].map((reply) => recordedExchange(server, reply.json["trace_id"] as string)));
    expect(rows[0]?.["refusal_detail"]).toBe(rows[1]?.["refusal_detail"]);
  });

  test("P6.2 400: no user of another partner is found by its external id", async () => {
    const own = await createTestPartner(server, { subject_namespace: "external_user_id" }, KEY_A);
    await createTestUser(own, { external_user_id: "external-of-own" });
    expectGranted(await exchange(own, subjectToken(own, { sub: "external-of-own" })));
    const foreign = await exchange(own, subjectToken(own, { sub: "external-of-b" }));
    const absent = await exchange(own, subjectToken(own, { sub: "external-of-x" }));
    for (const reply of [foreign, absent]) await expectRefusal(server, reply, { code: "subject_unknown" });
    expect(anonymous(foreign)).toEqual(anonymous(absent));
    await expectRefusal(server, await exchange(own, subjectToken(own, { sub: userOfB.userId })), { code: "subject_unknown" });
  });

  test("P6.2: one external id in two partners is two users", async () => {
    const partners = await Promise.all(
      [KEY_A, KEY_B].map((key) => createTestPartner(server, { subject_namespace: "external_user_id" }, key)),
    );
    const users = await Promise.all(partners.map((partner) => createTestUser(partner, { external_user_id: "employee-1" })));
    const subs = await Promise.all(
      partners.map(async (partner) => expectGranted(await exchange(partner, subjectToken(partner, { sub: "employee-1" })))["sub"]),
    );
    expect(subs).toEqual(users.map((user) => user.userId));
    expect(subs[0]).not.toBe(subs[1]);
  });

  test("P6.2 404: account management does not see a user of another partner either", async () => {
    const token = await serviceAccountToken(a);
    const foreign = await call(server, "GET", `${USER}?user_id=${userOfB.userId}`, token);
    const absent = await call(server, "GET", `${USER}?user_id=${randomUUID()}`, token);
    expect(foreign.status).toBe(404);
    expect(anonymous(foreign)).toEqual(anonymous(absent));
    expect((await call(server, "GET", `${USER}?external_user_id=external-of-b`, token)).status).toBe(404);
    expect((await call(server, "PUT", USER, token, { workspace_id: userOfB.workspaceId })).status).toBe(404);
  });

  test("P6.3: sub = the client id is the service account, and never a user", async () => {
    for (const namespace of ["user_id", "external_user_id"]) {
      const own = await createTestPartner(server, { subject_namespace: namespace }, KEY_A);
      const reply = await exchange(own, subjectToken(own));
      expect(expectGranted(reply)).toMatchObject({ sub: own.clientId, client_id: own.clientId });
      const token = reply.json["access_token"] as string;
      for (const name of ["user_id", "external_user_id"]) {
        expect((await call(server, "GET", `${USER}?${name}=${own.clientId}`, token)).status).toBe(404);
      }
      const { workspaceId } = await createTestUser(own);
      const asUser = await call(server, "PUT", USER, token, { workspace_id: workspaceId, external_user_id: own.clientId });
      expect(asUser.status, "an external id that looks like a client id").toBe(422);
    }
  });

  test("P6.3 400: another partner's client id is nobody, in any letter case", async () => {
    for (const sub of [b.clientId, a.clientId.toUpperCase(), ` ${a.clientId}`]) {
      await expectRefusal(server, await exchange(a, subjectToken(a, { sub })), { code: "subject_unknown" });
    }
  });

  test("P6.4 422: nobody chooses a client id, or an issuer that looks like one", async () => {
    const fields = { name: "Chosen", jwks: { keys: [KEY_A.publicJwk] } };
    for (const chosen of [{ client_id: userOfA.userId }, { issuer: a.clientId }, { issuer: "prt_x" }, { issuer: "rs_x" }]) {
      expect((await admin(server, "POST", "/partners", { ...fields, ...chosen })).status).toBe(422);
    }
    expect((await admin(server, "PATCH", `/partners/${a.clientId}`, { client_id: b.clientId })).status).toBe(422);
    expect(a.clientId).toMatch(/^prt_[0-9a-f]{32}$/);
  });

  test("P6.5 403: a user's token at account management lacks the scope, and is told so", async () => {
    const token = (await exchange(a, subjectToken(a, { sub: userOfA.userId }))).json["access_token"] as string;
    for (const [method, body] of [
      ["GET", undefined],
      ["PUT", { workspace_id: userOfA.workspaceId }],
    ] as const) {
      const reply = await call(server, method, method === "GET" ? `${USER}?user_id=${userOfA.userId}` : USER, token, body);
      expect(reply.status).toBe(403);
      expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="insufficient_scope", scope="account-management"'));
      expect(reply.headers.get("content-type")).toBe("application/problem+json");
      expect(reply.json).toMatchObject({ success: false, status: 403 });
    }
  });

  test("P6.5 403: so does a service account's token without account-management", async () => {
    const token = (await exchange(a, subjectToken(a), { form: { scope: "analytics" } })).json["access_token"] as string;
    expect((await call(server, "GET", `${USER}?user_id=${userOfA.userId}`, token)).status).toBe(403);
  });

  test("P6.6 400: an unknown user is refused and not made", async () => {
    const listUsers = () => server.database.query("SELECT user_id FROM users ORDER BY user_id");
    const before = await listUsers();
    for (const sub of [
      randomUUID(),
      userOfA.userId.toUpperCase(),
      `${userOfA.userId} `,
      userOfA.workspaceId,
      userOfA.orgId,
      "external-of-a",
    ]) {
      await expectRefusal(server, await exchange(a, subjectToken(a, { sub })), { code: "subject_unknown" });
    }
    expect(await listUsers()).toEqual(before);
  });

  test("P13.3: one namespace decides; an external id that is another user's user_id does not reach that user", async () => {
    const own = await createTestPartner(server, {}, KEY_A);
    const victim = await createTestUser(own);
    const impostor = await createTestUser(own, { external_user_id: victim.userId });
    const sub = async (subject: string) => expectGranted(await exchange(own, subjectToken(own, { sub: subject })))["sub"];
    expect(await sub(victim.userId)).toBe(victim.userId);
    expect(await sub(impostor.userId)).toBe(impostor.userId);

    expect((await admin(server, "PATCH", `/partners/${own.clientId}`, { subject_namespace: "external_user_id" })).status).toBe(200);
    expect(await sub(victim.userId), "now an external id, the impostor's").toBe(impostor.userId);
    for (const subject of [impostor.userId, `${victim.userId} `, victim.userId.toUpperCase()]) {
      await expectRefusal(server, await exchange(own, subjectToken(own, { sub: subject })), { code: "subject_unknown" });
    }
  });

  test("P13.3: with external ids as subjects the token still says our own user_id", async () => {
    const own = await createTestPartner(server, { subject_namespace: "external_user_id" }, KEY_A);
    const user = await createTestUser(own, { external_user_id: "Ünï 😀 'quoted'" });
    const reply = await exchange(own, subjectToken(own, { sub: "Ünï 😀 'quoted'" }));
    const payload = expectGranted(reply);
    expect(payload).toMatchObject({ sub: user.userId, org_id: user.orgId, workspace_id: user.workspaceId });
    expect(JSON.stringify(payload)).not.toContain("quoted");
    await expectRefusal(server, await exchange(own, subjectToken(own, { sub: user.userId })), { code: "subject_unknown" });
    const decomposed = "Ünï 😀 'quoted'".normalize("NFD");
    await expectRefusal(server, await exchange(own, subjectToken(own, { sub: decomposed })), { code: "subject_unknown" });
  });
});

/** All that a caller can see, but for date and trace id. */
function anonymous(reply: Reply): unknown {
  const headers = [...reply.headers].filter(([name]) => name !== "date");
  return { status: reply.status, headers, text: reply.text.replaceAll(reply.json["trace_id"] as string, "…") };
}
