/** RFC 9068, JWT Profile for OAuth 2.0 Access Tokens: how our own API validates one (§4). */
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt, encodePart, makeTestKey, signJwt } from "../packages/server/src/testing/jwt.ts";
import { ISSUER, serviceAccountToken, subjectToken } from "../packages/server/src/testing/server.ts";
import { callApi, obtainChallenge, obtainToken, openSetting, RESOURCE, type Setting } from "./client.ts";

const INVALID_TOKEN = { status: 401, scheme: "bearer", parameters: { error: "invalid_token" } };

let setting: Setting;
let header: Record<string, unknown>;
let payload: Record<string, unknown>;
beforeAll(async () => {
  setting = await openSetting();
  ({ header, payload } = decodeJwt(await serviceAccountToken(setting.partner)));
});
afterAll(() => setting.server.stop());

/** A token with these changes that the server itself has signed; `undefined` takes a member away. */
function signedByUs(claims: Record<string, unknown>, members: Record<string, unknown> = {}): string {
  const signer = setting.server.deps.keyring.signer();
  return signer.sign(JSON.stringify({ ...header, ...members }), JSON.stringify({ ...payload, ...claims }));
}

test("§4: what is signed here passes where nothing is changed", async () => {
  expect((await callApi(setting.server, signedByUs({}))).status).toBe(404);
});

test("§4: the resource server MUST verify that typ is at+jwt or application/at+jwt", async () => {
  for (const typ of ["at+jwt", "application/at+jwt"]) expect((await callApi(setting.server, signedByUs({}, { typ }))).status).toBe(404);
  for (const typ of [undefined, "JWT", "at", "jwt", "application/jwt", "id+jwt", ""]) {
    expect(await obtainChallenge(setting.server, signedByUs({}, { typ }))).toMatchObject(INVALID_TOKEN);
  }
});

test("§4: the issuer MUST exactly match iss", async () => {
  for (const iss of [`${ISSUER}/`, ISSUER.toUpperCase(), "https://other.example", undefined, [ISSUER]]) {
    expect(await obtainChallenge(setting.server, signedByUs({ iss }))).toMatchObject(INVALID_TOKEN);
  }
});

test("§4: aud MUST contain the identifier that the resource server expects for itself", async () => {
  for (const aud of [ISSUER, "https://other.example", `${RESOURCE}/`, undefined, []]) {
    expect(await obtainChallenge(setting.server, signedByUs({ aud }))).toMatchObject(INVALID_TOKEN);
  }
});

test("§4: the signature MUST be validated", async () => {
  const [head = "", , signature = ""] = signedByUs({}).split(".");
  const raised = encodePart({ ...payload, scope: "account-management analytics thread" });
  expect(await obtainChallenge(setting.server, `${head}.${raised}.${signature}`)).toMatchObject(INVALID_TOKEN);
  const flipped = Buffer.from(signature, "base64url");
  flipped.writeUInt8(flipped.readUInt8(10) ^ 1, 10);
  const token = `${head}.${encodePart(payload)}.${flipped.toString("base64url")}`;
  expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
});

test("§4: the algorithm MUST be the one that alg says: a signature by another one does not pass", async () => {
  expect(await obtainChallenge(setting.server, signedByUs({}, { alg: "RS256" }))).toMatchObject(INVALID_TOKEN);
});

test("§4: a token whose alg is none MUST be rejected", async () => {
  for (const signature of ["", signedByUs({}).split(".")[2]]) {
    const token = `${encodePart({ ...header, alg: "none" })}.${encodePart(payload)}.${signature}`;
    expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
  }
});

test("§4: the keys MUST be those of the authorization server: neither another's nor one that comes along", async () => {
  const stranger = makeTestKey("ES256", header["kid"] as string);
  expect(await obtainChallenge(setting.server, signJwt(header, payload, stranger))).toMatchObject(INVALID_TOKEN);
  const { kty, crv, x, y } = stranger.publicJwk;
  const embedded = signJwt({ ...header, jwk: { kty, crv, x, y } }, payload, stranger);
  expect(await obtainChallenge(setting.server, embedded)).toMatchObject(INVALID_TOKEN);
  const partners = signJwt({ ...header, alg: "RS256" }, payload, setting.partner.key);
  expect(await obtainChallenge(setting.server, partners)).toMatchObject(INVALID_TOKEN);
});

test("§4: the current time MUST be before exp, with a leeway of seconds", async () => {
  const now = setting.server.nowSeconds();
  expect((await callApi(setting.server, signedByUs({ iat: now - 100, exp: now + 2 }))).status).toBe(404);
  for (const exp of [now - 10, now - 3600, undefined]) {
    expect(await obtainChallenge(setting.server, signedByUs({ iat: now - 7200, exp }))).toMatchObject(INVALID_TOKEN);
  }
});

test("§4: any failure of these checks MUST be answered with the error code invalid_token, as RFC 6750 §3.1 says", async () => {
  for (const token of ["junk", "a.b.c", "a.b.c.d.e", subjectToken(setting.partner), signedByUs({ jti: undefined })]) {
    expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
  }
});

test("§4: authorization claims SHOULD decide whether the call is authorized", async () => {
  const { partner, server, user } = setting;
  const insufficient = { status: 403, scheme: "bearer", parameters: { error: "insufficient_scope", scope: "account-management" } };
  const narrow = await obtainToken(partner, { parameters: { scope: "analytics" } });
  expect(await obtainChallenge(server, narrow.access_token)).toMatchObject(insufficient);
  const users = await obtainToken(partner, { parameters: { subject_token: subjectToken(partner, { sub: user.userId }) } });
  expect(await obtainChallenge(server, users.access_token)).toMatchObject(insufficient);
});
