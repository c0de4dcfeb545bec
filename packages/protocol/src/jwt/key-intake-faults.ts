import { JWKS_KEYS_MAX, KID_CHARACTERS_MAX, SUBJECT_TOKEN_ALGORITHMS } from "../constants.ts";
import type { SubjectTokenAlgorithm } from "../constants.ts";
import { describeEcKeyFault } from "./ec-key.ts";
import type { EcKeyFault } from "./ec-key.ts";
import { describeEd25519KeyFault } from "./ed25519-key.ts";
import type { Ed25519KeyFault } from "./ed25519-key.ts";
import { describeRsaKeyFault } from "./rsa-key.ts";
import type { RsaKeyFault } from "./rsa-key.ts";

/** Strings in a fault are clipped and printable: they may be logged and stored as they are. */
export type KeyFault =
  | { readonly code: "not_an_object" }
  | { readonly code: "member_missing"; readonly member: string }
  | { readonly code: "member_not_a_string"; readonly member: string }
  | { readonly code: "member_not_base64url"; readonly member: string }
  | { readonly code: "symmetric" }
  | { readonly code: "private_members"; readonly members: readonly string[] }
  | { readonly code: "kty_unsupported"; readonly kty: string }
  | { readonly code: "curve_unsupported"; readonly kty: "EC" | "OKP"; readonly curve: string }
  | { readonly code: "use_not_signature" }
  | { readonly code: "key_ops_not_verify" }
  | { readonly code: "algorithm_unsupported"; readonly algorithm: string }
  | {
      readonly code: "algorithm_mismatch";
      readonly algorithm: SubjectTokenAlgorithm;
      readonly keyType: string;
      readonly fitting: readonly SubjectTokenAlgorithm[];
    }
  | { readonly code: "kid_malformed" }
  | { readonly code: "kid_duplicated" }
  | RsaKeyFault
  | EcKeyFault
  | Ed25519KeyFault;

export type JwksFault = { readonly code: "not_a_jwks" } | { readonly code: "too_many_keys"; readonly count: number };

/** One sentence that the partner's developer can act on. Holds no key material. */
export function describeKeyFault(fault: KeyFault): string {
  switch (fault.code) {
    case "not_an_object":
      return `An entry of "keys" is not a JSON object; publish each key as a JWK (RFC 7517 section 4).`;
    case "member_missing":
      return `The key has no "${fault.member}"; add it (RFC 7518 section 6).`;
    case "member_not_a_string":
      return `"${fault.member}" is not a string; write it as one (RFC 7518 section 6).`;
    case "member_not_base64url":
      return `"${fault.member}" is not base64url; use A-Z, a-z, 0-9, "-" and "_" without "=", spaces or line breaks (RFC 7515 section 2).`;
    case "symmetric":
      return `This is a symmetric key ("oct"): remove it from the set, replace that secret wherever it is used, and publish an RSA, EC or Ed25519 public key.`;
    case "private_members":
      return `The key shows its private part (${fault.members.join(", ")}), so whoever read it can sign as you: make a new key pair and publish only the public part.`;
    case "kty_unsupported":
      return `The key type "${fault.kty}" is not supported; use RSA, EC (P-256 or P-384) or OKP (Ed25519).`;
    case "curve_unsupported":
      return `The curve "${fault.curve}" is not supported for ${fault.kty}; use EC with P-256 or P-384, or OKP with Ed25519.`;
    case "use_not_signature":
      return `"use" is not "sig", so the key may not verify signatures; publish a signing key, with "use":"sig" or without "use".`;
    case "key_ops_not_verify":
      return `"key_ops" is not a list that holds "verify", so the key may not verify signatures; add "verify" or leave "key_ops" out.`;
    case "algorithm_unsupported":
      return `The algorithm "${fault.algorithm}" is not supported; use ${SUBJECT_TOKEN_ALGORITHMS.join(", ")}.`;
    case "algorithm_mismatch":
      return `"alg" is ${fault.algorithm}, which is not for this key (${fault.keyType}); set "alg" to ${fault.fitting.join(" or ")}.`;
    case "kid_malformed":
      return `"kid" must be a string of 1 to ${KID_CHARACTERS_MAX} characters without control characters.`;
    case "kid_duplicated":
      return `Another key of the set has the same "kid", so a token cannot say which of them it means; give each key a "kid" of its own.`;
    case "rsa_integer_malformed":
    case "rsa_modulus_too_small":
    case "rsa_modulus_too_large":
    case "rsa_modulus_even":
    case "rsa_modulus_small_factor":
    case "rsa_modulus_roca":
    case "rsa_exponent_too_small":
    case "rsa_exponent_too_large":
    case "rsa_exponent_even":
      return describeRsaKeyFault(fault);
    case "ec_coordinate_length":
    case "ec_coordinate_too_large":
    case "ec_point_off_curve":
      return describeEcKeyFault(fault);
    case "ed25519_length":
    case "ed25519_not_canonical":
    case "ed25519_not_a_point":
    case "ed25519_small_order":
      return describeEd25519KeyFault(fault);
    default:
      return fault satisfies never;
  }
}

export function describeJwksFault(fault: JwksFault): string {
  switch (fault.code) {
    case "not_a_jwks":
      return `This is not a JWK set; publish a JSON object with an array "keys" (RFC 7517 section 5).`;
    case "too_many_keys":
      return `The set has ${fault.count} keys; publish at most ${JWKS_KEYS_MAX}, and remove those that you no longer sign with.`;
    default:
      return fault satisfies never;
  }
}
