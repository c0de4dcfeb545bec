import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { takeInJwks } from "./key-intake.ts";
import type { KeyFault, KeyIntake } from "./key-intake.ts";

/** Project Wycheproof's key sets, kept beside the repository and not in it. */
const FILE = fileURLToPath(new URL("../../../../../shared/vectors/json_web_key_test.json", import.meta.url));
const PRESENT = existsSync(FILE);

interface Vectors {
  readonly numberOfTests: number;
  readonly testGroups: readonly {
    readonly public?: unknown;
    readonly private: unknown;
    readonly tests: readonly { readonly tcId: number; readonly comment: string; readonly result: "valid" | "invalid" }[];
  }[];
}

/** Invalid because of the key, and the fault that intake must find: refused for another reason would be refused by luck. */
const REFUSED_KEYS: ReadonlyMap<number, KeyFault["code"]> = new Map([
  [4, "symmetric"],
  [6, "use_not_signature"],
  [7, "rsa_modulus_roca"],
  [8, "rsa_modulus_too_small"],
  [9, "rsa_exponent_too_small"],
  [10, "symmetric"],
  [11, "symmetric"],
  [12, "symmetric"],
  [16, "symmetric"],
  [17, "symmetric"],
  [18, "symmetric"],
  [19, "algorithm_unsupported"],
  [20, "algorithm_unsupported"],
  [21, "use_not_signature"],
  [22, "ec_point_off_curve"],
  [23, "algorithm_mismatch"],
  [24, "algorithm_mismatch"],
  [25, "symmetric"],
  [26, "symmetric"],
]);

/** Not decided by "every key of the set is refused for the fault above", with the reason. */
const ELSEWHERE: ReadonlyMap<number, string> = new Map([
  [1, "mixed set: the token names the oct key, which must not become usable; the EC key beside it is sound (own test below)"],
  [2, "valid, but HS256: a shared secret is never taken in"],
  [3, "the fault is a modified signature, which is for the JWS vectors; its HS256 keys are refused all the same"],
  [5, "valid: an RS256 key that must be used (own test below)"],
  [13, "valid, but HS256: a shared secret is never taken in"],
  [14, "valid, but HS384: a shared secret is never taken in"],
  [15, "valid, but HS512: a shared secret is never taken in"],
]);

const VECTORS: Vectors = PRESENT ? JSON.parse(readFileSync(FILE, "utf8")) : { numberOfTests: 0, testGroups: [] };
const CASES = VECTORS.testGroups.flatMap((group) => group.tests.map((vector) => ({ ...vector, jwks: group.public ?? group.private })));

function intakeOf(tcId: number): KeyIntake {
  const taken = takeInJwks(CASES.find((vector) => vector.tcId === tcId)?.jwks);
  if (!taken.ok) throw new Error(taken.fault.code);
  return taken.value;
}

describe.skipIf(!PRESENT)(`Wycheproof json_web_key${PRESENT ? "" : ` (skipped: ${FILE} is not there)`}`, () => {
  test("every vector is accounted for, once", () => {
    expect(CASES).toHaveLength(VECTORS.numberOfTests);
    expect([...REFUSED_KEYS.keys(), ...ELSEWHERE.keys()].toSorted((a, b) => a - b)).toEqual(CASES.map(({ tcId }) => tcId));
  });

  test("what is listed as refused is what Wycheproof calls invalid, and what it calls valid is listed elsewhere", () => {
    const invalid = CASES.filter(({ tcId, result }) => result === "invalid" && !ELSEWHERE.has(tcId)).map(({ tcId }) => tcId);
    expect(invalid).toEqual([...REFUSED_KEYS.keys()]);
  });

  test.each([...REFUSED_KEYS])("tcId %i: no key is used, for %s", (tcId, code) => {
    const { used, refused } = intakeOf(tcId);
    expect(used).toEqual([]);
    expect(new Set(refused.map(({ fault }) => fault.code))).toEqual(new Set([code]));
  });

  test("tcId 1: the oct key of a mixed set does not become usable, the EC key is", () => {
    const { used, refused } = intakeOf(1);
    expect(used).toMatchObject([{ kid: "kid-ec-sign", algorithm: "ES256", jwk: { kty: "EC", crv: "P-256" } }]);
    expect(refused).toEqual([{ index: 0, kid: "kid-aes-sign", fault: { code: "symmetric" } }]);
  });

  test("tcId 5: a sound RSA key is used", () => {
    const { used, refused } = intakeOf(5);
    expect(used).toMatchObject([{ kid: "kid-rsa-sign", algorithm: "RS256", jwk: { kty: "RSA", e: "AQAB" } }]);
    expect(refused).toEqual([]);
  });

  test.each([2, 3, 13, 14, 15])("tcId %i: an HMAC key is not used, sound or not", (tcId) => {
    const { used, refused } = intakeOf(tcId);
    expect(used).toEqual([]);
    expect(new Set(refused.map(({ fault }) => fault.code))).toEqual(new Set(["symmetric"]));
  });
});
