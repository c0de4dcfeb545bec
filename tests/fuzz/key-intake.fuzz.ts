import { createPublicKey, ECDH, type JsonWebKey, verify } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect } from "vitest";
import { JWKS_KEYS_MAX, type SubjectTokenAlgorithm } from "../../packages/protocol/src/constants.ts";
import {
  describeJwksFault,
  describeKeyFault,
  type KeyIntake,
  takeInJwks,
  type VerificationKey,
} from "../../packages/protocol/src/jwt/key-intake.ts";
import { leastCpuMs } from "../../packages/protocol/src/testing/least-cpu-ms.ts";
import { verifierFor } from "../../packages/server/src/keys/signature.ts";
import { jwksOf, keyPlan } from "../second-opinion/generate-keys.ts";
import { signerAt, SIGNERS } from "../second-opinion/partners.ts";
import { pkcs1Encoding, power } from "../second-opinion/weak-keys.ts";
import { fuzz } from "./fuzz.ts";
import { anySet, bytesEdit, editBytes, type Owner, SMALL_X } from "./generate-jwks.ts";

/** What a key that was taken in may show to a crypto library, by its type (RFC 7518 §6, RFC 8037 §2). */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  RSA: ["e", "kty", "n"],
  EC: ["crv", "kty", "x", "y"],
  OKP: ["crv", "kty", "x"],
};
const TYPES: Readonly<Record<SubjectTokenAlgorithm, string>> = {
  RS256: "RSA",
  PS256: "RSA",
  ES256: "EC P-256",
  ES384: "EC P-384",
  EdDSA: "OKP Ed25519",
};

/** NIST SP 800-89 §5.3.3. */
const SMALL_FACTORS = Array.from({ length: 750 }, (_, i) => BigInt(i + 2));

/** Of everything that intake takes in, whatever it was made from. */
function expectUsable({ algorithm, jwk, kid }: VerificationKey): void {
  expect(Object.keys(jwk).toSorted()).toEqual(MEMBERS[jwk.kty]);
  expect("crv" in jwk ? `${jwk.kty} ${jwk.crv}` : jwk.kty).toBe(TYPES[algorithm]);
  const key = createPublicKey({ key: jwk as JsonWebKey, format: "jwk" });
  expect(key.type).toBe("public");
  if (jwk.kty === "EC") expectOnCurve(jwk.crv, jwk.x, jwk.y);
  if (jwk.kty === "OKP") {
    expectPoint(Buffer.from(jwk.x, "base64url"));
    expectLargeOrder(Buffer.from(jwk.x, "base64url"));
  }
  if (jwk.kty === "RSA") {
    const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
    expect(modulusLength >= 2048 && modulusLength <= 8192 && publicExponent >= 65_537n && publicExponent < 2n ** 64n).toBe(true);
    expect(publicExponent % 2n).toBe(1n);
    const modulus = BigInt(`0x${Buffer.from(jwk.n, "base64url").toString("hex")}`);
    expect(SMALL_FACTORS.some((factor) => modulus % factor === 0n)).toBe(false);
  }
  // One key, one form: taken in again it is the same.
  expect(takeInJwks({ keys: [{ ...jwk, alg: algorithm, ...(kid === undefined ? {} : { kid }) }] })).toEqual({
    ok: true,
    value: { used: [{ kid, algorithm, jwk }], refused: [] },
  });
}

/** OpenSSL refuses to convert a point that is not on the curve. */
function expectOnCurve(crv: string, x: string, y: string): void {
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
  ECDH.convertKey(point, crv === "P-256" ? "prime256v1" : "secp384r1", undefined, undefined, "compressed");
}

const P25519 = 2n ** 255n - 19n;
const D25519 = (-121_665n * power(121_666n, P25519 - 2n, P25519)) % P25519;

/** By Euler's criterion: x² = (y² − 1) / (d·y² + 1) has a root if the product of the two has one (RFC 8032 §5.1.3). */
function expectPoint(x: Buffer): void {
  const y = BigInt(`0x${Buffer.from(x.toReversed()).toString("hex")}`) & (2n ** 255n - 1n);
  expect(y < P25519).toBe(true);
  const product = ((y * y - 1n) * (D25519 * y * y + 1n)) % P25519;
  expect(power((product + P25519) % P25519, (P25519 - 1n) / 2n, P25519)).toBe(1n);
}

/** A point of small order verifies this for one text in eight or for all: R = the neutral element, S = 0 (RFC 8032 §5.1.7). */
function expectLargeOrder(x: Buffer): void {
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: x.toString("base64url") }, format: "jwk" });
  const forged = Buffer.alloc(64);
  forged[0] = 1;
  for (let text = 0; text < 32; text++) expect(verify(null, Buffer.of(text), key, forged)).toBe(false);
}

const ED25519 = SIGNERS.find(({ algorithm }) => algorithm === "EdDSA") ?? signerAt(0);

const INPUT = "eyJhbGciOiJ4In0.eyJzdWIiOiJ1In0";
const GENUINE: ReadonlyMap<Owner, Buffer> = new Map(SIGNERS.map((signer) => [signer, signer.sign(INPUT)]));

/** Signatures that nobody has to know a secret for. */
function forgeriesFor({ algorithm, jwk }: VerificationKey): Buffer[] {
  if (algorithm === "ES256" || algorithm === "ES384") {
    const bytes = algorithm === "ES256" ? 64 : 96;
    const one = Buffer.alloc(bytes);
    one[bytes / 2 - 1] = 1;
    one[bytes - 1] = 1;
    return [Buffer.alloc(bytes), Buffer.alloc(bytes, 0xff), one];
  }
  if (jwk.kty !== "RSA")
    return [Buffer.alloc(64), Buffer.concat([Buffer.from(jwk.kty === "OKP" ? jwk.x : "", "base64url"), Buffer.alloc(32)])];
  const bytes = Buffer.from(jwk.n, "base64url").length;
  const one = Buffer.alloc(bytes);
  one[bytes - 1] = 1;
  return [Buffer.alloc(bytes), one, pkcs1Encoding(INPUT, bytes), Buffer.from(jwk.n, "base64url")];
}

const isSameKey = (key: VerificationKey, { jwk }: Owner): boolean =>
  (MEMBERS[key.jwk.kty] ?? []).every((member) => (key.jwk as unknown as Record<string, unknown>)[member] === jwk[member]);

/** A key that was made from a signer's: either it is that key, or nothing that signer signed passes by it; and forgeries pass by neither. */
function expectNothingForged(key: VerificationKey, signer: Owner): void {
  const verifier = verifierFor(key.algorithm, key.jwk);
  const genuine = GENUINE.get(signer);
  if (genuine !== undefined) expect(verifier(INPUT, genuine)).toBe(isSameKey(key, signer) && key.algorithm === signer.algorithm);
  for (const forged of forgeriesFor(key)) expect(verifier(INPUT, forged)).toBe(false);
}

const PRIVATE = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/** What an entry says of itself is kept: private members, and another use, operation or algorithm, keep it out (RFC 7517 §4). */
function expectAllowed(keys: readonly unknown[], { used, refused }: KeyIntake): void {
  const out = new Set(refused.map(({ index }) => index));
  const taken = keys.filter((_, index) => !out.has(index)) as Readonly<Record<string, unknown>>[];
  expect(taken.length).toBe(used.length);
  for (const [i, entry] of taken.entries()) {
    for (const member of PRIVATE) expect(Object.hasOwn(entry, member), member).toBe(false);
    expect([undefined, "sig"]).toContain(entry["use"]);
    if (entry["key_ops"] !== undefined) expect(entry["key_ops"]).toContain("verify");
    expect(entry["alg"] ?? (entry["kty"] === "RSA" ? "RS256" : used[i]?.algorithm)).toBe(used[i]?.algorithm);
    expect(entry["kid"]).toBe(used[i]?.kid);
  }
}

const MILLISECONDS_MAX = 250;
function expectBounded(work: () => void): void {
  expect(leastCpuMs(work, MILLISECONDS_MAX)).toBeLessThan(MILLISECONDS_MAX);
}

describe("takeInJwks", () => {
  fuzz(
    "of any JSON: never throws, in bounded time, accounts for every entry, and takes in only what can be used",
    { short: 500, long: 60_000 },
    ["used", "refused", "not_a_jwks", "too_many_keys"],
    anySet,
    (set, tally) => {
      const value = JSON.parse(JSON.stringify(set)) as unknown;
      expectBounded(() => takeInJwks(value));
      const intake = takeInJwks(value);
      if (!intake.ok) {
        tally.count(intake.fault.code);
        expect(describeJwksFault(intake.fault)).toMatch(/^[^\0-\x1f]+$/);
        return;
      }
      const { keys } = value as { readonly keys: readonly unknown[] };
      const { used, refused } = intake.value;
      for (const key of used) expectUsable(key);
      for (const { fault } of refused) expect(describeKeyFault(fault)).toMatch(/^[^\0-\x1f]+$/);
      if (used.length > 0) tally.count("used");
      if (refused.length > 0) tally.count("refused");
      expect(keys.length).toBeLessThanOrEqual(JWKS_KEYS_MAX);
      expect(used.length + refused.length).toBe(keys.length);
      expectAllowed(keys, intake.value);
      expect(new Set(refused.map(({ index }) => index)).size).toBe(refused.length);
      const kids = used.map(({ kid }) => kid).filter((kid) => kid !== undefined);
      expect(new Set(kids).size).toBe(kids.length);
    },
  );

  fuzz(
    "of a real key with its bytes changed: never another point off the curve, and nothing that was not signed passes",
    { short: 600, long: 60_000 },
    ["used, the same key", "used, another key", "refused"],
    fc.tuple(
      fc.oneof(fc.constantFrom(...SIGNERS), fc.constantFrom(...SMALL_X), fc.constant(ED25519)),
      fc.array(bytesEdit, { minLength: 1, maxLength: 2 }),
    ),
    ([signer, edits], tally) => {
      const intake = takeInJwks({ keys: [edits.reduce(editBytes, { ...signer.jwk })] });
      const key = intake.ok ? intake.value.used[0] : undefined;
      tally.count(key === undefined ? "refused" : isSameKey(key, signer) ? "used, the same key" : "used, another key");
      if (key === undefined) return;
      expectUsable(key);
      expectNothingForged(key, signer);
    },
  );

  fuzz(
    "of a real key published wrongly: where it is taken in, it is for its own algorithm and verifies what its owner signed",
    { short: 300, long: 60_000 },
    ["used", "refused"],
    keyPlan,
    (plan, tally) => {
      const signer = signerAt(plan.signer);
      const { keys } = jwksOf(plan);
      const intake = takeInJwks({ keys });
      if (!intake.ok) throw new Error(intake.fault.code);
      const { used } = intake.value;
      tally.count(used.length > 0 ? "used" : "refused");
      expectAllowed(keys, intake.value);
      for (const key of used) {
        expectUsable(key);
        if (isSameKey(key, signer)) expectNothingForged(key, signer);
      }
    },
  );
});
