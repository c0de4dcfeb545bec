import { RSA_MODULUS_BITS_MAX, RSA_MODULUS_BITS_MIN, RSA_PUBLIC_EXPONENT_MIN } from "../constants.ts";
import { fail, ok } from "../result.ts";
import type { Result } from "../result.ts";
import { encodeBase64url, unsignedFromBytes } from "./base64url.ts";

export interface RsaPublicJwk {
  readonly kty: "RSA";
  readonly n: string;
  readonly e: string;
}

export type RsaKeyFault =
  | { readonly code: "rsa_integer_malformed"; readonly member: "n" | "e" }
  | { readonly code: "rsa_modulus_too_small"; readonly bits: number }
  | { readonly code: "rsa_modulus_too_large"; readonly bits: number }
  | { readonly code: "rsa_modulus_even" }
  | { readonly code: "rsa_modulus_small_factor"; readonly factor: number }
  | { readonly code: "rsa_modulus_roca" }
  | { readonly code: "rsa_exponent_too_small" }
  | { readonly code: "rsa_exponent_too_large"; readonly bits: number }
  | { readonly code: "rsa_exponent_even" };

/**
 * FIPS 186-5 §5.4 allows e < 2^256; 64 bits is what OpenSSL verifies with for moduli over 3072 bits, so a key that passes here is one that
 * can be used at every size. It also keeps verification cheap: with an exponent as long as the modulus, every token of that partner would
 * cost us as much as a private-key operation.
 */
const EXPONENT_BITS_MAX = 64;

/** NIST SP 800-89 §5.3.3: partial validation of an RSA public key asks for no factor smaller than 752. */
const SMALL_PRIMES = oddPrimesBelow(752);
const SMALL_PRIMES_PRODUCT = SMALL_PRIMES.reduce((product, prime) => product * BigInt(prime), 1n);

/**
 * CVE-2017-15361 ("ROCA"): the primes of Infineon's RSALib have the form k·M + (65537^a mod M) with M a product of the first primes, so that
 * the modulus, too, is a power of 65537 modulo each of them. Every key size's M holds the primes up to 167, the set of the published test.
 * Primes for which 65537 generates the whole group say nothing and drop out; an honest modulus passes for one of these with a chance
 * of about 2^-28. Such a modulus can be factored for the price of a small cluster, and then anyone signs as the partner.
 */
const ROCA_PRIME_MAX = 167;
const ROCA_RESIDUES: ReadonlyMap<number, ReadonlySet<number>> = new Map(
  SMALL_PRIMES.filter((prime) => prime <= ROCA_PRIME_MAX)
    .map((prime) => [prime, powersOf65537(prime)] as const)
    .filter(([prime, powers]) => powers.size < prime - 1),
);

/**
 * `n` and `e` as the JWK holds them, decoded (RFC 7518 §6.3.1): big-endian, and by §2 without leading zero octets. ONE leading zero octet is
 * dropped instead of refused: RFC 7518 §6.3.1.1 itself warns of libraries that add one (a signed integer's sign octet), the number is the
 * same, and the normalised JWK does not show it. Two or more are no library's habit and are refused.
 *
 * Does NOT check that n is the product of two primes that are random, secret and far apart: it cannot be seen from outside.
 */
export function validateRsaPublicKey(n: Uint8Array, e: Uint8Array): Result<RsaPublicJwk, RsaKeyFault> {
  const modulus = withoutSignOctet(n);
  if (modulus === undefined) return fail({ code: "rsa_integer_malformed", member: "n" });
  const exponent = withoutSignOctet(e);
  if (exponent === undefined) return fail({ code: "rsa_integer_malformed", member: "e" });
  // Sizes first, on the bytes: the arithmetic below then has a bounded price.
  const fault = modulusSizeFault(modulus) ?? exponentFault(exponent) ?? modulusFault(unsignedFromBytes(modulus));
  if (fault !== undefined) return fail(fault);
  return ok({ kty: "RSA", n: encodeBase64url(modulus), e: encodeBase64url(exponent) });
}

/** Zero and the empty string are as little an RSA integer as one with two leading zero octets: `undefined`. */
function withoutSignOctet(bytes: Uint8Array): Uint8Array | undefined {
  const trimmed = bytes[0] === 0 ? bytes.subarray(1) : bytes;
  return trimmed.length === 0 || trimmed[0] === 0 ? undefined : trimmed;
}

function bitLength(bytes: Uint8Array): number {
  return bytes.length * 8 - (Math.clz32(bytes[0] ?? 0) - 24);
}

/** RFC 7518 §3.3: 2048 bits or more. The upper bound keeps one partner's keys from costing every node its processor (16,384 bits and more). */
function modulusSizeFault(modulus: Uint8Array): RsaKeyFault | undefined {
  const bits = bitLength(modulus);
  if (bits < RSA_MODULUS_BITS_MIN) return { code: "rsa_modulus_too_small", bits };
  if (bits > RSA_MODULUS_BITS_MAX) return { code: "rsa_modulus_too_large", bits };
  return undefined;
}

/**
 * FIPS 186-5 §5.4: odd and over 2^16. With e = 1 every message is its own signature; with e = 3 a sloppy padding check is forgeable
 * (Bleichenbacher 2006); an even e has no inverse.
 */
function exponentFault(exponent: Uint8Array): RsaKeyFault | undefined {
  const bits = bitLength(exponent);
  if (bits > EXPONENT_BITS_MAX) return { code: "rsa_exponent_too_large", bits };
  const value = unsignedFromBytes(exponent);
  if (value % 2n === 0n) return { code: "rsa_exponent_even" };
  if (value < RSA_PUBLIC_EXPONENT_MIN) return { code: "rsa_exponent_too_small" };
  return undefined;
}

function modulusFault(modulus: bigint): RsaKeyFault | undefined {
  if (modulus % 2n === 0n) return { code: "rsa_modulus_even" };
  // One long division instead of one per prime; the rest is arithmetic on a number of a thousand bits, whatever the modulus.
  const reduced = modulus % SMALL_PRIMES_PRODUCT;
  let fitsRoca = true;
  for (const prime of SMALL_PRIMES) {
    const residue = Number(reduced % BigInt(prime));
    if (residue === 0) return { code: "rsa_modulus_small_factor", factor: prime };
    if (ROCA_RESIDUES.get(prime)?.has(residue) === false) fitsRoca = false;
  }
  return fitsRoca ? { code: "rsa_modulus_roca" } : undefined;
}

export function describeRsaKeyFault(fault: RsaKeyFault): string {
  switch (fault.code) {
    case "rsa_integer_malformed":
      return `"${fault.member}" is empty, zero or starts with several zero bytes; write the big-endian number in as few bytes as it needs (RFC 7518 section 6.3.1).`;
    case "rsa_modulus_too_small":
      return `The RSA modulus has ${fault.bits} bits; make a key of at least ${RSA_MODULUS_BITS_MIN} bits.`;
    case "rsa_modulus_too_large":
      return `The RSA modulus has ${fault.bits} bits; make a key of at most ${RSA_MODULUS_BITS_MAX} bits.`;
    case "rsa_modulus_even":
      return `The RSA modulus is even, which no RSA key's is; check how "n" was exported.`;
    case "rsa_modulus_small_factor":
      return `The RSA modulus is divisible by ${fault.factor}, so it is no RSA key; check how "n" was exported.`;
    case "rsa_modulus_roca":
      return "The RSA key comes from a generator whose keys can be factored (ROCA, CVE-2017-15361); make a new key with other hardware or software.";
    case "rsa_exponent_too_small":
      return `The RSA public exponent is below ${RSA_PUBLIC_EXPONENT_MIN}; make a key with "e" 65537 ("AQAB").`;
    case "rsa_exponent_too_large":
      return `The RSA public exponent has ${fault.bits} bits; make a key with "e" 65537 ("AQAB"), at most ${EXPONENT_BITS_MAX} bits are taken.`;
    case "rsa_exponent_even":
      return `The RSA public exponent is even; make a key with "e" 65537 ("AQAB").`;
    default:
      return fault satisfies never;
  }
}

function oddPrimesBelow(limit: number): readonly number[] {
  const primes: number[] = [];
  for (let candidate = 3; candidate < limit; candidate += 2) {
    if (primes.every((prime) => candidate % prime !== 0)) primes.push(candidate);
  }
  return primes;
}

function powersOf65537(prime: number): ReadonlySet<number> {
  const powers = new Set<number>();
  for (let power = 1; !powers.has(power); power = (power * (65_537 % prime)) % prime) powers.add(power);
  return powers;
}
