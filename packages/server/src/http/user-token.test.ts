import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { routerPorts } from "../app.ts";
import { DIALECTS, holdPostgres } from "../testing/database.ts";
import { decodeJwt } from "../testing/jwt.ts";
import {
  bearerChallenge,
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
  type TestUser,
} from "../testing/server.ts";
import { defineRoute } from "./route.ts";
import { httpServer } from "./router.ts";

/** It gives back whom it was called by. */
const whoAmI = defineRoute({
  operationId: "whoAmI",
  method: "GET",
  path: "/who-am-i",
  auth: { kind: "user", scope: "thread" },
  docs: { summary: "Who am I", tag: "operation", answers: { 200: { description: "The caller." } } },
  handle: ({ principal: { partner, ...rest } }) => ({ status: 200, body: { client_id: partner.clientId, ...rest } }),
});

describe.each(DIALECTS)("a user's access token on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let guards: readonly { readonly url: string; close(graceMs: number): Promise<void> }[];
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    guards = await Promise.all(
      [server, second].map(async (node) => {
        const guard = httpServer([whoAmI], routerPorts(node.deps));
        const port = await guard.listen("127.0.0.1", 0);
        return { url: `http://127.0.0.1:${port}`, close: (graceMs: number) => guard.close(graceMs) };
      }),
    );
  });
  afterAll(async () => {
    for (const guard of guards) await guard.close(0);
    await second.stop();
    await server.stop();
  });

  const ask = (token: string) => Promise.all(guards.map((guard) => call(guard, "GET", "/who-am-i", token)));
  const patch = (partner: TestPartner, path: string, body: unknown, token: string) =>
    call(partner.server, "PATCH", `/v2/account-management/${path}`, token, body);

  async function setUp(fields: Record<string, unknown> = {}) {
    const partner = await createTestPartner(server, fields);
    const user = await createTestUser(partner, { external_user_id: "ada" });
    const sub = fields["subject_namespace"] === "external_user_id" ? "ada" : user.userId;
    const forUser = async () => (await exchange(partner, subjectToken(partner, { sub }))).json["access_token"] as string;
    return { partner, user, forUser, own: await serviceAccountToken(partner) };
  }

  const levels = (user: TestUser) =>
    [
      ["user", `user?user_id=${user.userId}`],
      ["workspace", `workspace?workspace_id=${user.workspaceId}`],
      ["organization", `organization?org_id=${user.orgId}`],
    ] as const;

  function expectDead(replies: readonly Reply[], detail: RegExp) {
    for (const reply of replies) {
      expect(reply).toMatchObject({ status: 401, json: { detail: expect.stringMatching(detail) } });
      expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="invalid_token"'));
    }
  }

  test("200: names its user, with workspace and organization, on both nodes", async () => {
    const { partner, user, forUser } = await setUp();
    const token = await forUser();
    for (const reply of await ask(token)) {
      expect(reply).toMatchObject({ status: 200 });
      const { payload } = decodeJwt(token);
      const itself = { tokenId: payload["jti"], expiresAtMs: Number(payload["exp"]) * 1000 };
      expect(reply.json).toEqual({ client_id: partner.clientId, kind: "user", ...user, token: itself });
    }
  });

  test("403: a service account's token, however wide its scope", async () => {
    const { own } = await setUp();
    for (const reply of await ask(own)) {
      expect(reply.status).toBe(403);
      expect(reply.headers.get("www-authenticate")).toContain('error="insufficient_scope", scope="thread"');
    }
  });

  test("401: at once on every node, when user, workspace or organization is disabled; and for good", async () => {
    const { partner, user, forUser, own } = await setUp();
    for (const [kind, path] of levels(user)) {
      const token = await forUser();
      expect((await ask(token)).map((reply) => reply.status)).toEqual([200, 200]);
      expect((await patch(partner, path, { status: "disabled" }, own)).status).toBe(200);
      expectDead(await ask(token), new RegExp(`${kind} is disabled`));
      expect((await patch(partner, path, { status: "active" }, own)).status).toBe(200);
      expectDead(await ask(token), /has been ended/);
      const next = await forUser(); // asked for in the second of the cut-off: it waits for the next one
      expect((await ask(next)).map((reply) => reply.status)).toEqual([200, 200]);
      expect(decodeJwt(next).payload["iat"]).toBeLessThanOrEqual(Math.floor(Date.now() / 1000));
    }
  });

  test("401: when the user, or with cascade what it is in, is erased", async () => {
    for (const index of [0, 1, 2]) {
      const { partner, user, forUser, own } = await setUp();
      const token = await forUser();
      const path = levels(user)[index]?.[1] ?? "";
      const erased = await call(server, "DELETE", `/v2/account-management/${path}${index === 0 ? "" : "&cascade=true"}`, own);
      expect(erased.status).toBe(200);
      expectDead(await ask(token), /no longer exists/);
      expect((await exchange(partner, subjectToken(partner, { sub: user.userId }))).json["error_uri"]).toContain("subject_unknown");
    }
  });

  test("401: when the external id that is its sub is changed, and not where the sub is ours", async () => {
    for (const namespace of ["external_user_id", "user_id"]) {
      const { partner, user, forUser, own } = await setUp({ subject_namespace: namespace });
      const token = await forUser();
      expect(decodeJwt(token).payload["sub"]).toBe(user.userId);
      expect((await patch(partner, `user?user_id=${user.userId}`, { external_user_id: "ada", name: "Ada" }, own)).status).toBe(200);
      expect((await ask(token)).map((reply) => reply.status)).toEqual([200, 200]);
      expect((await patch(partner, `user?user_id=${user.userId}`, { external_user_id: "eve" }, own)).status).toBe(200);
      if (namespace === "user_id") expect((await ask(token)).map((reply) => reply.status)).toEqual([200, 200]);
      else expectDead(await ask(token), /has been ended/);
    }
  });

  test.runIf(dialect === "postgres")("401: when it was issued while the change of its sub waited for the row", async () => {
    const { partner, user, forUser, own } = await setUp({ subject_namespace: "external_user_id" });
    const held = await holdPostgres(server.database, `UPDATE users SET revision = revision WHERE user_id = '${user.userId}'`);
    const changed = patch(partner, `user?user_id=${user.userId}`, { external_user_id: "eve" }, own);
    const waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    await expect.poll(() => server.database.query(waits)).toHaveLength(1);
    for (const { clock } of [server, second]) clock.offsetMs += 1_100;
    const token = await forUser();
    await held.release();
    expect((await changed).status).toBe(200);
    expectDead(await ask(token), /has been ended/);
    for (const { clock } of [server, second]) clock.offsetMs = 0;
  });

  test("401: when its partner is disabled", async () => {
    const { partner, forUser } = await setUp();
    const token = await forUser();
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { status: "disabled" })).status).toBe(200);
    expectDead(await ask(token), /partner is no longer active/);
  });

  test("401: when it was won in a race with the disabling, once the user is enabled again", async () => {
    const { partner, user, own } = await setUp();
    const path = `user?user_id=${user.userId}`;
    for (let round = 0; round < 3; round++) {
      const exchanges = Array.from({ length: 6 }, () => exchange(partner, subjectToken(partner, { sub: user.userId })));
      expect((await patch(partner, path, { status: "disabled" }, own)).status).toBe(200);
      const tokens = (await Promise.all(exchanges)).flatMap(({ json }) =>
        json["access_token"] === undefined ? [] : [json["access_token"] as string],
      );
      expect((await patch(partner, path, { status: "active" }, own)).status).toBe(200);
      for (const token of tokens) expectDead(await ask(token), /has been ended/);
    }
  });
});
