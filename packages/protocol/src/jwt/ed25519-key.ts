import { fail, ok } from "../result.ts";
import type { Result } from "../result.ts";
import { encodeBase64url, unsignedFromBytes } from "./base64url.ts";

export interface Ed25519PublicJwk {
  readonly kty: "OKP";
  readonly crv: "Ed25519";
  readonly x: string;
}

export type Ed25519KeyFault =
  | { readonly code: "ed25519_length"; readonly bytes: number }
  | { readonly code: "ed25519_not_canonical" }
  | { readonly code: "ed25519_not_a_point" }
  | { readonly code: "ed25519_small_order" };

const KEY_BYTES = 32;
const P = 2n ** 255n - 19n;
/** −121665/121666 (RFC 8032 §5.1). */
const D = 0x52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3n;
const SQUARE_ROOT_OF_MINUS_ONE = power(2n, (P - 1n) / 4n);

/** (X : Y : Z), that is x = X/Z and y = Y/Z on −x² + y² = 1 + d·x²·y². */
interface Point {
  readonly x: bigint;
  readonly y: bigint;
  readonly z: bigint;
}

/**
 * RFC 8032 §5.1.3, and no point whose order divides 8: under such a key one fixed signature fits every message, or
 * one in eight, whoever sends it. The order is computed and not looked up, so no spelling is forgotten. Public values
 * only: nothing here needs constant time.
 *
 * Does NOT ask for the prime-order subgroup (a point plus a small-order one): that needs a full multiplication and makes nothing forgeable.
 */
export function validateEd25519PublicKey(encoded: Uint8Array): Result<Ed25519PublicJwk, Ed25519KeyFault> {
  if (encoded.length !== KEY_BYTES) return fail({ code: "ed25519_length", bytes: encoded.length });
  const littleEndian = unsignedFromBytes(encoded.toReversed());
  const y = littleEndian & (2n ** 255n - 1n);
  const xIsOdd = littleEndian >> 255n === 1n;
  // Lenient libraries take y ≥ p and reduce it: one key with two spellings, and small-order points that a blocklist of the canonical ones misses.
  if (y >= P) return fail({ code: "ed25519_not_canonical" });
  const x = recoverX(y, xIsOdd);
  if (x === undefined) return fail({ code: "ed25519_not_a_point" });
  if (isIdentity(double(double(double({ x, y, z: 1n }))))) return fail({ code: "ed25519_small_order" });
  return ok({ kty: "OKP", crv: "Ed25519", x: encodeBase64url(encoded) });
}

/**
 * RFC 8032 §5.1.3, steps 2 to 4: x² = (y² − 1) / (d·y² + 1). Either root may come back, whatever the parity asked for: a point and its
 * negative have the same order, and nothing else is asked of x.
 */
function recoverX(y: bigint, xIsOdd: boolean): bigint | undefined {
  const u = modulo(y * y - 1n);
  const v = modulo(D * y * y + 1n);
  const v3 = modulo(v * v * v);
  let x = modulo(u * v3 * power(modulo(u * v3 * v3 * v), (P - 5n) / 8n));
  const vx2 = modulo(v * x * x);
  if (vx2 !== u) {
    if (vx2 !== modulo(-u)) return undefined;
    x = modulo(x * SQUARE_ROOT_OF_MINUS_ONE);
  }
  // Zero has no odd twin: the sign bit on x = 0 is a second spelling of the same point.
  return x === 0n && xIsOdd ? undefined : x;
}

/** Doubling in projective coordinates, a = −1 (Bernstein, Birkner, Joye, Lange, Peters 2008, "dbl-2008-bbjlp"); complete on this curve. */
function double(point: Point): Point {
  const b = modulo((point.x + point.y) ** 2n);
  const c = modulo(point.x ** 2n);
  const d = modulo(point.y ** 2n);
  const f = d - c;
  const j = modulo(f - 2n * point.z ** 2n);
  return { x: modulo((b - c - d) * j), y: modulo(f * (-c - d)), z: modulo(f * j) };
}

/** The neutral element is (0, 1). */
function isIdentity(point: Point): boolean {
  return point.x === 0n && point.y === point.z;
}

function modulo(value: bigint): bigint {
  const remainder = value % P;
  return remainder < 0n ? remainder + P : remainder;
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  let square = base;
  for (let left = exponent; left > 0n; left >>= 1n) {
    if ((left & 1n) === 1n) result = (result * square) % P;
    square = (square * square) % P;
  }
  return result;
}

export function describeEd25519KeyFault(fault: Ed25519KeyFault): string {
  switch (fault.code) {
    case "ed25519_length":
      return `"x" has ${fault.bytes} bytes; an Ed25519 public key has exactly ${KEY_BYTES} (RFC 8037 section 2).`;
    case "ed25519_not_canonical":
      return `"x" is not the canonical encoding of an Ed25519 key (its number is not below 2^255 - 19); check how the key was exported.`;
    case "ed25519_not_a_point":
      return `"x" is no point of Ed25519; check that it is the public key and that its bytes are in the order of RFC 8032.`;
    case "ed25519_small_order":
      return "The Ed25519 key is a point of small order, under which signatures can be forged; make a new key pair.";
    default:
      return fault satisfies never;
  }
}
