/** RFC 7523, JWT Profile for OAuth 2.0 Client Authentication (§2.2, §3, §3.2, §5), and its revision draft-ietf-oauth-rfc7523bis (§4). */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeTestKey, signJwt } from "../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  exchangeForm,
  ISSUER,
  type Reply,
  send,
  subjectClaims,
  subjectToken,
  type TestPartner,
} from "../packages/server/src/testing/server.ts";
import { privateKeyJwt } from "./assertions.ts";
import { type ClientOptions, keyFor, obtainRefusal, obtainToken, openSetting, type Setting } from "./client.ts";
import { INVALID_CLIENT, refusalOf, replyOf } from "./refusals.ts";

const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TYP = "client-authentication+jwt";

let setting: Setting;
/** Authenticates by assertions, and has no secret. */
let partner: TestPartner;
beforeAll(async () => {
  setting = await openSetting();
  partner = await createTestPartner(setting.server, { token_endpoint_auth_method: "private_key_jwt" });
});
afterAll(() => setting.server.stop());

type Change = Record<string, unknown>;

/** Authenticated by an assertion with these changes. */
async function by(claims: Change = {}, header: Change = {}, who: TestPartner = partner): Promise<ClientOptions> {
  return { authentication: await privateKeyJwt(who.key, claims, header) };
}

const refusalBy = async (claims: Change = {}, header: Change = {}) => obtainRefusal(partner, await by(claims, header));
const answerBy = async (claims: Change = {}, header: Change = {}) => obtainToken(partner, await by(claims, header));

/** An assertion that passes, for the requests that the client would not send. */
function assertionOf(who: TestPartner, claims: Change = {}, header: Change = {}): string {
  const { key } = who;
  return signJwt({ alg: key.algorithm, kid: key.kid, typ: TYP, ...header }, subjectClaims(who, claims), key);
}

function post(form: Record<string, string | undefined>): Promise<Reply> {
  return exchange(partner, subjectToken(partner), { auth: "none", form: { client_assertion_type: ASSERTION_TYPE, ...form } });
}

test("§2.2: a client authenticates with a JWT that it signed, by the two parameters of the framework", async () => {
  expect(await answerBy()).toMatchObject({ token_type: "bearer", scope: "account-management analytics" });
  expect((await post({ client_assertion: assertionOf(partner) })).status).toBe(200);
});

test("§2.2: client_assertion_type is the URN of JWT bearer assertions, and no other is taken", async () => {
  for (const name of ["saml2-bearer", "jwt", "JWT-BEARER"]) {
    const client_assertion_type = `urn:ietf:params:oauth:client-assertion-type:${name}`;
    const reply = await post({ client_assertion: assertionOf(partner), client_assertion_type });
    expect(reply).toMatchObject(replyOf("client_assertion_type_unsupported"));
  }
  const without = await post({ client_assertion: assertionOf(partner), client_assertion_type: undefined });
  expect(without).toMatchObject(replyOf("parameter_missing"));
});

test("§2.2: client_assertion is a single JWT and MUST NOT be more than one", async () => {
  expect(await post({})).toMatchObject(replyOf("parameter_missing"));
  for (const separator of [" ", ",", "."]) {
    const reply = await post({ client_assertion: [assertionOf(partner), assertionOf(partner)].join(separator) });
    expect(reply).toMatchObject({ status: 401, json: { error: "invalid_client" } });
  }
  const form = exchangeForm(partner, subjectToken(partner), "none");
  form.append("client_assertion_type", ASSERTION_TYPE);
  for (const assertion of [assertionOf(partner), assertionOf(partner)]) form.append("client_assertion", assertion);
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const twice = await send(setting.server, "POST", "/oauth2/token", { headers, body: form.toString() });
  expect(twice).toMatchObject(replyOf("parameter_repeated"));
});

test("RFC 7521 §4.2: client_id is unnecessary beside an assertion, and where it is present MUST be the same client", async () => {
  const client_assertion = assertionOf(partner);
  const other = await post({ client_assertion, client_id: setting.partner.clientId });
  expect(other).toMatchObject(replyOf("client_id_mismatch"));
  expect((await post({ client_assertion, client_id: partner.clientId })).status).toBe(200);
});

test("§3 (1): iss MUST be there, and is compared character by character", async () => {
  expect(await refusalBy({ iss: undefined })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  for (const iss of [partner.clientId.toUpperCase(), `${partner.clientId} `, setting.partner.clientId, [partner.clientId]]) {
    expect(await refusalBy({ iss })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("§3 (2): sub MUST be there, and for client authentication MUST be the client_id", async () => {
  const withoutSub = await post({ client_assertion: assertionOf(partner, { sub: undefined }) });
  expect(withoutSub).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
  for (const sub of ["somebody", partner.clientId.toUpperCase(), `prt_${"0".repeat(32)}`, setting.partner.clientId]) {
    const reply = await post({ client_assertion: assertionOf(partner, { sub }) });
    expect(reply).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
  }
});

test("§3 (3): aud MUST be there and identify the authorization server, or the JWT MUST be rejected", async () => {
  for (const aud of [undefined, "https://other.example", "", [], 1, null]) {
    expect(await refusalBy({ aud })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("§3 (3): audiences are compared character by character", async () => {
  for (const aud of [`${ISSUER}/`, ISSUER.toUpperCase(), ISSUER.replace("https", "HTTPS"), `${ISSUER}:443`, `${ISSUER}?`]) {
    expect(await refusalBy({ aud })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("bis §4 (3b): the issuer identifier MUST be the sole audience, as a string or alone in an array", async () => {
  for (const aud of [ISSUER, [ISSUER]]) expect(await answerBy({ aud })).toMatchObject({ token_type: "bearer" });
  for (const aud of [
    [ISSUER, "https://other.example"],
    ["https://other.example", ISSUER],
    [ISSUER, ISSUER],
  ]) {
    expect(await refusalBy({ aud })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("bis §4 (3b): the token endpoint's URL MUST NOT be an audience", async () => {
  const endpoint = `${ISSUER}/oauth2/token`;
  for (const aud of [endpoint, [endpoint], [ISSUER, endpoint]]) {
    expect(await refusalBy({ aud })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("bis §4 (3b): there MUST be an issuer identifier, which the metadata names and the client takes for its audience", async () => {
  expect(setting.as.issuer).toBe(ISSUER);
  let audience: unknown;
  const authentication = await privateKeyJwt(partner.key);
  const spying: oauth.ClientAuth = async (as, client, body, headers) => {
    await authentication(as, client, body, headers);
    const [, payload = ""] = (body.get("client_assertion") ?? "").split(".");
    audience = (JSON.parse(Buffer.from(payload, "base64url").toString()) as { aud: unknown }).aud;
  };
  expect(await obtainToken(partner, { authentication: spying })).toMatchObject({ token_type: "bearer" });
  expect(audience).toBe(ISSUER);
});

test("§3 (4): exp MUST be there", async () => {
  expect(await refusalBy({ exp: undefined })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
});

test("§3 (4): an expired JWT MUST be rejected, subject to the allowed skew", async () => {
  const now = setting.server.nowSeconds();
  expect(await answerBy({ iat: now - 100, nbf: now - 100, exp: now - 20 })).toMatchObject({ token_type: "bearer" });
  const expired = await refusalBy({ iat: now - 100, nbf: now - 100, exp: now - 31 });
  expect(expired).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
});

test("§3 (4): an exp unreasonably far in the future may be rejected, and is", async () => {
  const now = setting.server.nowSeconds();
  for (const exp of [now + 3_700, now * 1_000]) {
    expect(await refusalBy({ iat: now, exp })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("§3 (5): before nbf the JWT MUST NOT be accepted", async () => {
  const now = setting.server.nowSeconds();
  expect(await answerBy({ nbf: undefined })).toMatchObject({ token_type: "bearer" });
  expect(await refusalBy({ nbf: now + 40 })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
});

test("§3 (6): an iat unreasonably far in the past may be rejected, and so is a JWT without one", async () => {
  const now = setting.server.nowSeconds();
  for (const iat of [now - 3_601, 0, undefined]) {
    expect(await refusalBy({ iat, exp: now + 60 })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("§3 (7): JWTs MAY be kept from being replayed, and are: each one once, also without jti", async () => {
  for (const jti of ["used-once", undefined]) {
    const client_assertion = assertionOf(partner, { jti });
    expect((await post({ client_assertion })).status).toBe(200);
    expect(await post({ client_assertion })).toMatchObject(replyOf("client_assertion_replayed", INVALID_CLIENT));
  }
});

test("§3 (8): other claims MAY be there", async () => {
  expect(await answerBy({ "http://claims.example.com/member": true, scope: "thread", act: {} })).toMatchObject({
    scope: "account-management analytics",
  });
});

test("§3 (9): an invalid signature MUST be rejected", async () => {
  const stranger = { ...partner, key: makeTestKey("RS256", partner.key.kid) };
  expect(await obtainRefusal(partner, await by({}, {}, stranger))).toMatchObject(refusalOf("client_not_authenticated", INVALID_CLIENT));
  const [header = "", , signature = ""] = assertionOf(partner).split(".");
  const [, payload = ""] = assertionOf(partner).split(".");
  const reply = await post({ client_assertion: `${header}.${payload}.${signature}` });
  expect(reply).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
});

test("§3 (9): a MAC is no signature here: client_secret_jwt is refused", async () => {
  const authentication = oauth.ClientSecretJwt(setting.partner.clientSecret, {
    [oauth.modifyAssertion](header) {
      header["typ"] = TYP;
    },
  });
  const refusal = await obtainRefusal(setting.partner, { authentication });
  expect(refusal).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
});

test("§3 (10): what is not valid in other respects as a JWT MUST be rejected", async () => {
  const { key } = partner;
  const header = { alg: key.algorithm, kid: key.kid, typ: TYP };
  const claims = JSON.stringify(subjectClaims(partner));
  const assertions = [
    "junk",
    `${assertionOf(partner)}=`,
    signJwt(header, claims.replace("{", `{"aud":"${ISSUER}",`), key),
    signJwt(header, "[]", key),
    assertionOf(partner, {}, { crit: ["x"], x: 1 }),
    assertionOf(partner, { exp: "tomorrow" }),
    assertionOf(partner, { jti: 7 }),
  ];
  for (const client_assertion of assertions) {
    expect(await post({ client_assertion })).toMatchObject(replyOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("§3.2: an invalid JWT MUST get invalid_client, and MAY be told why in error_description", async () => {
  const refusal = await refusalBy({ aud: "https://other.example" });
  expect(refusal).toMatchObject({ status: 401, error: "invalid_client" });
  expect(refusal.error_description).toMatch(/^Client assertion: aud is 'https:\/\/other\.example'/);
});

test("bis §4 (§3.2): client authentication JWTs SHOULD be typed, and here must be", async () => {
  for (const typ of [TYP, `application/${TYP}`]) expect(await answerBy({}, { typ })).toMatchObject({ token_type: "bearer" });
  for (const typ of [undefined, "JWT", "at+jwt", "jwt"]) {
    expect(await refusalBy({}, { typ })).toMatchObject(refusalOf("client_assertion_invalid", INVALID_CLIENT));
  }
});

test("RFC 8725 §3.12: an assertion and a subject token, which have the same claims, never serve as one another", async () => {
  const subject_token = assertionOf(partner);
  expect(await obtainRefusal(partner, { ...(await by()), parameters: { subject_token } })).toMatchObject(refusalOf("jwt_typ_unexpected"));
  const reply = await post({ client_assertion: subjectToken(partner) });
  expect(reply).toMatchObject(replyOf("client_assertion_invalid", INVALID_CLIENT));
});

test("§5: RS256 is mandatory to implement, and every other algorithm that the metadata names works", async () => {
  const named = setting.as.token_endpoint_auth_signing_alg_values_supported;
  expect(named).toEqual(["RS256", "PS256", "ES256", "ES384", "EdDSA"]);
  for (const algorithm of ["RS256", "PS256", "ES256", "ES384", "EdDSA"] as const) {
    const fields = { token_endpoint_auth_method: "private_key_jwt" };
    const who = await createTestPartner(setting.server, fields, keyFor(algorithm, setting));
    expect(await obtainToken(who, await by({}, {}, who))).toMatchObject({ token_type: "bearer" });
  }
});

test("RFC 6749 §2.3.2: each client has one method of authentication: neither takes the other's", async () => {
  const bySecret = { ...partner, clientSecret: setting.partner.clientSecret };
  for (const auth of ["basic", "post"] as const) {
    expect(await exchange(bySecret, subjectToken(partner), { auth })).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
  }
  const byAssertion = await obtainRefusal(setting.partner, await by({}, {}, setting.partner));
  expect(byAssertion).toMatchObject(refusalOf("client_not_authenticated", INVALID_CLIENT));
});
