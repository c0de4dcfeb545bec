import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { SIGNERS } from "../second-opinion/partners.ts";
import { power } from "../second-opinion/weak-keys.ts";

/** Sets of keys for the intake: real keys with their bytes changed, and anything that JSON can hold. */

export interface BytesEdit {
  readonly how: "bit" | "byte" | "zero first" | "drop first" | "drop last" | "swap" | "negate" | "add p" | "edge" | "even" | "random";
  readonly member: number;
  readonly at: number;
  readonly value: number;
  readonly random: Uint8Array;
}
export const bytesEdit: fc.Arbitrary<BytesEdit> = fc.record({
  how: fc.constantFrom(
    ...([
      "bit",
      "bit",
      "byte",
      "zero first",
      "drop first",
      "drop last",
      "swap",
      "negate",
      "add p",
      "edge",
      "edge",
      "even",
      "random",
    ] as const),
  ),
  member: fc.nat({ max: 1 }),
  at: fc.nat({ max: 4095 }),
  value: fc.nat({ max: 255 }),
  random: fc.uint8Array({ minLength: 32, maxLength: 48 }),
});

const PRIMES: Readonly<Record<string, bigint>> = {
  "P-256": 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
  "P-384": 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
  Ed25519: 2n ** 255n - 19n,
};

/** Whose key is changed. Of a key made by hand nobody knows the secret. */
export interface Owner {
  readonly algorithm: string;
  readonly jwk: Readonly<Record<string, unknown>>;
}

const P256_B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;

/** Points of P-256 with so small an x that x + p has 32 bytes as well: a second spelling, which only the comparison with p keeps out. */
export const SMALL_X: readonly Owner[] = [3n, 5n, 6n, 8n, 9n, 10n, 11n].flatMap((x) => {
  const p = PRIMES["P-256"] ?? 0n;
  const square = (x ** 3n - 3n * x + P256_B) % p;
  const y = power(square, (p + 1n) / 4n, p);
  const coordinate = (value: bigint) => Buffer.from(value.toString(16).padStart(64, "0"), "hex").toString("base64url");
  return (y * y) % p === square ? [{ algorithm: "ES256", jwk: { kty: "EC", crv: "P-256", x: coordinate(x), y: coordinate(y) } }] : [];
});

const ED25519 = 2n ** 255n - 19n;
/** y of the Ed25519 points whose order divides 8, and numbers that stand for one of them (RFC 8032 §5.1.3 takes none that is not below p). */
const ORDER_8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
const EDGES = [0n, 1n, ED25519 - 1n, ORDER_8, ED25519 - ORDER_8, ...[0n, 1n, 3n, 4n, 5n, 6n].map((y) => ED25519 + y), 2n ** 255n - 1n];

/** As x of Ed25519 is written: little-endian, the sign of x in the last bit. */
function edge(at: number, sign: number): Buffer {
  const number = (EDGES[at % EDGES.length] ?? 0n) + (sign % 2 === 0 ? 0n : 2n ** 255n);
  return Buffer.from(Buffer.from(number.toString(16).padStart(64, "0"), "hex").toReversed());
}

export function editBytes(jwk: Readonly<Record<string, unknown>>, { how, member, at, value, random }: BytesEdit): Record<string, unknown> {
  const names = jwk["kty"] === "RSA" ? ["n", "e"] : jwk["kty"] === "EC" ? ["x", "y"] : ["x", "x"];
  const name = names[member] ?? "";
  const bytes = Buffer.from(String(jwk[name]), "base64url");
  const place = at % Math.max(bytes.length, 1);
  const put = (changed: Uint8Array) => ({ ...jwk, [name]: Buffer.from(changed).toString("base64url") });
  const prime = PRIMES[String(jwk["crv"])] ?? 0n;
  const number = BigInt(`0x0${bytes.toString("hex")}`);
  const written = (changed: bigint) =>
    Buffer.from(
      changed
        .toString(16)
        .padStart(bytes.length * 2, "0")
        .slice(-bytes.length * 2),
      "hex",
    );
  switch (how) {
    case "bit":
      return put(bytes.map((byte, i) => (i === place ? byte ^ (1 << (value % 8)) : byte)));
    case "byte":
      return put(bytes.map((byte, i) => (i === place ? value : byte)));
    case "zero first":
      return put(Buffer.concat([Buffer.alloc(1 + (value % 2)), bytes]));
    case "drop first":
      return put(bytes.subarray(1));
    case "drop last":
      return put(bytes.subarray(0, -1));
    case "swap":
      return { ...jwk, [names[0] ?? ""]: jwk[names[1] ?? ""], [names[1] ?? ""]: jwk[names[0] ?? ""] };
    case "negate":
      return put(prime === 0n ? bytes : written((prime - number + prime) % prime));
    case "add p":
      return put(written(number + prime));
    case "edge":
      return put(edge(at, value));
    case "even":
      return put(bytes.map((byte, i) => (i === bytes.length - 1 ? byte & 0xfe : byte)));
    case "random":
      return put(random);
  }
}

/** Anything that JSON can hold, with the names and values of keys in it. */
const strange = fc.oneof(
  fc.constantFrom("RSA", "EC", "OKP", "oct", "P-256", "P-384", "Ed25519", "sig", "AQAB", "AA", "", null, 0, true, ["verify"]),
  fc.jsonValue({ maxDepth: 2 }),
);
const KEY_NAMES = ["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid", "d", "k", "oth", "ext", "__proto__", "toString"];
const anyKey = fc.oneof(
  { weight: 3, arbitrary: fc.dictionary(fc.constantFrom(...KEY_NAMES), strange) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(...SIGNERS), fc.dictionary(fc.constantFrom(...KEY_NAMES), strange, { maxKeys: 2 }))
      .map(([{ jwk }, changes]) => ({ ...jwk, ...changes })),
  },
);
/** The dearest that a set can hold: moduli as long as may be, or much longer. */
const dear = fc
  .tuple(
    fc.constantFrom(256, 1024, 1025, 60_000),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
    fc.constantFrom("AQAB", "AAAA", "A".repeat(1000)),
  )
  .map(([bytes, seed, e]) => {
    const n = Buffer.alloc(bytes, Buffer.from(seed));
    n[0] = 0xff;
    n[bytes - 1] = 1;
    return { kty: "RSA", n: n.toString("base64url"), e };
  });
export const anySet = fc.oneof(
  { weight: 8, arbitrary: fc.record({ keys: fc.array(anyKey, { maxLength: 5 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      keys: fc.tuple(anyKey, fc.integer({ min: 45, max: 60 })).map(([key, count]) => Array.from({ length: count }, () => key)),
    }),
  },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  { weight: 1, arbitrary: fc.record({ keys: fc.array(dear, { maxLength: 50 }) }) },
);
