import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../packages/server/src/testing/database.ts";
import { makeTestKey, type Part, signJwt } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  basic,
  call,
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
} from "../packages/server/src/testing/server.ts";

/* The operator's own APIs: made, opened to a partner by a scope, asked about tokens; and all six forms of revocation, on two nodes. */

const FORM = { "content-type": "application/x-www-form-urlencoded" };
const OURS = "/v2/account-management/organization?org_id=00000000-0000-4000-8000-000000000000";
const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const INACTIVE = '{"active":false}';

const oneKey = makeTestKey("ES256", "one");
const otherKey = makeTestKey("ES256", "other");
const JWKS = { keys: [oneKey.publicJwk, otherKey.publicJwk] };

interface Api {
  readonly id: string;
  readonly secret: string;
  readonly audience: string;
  /** For users, and for service accounts. */
  readonly scopes: readonly [user: string, serviceAccount: string];
}

describe.each(DIALECTS)("an API of the operator's own on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let files: Api;
  let mail: Api;
  let partner: TestPartner;
  let user: TestUser;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    files = await createApi();
    mail = await createApi();
    partner = await createPartner();
    user = await createTestUser(partner, { entitlements: [{ billing_feature_id: "own" }] });
    const token = await granted(exchange(partner, subjectToken(partner)));
    const entitlements = [{ billing_feature_id: "of the organization" }];
    await call(server, "PATCH", `/v2/account-management/organization?org_id=${user.orgId}`, token, { entitlements });
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second];

  async function createApi(): Promise<Api> {
    const made = await admin(server, "POST", "/resource-servers", { name: "An API", audience: `https://${randomUUID()}.example` });
    const { resource_server_id: id, audience } = made.json["resource_server"] as { resource_server_id: string; audience: string };
    const scopes = [`${audience}/read`, `${audience}/admin`] as const;
    for (const [index, name] of scopes.entries()) {
      const principal = index === 0 ? "user" : "service_account";
      const reply = await admin(server, "POST", "/scopes", { name, principal, resource_server_id: id });
      expect(reply.status, reply.text).toBe(201);
    }
    return { id, secret: String(made.json["client_secret"]), audience, scopes };
  }

  function createPartner(fields: object = {}): Promise<TestPartner> {
    const allowed_scopes = ["thread", "account-management", ...files.scopes, ...mail.scopes];
    return createTestPartner(
      server,
      { jwks: JWKS, allowed_scopes, allowed_grants: ["token-exchange", "client_credentials"], ...fields },
      oneKey,
    );
  }

  async function granted(reply: ReturnType<typeof exchange>): Promise<string> {
    const { status, text, json } = await reply;
    expect(status, text).toBe(200);
    return String(json["access_token"] ?? (json["data"] as { access_token: string }).access_token);
  }

  const forUser = (who: TestUser, form: Record<string, string>, of = partner) =>
    exchange(of, subjectToken(of, { sub: who.userId }), { form });
  const opaque = (form: Record<string, string>) =>
    send(server, "POST", "/v1/auth/token", { headers: FORM, body: new URLSearchParams(form).toString() });
  const opaqueBySecret = (of: TestPartner, scope: string) => opaque({ client_id: of.clientId, client_secret: of.clientSecret, scope });

  const introspect = (client: { readonly id: string; readonly secret: string }, token: string, at = server) =>
    send(at, "POST", "/oauth2/introspect", {
      headers: { ...FORM, authorization: basic(client.id, client.secret) },
      body: new URLSearchParams({ token }).toString(),
    });
  const isActive = async (token: string, at = server, api = files) => (await introspect(api, token, at)).json["active"];
  const asClient = ({ clientId, clientSecret }: TestPartner) => ({ id: clientId, secret: clientSecret });

  describe("a token for it", () => {
    test.each([
      ["its scope", ({ scopes }: Api) => ({ scope: scopes[0] })],
      ["its audience", ({ audience }: Api) => ({ audience })],
      ["its audience as a resource (RFC 8707)", ({ audience }: Api) => ({ resource: audience })],
      ["both", ({ audience, scopes }: Api) => ({ audience, scope: scopes[0] })],
    ])("is asked for by %s; it learns all about it, on both nodes, and nobody else but the partner does", async (_name, form) => {
      const reply = await forUser(user, form(files));
      expect(reply).toMatchObject({ status: 200, json: { scope: files.scopes[0] } });
      const token = String(reply.json["access_token"]);
      for (const at of nodes()) {
        const answer = await introspect(files, token, at);
        expect(answer.json).toMatchObject({
          active: true,
          iss: ISSUER,
          aud: files.audience,
          sub: user.userId,
          client_id: partner.clientId,
          scope: files.scopes[0],
          org_id: user.orgId,
          workspace_id: user.workspaceId,
          partner_kids: ["one"],
          entitlements: [{ billing_feature_id: "of the organization" }, { billing_feature_id: "own" }],
        });
        expect((await introspect(asClient(partner), token, at)).text).toBe(answer.text);
        for (const other of [mail, asClient(await createPartner())]) expect((await introspect(other, token, at)).text).toBe(INACTIVE);
        expect(await call(at, "GET", OURS, token)).toMatchObject({ status: 401, json: { detail: "The access token is for another API." } });
      }
    });

    test("is a service account's, too, as a JWT and as sk-, and our own API refuses it; one for ours is none of its business", async () => {
      const [, scope] = files.scopes;
      const tokens = [
        await granted(exchange(partner, subjectToken(partner), { form: { scope } })),
        await granted(opaqueBySecret(partner, scope)),
      ];
      for (const token of tokens) {
        const answer = await introspect(files, token, second);
        expect(answer.json).toMatchObject({ active: true, aud: files.audience, sub: partner.clientId, scope });
        expect(answer.json).not.toHaveProperty("entitlements");
        expect((await introspect(mail, token)).text).toBe(INACTIVE);
        expect((await call(server, "GET", OURS, token)).status).toBe(401);
      }
      const ours = await granted(exchange(partner, subjectToken(partner)));
      expect((await introspect(files, ours)).text).toBe(INACTIVE);
      expect((await call(server, "GET", OURS, ours)).status).toBe(404);
    });

    test.each([
      ["of two APIs", () => ({ scope: `${files.scopes[0]} ${mail.scopes[0]}` }), "invalid_target"],
      ["of an API and ours", () => ({ scope: `${files.scopes[0]} thread` }), "invalid_target"],
      ["of another API than the audience", () => ({ audience: mail.audience, scope: files.scopes[0] }), "invalid_scope"],
      ["for an audience that there is not", () => ({ audience: "https://nobody.example" }), "invalid_target"],
      ["of a service account, for a user", () => ({ scope: files.scopes[1] }), "invalid_scope"],
    ])("is refused with scopes %s", async (_name, form, error) => {
      expect(await forUser(user, form())).toMatchObject({ status: 400, json: { error } });
    });

    test("is refused to a partner that is not allowed the scope; one that is out opens nothing more when the scope is taken away", async () => {
      const own = await createPartner({ allowed_scopes: ["thread", "account-management"] });
      const who = await createTestUser(own);
      expect(await forUser(who, { scope: files.scopes[0] }, own)).toMatchObject({ status: 400, json: { error: "invalid_scope" } });
      expect(await forUser(who, { audience: files.audience }, own)).toMatchObject({ status: 400, json: { error: "invalid_target" } });
      const allow = (scopes: readonly string[]) => admin(server, "PATCH", `/partners/${own.clientId}`, { allowed_scopes: scopes });
      await allow(["thread", files.scopes[0]]);
      const token = await granted(exchange(own, subjectToken(own, { sub: who.userId }), { at: second, form: { scope: files.scopes[0] } }));
      await allow(["thread"]);
      expect(await isActive(token, second)).toBe(false);
      await allow(["thread", files.scopes[0]]);
      expect(await isActive(token, second)).toBe(true);
    });
  });

  describe("revocation", () => {
    /** Tokens of each kind for the API. */
    async function mint(of: TestPartner, who: TestUser) {
      const [userScope, ownScope] = files.scopes;
      const byOther = { ...of, key: otherKey };
      const tokens = {
        user: forUser(who, { scope: userScope }, of),
        userByOther: forUser(who, { scope: userScope }, byOther),
        own: exchange(of, subjectToken(of), { form: { scope: ownScope } }),
        ownByOther: exchange(byOther, subjectToken(byOther), { form: { scope: ownScope } }),
        opaque: opaqueBySecret(of, ownScope),
      };
      const minted = await Promise.all(Object.entries(tokens).map(async ([name, reply]) => [name, await granted(reply)] as const));
      return Object.fromEntries(minted) as Record<keyof typeof tokens, string>;
    }

    type Minted = Awaited<ReturnType<typeof mint>>;
    type Subject = (of: TestPartner, who: TestUser, tokens: Minted) => object | Promise<object>;
    const jtiOf = async (token: string) => (await introspect(files, token)).json["jti"] as string;

    test.each([
      ["jti of a JWT", async (_of, _who, { user: token }) => ({ jti: await jtiOf(token) }), ["user"]],
      ["jti of an sk- token", async (_of, _who, { opaque: token }) => ({ jti: await jtiOf(token) }), ["opaque"]],
      ["user_id", (_of, { userId }) => ({ user_id: userId }), ["user", "userByOther"]],
      ["workspace_id", (_of, { workspaceId }) => ({ workspace_id: workspaceId }), ["user", "userByOther"]],
      ["org_id", (_of, { orgId }) => ({ org_id: orgId }), ["user", "userByOther"]],
      ["client_id", ({ clientId }) => ({ client_id: clientId }), ["user", "userByOther", "own", "ownByOther", "opaque"]],
      ["client_id and kid", ({ clientId }) => ({ client_id: clientId, kid: "one" }), ["user", "own"]],
    ] as [string, Subject, [keyof Minted, ...(keyof Minted)[]]][])(
      "by %s ends those tokens and no others, at once on both nodes and after a restart; the next second's live",
      async (name, subject, ended) => {
        const own = await createPartner();
        const [who, neighbour] = [await createTestUser(own), await createTestUser(own)];
        const [tokens, untouched] = [await mint(own, who), await mint(partner, user)];
        const neighbours = await granted(forUser(neighbour, { scope: files.scopes[0] }, own));
        const body = await subject(own, who, tokens);
        for (const token of Object.values(tokens)) expect(await isActive(token, second)).toBe(true);
        const started = performance.now();
        expect((await admin(server, "POST", "/revocations", body)).status).toBe(200);
        const revokedMs = performance.now() - started;
        expect(await isActive(tokens[ended[0]], second)).toBe(false);
        console.log(
          `${dialect}, ${name}: revoked in ${Math.round(revokedMs)} ms, dead on the other node ${Math.round(performance.now() - started - revokedMs)} ms later`,
        );
        const third = await server.startSecondNode();
        third.clock.offsetMs = server.clock.offsetMs;
        for (const at of [...nodes(), third]) {
          for (const [kind, token] of Object.entries(tokens))
            expect(await isActive(token, at), `${kind} on a node`).toBe(!ended.includes(kind as keyof Minted));
          expect(await isActive(neighbours, at), "the neighbour").toBe(!name.startsWith("client_id"));
          for (const token of Object.values(untouched)) expect(await isActive(token, at), "another partner's").toBe(true);
        }
        await third.stop();
        for (const node of nodes()) node.clock.offsetMs += 1_000;
        for (const [kind, token] of Object.entries(await mint(own, who))) {
          for (const at of nodes()) expect(await isActive(token, at), `new ${kind}`).toBe(true);
        }
      },
    );

    test("by client_id and kid ends what an assertion of that key brought about, the sk- token too", async () => {
      const own = await createPartner({ token_endpoint_auth_method: "private_key_jwt" });
      const mintBy = async (key: typeof oneKey) => {
        const now = server.nowSeconds();
        const claims = { iss: own.clientId, sub: own.clientId, aud: ISSUER, iat: now, exp: now + 60, jti: randomUUID() } satisfies Part;
        const assertion = signJwt({ alg: key.algorithm, kid: key.kid, typ: "client-authentication+jwt" }, claims, key);
        return granted(opaque({ client_assertion: assertion, client_assertion_type: ASSERTION_TYPE, scope: files.scopes[1] }));
      };
      const [byOne, byOther] = [await mintBy(oneKey), await mintBy(otherKey)];
      expect((await admin(server, "POST", "/revocations", { client_id: own.clientId, kid: "one" })).status).toBe(200);
      for (const at of nodes()) expect([await isActive(byOne, at), await isActive(byOther, at)]).toEqual([false, true]);
    });

    test("ends a token at our own API at once, on both nodes", async () => {
      const own = await createPartner();
      const tokens = [await granted(exchange(own, subjectToken(own))), await granted(opaqueBySecret(own, "account-management"))];
      for (const at of nodes()) for (const token of tokens) expect((await call(at, "GET", OURS, token)).status).toBe(404);
      expect((await admin(server, "POST", "/revocations", { client_id: own.clientId })).status).toBe(200);
      for (const at of [second, server]) {
        for (const token of tokens)
          expect(await call(at, "GET", OURS, token)).toMatchObject({
            status: 401,
            json: { detail: expect.stringContaining("ended") as unknown },
          });
      }
    });

    test("in the very second, an exchange waits for the next one, and its token lives", async () => {
      const own = await createPartner();
      const revoked = await admin(server, "POST", "/revocations", { client_id: own.clientId });
      const { cut_off_at: cutOffAt } = revoked.json["revocation"] as { cut_off_at: string };
      const token = await granted(exchange(own, subjectToken(own), { at: second, form: { scope: files.scopes[1] } }));
      const { json } = await introspect(files, token);
      expect(json).toMatchObject({ active: true });
      expect(json["iat"]).toBeGreaterThan(Date.parse(cutOffAt) / 1000);
    });
  });
});
