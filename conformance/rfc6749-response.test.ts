/** RFC 6749, The OAuth 2.0 Authorization Framework: what the token endpoint answers (§5). */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import { createTestPartner, exchange, exchangeForm, GRANT_TYPE, type Reply, subjectToken } from "../packages/server/src/testing/server.ts";
import { basicLine, postRaw } from "../tests/attacks/raw.ts";
import { obtainRefusal, obtainToken, openSetting, requestToken, type Setting } from "./client.ts";
import { INVALID_CLIENT, INVALID_SCOPE, refusalOf, replyOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

/** One refusal of each kind, some with what the request held in their description. */
async function refusals(): Promise<Reply[]> {
  const { partner, server } = setting;
  const odd = 'ä"\\\u0000\r\n<script>\u{1f600}';
  return [
    await exchange(partner, subjectToken(partner), { form: { grant_type: odd } }),
    await exchange(partner, subjectToken(partner), { form: { subject_token_type: odd } }),
    await exchange(partner, subjectToken(partner, { iss: odd }), {}),
    await exchange(partner, subjectToken(partner), { form: { scope: odd } }),
    await exchange(partner, subjectToken(partner), { form: { resource: odd } }),
    await exchange(partner, subjectToken(partner), { form: { client_secret: odd } }),
    await postRaw(server, "", ["Authorization: Basic"]),
  ];
}

test("§5.1: a valid and authorized request is answered 200", async () => {
  expect((await requestToken(setting.partner)).status).toBe(200);
});

test("§5.1: access_token is REQUIRED", async () => {
  expect((await obtainToken(setting.partner)).access_token).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/);
});

test("§5.1: token_type is REQUIRED, and a client compares it in any letter case", async () => {
  expect((await exchange(setting.partner, subjectToken(setting.partner))).json["token_type"]).toBe("Bearer");
  expect((await obtainToken(setting.partner)).token_type).toBe("bearer");
});

test("§5.1: expires_in is RECOMMENDED, and the token expires when it says", async () => {
  const before = setting.server.nowSeconds();
  const { access_token, expires_in } = await obtainToken(setting.partner);
  const exp = decodeJwt(access_token).payload["exp"] as number;
  expect(expires_in).toBe(3600);
  expect(exp).toBeGreaterThanOrEqual(before + 3600);
  expect(exp).toBeLessThanOrEqual(setting.server.nowSeconds() + 3600);
});

test("§5.1: refresh_token is OPTIONAL, and there is none", async () => {
  expect(await obtainToken(setting.partner)).not.toHaveProperty("refresh_token");
});

test("§5.1: scope is REQUIRED unless it is identical to what was requested", async () => {
  expect((await obtainToken(setting.partner)).scope).toBe("account-management analytics");
});

test("§5.1: the parameters are one JSON structure of type application/json, at its highest level", async () => {
  const response = await requestToken(setting.partner);
  expect(response.headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
  const values = Object.values((await response.json()) as object);
  expect(values.filter((value) => typeof value === "object")).toEqual([]);
});

test("§5.1: strings are JSON strings and numbers JSON numbers", async () => {
  const { json } = await exchange(setting.partner, subjectToken(setting.partner));
  const types = Object.entries(json).map(([name, value]) => `${name} ${typeof value}`);
  const expected = ["access_token string", "expires_in number", "issued_token_type string", "scope string", "token_type string"];
  expect(types.toSorted()).toEqual(expected);
});

test("§5.1: a response with a token MUST have Cache-Control: no-store", async () => {
  expect((await requestToken(setting.partner)).headers.get("cache-control")).toBe("no-store");
});

test("§5.1: a response with a token MUST have Pragma: no-cache", async () => {
  expect((await requestToken(setting.partner)).headers.get("pragma")).toBe("no-cache");
});

test("§5.2: a refusal is answered 400 unless specified otherwise, and is not cached either", async () => {
  const refusal = await obtainRefusal(setting.partner, { parameters: { subject_token: "junk" } });
  expect(refusal.status).toBe(400);
  expect(refusal.response.headers.get("cache-control")).toBe("no-store");
});

test("§5.2: error is REQUIRED, one code, in the characters that are allowed", async () => {
  for (const { json } of await refusals()) expect(json["error"]).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/);
});

test("§5.2: invalid_request for a missing, unsupported or repeated parameter, and for what is malformed", async () => {
  const { partner, server } = setting;
  const form = exchangeForm(partner, subjectToken(partner)).toString();
  const missing = await exchange(partner, subjectToken(partner), { form: { subject_token: undefined } });
  expect(missing).toMatchObject(replyOf("parameter_missing"));
  const unsupported = await exchange(partner, subjectToken(partner), { form: { subject_token_type: "x" } });
  expect(unsupported).toMatchObject(replyOf("subject_token_type_unsupported"));
  expect(await postRaw(server, `${form}&scope=analytics&scope=analytics`)).toMatchObject(replyOf("parameter_repeated"));
  expect(await postRaw(server, `${form}&scope=%zz`)).toMatchObject(replyOf("form_malformed"));
});

test("§5.2: invalid_request for several credentials, or more than one mechanism to authenticate", async () => {
  const { partner, server } = setting;
  const line = basicLine(`${partner.clientId}:${partner.clientSecret}`);
  const mechanisms = await postRaw(server, exchangeForm(partner, subjectToken(partner)).toString(), [line]);
  expect(mechanisms).toMatchObject(replyOf("client_authentication_multiple"));
  const credentials = await postRaw(server, exchangeForm(partner, subjectToken(partner), "none").toString(), [line, line]);
  expect(credentials).toMatchObject(replyOf("authorization_repeated"));
});

test("§5.2: invalid_client for an unknown client, no authentication, or an unsupported method", async () => {
  const { partner, server } = setting;
  const unknown = await exchange(partner, subjectToken(partner), { form: { client_id: `prt_${"0".repeat(32)}` } });
  expect(unknown).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
  const none = await obtainRefusal(partner, { authentication: oauth.None() });
  expect(none).toMatchObject(refusalOf("client_authentication_missing", INVALID_CLIENT));
  const form = exchangeForm(partner, subjectToken(partner), "none").toString();
  const unsupported = await postRaw(server, form, ["Authorization: Digest username=x"]);
  expect(unsupported).toMatchObject(replyOf("client_authentication_unsupported", INVALID_CLIENT));
});

test("§5.2: a client that used the Authorization header MUST get 401 and WWW-Authenticate of that scheme", async () => {
  const thrown = await obtainToken(setting.partner, { authentication: oauth.ClientSecretBasic("wrong") }).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(oauth.WWWAuthenticateChallengeError);
  const { status, cause } = thrown as oauth.WWWAuthenticateChallengeError;
  expect(status).toBe(401);
  expect(cause).toEqual([expect.objectContaining({ scheme: "basic", parameters: { realm: "cambist", charset: "UTF-8" } })]);
});

test("§5.2: unauthorized_client for a client that may not use this grant", async () => {
  const other = await createTestPartner(setting.server, { allowed_grants: ["client_credentials"] });
  expect(await obtainRefusal(other)).toMatchObject(refusalOf("grant_not_allowed", { status: 400, error: "unauthorized_client" }));
});

test("§5.2: unsupported_grant_type for a grant that the server does not offer", async () => {
  for (const grantType of ["authorization_code", "password", "refresh_token", "urn:example:grant", GRANT_TYPE.toUpperCase()]) {
    const refusal = await obtainRefusal(setting.partner, { grantType });
    expect(refusal).toMatchObject(refusalOf("grant_type_unsupported", { status: 400, error: "unsupported_grant_type" }));
  }
});

test("§5.2: invalid_scope for a scope that is unknown, malformed, or more than may be granted", async () => {
  const { partner, server } = setting;
  const narrow = await createTestPartner(server, { allowed_scopes: ["analytics"] });
  const cases = [
    [partner, "nothing", "scope_unknown"],
    [partner, "analytics  analytics", "scope_malformed"],
    [partner, "thread", "scope_not_for_principal"],
    [narrow, "account-management", "scope_not_allowed"],
  ] as const;
  for (const [who, scope, code] of cases) {
    expect(await obtainRefusal(who, { parameters: { scope } })).toMatchObject(refusalOf(code, INVALID_SCOPE));
  }
});

test("§5.2: error_description MUST NOT have other characters than %x20-21 %x23-5B %x5D-7E, whatever the request held", async () => {
  for (const { json } of await refusals()) expect(json["error_description"]).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/);
});

test("§5.2: error_uri MUST be a URI reference, and is that of a page that can be read", async () => {
  for (const { json } of await refusals()) {
    const uri = json["error_uri"] as string;
    expect(uri).toMatch(/^[\x21\x23-\x5b\x5d-\x7e]+$/);
    const page = await fetch(setting.server.url + new URL(uri).pathname);
    expect(page.status).toBe(200);
    expect(page.headers.get("content-type")).toMatch(/^text\/html\b/);
  }
});

test("§5.2: a refusal is one JSON structure of type application/json, its parameters at the highest level", async () => {
  for (const { headers, json } of await refusals()) {
    expect(headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
    expect(Object.keys(json).toSorted()).toEqual(["error", "error_description", "error_uri", "trace_id"]);
    expect(Object.values(json).filter((value) => typeof value !== "string")).toEqual([]);
  }
});
