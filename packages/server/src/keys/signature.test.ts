import { Buffer } from "node:buffer";
import { constants, type KeyObject, sign } from "node:crypto";
import { type SubjectTokenAlgorithm, SUBJECT_TOKEN_ALGORITHMS, takeInJwks } from "@cambist/protocol";
import * as fc from "fast-check";
import { CompactSign, compactVerify, importJWK } from "jose";
import { describe, expect, test } from "vitest";
import { makeTestKey, signatureOf, signJwt, type TestKey } from "../testing/jwt.ts";
import { newKeyPair } from "./key-pair.ts";
import { signJws, verifierFor, type VerifyFunction, verifiersOf } from "./signature.ts";

const KEYS = Object.fromEntries(
  SUBJECT_TOKEN_ALGORITHMS.map((algorithm) => [algorithm, makeTestKey(algorithm, `key-${algorithm}`)]),
) as Record<SubjectTokenAlgorithm, TestKey>;
/** Through intake, as a partner's key goes. */
const VERIFY = Object.fromEntries(SUBJECT_TOKEN_ALGORITHMS.map((algorithm) => [algorithm, verifierOf(KEYS[algorithm])])) as Record<
  SubjectTokenAlgorithm,
  VerifyFunction
>;

function verifierOf(key: TestKey): VerifyFunction {
  const intake = takeInJwks({ keys: [key.publicJwk] });
  const taken = intake.ok ? intake.value.used[0] : undefined;
  if (taken === undefined) throw new Error(`the ${key.algorithm} key was not taken in`);
  return verifierFor(taken.algorithm, taken.jwk);
}

function split(token: string): { readonly input: string; readonly signature: Buffer } {
  const dot = token.lastIndexOf(".");
  return { input: token.slice(0, dot), signature: Buffer.from(token.slice(dot + 1), "base64url") };
}

const INPUT = "eyJhbGciOiJ4In0.eyJzdWIiOiJ1In0";
const half = (value: bigint, bytes: number) => Buffer.from(value.toString(16).padStart(bytes * 2, "0"), "hex");

describe.each(SUBJECT_TOKEN_ALGORITHMS)("%s", (algorithm) => {
  const key = KEYS[algorithm];
  const verify = VERIFY[algorithm];

  test("verifies what Node signed", () => {
    const { input, signature } = split(signJwt({ alg: algorithm }, { sub: "é" }, key));
    expect(verify(input, signature)).toBe(true);
  });

  test("verifies what jose signed", async () => {
    for (let i = 0; i < 5; i++) {
      const token = await new CompactSign(Buffer.from(`payload ${i}`)).setProtectedHeader({ alg: algorithm }).sign(key.privateKey);
      const { input, signature } = split(token);
      expect(verify(input, signature)).toBe(true);
    }
  });

  test("refuses any other text, any other signature, and any other key's", () => {
    const signature = signatureOf(INPUT, key);
    const byte = fc.integer({ min: 1, max: 255 });
    fc.assert(
      fc.property(fc.nat({ max: signature.length - 1 }), byte, fc.nat({ max: INPUT.length - 1 }), (at, flip, textAt) => {
        const changed = Buffer.from(signature);
        changed.writeUInt8(changed.readUInt8(at) ^ flip, at);
        expect(verify(INPUT, changed)).toBe(false);
        const letter = INPUT[textAt] === "A" ? "B" : "A";
        expect(verify(INPUT.slice(0, textAt) + letter + INPUT.slice(textAt + 1), signature)).toBe(false);
      }),
      { numRuns: 100 },
    );
    expect(verify(`${INPUT} `, signature)).toBe(false);
    expect(verify("", signature)).toBe(false);
    for (const other of SUBJECT_TOKEN_ALGORITHMS) if (other !== algorithm) expect(VERIFY[other](INPUT, signature)).toBe(false);
  });

  test("refuses every wrong length, and never throws", () => {
    const signature = signatureOf(INPUT, key);
    expect(verify(INPUT, signature)).toBe(true);
    for (let length = 0; length < signature.length; length++) expect(verify(INPUT, signature.subarray(0, length))).toBe(false);
    for (const more of [Buffer.of(0), Buffer.of(1), signature, Buffer.alloc(10_000)]) {
      expect(verify(INPUT, Buffer.concat([signature, more]))).toBe(false);
      expect(verify(INPUT, Buffer.concat([more, signature]))).toBe(false);
    }
  });

  test("refuses random bytes of the right length, zeros and ones", () => {
    const length = signatureOf(INPUT, key).length;
    for (const fill of [0x00, 0x01, 0xff]) expect(verify(INPUT, Buffer.alloc(length, fill))).toBe(false);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length }), (bytes) => {
        expect(verify(INPUT, bytes)).toBe(false);
      }),
      { numRuns: 50 },
    );
  });

  test("keeps its verdict whatever was verified before: no state is carried over", () => {
    const signature = signatureOf(INPUT, key);
    for (let i = 0; i < 3; i++) {
      expect(verify(INPUT, Buffer.alloc(3))).toBe(false);
      expect(verify(INPUT, signature)).toBe(true);
    }
  });
});

describe.each([
  ["ES256", 32, 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n],
  ["ES384", 48, BigInt(`0x${"f".repeat(48)}c7634d81f4372ddf581a0db248b0a77aecec196accc52973`)],
] as const)("%s, a raw r||s", (algorithm, bytes, n) => {
  const key = KEYS[algorithm];
  const verify = VERIFY[algorithm];

  test("refuses the DER of a good signature (RFC 7518 §3.4)", () => {
    const digest = algorithm === "ES256" ? "sha256" : "sha384";
    for (let i = 0; i < 10; i++) expect(verify(INPUT, sign(digest, Buffer.from(INPUT), key.privateKey))).toBe(false);
  });

  test("refuses r and s of 0, n, and the largest number, in every combination (CVE-2022-21449)", () => {
    const signature = signatureOf(INPUT, key);
    const [r, s] = [signature.subarray(0, bytes), signature.subarray(bytes)];
    const edges = [half(0n, bytes), half(n, bytes), Buffer.alloc(bytes, 0xff)];
    for (const edge of edges) {
      for (const other of [...edges, half(1n, bytes), half(n - 1n, bytes), r, s]) {
        expect(verify(INPUT, Buffer.concat([edge, other]))).toBe(false);
        expect(verify(INPUT, Buffer.concat([other, edge]))).toBe(false);
      }
    }
    expect(verify(INPUT, Buffer.concat([r, s]))).toBe(true);
  });

  test("verifies signatures of which r or s is a short number", () => {
    const short = new Set<"r" | "s">();
    for (let i = 0; short.size < 2 && i < 20_000; i++) {
      const signature = signatureOf(`${INPUT}${i}`, key);
      if (signature[0] === 0) short.add("r");
      else if (signature[bytes] === 0) short.add("s");
      else continue;
      expect(verify(`${INPUT}${i}`, signature)).toBe(true);
    }
    expect(short.size).toBe(2);
  });

  test("refuses r and s swapped, and a half that is one byte off", () => {
    const signature = signatureOf(INPUT, key);
    const [r, s] = [signature.subarray(0, bytes), signature.subarray(bytes)];
    expect(verify(INPUT, Buffer.concat([s, r]))).toBe(false);
    expect(signature).toHaveLength(bytes * 2);
    expect(verify(INPUT, signature.subarray(1))).toBe(false);
    const zero = Buffer.of(0);
    for (const padded of [
      [zero, r, zero, s],
      [zero, r, s],
      [r, zero, s],
    ])
      expect(verify(INPUT, Buffer.concat(padded))).toBe(false);
  });

  test("takes the second spelling -s of a signature: a replay store must not key on it", () => {
    const signature = signatureOf(INPUT, key);
    const s = BigInt(`0x${signature.subarray(bytes).toString("hex")}`);
    expect(verify(INPUT, Buffer.concat([signature.subarray(0, bytes), half(n - s, bytes)]))).toBe(true);
  });
});

describe("RSA", () => {
  const pss = (privateKey: KeyObject, saltLength: number, hash = "sha256") =>
    sign(hash, Buffer.from(INPUT), { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength });

  test("PS256 wants a salt of 32 bytes (RFC 7518 §3.5)", () => {
    expect(VERIFY.PS256(INPUT, pss(KEYS.PS256.privateKey, 32))).toBe(true);
    for (const saltLength of [0, 1, 20, 31, 33, 64, 222]) expect(VERIFY.PS256(INPUT, pss(KEYS.PS256.privateKey, saltLength))).toBe(false);
  });

  test("PS256 and RS256 are not each other, nor another digest, with one and the same key", () => {
    const { privateKey, publicJwk } = KEYS.RS256;
    const asPs256 = verifierFor("PS256", publicJwk);
    expect(asPs256(INPUT, pss(privateKey, 32))).toBe(true);
    expect(asPs256(INPUT, sign("sha256", Buffer.from(INPUT), privateKey))).toBe(false);
    expect(VERIFY.RS256(INPUT, pss(privateKey, 32))).toBe(false);
    for (const hash of ["sha1", "sha384", "sha512"]) {
      expect(VERIFY.RS256(INPUT, sign(hash, Buffer.from(INPUT), privateKey))).toBe(false);
      expect(asPs256(INPUT, pss(privateKey, 32, hash))).toBe(false);
    }
  });

  test("a signature by a shorter or longer modulus is refused", () => {
    for (const modulusLength of [1024, 3072]) {
      const { privateKey } = newKeyPair("RS256", modulusLength);
      expect(VERIFY.RS256(INPUT, sign("sha256", Buffer.from(INPUT), privateKey))).toBe(false);
    }
  });

  test("a signature plus the modulus, the same number modulo n, is refused", () => {
    const signature = signatureOf(INPUT, KEYS.RS256);
    const n = BigInt(`0x${Buffer.from(KEYS.RS256.publicJwk["n"] as string, "base64url").toString("hex")}`);
    const sum = (BigInt(`0x${signature.toString("hex")}`) + n).toString(16);
    expect(VERIFY.RS256(INPUT, Buffer.from(sum.padStart(sum.length + (sum.length % 2), "0"), "hex"))).toBe(false);
  });
});

describe("the keys of a partner", () => {
  test("are verifiers of what intake took in", () => {
    const keys = verifiersOf({ keys: [KEYS.ES256.publicJwk, { kty: "oct", k: "AAAA" }, KEYS.EdDSA.publicJwk] });
    expect(keys.map(({ kid, algorithm }) => [kid, algorithm])).toEqual([
      ["key-ES256", "ES256"],
      ["key-EdDSA", "EdDSA"],
    ]);
    expect(keys[0]?.verify(INPUT, signatureOf(INPUT, KEYS.ES256))).toBe(true);
    expect(keys[1]?.verify(INPUT, signatureOf(INPUT, KEYS.ES256))).toBe(false);
  });

  test("are none where the set is no set", () => {
    for (const jwks of [undefined, null, "x", {}, { keys: {} }, { keys: [] }]) expect(verifiersOf(jwks)).toEqual([]);
  });
});

describe("signJws", () => {
  const header = Buffer.from('{"kid":"k"}').toString("base64url");
  const inputOf = (i: number) => `${header}.${Buffer.from(`{"i":${i}}`).toString("base64url")}`;

  test.each(["ES256", "RS256"] as const)("%s: what it signs is verified by jose and by us", async (algorithm) => {
    const { privateKey, publicJwk } = KEYS[algorithm];
    const publicKey = await importJWK(publicJwk, algorithm);
    const jwsHeader = Buffer.from(JSON.stringify({ alg: algorithm })).toString("base64url");
    for (let i = 0; i < 10; i++) {
      const input = `${jwsHeader}.${Buffer.from(`{"i":${i}}`).toString("base64url")}`;
      const signature = signJws(algorithm, privateKey, input);
      await expect(compactVerify(`${input}.${signature}`, publicKey, { algorithms: [algorithm] })).resolves.toBeDefined();
      expect(VERIFY[algorithm](input, Buffer.from(signature, "base64url"))).toBe(true);
    }
  });

  test("ES256: 64 bytes always, with zeros in front of a short r or s", () => {
    const { privateKey } = KEYS.ES256;
    const short = new Set<"r" | "s">();
    for (let i = 0; short.size < 2 && i < 20_000; i++) {
      const signature = Buffer.from(signJws("ES256", privateKey, inputOf(i)), "base64url");
      expect(signature).toHaveLength(64);
      expect(VERIFY.ES256(inputOf(i), signature)).toBe(true);
      if (signature.readUInt16BE(0) < 0x80) short.add("r"); // in DER shorter than 32 bytes, sign bit included
      if (signature.readUInt16BE(32) < 0x80) short.add("s");
    }
    expect(short.size).toBe(2);
  });
});
