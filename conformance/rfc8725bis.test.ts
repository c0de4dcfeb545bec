/** draft-ietf-oauth-rfc8725bis, the revision of RFC 8725: what it asks for beyond the RFC. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodePart, makeTestKey, signJwt } from "../packages/server/src/testing/jwt.ts";
import { admin, createTestPartner, subjectClaims, subjectToken, type TestPartner } from "../packages/server/src/testing/server.ts";
import { obtainRefusal, obtainToken, openSetting, type Setting } from "./client.ts";
import { refusalOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

const refusalFor = (subject_token: string, partner: TestPartner = setting.partner) =>
  obtainRefusal(partner, { parameters: { subject_token } });

test("bis §3.1: the algorithms that are permitted for this issuer MUST be determined, and others refused", async () => {
  const { server } = setting;
  const keys = { RS256: setting.partner.key, ES256: makeTestKey("ES256") };
  const jwks = { keys: Object.values(keys).map(({ publicJwk }) => publicJwk) };
  const partner = await createTestPartner(server, { jwks, allowed_algorithms: ["ES256"] });
  expect(await obtainToken({ ...partner, key: keys.ES256 })).toMatchObject({ token_type: "bearer" });
  expect(await refusalFor(subjectToken(partner), partner)).toMatchObject(refusalOf("jwt_algorithm_not_allowed"));
});

test("bis §3.1: alg MUST be consistent with the key that kid names, at key lookup", async () => {
  const keys = [makeTestKey("ES256", "one"), makeTestKey("EdDSA", "two")] as const;
  const partner = await createTestPartner(setting.server, { jwks: { keys: keys.map(({ publicJwk }) => publicJwk) } });
  const crossed = signJwt({ alg: "ES256", kid: "two" }, subjectClaims(partner), keys[0]);
  expect(await refusalFor(crossed, partner)).toMatchObject(refusalOf("jwt_algorithm_not_of_key"));
});

test("bis §3.1: algorithms are an allowlist, compared in their letter case", async () => {
  for (const alg of ["rs256", "Rs256", "noNE", "NONE", "eddsa", "RS256 ", "made-up"]) {
    expect(await refusalFor(subjectToken(setting.partner, {}, { alg }))).toMatchObject(refusalOf("jwt_algorithm_unsupported"));
  }
});

test("bis §3.2: JWTs with alg none MUST NOT be consumed, and no setting allows them", async () => {
  const unsigned = `${encodePart({ alg: "none" })}.${encodePart(subjectClaims(setting.partner))}.AAAA`;
  expect(await refusalFor(unsigned)).toMatchObject(refusalOf("jwt_algorithm_unsupported"));
  const change = { allowed_algorithms: ["none", "RS256"] };
  expect((await admin(setting.server, "PATCH", `/partners/${setting.partner.clientId}`, change)).status).toBe(422);
});

test("bis §3.3: encrypted JWTs MUST be told from signed ones, and only signed ones are accepted", async () => {
  for (const header of [
    { alg: "dir", enc: "A128GCM" },
    { alg: "RSA-OAEP", enc: "A256GCM", cty: "JWT" },
  ]) {
    const token = `${encodePart(header)}..${encodePart("0123456789ab")}.${encodePart("x".repeat(100))}.${encodePart("tag")}`;
    expect(await refusalFor(token)).toMatchObject(refusalOf("jwt_encrypted"));
  }
});

test("bis §3.8: user and client ids MUST NOT be confused: a client id as sub is its own service account and nobody else", async () => {
  const other = await createTestPartner(setting.server);
  expect(await refusalFor(subjectToken(setting.partner, { sub: other.clientId }))).toMatchObject(refusalOf("subject_unknown"));
});

test("bis §3.9: none of the audience values is the recipient: MUST be rejected", async () => {
  for (const aud of [["https://a.example", "https://b.example"], ["https://a.example"]]) {
    expect(await refusalFor(subjectToken(setting.partner, { aud }))).toMatchObject(refusalOf("audience_mismatch"));
  }
});

test("bis §3.10: a jwks_uri that resolves to a loopback or local address MUST NOT be requested", async () => {
  let visits = 0;
  const listener = createServer((_request, response) => {
    visits++;
    response.end();
  }).listen(0, "127.0.0.1");
  try {
    await new Promise((resolve) => listener.once("listening", resolve));
    const { port } = listener.address() as AddressInfo;
    const uris = [
      `http://127.0.0.1:${port}/jwks`,
      `https://localhost:${port}/jwks`,
      "https://localhost/jwks",
      "https://127.0.0.1/jwks",
      "https://[::1]/jwks",
      "https://[::ffff:127.0.0.1]/jwks",
      "https://2130706433/jwks",
      "https://10.0.0.1/jwks",
      "https://169.254.169.254/jwks",
    ];
    for (const jwks_uri of uris) {
      const reply = await admin(setting.server, "POST", "/partners", { name: "x", jwks_uri });
      expect(reply, jwks_uri).toMatchObject({ status: 422, json: { errors: [{ field: "jwks_uri" }] } });
    }
    expect(visits).toBe(0);
  } finally {
    listener.closeAllConnections();
    listener.close();
  }
});

test("bis §3.11: a typ without a slash MUST be treated as if application/ were prepended", async () => {
  for (const typ of ["JWT", "jwt", "application/jwt", "Application/JWT"]) {
    const parameters = { subject_token: subjectToken(setting.partner, {}, { typ }) };
    expect(await obtainToken(setting.partner, { parameters })).toMatchObject({ token_type: "bearer" });
  }
  for (const typ of ["text/jwt", "application/", "application/application/jwt", "/jwt"]) {
    expect(await refusalFor(subjectToken(setting.partner, {}, { typ }))).toMatchObject(refusalOf("jwt_typ_unexpected"));
  }
});

test("bis §3.11: a typ that is present MUST be the expected one, also where it may be absent", async () => {
  expect(await obtainToken(setting.partner)).toMatchObject({ token_type: "bearer" }); // without typ
  expect(await refusalFor(subjectToken(setting.partner, {}, { typ: "" }))).toMatchObject(refusalOf("jwt_typ_unexpected"));
  expect(await refusalFor(subjectToken(setting.partner, {}, { typ: "at+jwt" }))).toMatchObject(refusalOf("jwt_typ_unexpected"));
});

test("bis §3.13: a PBES2 iteration count is never worked through", async () => {
  const header = { alg: "PBES2-HS512+A256KW", enc: "A256GCM", p2c: 2 ** 31 - 1, p2s: "c2FsdHNhbHQ" };
  const token = `${encodePart(header)}.${encodePart("key")}.${encodePart("iv")}.${encodePart("x")}.${encodePart("tag")}`;
  const started = performance.now();
  expect(await refusalFor(token)).toMatchObject(refusalOf("jwt_encrypted"));
  expect(performance.now() - started).toBeLessThan(10_000); // 2^31 rounds take minutes
  expect(await refusalFor(subjectToken(setting.partner, {}, { p2c: 1 }))).toMatchObject(refusalOf("jwt_header_member_unsupported"));
});

test("bis §3.14: what is no dot-concatenated base64url MUST be rejected, braces and quotation marks above all", async () => {
  const token = subjectToken(setting.partner);
  const [header = "", payload = "", signature = ""] = token.split(".");
  const json = JSON.stringify({ protected: header, payload, signature });
  const general = JSON.stringify({ payload, signatures: [{ protected: header, signature }] });
  for (const text of [json, general, `{"x":"${header}.${payload}.${signature}"}`]) {
    expect((await refusalFor(text)).error).toBe("invalid_request");
  }
  for (const text of [`"${token}"`, `${token}=`, `${token} `, ` ${token}`, token.replaceAll(".", ". "), `${token}\n`, `${token}é`]) {
    expect(await refusalFor(text)).toMatchObject(refusalOf("jwt_not_base64url"));
  }
  expect(await obtainToken(setting.partner, { parameters: { subject_token: token } })).toMatchObject({ token_type: "bearer" });
});

test("bis §3.15: a compressed JWE is never decompressed, whatever its size would be", async () => {
  const header = { alg: "dir", enc: "A128GCM", zip: "DEF" };
  const token = `${encodePart(header)}..${encodePart("0123456789ab")}.${encodePart("x".repeat(8_000))}.${encodePart("tag")}`;
  expect(await refusalFor(token)).toMatchObject(refusalOf("jwt_encrypted"));
});
