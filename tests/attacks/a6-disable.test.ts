import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  bearerChallenge,
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";

/*
 * A6, disabling: P6.7, P6.8, P6.10. Races (P6.9): a6-races.test.ts. Live tokens: packages/server/src/http/user-token.test.ts.
 * P6.10 expects 401 where the list says 403: a partner's credential is no operator token at all (RFC 6750 §3.1, invalid_token).
 */

const USER = "/v2/account-management/user";
const CLIENT_REFUSED = { status: 401, error: "invalid_client", code: "client_not_authenticated" } as const;

/** ECDSA, so that a thousand tokens are signed in no time. */
const KEY = makeTestKey("ES256");

describe.each(DIALECTS)("disabling on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    partner = await createTestPartner(server, {}, KEY);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second];

  async function setStatus(kind: "user" | "workspace" | "organization", user: TestUser, status: string, owner = partner): Promise<void> {
    const query = {
      user: `user_id=${user.userId}`,
      workspace: `workspace_id=${user.workspaceId}`,
      organization: `org_id=${user.orgId}`,
    }[kind];
    const token = await serviceAccountToken(owner);
    const reply = await call(server, "PATCH", `/v2/account-management/${kind}?${query}`, token, { status });
    expect(reply.status).toBe(200);
  }

  async function setPartnerStatus(own: TestPartner, status: string): Promise<void> {
    expect((await admin(server, "PATCH", `/partners/${own.clientId}`, { status })).status).toBe(200);
  }

  test.each(["user", "workspace", "organization"] as const)(
    "P6.7 400: a disabled %s gets no token on either node, and one again once it is enabled",
    async (kind) => {
      const user = await createTestUser(partner);
      const neighbour = await createTestUser(partner);
      const ask = (at: TestServer, sub = user.userId) => exchange(partner, subjectToken(partner, { sub }), { at });
      for (const at of nodes()) expectGranted(await ask(at));
      await setStatus(kind, user, "disabled");
      for (const at of nodes()) {
        const reply = await ask(at);
        await expectRefusal(at, reply, { code: "subject_disabled" });
        expect(reply.json["error_description"]).toContain(kind);
        expectGranted(await ask(at, neighbour.userId));
      }
      await setStatus(kind, user, "active");
      for (const at of nodes()) expectGranted(await ask(at));
    },
  );

  test.each(["suspended", "", "ACTIVE"])("P6.7 400: any status but active counts as disabled: %j", async (status) => {
    const user = await createTestUser(partner);
    await server.database.query("UPDATE users SET status = $1 WHERE user_id = $2", [status, user.userId]);
    await expectRefusal(server, await exchange(partner, subjectToken(partner, { sub: user.userId })), { code: "subject_disabled" });
  });

  test("P6.7 P6.2 400: another partner's disabled user reads like one that never existed", async () => {
    const owner = await createTestPartner(server, {}, KEY);
    const user = await createTestUser(owner);
    await setStatus("user", user, "disabled", owner);
    for (const sub of [user.userId, randomUUID()]) {
      await expectRefusal(server, await exchange(partner, subjectToken(partner, { sub })), { code: "subject_unknown" });
    }
  });

  test("P6.7 200: a disabled user does not touch the service account", async () => {
    const user = await createTestUser(partner);
    for (const kind of ["user", "workspace", "organization"] as const) await setStatus(kind, user, "disabled");
    expectGranted(await exchange(partner, subjectToken(partner)));
  });

  test("P6.8 401: a partner that is disabled on one node is refused on both at once, its live token too", async () => {
    const own = await createTestPartner(server, {}, KEY);
    const user = await createTestUser(own);
    const token = await serviceAccountToken(own);
    const body = { workspace_id: user.workspaceId };
    for (const at of nodes()) {
      expectGranted(await exchange(own, subjectToken(own), { at }));
      expect((await call(at, "PUT", USER, token, body)).status).toBe(201);
    }
    await setPartnerStatus(own, "disabled");
    for (const at of [second, server]) {
      for (const sub of [own.clientId, user.userId]) {
        await expectRefusal(at, await exchange(own, subjectToken(own, { sub }), { at }), CLIENT_REFUSED);
      }
      for (const reply of [await call(at, "PUT", USER, token, body), await call(at, "GET", `${USER}?user_id=${user.userId}`, token)]) {
        expect(reply.status).toBe(401);
        expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="invalid_token"'));
      }
    }
    expect((await server.database.query("SELECT user_id FROM users WHERE partner_id = $1", [own.clientId])).length).toBe(3);
    await setPartnerStatus(own, "active");
    for (const at of nodes()) expectGranted(await exchange(own, subjectToken(own), { at }));
  });

  test("P6.8 400: a key that is taken from a partner on one node is gone on both at once", async () => {
    const own = await createTestPartner(server, {}, KEY);
    for (const at of nodes()) expectGranted(await exchange(own, subjectToken(own), { at }));
    const next = makeTestKey("ES256");
    expect((await admin(server, "PATCH", `/partners/${own.clientId}`, { jwks: { keys: [next.publicJwk] } })).status).toBe(200);
    for (const at of [second, server]) {
      await expectRefusal(at, await exchange(own, subjectToken(own), { at }), { code: "jwt_kid_unknown" });
      expectGranted(await exchange(own, subjectToken({ ...own, key: next }), { at }));
    }
  });

  test("P6.10 401: a disabled partner cannot enable itself by its own credential", async () => {
    const own = await createTestPartner(server, {}, KEY);
    const token = await serviceAccountToken(own);
    const path = `/admin/v1/partners/${own.clientId}`;
    for (const status of ["active", "disabled"]) {
      await setPartnerStatus(own, status);
      for (const credential of [token, own.clientSecret, own.clientId]) {
        const reply = await call(server, "PATCH", path, credential, { status: "active" });
        expect(reply.status).toBe(401);
        expect(reply.headers.get("www-authenticate")).toContain("invalid_token");
      }
    }
    expect((await admin(server, "GET", `/partners/${own.clientId}`)).json["partner"]).toMatchObject({ status: "disabled" });
    await expectRefusal(server, await exchange(own, subjectToken(own)), CLIENT_REFUSED);
  });
});
