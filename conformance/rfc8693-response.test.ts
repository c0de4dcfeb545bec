/** RFC 8693, OAuth 2.0 Token Exchange: the answer (§2.2), token types (§3), claims (§4) and privacy (§6). */
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import { createTestPartner, createTestUser, exchange, JWT_TYPE, subjectToken } from "../packages/server/src/testing/server.ts";
import { ACCESS_TOKEN_TYPE, obtainRefusal, obtainToken, openSetting, requestToken, type Setting } from "./client.ts";
import { INVALID_SCOPE, INVALID_TARGET, refusalOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

test("§2.2: the answer is a normal OAuth 2.0 response, which a client that knows only those understands", async () => {
  const response = await requestToken(setting.partner);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toMatch(/^application\/json\b/);
  expect(await obtainToken(setting.partner)).toMatchObject({ token_type: "bearer", expires_in: 3600 });
});

test("§2.2.1: access_token is REQUIRED and carries the issued token", async () => {
  const { access_token } = await obtainToken(setting.partner);
  expect(decodeJwt(access_token).payload["sub"]).toBe(setting.partner.clientId);
});

test("§2.2.1: issued_token_type is REQUIRED and says how the issued token is represented", async () => {
  const answer = await obtainToken(setting.partner);
  expect(answer["issued_token_type"]).toBe("urn:ietf:params:oauth:token-type:access_token");
});

test("§2.2.1: token_type is REQUIRED and says how the issued token is used", async () => {
  const reply = await exchange(setting.partner, subjectToken(setting.partner));
  expect(reply.json["token_type"]).toBe("Bearer");
});

test("§2.2.1: expires_in is RECOMMENDED, and it is the lifetime of the issued token", async () => {
  const partner = await createTestPartner(setting.server, { access_token_lifetime_seconds: 77 });
  const answer = await obtainToken(partner);
  const { iat, exp } = decodeJwt(answer.access_token).payload as { iat: number; exp: number };
  expect(answer.expires_in).toBe(77);
  expect(exp - iat).toBe(77);
});

test("§2.2.1: scope is REQUIRED where it is not what was requested, and always there", async () => {
  const { partner } = setting;
  expect(await obtainToken(partner)).toMatchObject({ scope: "account-management analytics" });
  const twice = { parameters: { scope: "analytics account-management analytics" } };
  expect(await obtainToken(partner, twice)).toMatchObject({ scope: "account-management analytics" });
  expect(await obtainToken(partner, { parameters: { scope: "analytics" } })).toMatchObject({ scope: "analytics" });
});

test("§2.2.1: no refresh token is issued for one temporary credential in place of another", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { requested_token_type: ACCESS_TOKEN_TYPE } });
  const members = ["access_token", "expires_in", "issued_token_type", "scope", "token_type"];
  expect(Object.keys(answer).toSorted()).toEqual(members);
});

test("§2.2.2: an invalid request MUST get the error response of RFC 6749 §5.2 with invalid_request", async () => {
  const refusal = await obtainRefusal(setting.partner, { parameters: { subject_token_type: undefined } });
  expect(refusal).toMatchObject(refusalOf("parameter_missing"));
  expect(refusal.response.headers.get("content-type")).toMatch(/^application\/json\b/);
});

test("§2.2.2: a subject_token that is invalid for any reason MUST get invalid_request, never invalid_grant", async () => {
  const { partner, server } = setting;
  const now = server.nowSeconds();
  const tokens = {
    jwt_malformed: "junk",
    jwt_not_base64url: "a.b.c=",
    jwt_encrypted: "a.b.c.d.e",
    jwt_kid_unknown: subjectToken(partner, {}, { kid: "other" }),
    claim_missing: subjectToken(partner, { sub: undefined }),
    claim_malformed: subjectToken(partner, { exp: String(now + 60) }),
    token_expired: subjectToken(partner, { iat: now - 400, exp: now - 100 }),
    subject_unknown: subjectToken(partner, { sub: "nobody" }),
  } as const;
  for (const [code, subject_token] of Object.entries(tokens)) {
    const refusal = await obtainRefusal(partner, { parameters: { subject_token } });
    expect(refusal).toMatchObject(refusalOf(code as keyof typeof tokens));
  }
});

test("§2.2.2: a subject_token that policy does not accept MUST get invalid_request", async () => {
  const { server } = setting;
  const now = server.nowSeconds();
  const strict = await createTestPartner(server, { allowed_algorithms: ["ES256"], assertion_lifetime_seconds_max: 60 });
  const brief = await createTestPartner(server, { assertion_lifetime_seconds_max: 60 });
  expect(await obtainRefusal(strict)).toMatchObject(refusalOf("jwt_algorithm_not_allowed"));
  const parameters = { subject_token: subjectToken(brief, { iat: now, exp: now + 61 }) };
  expect(await obtainRefusal(brief, { parameters })).toMatchObject(refusalOf("token_lifetime_too_long"));
});

test("§2.2.2: an actor_token that is not acceptable MUST get invalid_request", async () => {
  const parameters = { actor_token: "junk", actor_token_type: JWT_TYPE };
  expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("delegation_not_allowed"));
});

test("§2.2.2: invalid_target SHOULD be used for a target that no token is issued for", async () => {
  for (const name of ["audience", "resource"]) {
    const parameters = { [name]: "https://backend.example.com" };
    expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("target_unknown", INVALID_TARGET));
  }
});

test("§2.2.2: error_description MAY be included, and says which check failed", async () => {
  const parameters = { subject_token: subjectToken(setting.partner, { aud: "https://other.example" }) };
  const refusal = await obtainRefusal(setting.partner, { parameters });
  expect(refusal.error_description).toMatch(/^aud is 'https:\/\/other\.example'/);
});

test("§2.2.2: other error codes may be used as appropriate", async () => {
  const scope = await obtainRefusal(setting.partner, { parameters: { scope: "thread" } });
  expect(scope).toMatchObject(refusalOf("scope_not_for_principal", INVALID_SCOPE));
  const other = await createTestPartner(setting.server, { allowed_grants: ["client_credentials"] });
  const grant = await obtainRefusal(other);
  expect(grant).toMatchObject(refusalOf("grant_not_allowed", { status: 400, error: "unauthorized_client" }));
});

test("§3: a token that another party issued is named by its syntax, and only the identifier of a JWT is taken", async () => {
  const { partner } = setting;
  expect(JWT_TYPE).toBe("urn:ietf:params:oauth:token-type:jwt");
  const names = ["access_token", "refresh_token", "id_token", "saml1", "saml2"].map((name) => `urn:ietf:params:oauth:token-type:${name}`);
  for (const subject_token_type of [...names, "jwt", JWT_TYPE.toUpperCase(), "https://example.com/type"]) {
    const refusal = await obtainRefusal(partner, { parameters: { subject_token_type } });
    expect(refusal).toMatchObject(refusalOf("subject_token_type_unsupported"));
  }
});

test("§4.1: no act claim is issued, for no delegation takes place, and none is copied from the subject token", async () => {
  const act = { sub: "prt_somebody", act: { sub: "prt_other" } };
  const answer = await obtainToken(setting.partner, { parameters: { subject_token: subjectToken(setting.partner, { act }) } });
  expect(decodeJwt(answer.access_token).payload).not.toHaveProperty("act");
});

test("§4.2: the scope claim is a JSON string, a list with spaces between", async () => {
  const answer = await obtainToken(setting.partner);
  expect(decodeJwt(answer.access_token).payload["scope"]).toBe("account-management analytics");
});

test("§4.3: the client_id claim is the client that requested the token, whatever the subject token says", async () => {
  const subject_token = subjectToken(setting.partner, { sub: setting.user.userId, client_id: "prt_somebody" });
  const answer = await obtainToken(setting.partner, { parameters: { subject_token } });
  expect(decodeJwt(answer.access_token).payload["client_id"]).toBe(setting.partner.clientId);
});

test("§4.4: may_act gives nobody a right: it is neither acted on nor issued", async () => {
  const other = await createTestPartner(setting.server);
  const subject_token = subjectToken(setting.partner, { may_act: { sub: other.clientId } });
  expect(await obtainRefusal(other, { parameters: { subject_token } })).toMatchObject(refusalOf("issuer_mismatch"));
  const answer = await obtainToken(setting.partner, { parameters: { subject_token } });
  expect(decodeJwt(answer.access_token).payload).not.toHaveProperty("may_act");
});

test("§6: an issued token SHOULD hold the least that is needed: ids and no personal data", async () => {
  const { partner } = setting;
  const person = { external_user_id: "person-of-the-test", email: "person@example.com", name: "Person of the Test" };
  const { userId } = await createTestUser(partner, person);
  const subject_token = subjectToken(partner, { sub: userId, email: person.email, name: person.name });
  const { payload } = decodeJwt((await obtainToken(partner, { parameters: { subject_token } })).access_token);
  for (const value of Object.values(person)) expect(JSON.stringify(payload)).not.toContain(value);
  expect(payload["sub"]).toBe(userId);
});
