/** RFC 7518, JSON Web Algorithms: signatures (§3) and the members of keys (§6). */
import { constants, createPublicKey, sign, verify } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt, encodePart, makeTestKey, signJwt, type TestAlgorithm, type TestKey } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  type Reply,
  send,
  serviceAccountToken,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../packages/server/src/testing/server.ts";
import { keyFor, obtainRefusal, obtainToken, openSetting, type Setting } from "./client.ts";
import { refusalOf } from "./refusals.ts";

const KEYS = {
  ES256: makeTestKey("ES256", "key-1"),
  ES384: makeTestKey("ES384", "key-1"),
} as const;

let setting: Setting;
/** Signs RS256. */
let rsaServer: TestServer;
beforeAll(async () => {
  setting = await openSetting();
  rsaServer = await startTestServer("sqlite", { signingAlgorithm: "RS256" });
});
afterAll(() => Promise.all([setting.server.stop(), rsaServer.stop()]));

const register = (jwk: object): Promise<Reply> => admin(setting.server, "POST", "/partners", { name: "x", jwks: { keys: [jwk] } });
const refusalFor = (partner: TestPartner, subject_token: string) => obtainRefusal(partner, { parameters: { subject_token } });

/** A token of the partner with a signature that the test makes. */
function signedBy(partner: TestPartner, signatureOf: (input: Buffer) => Buffer): string {
  const { algorithm, kid } = partner.key;
  const input = `${encodePart({ alg: algorithm, kid })}.${encodePart(subjectClaims(partner))}`;
  return `${input}.${signatureOf(Buffer.from(input)).toString("base64url")}`;
}

const partnerWith = (key: TestKey): Promise<TestPartner> => createTestPartner(setting.server, {}, key);

test("§3.1: RS256 and ES256, which are recommended, are implemented both ways", async () => {
  const both = [
    [setting.server, KEYS.ES256, "ES256"],
    [rsaServer, setting.partner.key, "RS256"],
  ] as const;
  for (const [server, key, algorithm] of both) {
    const token = await serviceAccountToken(await createTestPartner(server, {}, key));
    expect(decodeJwt(token).header["alg"]).toBe(algorithm);
  }
});

test("§3.3: an RSA key of 2048 bits or more MUST be used with RS256", async () => {
  const modulus = (bits: number) => {
    const bytes = Buffer.alloc(Math.ceil(bits / 8), 0x5b);
    bytes.writeUInt8(bits % 8 === 0 ? 0xdb : 0x5b, 0);
    return bytes.toString("base64url");
  };
  for (const bits of [512, 1024, 2047]) {
    const reply = await register({ kty: "RSA", n: modulus(bits), e: "AQAB" });
    expect(reply).toMatchObject({ status: 422, json: { detail: expect.stringContaining(`${bits} bits`) as unknown } });
  }
  expect(await obtainToken(setting.partner)).toHaveProperty("access_token"); // 2048
  const jwks = await send(rsaServer, "GET", "/.well-known/jwks.json");
  const own = (jwks.json["keys"] as { kty: string; n?: string }[]).filter(({ kty }) => kty === "RSA");
  expect(own.length).toBeGreaterThan(0);
  for (const { n = "" } of own) expect(Buffer.from(n, "base64url").length).toBeGreaterThanOrEqual(256);
});

test("§3.3: an RS256 signature is RSASSA-PKCS1-v1_5 with SHA-256 and no other", async () => {
  const { partner } = setting;
  for (const digest of ["sha1", "sha384", "sha512"]) {
    const token = signedBy(partner, (input) => sign(digest, input, partner.key.privateKey));
    expect(await refusalFor(partner, token)).toMatchObject(refusalOf("jwt_signature_invalid"));
  }
});

test("§3.4: an ECDSA signature MUST be R and S of full length, one after the other: 64 octets for P-256, 96 for P-384", async () => {
  const lengths = { ES256: 64, ES384: 96 } as const;
  for (const algorithm of ["ES256", "ES384"] as const) {
    const partner = await partnerWith(KEYS[algorithm]);
    const token = subjectToken(partner);
    expect(Buffer.from(token.split(".")[2] ?? "", "base64url").length).toBe(lengths[algorithm]);
    expect(await obtainToken(partner, { parameters: { subject_token: token } })).toHaveProperty("access_token");
    const digest = algorithm === "ES256" ? "sha256" : "sha384";
    const der = signedBy(partner, (input) => sign(digest, input, partner.key.privateKey));
    expect(await refusalFor(partner, der)).toMatchObject(refusalOf("jwt_signature_invalid"));
    for (const other of [(raw: Buffer) => raw.subarray(0, -1), (raw: Buffer) => Buffer.concat([raw, Buffer.alloc(1)])]) {
      const wrong = signedBy(partner, (input) => other(sign(digest, input, { key: partner.key.privateKey, dsaEncoding: "ieee-p1363" })));
      expect(await refusalFor(partner, wrong)).toMatchObject(refusalOf("jwt_signature_invalid"));
    }
  }
});

test("§3.4: leading zeros of R and S MUST NOT be left out of what we sign", async () => {
  const signer = setting.server.deps.keyring.signer();
  const { json } = await send(setting.server, "GET", "/.well-known/jwks.json");
  const jwk = (json["keys"] as { kid: string }[]).find(({ kid }) => kid === signer.kid);
  const key = createPublicKey({ key: jwk as never, format: "jwk" });
  let zeros = 0;
  for (let i = 0; i < 2_000; i++) {
    const [header = "", payload = "", encoded = ""] = signer.sign("{}", `{"i":${i}}`).split(".");
    const signature = Buffer.from(encoded, "base64url");
    expect(signature.length).toBe(64);
    expect(verify("sha256", Buffer.from(`${header}.${payload}`), { key, dsaEncoding: "ieee-p1363" }, signature)).toBe(true);
    if (signature[0] === 0 || signature[32] === 0) zeros++;
  }
  expect(zeros).toBeGreaterThan(0); // one in 128 begins with a zero
});

test("§3.4: each curve has its hash: ES256 is P-256 with SHA-256, ES384 is P-384 with SHA-384", async () => {
  for (const [algorithm, wrong] of [["ES256", "sha384"] as const, ["ES384", "sha256"] as const]) {
    const partner = await partnerWith(KEYS[algorithm]);
    const token = signedBy(partner, (input) => sign(wrong, input, { key: partner.key.privateKey, dsaEncoding: "ieee-p1363" }));
    expect(await refusalFor(partner, token)).toMatchObject(refusalOf("jwt_signature_invalid"));
  }
  for (const [kid, alg] of [["ES256", "ES384"] as const, ["ES384", "ES256"] as const]) {
    const partner = await partnerWith(KEYS[kid]);
    const token = signJwt({ alg, kid: "key-1" }, subjectClaims(partner), partner.key);
    expect(await refusalFor(partner, token)).toMatchObject(refusalOf("jwt_algorithm_not_of_key"));
  }
});

test("§3.5: the salt of a PS256 signature is as long as the hash", async () => {
  const partner = await partnerWith(keyFor("PS256", setting));
  const salted = (saltLength: number) =>
    signedBy(partner, (input) =>
      sign("sha256", input, { key: partner.key.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }),
    );
  expect(await obtainToken(partner, { parameters: { subject_token: salted(32) } })).toHaveProperty("access_token");
  for (const length of [0, 20, 64]) expect(await refusalFor(partner, salted(length))).toMatchObject(refusalOf("jwt_signature_invalid"));
});

test("§3.5: an RSA key of 2048 bits or more MUST be used with PS256", async () => {
  const modulus = Buffer.alloc(128, 0xdb).toString("base64url");
  const reply = await register({ kty: "RSA", alg: "PS256", n: modulus, e: "AQAB" });
  expect(reply).toMatchObject({ status: 422, json: { detail: expect.stringContaining("1024 bits") as unknown } });
});

test("§3.6: an unsecured JWS MUST NOT be accepted by default, and never is", async () => {
  const { partner } = setting;
  const token = `${encodePart({ alg: "none" })}.${encodePart(subjectClaims(partner))}.`;
  expect(await refusalFor(partner, token)).toMatchObject(refusalOf("jwt_malformed"));
  expect(await refusalFor(partner, `${token}${encodePart("x")}`)).toMatchObject(refusalOf("jwt_algorithm_unsupported"));
});

test("§6.2.1: crv, x and y MUST be present in an EC public key", async () => {
  const { kty, crv, x, y } = KEYS.ES256.publicJwk;
  const whole: Record<string, unknown> = { kty, crv, x, y };
  expect((await register(whole)).status).toBe(201);
  for (const member of ["crv", "x", "y"]) expect((await register({ ...whole, [member]: undefined })).status).toBe(422);
  const { json } = await send(setting.server, "GET", "/.well-known/jwks.json");
  for (const jwk of json["keys"] as Record<string, unknown>[])
    expect(jwk).toMatchObject({ crv: "P-256", x: expect.any(String), y: expect.any(String) });
});

test("§6.2.1.2 §6.2.1.3: x and y MUST be the full size of a coordinate", async () => {
  for (const algorithm of ["ES256", "ES384"] as const satisfies readonly TestAlgorithm[]) {
    const { kty, crv, x, y } = KEYS[algorithm].publicJwk as Record<string, string>;
    const bytes = { x: Buffer.from(x ?? "", "base64url"), y: Buffer.from(y ?? "", "base64url") };
    for (const member of ["x", "y"] as const) {
      for (const wrong of [bytes[member].subarray(1), Buffer.concat([Buffer.alloc(1), bytes[member]])]) {
        const reply = await register({ kty, crv, x, y, [member]: wrong.toString("base64url") });
        expect(reply).toMatchObject({ status: 422, json: { detail: expect.stringContaining("6.2.1.2") as unknown } });
      }
    }
  }
  const { json } = await send(setting.server, "GET", "/.well-known/jwks.json");
  for (const { x, y } of json["keys"] as { x: string; y: string }[]) {
    expect([x, y].map((text) => Buffer.from(text, "base64url").length)).toEqual([32, 32]);
  }
});

test("§6.3.1: n and e MUST be present in an RSA public key", async () => {
  const { n, e } = setting.partner.key.publicJwk;
  expect((await register({ kty: "RSA", n, e })).status).toBe(201);
  for (const jwk of [
    { kty: "RSA", n },
    { kty: "RSA", e },
  ])
    expect((await register(jwk)).status).toBe(422);
});

test("§6.3.1.1: a modulus is written without an extra zero octet, by us; one that a library added is taken and dropped", async () => {
  const { n, e } = setting.partner.key.publicJwk as { n: string; e: string };
  const prefixed = Buffer.concat([Buffer.alloc(1), Buffer.from(n, "base64url")]).toString("base64url");
  const reply = await register({ kty: "RSA", n: prefixed, e });
  expect(reply).toMatchObject({ status: 201, json: { partner: { jwks: { keys: [{ n }] } } } });
  const twice = Buffer.concat([Buffer.alloc(2), Buffer.from(n, "base64url")]).toString("base64url");
  expect((await register({ kty: "RSA", n: twice, e })).status).toBe(422);
});

test("§6.3.2 §6.4: private and symmetric members make a key unfit to be registered", async () => {
  const { n, e } = setting.partner.key.publicJwk;
  for (const member of ["d", "p", "q", "dp", "dq", "qi", "oth"]) {
    const value = member === "oth" ? [{ r: "AQAB", d: "AQAB", t: "AQAB" }] : "AQAB";
    expect((await register({ kty: "RSA", n, e, [member]: value })).status).toBe(422);
  }
  expect((await register({ kty: "oct", k: encodePart("0123456789abcdef0123456789abcdef") })).status).toBe(422);
});
