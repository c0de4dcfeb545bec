/** RFC 7662, OAuth 2.0 Token Introspection, asked by partners in each way in which a client authenticates, and by an API of the operator. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import { call, createTestUser, ISSUER, send, subjectToken, type TestUser } from "../packages/server/src/testing/server.ts";
import { allowedScopes, type OwnApi } from "../tests/attacks/own-api.ts";
import {
  type Caller,
  introspect,
  obtainByCredentials,
  obtainByExchange,
  obtainOpaque,
  openApi,
  openCallers,
  type PartnerCaller,
  type PartnerCallers,
  refusedWith,
  requestIntrospection,
  revoke,
} from "./callers.ts";
import { openSetting, RESOURCE, type Setting } from "./client.ts";
import { INVALID_CLIENT, replyOf } from "./refusals.ts";

const INACTIVE = '{"active":false}';

let setting: Setting;
let api: OwnApi;
let apis: readonly [Caller, Caller];
let callers: PartnerCallers;
let user: TestUser;
beforeAll(async () => {
  setting = await openSetting();
  ({ api, callers: apis } = await openApi(setting, "reports"));
  callers = await openCallers(setting, { allowed_scopes: allowedScopes(api) });
  user = await createTestUser(callers[0].partner, { external_user_id: "ada", email: "ada@example.com", name: "Ada" });
});
afterAll(() => setting.server.stop());

const post = (form: Record<string, string>, init: RequestInit = {}) =>
  send(setting.server, "POST", "/oauth2/introspect", { body: new URLSearchParams(form), ...init });
const credentialsOf = ({ partner }: PartnerCaller) => ({ client_id: partner.clientId, client_secret: partner.clientSecret });

/** The body as it is, for what must not tell one token from another. */
async function bodyFor(caller: Caller, token: string): Promise<string> {
  const response = await requestIntrospection(caller, token);
  expect(response.status).toBe(200);
  return response.text();
}

test("§2: the endpoint MUST be protected by transport-layer security: its URL is https, and has no fragment", () => {
  const url = new URL(setting.as.introspection_endpoint ?? "");
  expect(url.protocol).toBe("https:");
  expect(url.hash).toBe("");
});

test("§2.1: the request is a POST of a form, and nothing else", async () => {
  const form = { ...credentialsOf(callers[0]), token: await obtainOpaque(callers[0]) };
  expect((await post(form)).json["active"]).toBe(true);
  const asJson = await post(form, { headers: { "content-type": "application/json" }, body: JSON.stringify(form) });
  expect(asJson).toMatchObject(replyOf("media_type_unsupported"));
  const asQuery = await send(setting.server, "POST", `/oauth2/introspect?${new URLSearchParams(form).toString()}`);
  expect(asQuery.status).toBe(400);
});

test("§2.1: token is REQUIRED", async () => {
  for (const form of [{}, { token: "" }]) {
    expect(await post({ ...credentialsOf(callers[0]), ...form })).toMatchObject(replyOf("parameter_missing"));
  }
});

test("§2.1: token_type_hint is OPTIONAL: whatever it says, the search MUST extend to every type of token", async () => {
  for (const token of [await obtainOpaque(callers[0]), (await obtainByCredentials(callers[0])).access_token]) {
    for (const token_type_hint of ["access_token", "refresh_token", "unknown", ""]) {
      expect(await introspect(callers[0], token, { token_type_hint })).toMatchObject({ active: true, token_type: "Bearer" });
    }
  }
});

test("§2.1: the endpoint MUST require some form of authorization: each method that the metadata names, and none without", async () => {
  const methods = [...callers, ...apis].map(({ method }) => method);
  expect(new Set(methods)).toEqual(new Set(setting.as.introspection_endpoint_auth_methods_supported));
  for (const caller of callers) {
    const { access_token: token } = await obtainByCredentials(caller);
    expect(await introspect(caller, token), caller.method).toMatchObject({ active: true, client_id: caller.partner.clientId });
    const refused = await requestIntrospection({ ...caller, auth: oauth.None() }, token);
    expect(refused.status, caller.method).toBe(401);
    expect(await post({ token })).toMatchObject(replyOf("client_authentication_missing", INVALID_CLIENT));
  }
  const { access_token } = await obtainByCredentials(callers[0], { scope: api.serviceScope });
  for (const caller of apis) expect(await introspect(caller, access_token), caller.method).toMatchObject({ active: true });
});

test("§2.1: a token is no credential here: one sent as Bearer is refused as a method that is not offered", async () => {
  const token = await obtainOpaque(callers[0]);
  const reply = await post({ token }, { headers: { authorization: `Bearer ${token}` } });
  expect(reply).toMatchObject(replyOf("client_authentication_unsupported", INVALID_CLIENT));
});

test("§2.2: the answer is a JSON object of type application/json, also where a signed one is asked for", async () => {
  const token = await obtainOpaque(callers[0]);
  const { as, client, auth, server } = callers[0];
  expect((await requestIntrospection(callers[0], token)).headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
  const options = {
    requestJwtResponse: true,
    [oauth.customFetch]: (url: string, init: object) => fetch(url.replace(ISSUER, server.url), init),
  };
  const signed = await oauth.introspectionRequest(as, client, auth, token, options);
  expect(signed.headers.get("content-type")).toBe("application/json");
});

test("§2.2: active is REQUIRED, a boolean", async () => {
  expect((await introspect(callers[0], await obtainOpaque(callers[0]))).active).toBe(true);
  expect((await introspect(callers[0], "unknown")).active).toBe(false);
});

test("§2.2: scope, client_id, token_type, exp, iat, sub, aud, iss and jti are those of the token", async () => {
  for (const caller of callers) {
    const { access_token, scope } = await obtainByCredentials(caller);
    const { iss, sub, aud, client_id, exp, iat, jti } = decodeJwt(access_token).payload;
    const told = await introspect(caller, access_token);
    expect(told).toMatchObject({ active: true, iss, sub, aud, client_id, exp, iat, jti, scope, token_type: "Bearer" });
    expect(sub).toBe(caller.partner.clientId);
  }
});

test("§2.2: an opaque token has the same members", async () => {
  const before = setting.server.nowSeconds();
  const told = await introspect(callers[0], await obtainOpaque(callers[0]));
  const { iat = 0, jti = "", ...others } = told;
  const { clientId } = callers[0].partner;
  expect(iat).toBeGreaterThanOrEqual(before);
  expect(jti).toMatch(/^[\w-]{22}$/);
  expect(others).toEqual({
    active: true,
    iss: ISSUER,
    sub: clientId,
    client_id: clientId,
    aud: RESOURCE,
    scope: "account-management analytics",
    token_type: "Bearer",
    exp: iat + 3600,
  });
});

test("§2.2: names of our own MAY be there: org_id, workspace_id, partner_kids and the entitlements of a user", async () => {
  const [caller] = callers;
  const { access_token } = await obtainByExchange(caller, {}, user.userId);
  const told = await introspect(caller, access_token);
  const { userId: sub, orgId: org_id, workspaceId: workspace_id } = user;
  expect(told).toMatchObject({ active: true, sub, org_id, workspace_id, partner_kids: [caller.partner.key.kid], entitlements: [] });
  const standard = new Set(["active", "aud", "client_id", "exp", "iat", "iss", "jti", "scope", "sub", "token_type"]);
  const ours = Object.keys(told).filter((name) => !standard.has(name));
  expect(ours.toSorted()).toEqual(["entitlements", "org_id", "partner_kids", "workspace_id"]);
});

test("§2.2: entitlements are the effective set: what the organization, the workspace and the user hold together", async () => {
  const [caller] = callers;
  const { access_token: own } = await obtainByCredentials(caller);
  const held = (id: string) => ({ billing_feature_id: id });
  const give = (path: string, ids: string[]) =>
    call(setting.server, "PATCH", `/v2/account-management/${path}`, own, { entitlements: ids.map(held) });
  await give(`organization?org_id=${user.orgId}`, ["base", "seats"]);
  await give(`workspace?workspace_id=${user.workspaceId}`, ["exports"]);
  await give(`user?user_id=${user.userId}`, ["base", "beta"]);
  const { access_token } = await obtainByExchange(caller, {}, user.userId);
  const { entitlements } = await introspect(caller, access_token);
  expect(new Set(entitlements as unknown[])).toEqual(new Set(["base", "seats", "exports", "beta"].map(held)));
});

test("§2.2: the server MAY answer each protected resource differently: an API is told of the tokens that are for it, and of no others", async () => {
  const [caller] = callers;
  const other = (await openApi(setting, "billing")).callers[0];
  const { access_token } = await obtainByExchange(caller, { resource: api.audience }, user.userId);
  const told = await introspect(apis[0], access_token);
  expect(told).toMatchObject({ active: true, aud: api.audience, scope: api.userScope, sub: user.userId });
  expect(await introspect(caller, access_token)).toEqual(told);
  expect(await introspect(other, access_token)).toEqual({ active: false });
  expect(await introspect(apis[0], (await obtainByCredentials(caller)).access_token)).toEqual({ active: false });
});

test("§2.2: for a token that is not active, does not exist or is not for the caller to know, active MUST be false", async () => {
  const foreign = await obtainOpaque(callers[1]);
  const revoked = await obtainOpaque(callers[0]);
  await revoke(callers[0], revoked);
  for (const token of ["x", "sk-0123456789abcdef0123456789abcdef", foreign, revoked, subjectToken(callers[0].partner)]) {
    expect(await introspect(callers[0], token)).toEqual({ active: false });
  }
  expect((await introspect(callers[1], foreign)).active).toBe(true);
});

test("§2.2: of an inactive token the server SHOULD NOT say anything else, and not why it is inactive", async () => {
  const revoked = (await obtainByCredentials(callers[0])).access_token;
  await revoke(callers[0], revoked);
  const bodies = [await bodyFor(callers[0], revoked), await bodyFor(callers[1], revoked), await bodyFor(callers[0], "unknown")];
  expect(bodies).toEqual([INACTIVE, INACTIVE, INACTIVE]);
});

test("§2.3: a client whose credentials are invalid is answered 401 as RFC 6749 §5.2 has it", async () => {
  const [caller] = callers;
  const token = await obtainOpaque(caller);
  const response = await requestIntrospection({ ...caller, auth: oauth.ClientSecretBasic("wrong") }, token);
  expect(response.status).toBe(401);
  expect(response.headers.get("www-authenticate")).toMatch(/^Basic realm="/);
  expect(await response.json()).toMatchObject({ error: "invalid_client" });
  const refused = await refusedWith(introspect({ ...caller, auth: oauth.ClientSecretPost("wrong") }, token));
  expect(refused).toMatchObject({ status: 401, error: "invalid_client" });
  const wrongApi = { ...apis[1], auth: oauth.ClientSecretPost("wrong") };
  expect(await refusedWith(introspect(wrongApi, token))).toMatchObject({ status: 401, error: "invalid_client" });
});

test("§2.3: a well-formed and authorized query for an inactive token is not an error", async () => {
  for (const caller of [...callers, ...apis]) expect(await bodyFor(caller, "unknown"), caller.method).toBe(INACTIVE);
});

test("§4: the server MUST perform all applicable checks against a token's state: the time of its end", async () => {
  const own = await openSetting();
  try {
    const [caller] = await openCallers(own);
    const tokens = [await obtainOpaque(caller), (await obtainByCredentials(caller)).access_token];
    for (const token of tokens) expect((await introspect(caller, token)).active).toBe(true);
    own.server.clock.offsetMs += 3_600_000 + 60_000;
    for (const token of tokens) expect(await introspect(caller, token)).toEqual({ active: false });
  } finally {
    await own.server.stop();
  }
});

test("§4: the server MUST perform all applicable checks against a token's state: the signature", async () => {
  const [caller] = callers;
  const { access_token } = await obtainByCredentials(caller);
  const [header = "", payload = "", signature = ""] = access_token.split(".");
  for (const forged of [`${header}.${payload}.`, `${header}.${payload}.${signature.slice(0, -4)}AAAA`, `${header}.${payload}`]) {
    expect(await introspect(caller, forged)).toEqual({ active: false });
  }
  expect((await introspect(caller, access_token)).active).toBe(true);
});

test("§4: the server MUST perform all applicable checks against a token's state: the user's standing", async () => {
  const [caller] = callers;
  const { access_token: own } = await obtainByCredentials(caller);
  const leaver = await createTestUser(caller.partner);
  const { access_token } = await obtainByExchange(caller, {}, leaver.userId);
  expect((await introspect(caller, access_token)).active).toBe(true);
  await call(setting.server, "PATCH", `/v2/account-management/user?user_id=${leaver.userId}`, own, { status: "disabled" });
  expect(await introspect(caller, access_token)).toEqual({ active: false });
});

test("§4: protected resources MUST be authenticated, and SHOULD be specifically authorized: only what the operator registered may ask", async () => {
  const { access_token } = await obtainByCredentials(callers[0], { scope: api.serviceScope });
  const stranger = { ...apis[1], client: { client_id: `rs_${"0".repeat(32)}` } };
  expect(await refusedWith(introspect(stranger, access_token))).toMatchObject({ status: 401, error: "invalid_client" });
  expect(await introspect(apis[1], access_token)).toMatchObject({ active: true, aud: api.audience });
});

test("§4: GET MAY be disallowed, so that no token comes into a log by the URL: 405", async () => {
  for (const method of ["GET", "HEAD", "PUT"]) {
    const reply = await send(setting.server, method, "/oauth2/introspect?token=x");
    expect(reply.status).toBe(405);
    expect(reply.headers.get("allow")).toBe("POST");
  }
});

test("§4: the answer MUST NOT be cached beyond exp: no cache is to keep it at all", async () => {
  for (const token of [await obtainOpaque(callers[0]), "unknown"]) {
    expect((await requestIntrospection(callers[0], token)).headers.get("cache-control")).toBe("no-store");
  }
});

test("§5: what is privacy-sensitive MUST be protected: users are named by our id, and by no name, address or id of the partner's", async () => {
  const { access_token } = await obtainByExchange(callers[0], {}, user.userId);
  const body = await bodyFor(callers[0], access_token);
  expect(body).toContain(user.userId);
  for (const personal of ["ada@example.com", '"Ada"', '"ada"', "username", "email"]) expect(body).not.toContain(personal);
});
