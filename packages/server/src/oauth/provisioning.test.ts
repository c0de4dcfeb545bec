import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { decodeJwt } from "../testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  type Reply,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";

const HOUR_MS = 3_600_000;

describe.each(DIALECTS)("users that an exchange makes, on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    const toMidHourMs = HOUR_MS / 2 - (Date.now() % HOUR_MS); // a quota is of an hour, and no test is to meet its end
    for (const { clock } of [server, second]) clock.offsetMs = toMidHourMs;
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const update = (partner: TestPartner, fields: object) => admin(server, "PATCH", `/partners/${partner.clientId}`, fields);
  const rows = (partner: TestPartner) =>
    server.database.query("SELECT * FROM users WHERE partner_id = $1 AND external_user_id IS NOT NULL", [partner.clientId]);
  const forSub = (partner: TestPartner, sub: string, at?: TestServer) =>
    exchange(partner, subjectToken(partner, { sub, name: "Mallory", email: "m@x.example" }), at === undefined ? {} : { at });

  /** A partner that is set so; `user` stands in its home workspace, and was made through the API. */
  async function setUp(fields: object = {}) {
    const partner = await createTestPartner(server, { subject_namespace: "external_user_id" });
    const user = await createTestUser(partner, { external_user_id: "known" });
    const set = await update(partner, { provisioning: "create", home_workspace_id: user.workspaceId, ...fields });
    expect(set.status).toBe(200);
    return { partner, user };
  }

  function expectRefused(reply: Reply, code: string, status = 400, error = "invalid_request") {
    expect(reply).toMatchObject({ status, json: { error, error_uri: expect.stringMatching(new RegExp(`/${code}$`)) } });
  }

  test("400: off by default, and nobody is made", async () => {
    const partner = await createTestPartner(server, { subject_namespace: "external_user_id" });
    expectRefused(await forSub(partner, "new"), "subject_unknown");
    expect(await rows(partner)).toEqual([]);
  });

  test("200: the unknown user is made in the home workspace with its external id and nothing else, once", async () => {
    const { partner, user } = await setUp();
    const first = await forSub(partner, "new@b.example");
    expect(first.status).toBe(200);
    const { sub, org_id: orgId, workspace_id: workspaceId } = decodeJwt(first.json["access_token"] as string).payload;
    expect({ orgId, workspaceId }).toEqual({ orgId: user.orgId, workspaceId: user.workspaceId });
    const found = await call(
      server,
      "GET",
      "/v2/account-management/user?external_user_id=new%40b.example",
      await serviceAccountToken(partner),
    );
    expect(found.json["user"]).toEqual({
      user_id: sub,
      external_user_id: "new@b.example",
      workspace_id: workspaceId,
      org_id: orgId,
      email: null,
      name: null,
      entitlements: [],
      status: "active",
    });
    const again = await forSub(partner, "new@b.example");
    expect(decodeJwt(again.json["access_token"] as string).payload["sub"]).toBe(sub);
    expect(await rows(partner)).toHaveLength(2);
  });

  test("200: of 50 at once on two nodes for one new id, one makes it, and it counts once", async () => {
    const { partner } = await setUp({ provisioning_hourly_max: 1 });
    const replies = await Promise.all(Array.from({ length: 50 }, (_, n) => forSub(partner, "raced", n % 2 === 0 ? server : second)));
    expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([200]));
    expect(new Set(replies.map((reply) => decodeJwt(reply.json["access_token"] as string).payload["sub"])).size).toBe(1);
    expect(await rows(partner)).toHaveLength(2);
    const [quota] = await server.database.query("SELECT used FROM provisioning_quotas WHERE partner_id = $1", [partner.clientId]);
    expect(quota).toEqual({ used: 1 });
  });

  test("429: a quota that is used up refuses new users until the next hour, and no user that exists", async () => {
    const { partner } = await setUp({ provisioning_hourly_max: 3 });
    const tokens = Array.from({ length: 20 }, (_, n) => subjectToken(partner, { sub: `new-${n}` }));
    const replies = await Promise.all(tokens.map((token, n) => exchange(partner, token, { at: n % 2 === 0 ? server : second })));
    expect(replies.filter((reply) => reply.status === 200)).toHaveLength(3);
    expect(await rows(partner)).toHaveLength(4);
    const late = subjectToken(partner, { sub: "late" });
    const refused = await exchange(partner, late);
    expectRefused(refused, "provisioning_quota_exceeded", 429, "slow_down");
    const waitSeconds = Number(refused.headers.get("retry-after"));
    expect(waitSeconds).toBeGreaterThan(0);
    expect(waitSeconds).toBeLessThanOrEqual(3600);
    expect((await forSub(partner, "known")).status).toBe(200);
    expect((await update(partner, { provisioning_hourly_max: 21 })).status).toBe(200);
    for (const token of [late, ...tokens.filter((_, n) => replies[n]?.status === 429)]) {
      expect((await exchange(partner, token)).status, "the refused token was not spent").toBe(200);
    }
    expectRefused(await forSub(partner, "later"), "provisioning_quota_exceeded", 429, "slow_down");
    server.clock.offsetMs += waitSeconds * 1000;
    expect((await forSub(partner, "later")).status).toBe(200);
    server.clock.offsetMs -= waitSeconds * 1000;
  });

  test("400: a replayed token does not make an erased user anew", async () => {
    const { partner } = await setUp();
    const token = subjectToken(partner, { sub: "gone" });
    expect((await exchange(partner, token)).status).toBe(200);
    const own = await serviceAccountToken(partner);
    expect((await call(server, "DELETE", "/v2/account-management/user?external_user_id=gone", own)).status).toBe(200);
    expectRefused(await exchange(partner, token), "token_replayed");
    expect(await rows(partner)).toHaveLength(1);
  });

  test("400: no home, a disabled one, a scope that no user may have: nobody is made", async () => {
    const { partner, user } = await setUp();
    const own = await serviceAccountToken(partner);
    expectRefused(
      await exchange(partner, subjectToken(partner, { sub: "new" }), { form: { scope: "analytics" } }),
      "scope_not_for_principal",
      400,
      "invalid_scope",
    );
    expectRefused(await forSub(partner, "prt_0123456789abcdef0123456789abcdef"), "subject_unknown");
    expectRefused(await forSub(partner, "rs_1"), "subject_unknown");
    const workspace = `/v2/account-management/workspace?workspace_id=${user.workspaceId}`;
    expect((await call(server, "PATCH", workspace, own, { status: "disabled" })).status).toBe(200);
    expectRefused(await forSub(partner, "new"), "subject_disabled");
    expect(await rows(partner)).toHaveLength(1);
    expect((await call(server, "DELETE", `${workspace}&cascade=true`, own)).status).toBe(200);
    expectRefused(await forSub(partner, "new"), "provisioning_home_missing");
    expect(await rows(partner)).toEqual([]);
  });

  test("422: settings that could not work", async () => {
    const foreign = await createTestUser(await createTestPartner(server));
    const partner = await createTestPartner(server, { subject_namespace: "external_user_id" });
    const { workspaceId } = await createTestUser(partner);
    for (const [fields, field] of [
      [{ provisioning: "create" }, "home_workspace_id"],
      [{ provisioning: "create", home_workspace_id: foreign.workspaceId }, "home_workspace_id"],
      [{ home_workspace_id: randomUUID() }, "home_workspace_id"],
      [{ home_workspace_id: "x" }, "home_workspace_id"],
      [{ provisioning: "create", home_workspace_id: workspaceId, subject_namespace: "user_id" }, "provisioning"],
      [{ provisioning: "always" }, "provisioning"],
      [{ provisioning_hourly_max: 0 }, "provisioning_hourly_max"],
      [{ billing_features: [""] }, "billing_features.0"],
    ] as const) {
      const reply = await update(partner, fields);
      expect(reply.status, JSON.stringify(fields)).toBe(422);
      expect((reply.json["errors"] as { field: string }[]).map((error) => error.field)).toContain(field);
    }
    const atCreation = {
      name: "P",
      jwks: { keys: [partner.key.publicJwk] },
      provisioning: "create",
      subject_namespace: "external_user_id",
    };
    expect((await admin(server, "POST", "/partners", atCreation)).status).toBe(422);
    expect((await update(partner, { provisioning: "create", home_workspace_id: workspaceId })).status).toBe(200);
    expect((await update(partner, { subject_namespace: "user_id" })).status).toBe(422);
    expect((await update(partner, { provisioning: "off" })).status).toBe(200);
    const workspace = `/v2/account-management/workspace?workspace_id=${workspaceId}&cascade=true`;
    expect((await call(server, "DELETE", workspace, await serviceAccountToken(partner))).status).toBe(200);
    expect((await update(partner, { provisioning: "create" })).status).toBe(422);
    expect((await update(partner, { name: "Renamed" })).status).toBe(200);
  });
});
