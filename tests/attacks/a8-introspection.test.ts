import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  OPERATOR_TOKEN,
  type Reply,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../../packages/server/src/testing/server.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { allowedScopes, createOwnApi, type OwnApi } from "./own-api.ts";
import {
  assertionOf,
  basicOf,
  createKeyPartner,
  credentialsOf,
  ENDPOINTS,
  exchangeFor,
  expectActive,
  expectInactive,
  GRANTS,
  introspect,
  opaqueTokenOf,
  post,
  revoke,
  serviceTokensOf,
} from "./token-status.ts";

/* A8, introspection: P8.8, P8.9, on two nodes. What is malformed: a8-token-requests.test.ts. Revocation: a8-revocation.test.ts. */

describe.each(DIALECTS)("introspection on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let api: OwnApi;
  let otherApi: OwnApi;
  let partner: TestPartner;
  let stranger: TestPartner;
  let user: TestUser;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    [api, otherApi] = [await createOwnApi(server, "reports"), await createOwnApi(server, "billing")];
    partner = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) });
    stranger = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) });
    user = await createTestUser(partner);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second];
  const forApi = (of: TestPartner, sub = of.clientId) => exchangeFor(of, sub, { resource: api.audience });

  /** All of an answer but what differs between any two. */
  function sameness({ status, text, headers }: Reply): string {
    const kept = [...headers].filter(([name]) => name !== "date");
    return JSON.stringify([status, text.replace(/"trace_id":"[0-9a-f]{32}"/, '"trace_id":"…"'), kept]);
  }

  test("P8.8 401: without authentication, and nothing is said of the token", async () => {
    const [jwt, opaque] = await serviceTokensOf(partner);
    for (const at of nodes()) {
      const answers = new Set<string>();
      for (const token of [jwt, opaque, "unknown"]) {
        for (const form of [{ token }, { token, client_id: partner.clientId }, { token, client_id: api.id }]) {
          const reply = await post(at, "/oauth2/introspect", form);
          expect(reply).toMatchObject({ status: 401, json: { error: "invalid_client" } });
          answers.add(sameness(reply));
        }
      }
      expect(answers.size).toBe(1);
    }
  });

  test("P8.8 401: a wrong secret, an unknown client, a disabled one and one without a secret are answered alike, partner or API", async () => {
    const disabled = await createTestPartner(server, GRANTS);
    await admin(server, "PATCH", `/partners/${disabled.clientId}`, { status: "disabled" });
    const byKey = await createKeyPartner(server);
    const callers = [
      { ...partner, clientSecret: "wrong" },
      { ...partner, clientSecret: stranger.clientSecret },
      { ...partner, clientSecret: api.secret },
      { ...partner, clientId: `prt_${"0".repeat(32)}` },
      { ...partner, clientId: "nobody" },
      disabled,
      { ...byKey, clientSecret: partner.clientSecret },
      { ...api, secret: "wrong" },
      { ...api, secret: otherApi.secret },
      { ...api, id: `rs_${"0".repeat(32)}` },
      { ...api, id: "rs_" },
    ];
    const token = await opaqueTokenOf(partner);
    for (const path of ENDPOINTS) {
      for (const at of nodes()) {
        const inBody = await Promise.all(callers.map((caller) => post(at, path, { ...credentialsOf(caller), token })));
        const inHeader = await Promise.all(callers.map((caller) => post(at, path, { token }, basicOf(caller))));
        for (const replies of [inBody, inHeader]) {
          expect(replies[0]).toMatchObject({ status: 401, json: { error: "invalid_client" } });
          expect(new Set(replies.map(sameness)).size, path).toBe(1);
        }
        for (const { headers } of inBody) expect(headers.has("www-authenticate")).toBe(false);
        for (const { headers } of inHeader) expect(headers.get("www-authenticate")).toMatch(/^Basic realm="/);
      }
    }
    await expectActive(second, partner, token);
  });

  test("P8.9 200: another partner's token is told as little of as one that never was, and its owner is told all", async () => {
    for (const token of [...(await serviceTokensOf(partner)), await exchangeFor(partner, user.userId), await forApi(partner)]) {
      for (const at of nodes()) {
        await expectInactive(at, stranger, token);
        await expectInactive(at, otherApi, token);
        await expectActive(at, partner, token);
      }
    }
  });

  test("P8.9 200: an API is told of the tokens that are for it, whose ever they are, and of no others", async () => {
    for (const token of [await forApi(partner), await forApi(stranger), await forApi(partner, user.userId)]) {
      for (const at of nodes()) {
        const { json } = await introspect(at, api, token);
        expect(json).toMatchObject({ active: true, aud: api.audience });
        await expectInactive(at, otherApi, token);
      }
    }
    for (const token of [...(await serviceTokensOf(partner)), await exchangeFor(partner, user.userId)])
      await expectInactive(second, api, token);
  });

  test("200 inactive: whatever else is a credential here is no access token", async () => {
    const byKey = await createKeyPartner(server);
    const others = {
      "a subject token": subjectToken(partner),
      "a user's subject token": subjectToken(partner, { sub: user.userId }),
      "a client assertion": assertionOf(byKey)["client_assertion"] ?? "",
      "the operator's token": OPERATOR_TOKEN,
      "a client secret": partner.clientSecret,
      "an API's secret": api.secret,
      "a client id": partner.clientId,
      "a user id": user.userId,
    };
    for (const [what, token] of Object.entries(others)) {
      for (const caller of [partner, api]) await expectInactive(server, caller, token, what);
      expect((await revoke(server, partner, token)).status, what).toBe(200);
    }
  });

  test("200 inactive, to the byte the same on both nodes at once: unknown, foreign, revoked, over, disabled, erased", async () => {
    const own = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) });
    const gone = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) });
    const brief = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api), access_token_lifetime_seconds: 60 });
    const change = async (method: string, kind: string, query: string, body?: object) => {
      const reply = await call(server, method, `/v2/account-management/${kind}?${query}`, await exchangeFor(own), body);
      expect(reply.status, reply.text).toBe(200);
    };
    const users = { user: await createTestUser(own), workspace: await createTestUser(own), organization: await createTestUser(own) };
    const erased = await createTestUser(own);
    const dead: Record<string, string> = {
      unknown: `sk-${randomBytes(16).toString("hex")}`,
      foreign: await exchangeFor(stranger, stranger.clientId, { resource: server.deps.resource }),
      revoked: await forApi(own),
      over: await forApi(brief),
      "of a disabled partner": await forApi(gone),
      "of an erased user": await forApi(own, erased.userId),
    };
    for (const [kind, { userId }] of Object.entries(users)) dead[`of a disabled ${kind}`] = await forApi(own, userId);
    for (const [why, token] of Object.entries(dead)) if (!["unknown", "foreign"].includes(why)) await expectActive(second, api, token);
    await revoke(server, own, dead["revoked"] ?? "");
    await admin(server, "PATCH", `/partners/${gone.clientId}`, { status: "disabled" });
    await change("PATCH", "user", `user_id=${users.user.userId}`, { status: "disabled" });
    await change("PATCH", "workspace", `workspace_id=${users.workspace.workspaceId}`, { status: "disabled" });
    await change("PATCH", "organization", `org_id=${users.organization.orgId}`, { status: "disabled" });
    await change("DELETE", "user", `user_id=${erased.userId}`);
    for (const at of nodes()) at.clock.offsetMs += 100_000;
    for (const [why, token] of Object.entries(dead)) {
      for (const at of [second, server]) for (const caller of [api, own]) await expectInactive(at, caller, token, why);
    }
  });

  describe("private_key_jwt", () => {
    test("200: an assertion that was spent at introspection or revocation is spent at the token endpoint, on the other node too, and the reverse", async () => {
      const byKey = await createKeyPartner(server);
      const grant = { grant_type: "client_credentials" };
      const token = (await post(server, "/oauth2/token", { ...grant, ...assertionOf(byKey) })).json["access_token"] as string;
      const requests = [
        (at: TestServer, form: Record<string, string>) => post(at, "/oauth2/introspect", { ...form, token }),
        (at: TestServer, form: Record<string, string>) => post(at, "/oauth2/revoke", { ...form, token: "unknown" }),
        (at: TestServer, form: Record<string, string>) => post(at, "/oauth2/token", { ...form, ...grant }),
      ];
      for (const first of requests) {
        const assertion = assertionOf(byKey);
        expect((await first(server, assertion)).status).toBe(200);
        for (const again of requests) {
          for (const at of nodes()) {
            expect(await again(at, assertion)).toMatchObject({ status: 401, json: { error: "invalid_client" } });
          }
        }
      }
    });

    test("200 once: of 16 requests with one assertion, on two nodes and two endpoints, one passes", async () => {
      const byKey = await createKeyPartner(server);
      for (let round = 0; round < 5; round++) {
        const form = { ...assertionOf(byKey), token: "unknown", grant_type: "client_credentials" };
        const paths = ["/oauth2/introspect", "/oauth2/token"];
        const racing = Array.from({ length: 16 }, (_, n) => post(n % 2 === 0 ? server : second, paths[(n >> 1) % 2] ?? "", form));
        const statuses = (await Promise.all(racing)).map(({ status }) => status);
        expect(statuses.filter((status) => status === 200)).toHaveLength(1);
        expect(statuses.filter((status) => status === 401)).toHaveLength(15);
      }
    });
  });

  test("no token that was asked about is in a log line or a row", async () => {
    const asked = [...(await serviceTokensOf(partner)), await exchangeFor(partner, user.userId), `sk-${randomBytes(16).toString("hex")}`];
    for (const token of asked) {
      for (const caller of [partner, stranger, api]) await introspect(server, caller, token);
      await post(server, "/oauth2/introspect", { token });
      await post(server, "/oauth2/introspect", { ...credentialsOf(partner), token, token_type_hint: token });
      await send(server, "GET", `/oauth2/introspect?token=${token}`);
      await send(server, "POST", `/oauth2/introspect?token=${token}`, { headers: basicOf(partner) });
      await revoke(server, partner, token);
    }
    for (const node of nodes()) expectNothingSecretLogged(node);
    const rows = await Promise.all(
      ["exchanges", "revocations", "opaque_tokens", "partner_secrets"].map((table) => server.database.query(`SELECT * FROM ${table}`)),
    );
    const kept = JSON.stringify([rows, nodes().map(({ logLines }) => logLines)]);
    for (const token of asked) for (const part of [token, token.slice(3)]) expect(kept).not.toContain(part);
  });
});
