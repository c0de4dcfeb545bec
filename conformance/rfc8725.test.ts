/** RFC 8725, JSON Web Token Best Current Practices. What its revision adds is in rfc8725bis.test.ts. */
import { createHmac, createPublicKey } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt, encodePart, makeTestKey, signJwt, type TestAlgorithm } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  serviceAccountToken,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
} from "../packages/server/src/testing/server.ts";
import {
  ACCESS_TOKEN_TYPE,
  callApi,
  keyFor,
  obtainChallenge,
  obtainRefusal,
  obtainToken,
  openSetting,
  RESOURCE,
  type Setting,
} from "./client.ts";
import { refusalOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

const refusalFor = (subject_token: string, partner: TestPartner = setting.partner) =>
  obtainRefusal(partner, { parameters: { subject_token } });

/** As the partner's library would sign it, had it this algorithm. */
function hmacSigned(alg: string, secret: string | Buffer): string {
  const input = `${encodePart({ alg, kid: setting.partner.key.kid })}.${encodePart(subjectClaims(setting.partner))}`;
  return `${input}.${createHmac(`sha${alg.slice(2)}`, secret)
    .update(input)
    .digest("base64url")}`;
}

test("§2.8 §3.12: MUST be prevented: an access token as a subject token", async () => {
  const accessToken = await serviceAccountToken(setting.partner);
  expect(await refusalFor(accessToken)).toMatchObject(refusalOf("jwt_typ_unexpected"));
  const parameters = { subject_token: accessToken, subject_token_type: ACCESS_TOKEN_TYPE };
  expect(await obtainRefusal(setting.partner, { parameters })).toMatchObject(refusalOf("subject_token_type_unsupported"));
});

test("§2.8 §3.12: MUST be prevented: a subject token as an access token", async () => {
  for (const typ of [undefined, "JWT", "at+jwt"]) {
    const challenge = await obtainChallenge(setting.server, subjectToken(setting.partner, { aud: RESOURCE }, { typ }));
    expect(challenge).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
  }
});

test("§3.1: an algorithm outside the supported set MUST NOT be used", async () => {
  for (const alg of ["RS384", "RS512", "PS384", "PS512", "ES256K", "ES512", "HS256", "HS384", "HS512", "RSA1_5", "dir", "none", ""]) {
    expect(await refusalFor(subjectToken(setting.partner, {}, { alg }))).toMatchObject(refusalOf("jwt_algorithm_unsupported"));
  }
});

test("§3.1: MUST be refused: an HMAC keyed with what is public, or with the client secret", async () => {
  const { publicJwk } = setting.partner.key;
  const pem = createPublicKey({ key: publicJwk as never, format: "jwk" }).export({ format: "pem", type: "spki" });
  for (const secret of [pem, JSON.stringify(publicJwk), setting.partner.clientSecret, ""]) {
    for (const alg of ["HS256", "HS384", "HS512"]) {
      expect(await refusalFor(hmacSigned(alg, secret))).toMatchObject(refusalOf("jwt_algorithm_unsupported"));
    }
  }
});

test("§3.1: alg MUST be the algorithm that verifies: naming another one of the set is refused", async () => {
  for (const alg of ["PS256", "ES256", "ES384", "EdDSA"]) {
    expect(await refusalFor(subjectToken(setting.partner, {}, { alg }))).toMatchObject(refusalOf("jwt_algorithm_not_of_key"));
  }
});

test("§3.1: each key MUST be used with exactly one algorithm, whichever others its type would allow", async () => {
  const { partner, server } = setting;
  const asPss = keyFor("PS256", setting);
  expect(await refusalFor(signJwt({ alg: "PS256", kid: "key-1" }, subjectClaims(partner), asPss))).toMatchObject(
    refusalOf("jwt_algorithm_not_of_key"),
  );
  const pss = await createTestPartner(server, { jwks: { keys: [asPss.publicJwk] } });
  expect(await refusalFor(subjectToken(pss), pss)).toMatchObject(refusalOf("jwt_algorithm_not_of_key"));
  expect(await obtainToken(pss, { parameters: { subject_token: subjectToken({ ...pss, key: asPss }) } })).toHaveProperty("access_token");
});

test("§3.2: only cryptographically current algorithms are allowed, and the ones that are listed work", async () => {
  const algorithms: readonly TestAlgorithm[] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
  for (const algorithm of algorithms) {
    const partner = await createTestPartner(setting.server, {}, keyFor(algorithm, setting));
    expect(await obtainToken(partner)).toMatchObject({ token_type: "bearer" });
  }
  const refused = await admin(setting.server, "POST", "/partners", { name: "x", allowed_algorithms: ["HS256"], jwks: { keys: [] } });
  expect(refused.status).toBe(422);
});

test("§3.2: the design MUST allow for cryptographic agility: another algorithm is a setting, for us and for each partner", async () => {
  const server = await startTestServer("sqlite", { signingAlgorithm: "RS256" });
  try {
    const own = await serviceAccountToken(await createTestPartner(server));
    expect(decodeJwt(own).header["alg"]).toBe("RS256");
  } finally {
    await server.stop();
  }
  const changing = await createTestPartner(setting.server);
  const next = makeTestKey("EdDSA");
  const changed = await admin(setting.server, "PATCH", `/partners/${changing.clientId}`, { jwks: { keys: [next.publicJwk] } });
  expect(changed.status).toBe(200);
  expect(await obtainToken({ ...changing, key: next })).toMatchObject({ token_type: "bearer" });
});

test("§3.2: JWTs with alg none are not consumed, signed or unsigned", async () => {
  const { partner } = setting;
  const unsigned = `${encodePart({ alg: "none" })}.${encodePart(subjectClaims(partner))}.`;
  expect(await refusalFor(unsigned)).toMatchObject(refusalOf("jwt_malformed"));
  expect(await refusalFor(`${unsigned}AAAA`)).toMatchObject(refusalOf("jwt_algorithm_unsupported"));
  const payload = encodePart(decodeJwt(await serviceAccountToken(partner)).payload);
  for (const signature of ["", "AAAA"]) {
    const challenge = await obtainChallenge(setting.server, `${encodePart({ alg: "none", typ: "at+jwt" })}.${payload}.${signature}`);
    expect(challenge).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
  }
});

test("§3.3: the signature MUST be validated, and the whole JWT rejected where it does not fit header, claims or key", async () => {
  const { partner, user } = setting;
  const [header = "", , signature = ""] = subjectToken(partner).split(".");
  const [, payload = ""] = subjectToken(partner, { sub: user.userId }).split(".");
  expect(await refusalFor(`${header}.${payload}.${signature}`)).toMatchObject(refusalOf("jwt_signature_invalid"));
  const withTyp = subjectToken(partner).replace(/^[^.]+/, encodePart({ alg: "RS256", kid: "key-1", typ: "JWT" }));
  expect(await refusalFor(withTyp)).toMatchObject(refusalOf("jwt_signature_invalid"));
  const stranger = makeTestKey("RS256", partner.key.kid);
  expect(await refusalFor(subjectToken({ ...partner, key: stranger }))).toMatchObject(refusalOf("jwt_signature_invalid"));
});

test("§3.4: a public key MUST be validated: a point that is not on its curve is no key", async () => {
  const { x, y } = makeTestKey("ES256").publicJwk as { x: string; y: string };
  const bytes = Buffer.from(y, "base64url");
  bytes.writeUInt8(bytes.readUInt8(31) ^ 1, 31);
  for (const point of [
    { x, y: bytes.toString("base64url") },
    { x: y, y: x },
    { x: encodePart(Buffer.alloc(32)), y: encodePart(Buffer.alloc(32)) },
  ]) {
    const reply = await admin(setting.server, "POST", "/partners", { name: "x", jwks: { keys: [{ kty: "EC", crv: "P-256", ...point }] } });
    expect(reply).toMatchObject({ status: 422, json: { detail: expect.stringContaining("no point of P-256") as unknown } });
  }
});

test("§3.5: keys MUST have enough entropy: no small RSA key, and no shared secret at all", async () => {
  const modulus = Buffer.alloc(128, 0xa5);
  modulus.writeUInt8(0xff, 0);
  const small = { kty: "RSA", n: modulus.toString("base64url"), e: "AQAB" };
  const refused = await admin(setting.server, "POST", "/partners", { name: "x", jwks: { keys: [small] } });
  expect(refused).toMatchObject({ status: 422, json: { detail: expect.stringContaining("1024 bits") as unknown } });
  const password = { kty: "oct", k: Buffer.from("correct horse battery staple").toString("base64url"), alg: "HS256" };
  const symmetric = await admin(setting.server, "POST", "/partners", { name: "x", jwks: { keys: [password] } });
  expect(symmetric).toMatchObject({ status: 422, json: { detail: expect.stringContaining("symmetric") as unknown } });
});

test("§3.6: compressed content is not taken, so nothing can be learned from its length", async () => {
  const token = subjectToken(setting.partner, {}, { zip: "DEF" });
  expect(await refusalFor(token)).toMatchObject(refusalOf("jwt_header_member_unsupported"));
});

test("§3.7: no other encoding than UTF-8 MUST be taken in a header or in claims", async () => {
  const { partner } = setting;
  const header = { alg: "RS256", kid: "key-1" };
  for (const encoding of ["utf16le", "latin1"] as const) {
    const claims = Buffer.from(JSON.stringify(subjectClaims(partner, { name: "é" })), encoding);
    expect(await refusalFor(signJwt(header, claims, partner.key))).toMatchObject(refusalOf("jwt_not_json"));
    const odd = Buffer.from(JSON.stringify({ ...header, name: "é" }), encoding);
    expect(await refusalFor(signJwt(odd, subjectClaims(partner), partner.key))).toMatchObject(refusalOf("jwt_not_json"));
  }
});

test("§3.8: the key MUST belong to the issuer: another partner's key or name is refused", async () => {
  const { partner, server } = setting;
  const other = await createTestPartner(server, {}, makeTestKey("ES256", "key-1"));
  const borrowed = signJwt({ alg: "ES256", kid: "key-1" }, subjectClaims(partner), other.key);
  expect(await refusalFor(borrowed)).toMatchObject(refusalOf("jwt_algorithm_not_of_key"));
  const named = signJwt({ alg: "ES256", kid: "key-1" }, subjectClaims(partner), other.key);
  expect(await refusalFor(named, other)).toMatchObject(refusalOf("issuer_mismatch"));
});

test("§3.8: the subject MUST be a valid one of this issuer: nobody's and another partner's are refused alike", async () => {
  const { partner, server } = setting;
  const foreign = await createTestUser(await createTestPartner(server));
  for (const sub of [foreign.userId, "00000000-0000-4000-8000-000000000000"]) {
    const refusal = await refusalFor(subjectToken(partner, { sub }));
    expect(refusal).toMatchObject(refusalOf("subject_unknown"));
    expect(refusal.error_description).toBe("sub is not a user of this partner.");
  }
});

test("§3.8: a user's id can never be taken for a client's: ids that look like a client id are not given to users", async () => {
  const token = await serviceAccountToken(setting.partner);
  const body = { workspace_id: setting.user.workspaceId, external_user_id: setting.partner.clientId };
  expect((await call(setting.server, "PUT", "/v2/account-management/user", token, body)).status).toBe(422);
  expect(setting.user.userId).not.toMatch(/^prt_/);
});

test("§3.9: what we issue MUST contain an audience that tells for whom it is", async () => {
  expect(decodeJwt(await serviceAccountToken(setting.partner)).payload["aud"]).toBe(RESOURCE);
});

test("§3.9: the audience MUST be validated, and a token without it or for another recipient rejected", async () => {
  const refused = { claim_missing: undefined, audience_mismatch: "https://other.example", claim_malformed: [] } as const;
  for (const [code, aud] of Object.entries(refused)) {
    expect(await refusalFor(subjectToken(setting.partner, { aud }))).toMatchObject(refusalOf(code as keyof typeof refused));
  }
});

test("§3.10: a received kid is compared and never interpreted", async () => {
  for (const kid of ["' OR 1=1--", "../../../dev/null", "*)(uid=*", "key-1\u0000", "__proto__"]) {
    expect(await refusalFor(subjectToken(setting.partner, {}, { kid }))).toMatchObject(refusalOf("jwt_kid_unknown"));
  }
});

test("§3.10: a jku or x5u is not followed", async () => {
  let visits = 0;
  const listener = createServer((_request, response) => {
    visits++;
    response.end();
  }).listen(0, "127.0.0.1");
  try {
    await new Promise((resolve) => listener.once("listening", resolve));
    const url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/keys`;
    for (const member of ["jku", "x5u"]) {
      expect(await refusalFor(subjectToken(setting.partner, {}, { [member]: url }))).toMatchObject(
        refusalOf("jwt_header_member_unsupported"),
      );
    }
    expect((await exchange(setting.partner, subjectToken(setting.partner))).status).toBe(200);
    expect(visits).toBe(0);
    await fetch(url); // the listener does count
    expect(visits).toBe(1);
  } finally {
    listener.closeAllConnections();
    listener.close();
  }
});

test("§3.11: explicit typing is RECOMMENDED: our access tokens are typed, without the prefix application/", async () => {
  expect(decodeJwt(await serviceAccountToken(setting.partner)).header["typ"]).toBe("at+jwt");
  expect((await callApi(setting.server, await serviceAccountToken(setting.partner))).status).toBe(404);
});

test("§3.12: the validation rules of the kinds of JWT MUST be mutually exclusive: each kind's typ is refused as another", async () => {
  for (const typ of ["at+jwt", "application/at+jwt", "client-authentication+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt"]) {
    expect(await refusalFor(subjectToken(setting.partner, {}, { typ }))).toMatchObject(refusalOf("jwt_typ_unexpected"));
  }
  const { keyring } = setting.server.deps;
  const { header, payload } = decodeJwt(await serviceAccountToken(setting.partner));
  for (const typ of ["JWT", undefined, "client-authentication+jwt"]) {
    const token = keyring.signer().sign(JSON.stringify({ ...header, typ }), JSON.stringify(payload));
    expect(await obtainChallenge(setting.server, token)).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
  }
});
