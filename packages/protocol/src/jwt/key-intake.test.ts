import type { JsonWebKey } from "node:crypto";
import { importJWK, jwtVerify, SignJWT } from "jose";
import { afterEach, describe, expect, test } from "vitest";
import { JWKS_KEYS_MAX } from "../constants.ts";
import { describeJwksFault, describeKeyFault, takeInJwks } from "./key-intake.ts";
import { freshKeyPair } from "../testing/key-pair.ts";
import { leastCpuMs } from "../testing/least-cpu-ms.ts";
import type { KeyFault, KeyIntake, VerificationKey } from "./key-intake.ts";

const PAIRS = {
  rsa: freshKeyPair("rsa", { modulusLength: 2048 }),
  p256: freshKeyPair("ec", { namedCurve: "P-256" }),
  p384: freshKeyPair("ec", { namedCurve: "P-384" }),
  ed25519: freshKeyPair("ed25519"),
};
const RSA = PAIRS.rsa.publicKey.export({ format: "jwk" });
const P256 = PAIRS.p256.publicKey.export({ format: "jwk" });
const P384 = PAIRS.p384.publicKey.export({ format: "jwk" });
const ED25519 = PAIRS.ed25519.publicKey.export({ format: "jwk" });
const KINDS = { rsa: RSA, p256: P256, p384: P384, ed25519: ED25519 };

function intakeOf(...keys: unknown[]): KeyIntake {
  const taken = takeInJwks({ keys });
  if (!taken.ok) throw new Error(taken.fault.code);
  return taken.value;
}

function usedKey(key: unknown): VerificationKey {
  const [used] = intakeOf(key).used;
  if (used === undefined) throw new Error("refused");
  return used;
}

/** The fault of a set of this one key; `undefined` where it is used. */
function faultOf(key: unknown): KeyFault | undefined {
  const { used, refused } = intakeOf(key);
  expect(used.length + refused.length).toBe(1);
  return refused[0]?.fault;
}

describe("a key that is taken in", () => {
  test.each([
    ["rsa", undefined, "RS256"],
    ["rsa", "RS256", "RS256"],
    ["rsa", "PS256", "PS256"],
    ["p256", undefined, "ES256"],
    ["p256", "ES256", "ES256"],
    ["p384", undefined, "ES384"],
    ["p384", "ES384", "ES384"],
    ["ed25519", undefined, "EdDSA"],
    ["ed25519", "EdDSA", "EdDSA"],
  ] as const)("%s with alg %s verifies an %s token that another library signed", async (kind, alg, algorithm) => {
    const key = usedKey({ ...KINDS[kind], ...(alg === undefined ? {} : { alg }) });
    expect(key.algorithm).toBe(algorithm);
    const token = await new SignJWT({ sub: "prt_1" }).setProtectedHeader({ alg: algorithm }).sign(PAIRS[kind].privateKey);
    const { payload } = await jwtVerify(token, await importJWK(key.jwk, key.algorithm), { algorithms: [key.algorithm] });
    expect(payload.sub).toBe("prt_1");
  });

  test("keeps nothing but its public members, whatever else the partner wrote", () => {
    const extras = { kid: "k", use: "sig", key_ops: ["sign", "verify"], ext: true, iat: 1, x5c: ["MII"], x5t: 7, x5u: "http://10.0.0.1/" };
    for (const jwk of Object.values(KINDS)) {
      expect(intakeOf({ ...jwk, ...extras }).used).toEqual([{ kid: "k", algorithm: expect.any(String), jwk }]);
    }
  });

  test("needs no kid", () => {
    expect(intakeOf(P256, P384).used.map((key) => key.kid)).toEqual([undefined, undefined]);
  });

  test("is not lost because of a bad one beside it, and the bad one is named", () => {
    const intake = intakeOf({ kty: "oct", k: "c2VjcmV0", kid: "a" }, { ...P256, kid: "b" }, null);
    expect(intake.used.map((key) => key.kid)).toEqual(["b"]);
    expect(intake.refused).toEqual([
      { index: 0, kid: "a", fault: { code: "symmetric" } },
      { index: 2, kid: undefined, fault: { code: "not_an_object" } },
    ]);
  });
});

describe("a key set is refused as a whole", () => {
  test.each([null, undefined, 1, "{}", [], [RSA], {}, { keys: null }, { keys: {} }, { keys: "k" }, { key: [RSA] }])(
    "when it is %j",
    (value) => {
      expect(takeInJwks(value)).toEqual({ ok: false, fault: { code: "not_a_jwks" } });
    },
  );

  test(`when it holds more than ${JWKS_KEYS_MAX} keys, without looking at one, within 50 ms for 5,000`, () => {
    const keys = Array.from({ length: 5000 }, (_, index) => ({ ...RSA, kid: `k${index}` }));
    expect(leastCpuMs(() => takeInJwks({ keys }), 50)).toBeLessThan(50);
    expect(takeInJwks({ keys })).toEqual({ ok: false, fault: { code: "too_many_keys", count: 5000 } });
    expect(intakeOf(...keys.slice(0, JWKS_KEYS_MAX)).used).toHaveLength(JWKS_KEYS_MAX);
    expect(takeInJwks({ keys: keys.slice(0, JWKS_KEYS_MAX + 1) }).ok).toBe(false);
  });

  test("in a sentence", () => {
    expect(describeJwksFault({ code: "not_a_jwks" })).toMatch(/"keys"/);
    expect(describeJwksFault({ code: "too_many_keys", count: 51 })).toMatch(/51 keys.*at most 50/);
  });
});

describe("a key is refused", () => {
  test.each([null, 1, "RSA", [RSA], true])("when it is no object: %j", (key) => {
    expect(faultOf(key)).toEqual({ code: "not_an_object" });
  });

  test("when it is symmetric, so that no published value can become an HMAC secret", () => {
    expect(faultOf({ kty: "oct", k: "c2VjcmV0", alg: "HS256", use: "sig" })).toEqual({ code: "symmetric" });
    expect(faultOf({ kty: "oct", alg: "RS256", n: RSA.n, e: RSA.e })).toEqual({ code: "symmetric" });
  });

  test.each(["d", "p", "q", "dp", "dq", "qi", "oth", "k"])("when it shows the private member %s, even an empty one", (member) => {
    expect(faultOf({ ...RSA, [member]: "AQ" })).toEqual({ code: "private_members", members: [member] });
    expect(faultOf({ ...P256, [member]: null })).toEqual({ code: "private_members", members: [member] });
  });

  test("when a private key was exported by mistake, of every kind", () => {
    for (const pair of Object.values(PAIRS)) {
      const jwk: JsonWebKey = pair.privateKey.export({ format: "jwk" });
      expect(faultOf(jwk)).toMatchObject({ code: "private_members", members: expect.arrayContaining(["d"]) });
    }
  });

  test("when its kty is missing, no string or unknown", () => {
    expect(faultOf({ n: RSA.n, e: RSA.e })).toEqual({ code: "member_missing", member: "kty" });
    expect(faultOf({ ...RSA, kty: ["RSA"] })).toEqual({ code: "member_not_a_string", member: "kty" });
    for (const kty of ["rsa", "RSA ", "AKP", "constructor", "__proto__", ""]) {
      expect(faultOf({ ...RSA, kty })).toEqual({ code: "kty_unsupported", kty });
    }
  });

  test.each(["enc", "SIG", "", null, ["sig"]])("when its use is %j", (use) => {
    expect(faultOf({ ...RSA, use })).toEqual({ code: "use_not_signature" });
  });

  test.each([[["encrypt"]], [[]], ["verify"], [null], [{ 0: "verify" }], [["sign"]]])("when its key_ops is %j", (keyOps) => {
    expect(faultOf({ ...RSA, key_ops: keyOps })).toEqual({ code: "key_ops_not_verify" });
  });

  test.each(["none", "HS256", "RS1", "RS512", "ES512", "RSA-OAEP", "rs256", "Ed448", "constructor", ""])("when its alg is %j", (alg) => {
    expect(faultOf({ ...RSA, alg })).toEqual({ code: "algorithm_unsupported", algorithm: alg });
  });

  test("when its alg is no string", () => {
    expect(faultOf({ ...RSA, alg: ["RS256"] })).toEqual({ code: "member_not_a_string", member: "alg" });
    expect(faultOf({ ...RSA, alg: null })).toEqual({ code: "member_not_a_string", member: "alg" });
  });

  test.each([
    { keyType: "EC P-384", alg: "ES256", jwk: P384, fitting: ["ES384"] },
    { keyType: "EC P-256", alg: "ES384", jwk: P256, fitting: ["ES256"] },
    { keyType: "EC P-256", alg: "RS256", jwk: P256, fitting: ["ES256"] },
    { keyType: "RSA", alg: "ES256", jwk: RSA, fitting: ["RS256", "PS256"] },
    { keyType: "RSA", alg: "EdDSA", jwk: RSA, fitting: ["RS256", "PS256"] },
    { keyType: "OKP Ed25519", alg: "ES256", jwk: ED25519, fitting: ["EdDSA"] },
  ])("when it is a key of $keyType marked $alg", ({ keyType, alg, jwk, fitting }) => {
    expect(faultOf({ ...jwk, alg })).toEqual({ code: "algorithm_mismatch", algorithm: alg, keyType, fitting });
  });

  test.each(["", "a\nb", "\0", "\u007f", "\u0085", "\ud800", "k".repeat(256), 7, null, ["k"]])("when its kid is %j", (kid) => {
    expect(intakeOf({ ...RSA, kid }).refused).toEqual([{ index: 0, kid: undefined, fault: { code: "kid_malformed" } }]);
  });

  test.each(["k", "k".repeat(255), "clé 😀", "__proto__", "constructor", " "])("but not because its kid is %j", (kid) => {
    expect(usedKey({ ...RSA, kid }).kid).toBe(kid);
  });

  test("when another has its kid: both, so that no key can shadow another", () => {
    for (const kid of ["k", "__proto__"]) {
      const { used, refused } = intakeOf({ ...P256, kid }, { ...P384, kid: "other" }, { ...RSA, kid });
      expect(used.map((key) => key.kid)).toEqual(["other"]);
      expect(refused).toEqual([0, 2].map((index) => ({ index, kid, fault: { code: "kid_duplicated" } })));
    }
  });

  test("when a refused key has its kid: a token could have meant that one", () => {
    const { used, refused } = intakeOf({ ...P256, kid: "k" }, { ...RSA, kid: "k", use: "enc" });
    expect(used).toEqual([]);
    expect(refused.map(({ fault }) => fault.code)).toEqual(["kid_duplicated", "use_not_signature"]);
  });
});

describe("only what the partner wrote itself counts", () => {
  afterEach(() => {
    for (const member of ["keys", "d", "alg", "use", "kty"]) Reflect.deleteProperty(Object.prototype, member);
  });

  test("not what hangs on a __proto__ member", () => {
    expect(takeInJwks(JSON.parse(`{"__proto__":{"keys":[]}}`))).toEqual({ ok: false, fault: { code: "not_a_jwks" } });
    expect(faultOf(JSON.parse(`{"__proto__":${JSON.stringify(RSA)}}`))).toEqual({ code: "member_missing", member: "kty" });
    expect(faultOf(Object.create(RSA))).toEqual({ code: "member_missing", member: "kty" });
  });

  test("not what some code once put on Object.prototype", () => {
    const polluted = { keys: [], d: "AQ", alg: "none", use: "enc", kty: "oct" };
    for (const [member, value] of Object.entries(polluted)) {
      Reflect.defineProperty(Object.prototype, member, { value, configurable: true });
    }
    expect(usedKey(RSA).algorithm).toBe("RS256");
    expect(takeInJwks({})).toEqual({ ok: false, fault: { code: "not_a_jwks" } });
  });
});

describe("describeKeyFault", () => {
  test("holds no more of a partner's text than fits a log line", () => {
    const { refused } = intakeOf({ ...RSA, alg: `\u001b[2J\n${"A".repeat(100_000)}` });
    expect(refused.map(({ fault }) => describeKeyFault(fault)).join()).toMatch(
      /^The algorithm "\?\[2J\?A{35}" is not supported; use RS256, PS256, ES256, ES384, EdDSA\.$/,
    );
  });
});
