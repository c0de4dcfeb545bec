import { describe, expect, test } from "vitest";
import { describeKeyFault } from "./key-intake.ts";
import type { KeyFault } from "./key-intake.ts";

/** One of each; a new fault does not compile until it stands here. */
const SAMPLES: { readonly [Code in KeyFault["code"]]: Extract<KeyFault, { code: Code }> } = {
  not_an_object: { code: "not_an_object" },
  member_missing: { code: "member_missing", member: "kty" },
  member_not_a_string: { code: "member_not_a_string", member: "alg" },
  member_not_base64url: { code: "member_not_base64url", member: "n" },
  symmetric: { code: "symmetric" },
  private_members: { code: "private_members", members: ["d", "p"] },
  kty_unsupported: { code: "kty_unsupported", kty: "AKP" },
  curve_unsupported: { code: "curve_unsupported", kty: "EC", curve: "P-521" },
  use_not_signature: { code: "use_not_signature" },
  key_ops_not_verify: { code: "key_ops_not_verify" },
  algorithm_unsupported: { code: "algorithm_unsupported", algorithm: "RS512" },
  algorithm_mismatch: { code: "algorithm_mismatch", algorithm: "ES256", keyType: "RSA", fitting: ["RS256", "PS256"] },
  kid_malformed: { code: "kid_malformed" },
  kid_duplicated: { code: "kid_duplicated" },
  rsa_integer_malformed: { code: "rsa_integer_malformed", member: "e" },
  rsa_modulus_too_small: { code: "rsa_modulus_too_small", bits: 1024 },
  rsa_modulus_too_large: { code: "rsa_modulus_too_large", bits: 16_384 },
  rsa_modulus_even: { code: "rsa_modulus_even" },
  rsa_modulus_small_factor: { code: "rsa_modulus_small_factor", factor: 751 },
  rsa_modulus_roca: { code: "rsa_modulus_roca" },
  rsa_exponent_too_small: { code: "rsa_exponent_too_small" },
  rsa_exponent_too_large: { code: "rsa_exponent_too_large", bits: 65 },
  rsa_exponent_even: { code: "rsa_exponent_even" },
  ec_coordinate_length: { code: "ec_coordinate_length", member: "x", bytes: 31, bytesExpected: 32 },
  ec_coordinate_too_large: { code: "ec_coordinate_too_large", member: "y" },
  ec_point_off_curve: { code: "ec_point_off_curve", crv: "P-384" },
  ed25519_length: { code: "ed25519_length", bytes: 31 },
  ed25519_not_canonical: { code: "ed25519_not_canonical" },
  ed25519_not_a_point: { code: "ed25519_not_a_point" },
  ed25519_small_order: { code: "ed25519_small_order" },
};

describe("every fault of a key has a sentence", () => {
  test.each(Object.values(SAMPLES))("$code: one that says what to do and names the values at fault", (fault) => {
    const sentence = describeKeyFault(fault);
    expect(sentence).toMatch(/^[\x20-\x7e]{20,240}\.$/);
    // What was found, and, after it, what to do about it.
    expect(sentence).toMatch(/[;:,] |must be /);
    for (const value of Object.values(fault)
      .filter((part) => part !== fault.code)
      .flat())
      expect(sentence).toContain(String(value));
  });

  test("of its own", () => {
    expect(new Set(Object.values(SAMPLES).map(describeKeyFault)).size).toBe(Object.keys(SAMPLES).length);
  });
});
