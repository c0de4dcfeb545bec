import { Buffer } from "node:buffer";
import { createHash, generatePrimeSync } from "node:crypto";
import type { Signer } from "./partners.ts";

/** Keys that no generator makes, with what it takes to sign by them. Arithmetic by hand: a crypto library would refuse to make them. */

interface RsaShape {
  readonly primes: readonly bigint[];
  readonly e: bigint;
}

/** RS256 by an RSA key of any number of primes (RFC 8017 §3.2, §5.2.1). With e = 1 nothing secret is needed, nor is it used. */
export function rsaSigner(kid: string, { primes, e }: RsaShape): Signer {
  const n = primes.reduce((product, prime) => product * prime, 1n);
  const exponents = primes.map((prime) => inverse(e % (prime - 1n), prime - 1n));
  const bytes = Math.ceil(n.toString(16).length / 2);
  return {
    kid,
    algorithm: "RS256",
    jwk: { kty: "RSA", kid, alg: "RS256", n: bigEndian(n).toString("base64url"), e: bigEndian(e).toString("base64url") },
    sign: (signingInput) => {
      const message = BigInt(`0x${pkcs1Encoding(signingInput, bytes).toString("hex")}`);
      // The Chinese remainder theorem, one prime after the other (Garner).
      let [value, modulus] = [0n, 1n];
      for (const [i, prime] of primes.entries()) {
        const residue = power(message % prime, exponents[i] ?? 0n, prime);
        const step = ((residue - value) * inverse(modulus % prime, prime)) % prime;
        value += modulus * (step < 0n ? step + prime : step);
        modulus *= prime;
      }
      return bigEndian(value, bytes);
    },
  };
}

/** EMSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §9.2). */
export function pkcs1Encoding(signingInput: string, bytes: number): Buffer {
  const digest = createHash("sha256").update(signingInput, "latin1").digest();
  const info = Buffer.concat([Buffer.from("003031300d060960864801650304020105000420", "hex"), digest]);
  return Buffer.concat([Buffer.from([0, 1]), Buffer.alloc(bytes - info.length - 2, 0xff), info]);
}

/** Primes of 256 bits, so that a modulus of any length is made at once; with p − 1 prime to 65537 and to 2^64 + 13. */
export function smallPrimes(count: number): bigint[] {
  const primes: bigint[] = [];
  while (primes.length < count) {
    const prime = generatePrimeSync(256, { bigint: true });
    if ([65_537n, LONG_EXPONENT].every((e) => gcd(e, prime - 1n) === 1n) && !primes.includes(prime)) primes.push(prime);
  }
  return primes;
}

/** A prime of 65 bits. */
export const LONG_EXPONENT = 2n ** 64n + 13n;

/** The primes below 168 for which 65537 does not generate the whole group (the published test for ROCA, CVE-2017-15361). */
const ROCA_PRIMES = [11n, 13n, 17n, 19n, 37n, 53n, 61n, 71n, 73n, 79n, 97n, 103n, 107n, 109n, 127n, 151n, 157n];

/** A last prime that makes the modulus 1, which is 65537^0, modulo each of them: what the test looks for, with primes that are good. */
export function rocaPrimes(primes: readonly bigint[]): bigint[] {
  const among = ROCA_PRIMES.reduce((product, prime) => product * prime, 2n);
  const modulus = primes.reduce((product, prime) => product * prime, 1n);
  for (;;) {
    const prime = generatePrimeSync(512, { bigint: true, add: among, rem: inverse(modulus % among, among) });
    if (gcd(65_537n, prime - 1n) === 1n) return [...primes, prime];
  }
}

/** The neutral element of Ed25519, y = 1, and the same as y = p + 1, which is 2^255 − 18. */
export const NEUTRAL = Buffer.from(`01${"00".repeat(31)}`, "hex");
export const NEUTRAL_NOT_CANONICAL = Buffer.from(`ee${"ff".repeat(30)}7f`, "hex");

/** By a key of small order: R = the neutral element and S = 0 fit most messages or all, and nobody's secret is needed (RFC 8032 §5.1.7). */
export function smallOrderSigner(kid: string, encoded: Buffer): Signer {
  const signature = Buffer.alloc(64);
  signature[0] = 1;
  return {
    kid,
    algorithm: "EdDSA",
    jwk: { kty: "OKP", crv: "Ed25519", kid, alg: "EdDSA", x: encoded.toString("base64url") },
    sign: () => signature,
  };
}

function bigEndian(value: bigint, bytes = 0): Buffer {
  const hex = value.toString(16);
  return Buffer.from(hex.padStart(Math.max(bytes * 2, hex.length + (hex.length % 2)), "0"), "hex");
}

export function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let [result, square] = [1n, base % modulus];
  for (let left = exponent; left > 0n; left >>= 1n) {
    if ((left & 1n) === 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b);
}

/** By Euclid. */
function inverse(value: bigint, modulus: bigint): bigint {
  let [r0, r1, t0, t1] = [modulus, value, 0n, 1n];
  while (r1 > 0n) [r0, r1, t0, t1] = [r1, r0 % r1, t1, t0 - (r0 / r1) * t1];
  return t0 < 0n ? t0 + modulus : t0;
}
