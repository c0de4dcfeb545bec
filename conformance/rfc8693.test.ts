/** RFC 8693, OAuth 2.0 Token Exchange: the request (§2.1, §2.1.1). The answers are in rfc8693-response.test.ts. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt, makeTestKey, signJwt } from "../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  exchangeForm,
  GRANT_TYPE,
  JWT_TYPE,
  type Reply,
  send,
  subjectClaims,
  subjectToken,
} from "../packages/server/src/testing/server.ts";
import { postRaw } from "../tests/attacks/raw.ts";
import { ACCESS_TOKEN_TYPE, obtainRefusal, obtainToken, openSetting, RESOURCE, requestToken, type Setting } from "./client.ts";
import { INVALID_CLIENT, INVALID_SCOPE, INVALID_TARGET, refusalOf, replyOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

/** A request with parameters that stand in it twice, which the client would not send. */
async function requestWith(pairs: readonly (readonly [string, string])[]): Promise<Reply> {
  const form = exchangeForm(setting.partner, subjectToken(setting.partner));
  for (const [name, value] of pairs) form.append(name, value);
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return send(setting.server, "POST", "/oauth2/token", { headers, body: form.toString() });
}

test("§2.1: the client authenticates by the normal mechanisms of OAuth 2.0, and one that does not is refused", async () => {
  const { partner } = setting;
  for (const method of [oauth.ClientSecretBasic, oauth.ClientSecretPost]) {
    expect(await obtainToken(partner, { authentication: method(partner.clientSecret) })).toMatchObject({ token_type: "bearer" });
  }
  const refusal = await obtainRefusal(partner, { authentication: oauth.None() });
  expect(refusal).toMatchObject(refusalOf("client_authentication_missing", INVALID_CLIENT));
});

test("§2.1: the parameters come by POST as a form, in UTF-8", async () => {
  const response = await requestToken(setting.partner, { parameters: { näme: "wert ✓" } });
  expect(response.status).toBe(200);
  const form = exchangeForm(setting.partner, subjectToken(setting.partner)).toString();
  expect(await postRaw(setting.server, `${form}&x=%E9`)).toMatchObject(replyOf("form_malformed"));
  const json = { headers: { "content-type": "application/json" }, body: JSON.stringify({ grant_type: GRANT_TYPE }) };
  expect(await send(setting.server, "POST", "/oauth2/token", json)).toMatchObject(replyOf("media_type_unsupported"));
  expect((await send(setting.server, "GET", "/oauth2/token")).status).toBe(405);
});

test("§2.1: grant_type is REQUIRED, and its value is the URN of token exchange", async () => {
  const { partner } = setting;
  expect(GRANT_TYPE).toBe("urn:ietf:params:oauth:grant-type:token-exchange");
  expect(await obtainToken(partner, { grantType: GRANT_TYPE })).toMatchObject({ issued_token_type: ACCESS_TOKEN_TYPE });
  const missing = await exchange(partner, subjectToken(partner), { form: { grant_type: undefined } });
  expect(missing).toMatchObject(replyOf("parameter_missing"));
  const other = await obtainRefusal(partner, { grantType: "urn:ietf:params:oauth:grant-type:jwt-bearer" });
  expect(other).toMatchObject(refusalOf("grant_type_unsupported", { status: 400, error: "unsupported_grant_type" }));
});

test("§2.1: resource says where the token is to be used, and our API's identifier is granted", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { resource: RESOURCE } });
  expect(decodeJwt(answer.access_token).payload["aud"]).toBe(RESOURCE);
});

test("§2.1: resource MUST be an absolute URI", async () => {
  for (const resource of ["/v2", "cambist.test/v2", "v2"]) {
    expect(await obtainRefusal(setting.partner, { parameters: { resource } })).toMatchObject(refusalOf("target_unknown", INVALID_TARGET));
  }
});

test("§2.1: resource MUST NOT include a fragment", async () => {
  for (const resource of [`${RESOURCE}#`, `${RESOURCE}#users`]) {
    expect(await obtainRefusal(setting.partner, { parameters: { resource } })).toMatchObject(refusalOf("target_unknown", INVALID_TARGET));
  }
});

test("§2.1: audience names the target, and our API's name is granted", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { audience: RESOURCE } });
  expect(decodeJwt(answer.access_token).payload["aud"]).toBe(RESOURCE);
});

test("§2.1.1: several targets are too many at once, which invalid_target says", async () => {
  const pairs = [
    ["resource", "resource"],
    ["audience", "audience"],
    ["audience", "resource"],
  ];
  for (const names of pairs) {
    const reply = await requestWith(names.map((name) => [name, RESOURCE] as const));
    expect(reply).toMatchObject(replyOf("target_repeated", INVALID_TARGET));
  }
});

test("§2.1: scope asks for part of what the subject may have, as RFC 6749 §3.3 writes it", async () => {
  expect(await obtainToken(setting.partner, { parameters: { scope: "analytics" } })).toMatchObject({ scope: "analytics" });
  const refusal = await obtainRefusal(setting.partner, { parameters: { scope: "Analytics" } });
  expect(refusal).toMatchObject(refusalOf("scope_unknown", INVALID_SCOPE));
});

test("§2.1: without requested_token_type the type is the server's choice: an access token", async () => {
  for (const requested_token_type of [undefined, ACCESS_TOKEN_TYPE]) {
    const answer = await obtainToken(setting.partner, { parameters: { requested_token_type } });
    expect(answer).toMatchObject({ issued_token_type: ACCESS_TOKEN_TYPE });
  }
});

test("§2.1: a requested_token_type that is not issued is refused, not replaced by another", async () => {
  for (const name of ["refresh_token", "id_token", "saml2", "jwt"]) {
    const parameters = { requested_token_type: `urn:ietf:params:oauth:token-type:${name}` };
    expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("requested_token_type_unsupported"));
  }
});

test("§2.1: subject_token is REQUIRED, and its subject is the subject of what is issued", async () => {
  const { partner, user } = setting;
  const refusal = await obtainRefusal(partner, { parameters: { subject_token: undefined } });
  expect(refusal).toMatchObject(refusalOf("parameter_missing"));
  const answer = await obtainToken(partner, { parameters: { subject_token: subjectToken(partner, { sub: user.userId }) } });
  expect(decodeJwt(answer.access_token).payload["sub"]).toBe(user.userId);
});

test("§2.1: subject_token_type is REQUIRED", async () => {
  const refusal = await obtainRefusal(setting.partner, { parameters: { subject_token_type: undefined } });
  expect(refusal).toMatchObject(refusalOf("parameter_missing"));
});

test("§2.1: actor_token_type is REQUIRED when actor_token is present", async () => {
  const parameters = { actor_token: subjectToken(setting.partner) };
  expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("actor_token_incomplete"));
});

test("§2.1: actor_token_type MUST NOT be included without actor_token", async () => {
  const parameters = { actor_token_type: JWT_TYPE };
  expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("actor_token_incomplete"));
});

test("§2.1: an actor_token is never left unvalidated: where delegation is not offered, its request is refused", async () => {
  for (const actor_token of [subjectToken(setting.partner), "junk"]) {
    const parameters = { actor_token, actor_token_type: JWT_TYPE };
    expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("delegation_not_allowed"));
  }
});

test("§2.1: the subject token MUST be validated as its type demands: signature, issuer, audience and times of a JWT", async () => {
  const { partner, server } = setting;
  const now = server.nowSeconds();
  const attacker = makeTestKey("RS256", partner.key.kid);
  const header = { alg: "RS256", kid: partner.key.kid };
  const tokens = [
    [signJwt(header, subjectClaims(partner), attacker), "jwt_signature_invalid"],
    [subjectToken(partner, { iss: "https://other.example" }), "issuer_mismatch"],
    [subjectToken(partner, { aud: "https://other.example" }), "audience_mismatch"],
    [subjectToken(partner, { iat: now - 400, exp: now - 100 }), "token_expired"],
    [subjectToken(partner, { nbf: now + 100 }), "token_not_yet_valid"],
  ] as const;
  for (const [subject_token, code] of tokens) {
    expect(await obtainRefusal(partner, { parameters: { subject_token } })).toMatchObject(refusalOf(code));
  }
});

test("§2.1: an exchange leaves a token that is not for one-time use as valid as it was", async () => {
  const reusable = await createTestPartner(setting.server, { replay: "reusable" });
  const kept = { parameters: { subject_token: subjectToken(reusable) } };
  const first = await obtainToken(reusable, kept);
  const second = await obtainToken(reusable, kept);
  expect(decodeJwt(second.access_token).payload["jti"]).not.toBe(decodeJwt(first.access_token).payload["jti"]);
  const once = { parameters: { subject_token: subjectToken(setting.partner) } };
  await obtainToken(setting.partner, once);
  expect(await obtainRefusal(setting.partner, once)).toMatchObject(refusalOf("token_replayed"));
});
