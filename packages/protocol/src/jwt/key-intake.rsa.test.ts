import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { JWKS_KEYS_MAX } from "../constants.ts";
import { takeInJwks } from "./key-intake.ts";
import { freshKeyPair } from "../testing/key-pair.ts";
import { leastCpuMs } from "../testing/least-cpu-ms.ts";
import type { KeyFault } from "./key-intake.ts";

const { n: REAL_N = "" } = freshKeyPair("rsa", { modulusLength: 2048 }).publicKey.export({ format: "jwk" });
const REAL_N_BYTES = Buffer.from(REAL_N, "base64url");

const PRIMES = primesBelow(752);

function primesBelow(limit: number): bigint[] {
  const primes: bigint[] = [];
  for (let candidate = 2n; candidate < limit; candidate += 1n) {
    if (primes.every((prime) => candidate % prime !== 0n)) primes.push(candidate);
  }
  return primes;
}

function base64url(value: bigint): string {
  const digits = value.toString(16);
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, "hex").toString("base64url");
}

function hasSmallFactor(value: bigint): boolean {
  return PRIMES.some((prime) => value % prime === 0n);
}

/** No product of two primes, but intake cannot tell: of exactly this length, odd, without a small factor. Making real ones takes minutes. */
function modulusOf(bits: number): bigint {
  const random = BigInt(`0x${randomBytes(Math.ceil(bits / 8)).toString("hex")}`);
  let modulus = (random & (2n ** BigInt(bits - 1) - 1n)) | (2n ** BigInt(bits - 1)) | 1n;
  while (hasSmallFactor(modulus)) modulus -= 2n;
  return modulus;
}

function powerModulo(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (let index = 0n; index < exponent; index += 1n) result = (result * base) % modulus;
  return result;
}

function faultOfMembers(members: object): KeyFault | undefined {
  const taken = takeInJwks({ keys: [{ kty: "RSA", ...members }] });
  if (!taken.ok) throw new Error(taken.fault.code);
  expect(taken.value.used.length + taken.value.refused.length).toBe(1);
  return taken.value.refused[0]?.fault;
}

function faultOf(n: bigint | string, e: bigint | string = 65537n): KeyFault | undefined {
  return faultOfMembers({ n: typeof n === "string" ? n : base64url(n), e: typeof e === "string" ? e : base64url(e) });
}

function normalised(n: string, e: string): unknown {
  const taken = takeInJwks({ keys: [{ kty: "RSA", n, e }] });
  return taken.ok ? taken.value.used[0]?.jwk : taken.fault;
}

describe("an RSA key is taken in", () => {
  test("from 2048 to 8192 bits, and not a bit less or more", () => {
    expect(faultOf(modulusOf(2047))).toEqual({ code: "rsa_modulus_too_small", bits: 2047 });
    expect(faultOf(modulusOf(2048))).toBeUndefined();
    expect(faultOf(modulusOf(3072))).toBeUndefined();
    expect(faultOf(modulusOf(8192))).toBeUndefined();
    expect(faultOf(modulusOf(8193))).toEqual({ code: "rsa_modulus_too_large", bits: 8193 });
  });

  test("with an odd exponent of 65537 to 64 bits", () => {
    for (const e of [65537n, 65539n, 2n ** 32n + 1n, 2n ** 64n - 1n]) expect(faultOf(REAL_N, e)).toBeUndefined();
  });

  test("with one leading zero byte in n or e, as some libraries write them, and the zero is dropped", () => {
    const signed = Buffer.concat([Buffer.of(0), REAL_N_BYTES]).toString("base64url");
    expect(normalised(signed, "AAEAAQ")).toEqual({ kty: "RSA", n: REAL_N, e: "AQAB" });
  });

  test(`${JWKS_KEYS_MAX} at a time within 100 ms, of 2048 bits and of the longest there are`, () => {
    for (const bits of [2048, 8192]) {
      const n = base64url(modulusOf(bits));
      const keys = Array.from({ length: JWKS_KEYS_MAX }, (_, index) => ({ kty: "RSA", n, e: "AQAB", kid: `k${index}` }));
      const taken = takeInJwks({ keys });
      expect(taken.ok && taken.value.used.length).toBe(JWKS_KEYS_MAX);
      expect(leastCpuMs(() => takeInJwks({ keys }), 100)).toBeLessThan(100);
    }
  });
});

describe("an RSA key is refused", () => {
  test("of 1024 bits, a real one", () => {
    const { n = "" } = freshKeyPair("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
    expect(faultOf(n)).toEqual({ code: "rsa_modulus_too_small", bits: 1024 });
  });

  test("of 16,384 bits, which would cost every node its processor", () => {
    expect(faultOf(2n ** 16_383n + 1n)).toEqual({ code: "rsa_modulus_too_large", bits: 16_384 });
  });

  test("with an even modulus", () => {
    expect(faultOf(modulusOf(2048) - 1n)).toEqual({ code: "rsa_modulus_even" });
  });

  test("with a factor below 752", () => {
    for (const factor of [3n, 167n, 751n]) {
      let cofactor = modulusOf(2048);
      while (hasSmallFactor(cofactor)) cofactor += 2n;
      expect(faultOf(cofactor * factor)).toEqual({ code: "rsa_modulus_small_factor", factor: Number(factor) });
    }
  });

  test("with an exponent of 1 or 3, or any below 65537", () => {
    for (const e of [1n, 3n, 17n, 65535n]) expect(faultOf(REAL_N, e)).toEqual({ code: "rsa_exponent_too_small" });
  });

  test("with an even exponent", () => {
    for (const e of [2n, 65536n, 65538n]) expect(faultOf(REAL_N, e)).toEqual({ code: "rsa_exponent_even" });
  });

  test("with an exponent over 64 bits, which would make each verification as dear as a signature", () => {
    expect(faultOf(REAL_N, 2n ** 64n + 1n)).toEqual({ code: "rsa_exponent_too_large", bits: 65 });
    expect(faultOf(REAL_N, modulusOf(2048))).toEqual({ code: "rsa_exponent_too_large", bits: 2048 });
  });

  test("with n or e missing, no string, or not canonical base64url", () => {
    expect(faultOfMembers({ e: "AQAB" })).toEqual({ code: "member_missing", member: "n" });
    expect(faultOfMembers({ n: REAL_N })).toEqual({ code: "member_missing", member: "e" });
    expect(faultOfMembers({ n: REAL_N, e: 65537 })).toEqual({ code: "member_not_a_string", member: "e" });
    expect(faultOf(`${REAL_N}==`)).toEqual({ code: "member_not_base64url", member: "n" });
    expect(faultOf(REAL_N_BYTES.toString("base64").replaceAll("=", "") + "+A")).toEqual({ code: "member_not_base64url", member: "n" });
    expect(faultOf(REAL_N, "AQAB\n")).toEqual({ code: "member_not_base64url", member: "e" });
  });

  test("with an empty or zero number, or several leading zero bytes", () => {
    const zeros = Buffer.concat([Buffer.of(0, 0), REAL_N_BYTES]).toString("base64url");
    for (const n of ["", "AA", "AAA", zeros]) expect(faultOf(n)).toEqual({ code: "rsa_integer_malformed", member: "n" });
    for (const e of ["", "AA", "AAABAAE"]) expect(faultOf(REAL_N, e)).toEqual({ code: "rsa_integer_malformed", member: "e" });
  });
});

describe("ROCA (CVE-2017-15361)", () => {
  /** RSALib's form for 2048-bit keys: primes, hence moduli, that are powers of 65537 modulo the product of the first 126 primes. */
  const product = PRIMES.filter((prime) => prime <= 701n).reduce((left, right) => left * right, 1n);

  function rocaModulus(): bigint {
    let modulus = (modulusOf(2048) / product) * product + powerModulo(65537n, 1234n, product);
    while (hasSmallFactor(modulus)) modulus += product;
    return modulus;
  }

  test("a modulus of that form is refused", () => {
    expect(faultOf(rocaModulus())).toEqual({ code: "rsa_modulus_roca" });
  });

  test("a modulus that leaves the form at a single one of the primes is not", () => {
    // 65537 ≡ 10 (mod 11), so its powers are 1 and 10 there; any other residue cannot come from RSALib.
    let modulus = rocaModulus();
    do modulus += product / 11n;
    while (hasSmallFactor(modulus) || modulus % 11n === 1n || modulus % 11n === 10n);
    expect(faultOf(modulus)).toBeUndefined();
  });

  test("honest moduli are not mistaken for it", () => {
    for (let round = 0; round < 200; round += 1) expect(faultOf(modulusOf(2048))).toBeUndefined();
  });
});
