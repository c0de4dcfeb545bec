import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  bearerChallenge,
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

const HOME = "/v2/account-management/organization-and-workspace";
const USER = "/v2/account-management/user";

describe.each(DIALECTS)("the account API on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
    token = await serviceAccountToken(partner);
  });
  afterAll(() => server.stop());

  const ofReply = (reply: Reply, entity: string) => reply.json[entity] as Record<string, string>;

  describe("createOrganizationAndWorkspace", () => {
    test("201: every field comes back, and the ids are made by the server", async () => {
      const reply = await call(server, "PUT", HOME, token, {
        external_org_id: "org-ü-1",
        org_name: "Ünïcode 🦊",
        org_email: "a@b.example",
        org_phone_number: "+41 1",
        org_support_email: "s@b.example",
        org_type: "bank",
        org_entitlements: [{ billing_feature_id: "f1" }],
        external_workspace_id: "ws-1",
        workspace_name: "W",
        workspace_entitlements: [{ billing_feature_id: "f2" }],
      });
      expect(reply.status).toBe(201);
      const orgId = ofReply(reply, "org")["org_id"];
      expect(reply.json).toEqual({
        message: expect.any(String),
        success: true,
        org: {
          org_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
          external_org_id: "org-ü-1",
          name: "Ünïcode 🦊",
          email: "a@b.example",
          phone_number: "+41 1",
          support_email: "s@b.example",
          org_type: "bank",
          entitlements: [{ billing_feature_id: "f1" }],
          status: "active",
        },
        workspace: {
          workspace_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
          external_workspace_id: "ws-1",
          org_id: orgId,
          name: "W",
          entitlements: [{ billing_feature_id: "f2" }],
          status: "active",
        },
      });
    });

    test("409: both or neither, and the stored row is unchanged", async () => {
      const body = { external_org_id: "twice", org_name: "first", external_workspace_id: "twice" };
      expect((await call(server, "PUT", HOME, token, body)).status).toBe(201);
      expect(await call(server, "PUT", HOME, token, { ...body, org_name: "second" })).toMatchObject({
        status: 409,
        json: { success: false },
      });
      expect((await call(server, "PUT", HOME, token, { external_org_id: "new", external_workspace_id: "twice" })).status).toBe(409);
      const rows = await server.database.query("SELECT name FROM organizations WHERE external_org_id IN ('twice', 'new')");
      expect(rows).toEqual([{ name: "first" }]);
    });
  });

  describe("createUser and getUser", () => {
    test("201, 200: a created user is found by either id", async () => {
      const home = await call(server, "PUT", HOME, token, {});
      const workspaceId = ofReply(home, "workspace")["workspace_id"] ?? "";
      const created = await call(server, "PUT", USER, token, {
        workspace_id: workspaceId,
        external_user_id: "ada",
        email: "ada@b.example",
        name: "Ada",
        entitlements: [{ billing_feature_id: "f" }],
      });
      expect(created.status).toBe(201);
      const user = ofReply(created, "user");
      expect(user).toEqual({
        user_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        external_user_id: "ada",
        workspace_id: workspaceId,
        org_id: ofReply(home, "org")["org_id"],
        email: "ada@b.example",
        name: "Ada",
        entitlements: [{ billing_feature_id: "f" }],
        status: "active",
      });
      for (const query of [`user_id=${user["user_id"]}`, "external_user_id=ada"]) {
        expect(await call(server, "GET", `${USER}?${query}`, token)).toMatchObject({ status: 200, json: { success: true, user } });
      }
      expect(await call(server, "PUT", USER, token, { workspace_id: workspaceId, external_user_id: "ada", name: "Eve" })).toMatchObject({
        status: 409,
      });
      expect((await call(server, "GET", `${USER}?external_user_id=ada`, token)).json).toMatchObject({ user: { name: "Ada" } });
    });

    test("422: neither id, both, one twice, an empty one, another parameter", async () => {
      for (const query of [
        "",
        "?user_id=a&external_user_id=b",
        "?user_id=a&user_id=b",
        "?user_id=",
        "?user_id=a&limit=1",
        "?user_id[]=a",
      ]) {
        expect(await call(server, "GET", USER + query, token), query).toMatchObject({ status: 422, json: { success: false } });
      }
    });

    test("404: an absent id, a foreign one and no id at all read the same", async () => {
      const foreign = await createTestUser(await createTestPartner(server), { external_user_id: "foreign" });
      const answers = await Promise.all(
        [
          `user_id=${randomUUID()}`,
          `user_id=${foreign.userId}`,
          `user_id=${foreign.userId.toUpperCase()}`,
          "user_id=%00",
          "user_id=..",
          "external_user_id=foreign",
          "external_user_id=%00",
          `external_user_id=${"x".repeat(5000)}`,
        ].map((query) => call(server, "GET", `${USER}?${query}`, token)),
      );
      for (const answer of answers) {
        expect(answer.status).toBe(404);
        expect({ ...answer.json, trace_id: "" }).toEqual({ ...answers[0]?.json, trace_id: "" });
      }
      for (const workspaceId of [foreign.workspaceId, randomUUID(), "x", "\0"]) {
        expect((await call(server, "PUT", USER, token, { workspace_id: workspaceId })).status).toBe(404);
      }
    });

    test.each([
      ["no workspace", {}, "workspace_id"],
      ["an unknown field", { workspace_id: "x", role: "admin" }, "role"],
      ["an external id like a client id", { workspace_id: "x", external_user_id: "prt_1" }, "external_user_id"],
      ["an external id like a resource server's", { workspace_id: "x", external_user_id: "rs_1" }, "external_user_id"],
      ["an empty external id", { workspace_id: "x", external_user_id: "" }, "external_user_id"],
      ["an external id of 256 characters", { workspace_id: "x", external_user_id: "x".repeat(256) }, "external_user_id"],
      ["a control character", { workspace_id: "x", external_user_id: "a\nb" }, "external_user_id"],
      ["an email that is none", { workspace_id: "x", email: "nobody" }, "email"],
      ["a name that is no text", { workspace_id: "x", name: 1 }, "name"],
      ["an entitlement without its id", { workspace_id: "x", entitlements: [{}] }, "entitlements.0.billing_feature_id"],
    ])("422: %s, naming the field", async (_case, body, field) => {
      const reply = await call(server, "PUT", USER, token, body);
      expect(reply).toMatchObject({ status: 422, json: { success: false, message: expect.any(String) } });
      expect((reply.json["errors"] as { field: string }[]).map((error) => error.field)).toContain(field);
    });
  });

  describe("who may call", () => {
    test("401: no token has no error code, a bad or expired one is invalid_token", async () => {
      const none = await call({ url: server.url }, "GET", `${USER}?user_id=x`, "").catch(() => undefined);
      expect(none?.status).toBe(401);
      const bare = await fetch(`${server.url}${USER}?user_id=x`);
      expect(bare.status).toBe(401);
      expect(bare.headers.get("www-authenticate")).toBe(bearerChallenge());
      for (const bad of ["garbage", `${token}x`, token.slice(0, -1), `${token.split(".").slice(0, 2).join(".")}.`]) {
        const reply = await call(server, "GET", `${USER}?user_id=x`, bad);
        expect(reply.status).toBe(401);
        expect(reply.headers.get("www-authenticate")).toContain('error="invalid_token"');
      }
      server.clock.offsetMs = 3_700_000;
      expect((await call(server, "GET", `${USER}?user_id=x`, token)).status).toBe(401);
      server.clock.offsetMs = 0;
    });

    test("403: a user's token, and a service account without the scope", async () => {
      const user = await createTestUser(partner);
      const forUser = await exchange(partner, subjectToken(partner, { sub: user.userId }));
      const forAnalytics = await exchange(partner, subjectToken(partner), { form: { scope: "analytics" } });
      for (const reply of [forUser, forAnalytics]) {
        const refused = await call(server, "PUT", HOME, String(reply.json["access_token"]), {});
        expect(refused.status).toBe(403);
        expect(refused.headers.get("www-authenticate")).toContain('error="insufficient_scope", scope="account-management"');
      }
    });
  });
});
