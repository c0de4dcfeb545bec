import { Buffer } from "node:buffer";
import { createECDH } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JWKS_KEYS_MAX } from "../constants.ts";
import { takeInJwks } from "./key-intake.ts";
import { freshKeyPair } from "../testing/key-pair.ts";
import { leastCpuMs } from "../testing/least-cpu-ms.ts";
import type { KeyFault } from "./key-intake.ts";

function ecKey(namedCurve: string) {
  const { x = "", y = "" } = freshKeyPair("ec", { namedCurve }).publicKey.export({ format: "jwk" });
  return { kty: "EC", crv: namedCurve, x, y };
}

function faultOf(jwk: object): KeyFault | undefined {
  const taken = takeInJwks({ keys: [jwk] });
  if (!taken.ok) throw new Error(taken.fault.code);
  expect(taken.value.used.length + taken.value.refused.length).toBe(1);
  return taken.value.refused[0]?.fault;
}

/** One whose x begins with a zero byte, as of 256 one does: without the private half as a key object they are soon made. */
function shortKey(crv: "P-256" | "P-384") {
  const curve = createECDH(crv === "P-256" ? "prime256v1" : "secp384r1");
  for (;;) {
    const point = curve.generateKeys().subarray(1);
    const coordinate = (from: number) => point.subarray(from, from + point.length / 2).toString("base64url");
    if (point[0] === 0) return { kty: "EC", crv, x: coordinate(0), y: coordinate(point.length / 2) };
  }
}

function changed(text: string, change: (bytes: Buffer) => Buffer): string {
  return change(Buffer.from(text, "base64url")).toString("base64url");
}

describe.each([
  ["P-256", 32],
  ["P-384", 48],
] as const)("an EC key on %s", (crv, bytesExpected) => {
  const key = ecKey(crv);

  test("is taken in, fresh from a generator", () => {
    for (let round = 0; round < 20; round += 1) expect(faultOf(ecKey(crv))).toBeUndefined();
  });

  test("is taken in with its leading zero byte and refused without it", () => {
    const short = shortKey(crv);
    expect(faultOf(short)).toBeUndefined();
    const x = changed(short.x, (bytes) => bytes.subarray(1));
    expect(faultOf({ ...short, x })).toEqual({ code: "ec_coordinate_length", member: "x", bytes: bytesExpected - 1, bytesExpected });
  });

  test("is refused with a leading zero byte too many", () => {
    const y = changed(key.y, (bytes) => Buffer.concat([Buffer.of(0), bytes]));
    expect(faultOf({ ...key, y })).toEqual({ code: "ec_coordinate_length", member: "y", bytes: bytesExpected + 1, bytesExpected });
  });

  test("is refused off the curve: any bit of either coordinate changed", () => {
    for (const member of ["x", "y"] as const) {
      for (let bit = 8; bit < bytesExpected * 8; bit += 37) {
        const moved = changed(key[member], (bytes) => {
          bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
          return bytes;
        });
        expect(faultOf({ ...key, [member]: moved })?.code).toMatch(/^ec_point_off_curve$|^ec_coordinate_too_large$/);
      }
    }
    expect(faultOf({ ...key, x: key.y, y: key.x })).toEqual({ code: "ec_point_off_curve", crv });
  });

  test("is refused at the origin, the all-zero stand-in for the point at infinity", () => {
    const zero = Buffer.alloc(bytesExpected).toString("base64url");
    expect(faultOf({ ...key, x: zero, y: zero })).toEqual({ code: "ec_point_off_curve", crv });
  });

  test("is refused with a coordinate that is not below the prime", () => {
    const large = Buffer.alloc(bytesExpected, 0xff).toString("base64url");
    expect(faultOf({ ...key, x: large })).toEqual({ code: "ec_coordinate_too_large", member: "x" });
    expect(faultOf({ ...key, y: large })).toEqual({ code: "ec_coordinate_too_large", member: "y" });
  });

  test("is refused with a coordinate missing, no string or padded", () => {
    expect(faultOf({ kty: "EC", crv, x: key.x })).toEqual({ code: "member_missing", member: "y" });
    expect(faultOf({ ...key, x: 1 })).toEqual({ code: "member_not_a_string", member: "x" });
    expect(faultOf({ ...key, y: `${key.y}=` })).toEqual({ code: "member_not_base64url", member: "y" });
  });
});

describe("a curve that is not supported is refused by name", () => {
  test("P-521, secp256k1, and P-256 in another spelling", () => {
    expect(faultOf(ecKey("P-521"))).toEqual({ code: "curve_unsupported", kty: "EC", curve: "P-521" });
    for (const crv of ["secp256k1", "p-256", "prime256v1", "Ed25519", ""]) {
      expect(faultOf({ ...ecKey("P-256"), crv })).toEqual({ code: "curve_unsupported", kty: "EC", curve: crv });
    }
  });

  test("Ed448, X25519", () => {
    for (const kind of ["ed448", "x25519"] as const) {
      const { publicKey } = freshKeyPair(kind);
      expect(faultOf(publicKey.export({ format: "jwk" }))).toMatchObject({ code: "curve_unsupported", kty: "OKP" });
    }
  });

  test("a key without crv, or with one that is no string", () => {
    expect(faultOf({ kty: "EC", x: "", y: "" })).toEqual({ code: "member_missing", member: "crv" });
    expect(faultOf({ kty: "OKP", crv: ["Ed25519"], x: "" })).toEqual({ code: "member_not_a_string", member: "crv" });
  });

  test("a P-256 point under P-384", () => {
    expect(faultOf({ ...ecKey("P-256"), crv: "P-384" })).toMatchObject({ code: "ec_coordinate_length", bytes: 32, bytesExpected: 48 });
  });
});

const P = 2n ** 255n - 19n;

/** y and the sign of x, as RFC 8032 §5.1.2 encodes them. */
function faultOfPoint(y: bigint, xIsOdd = false): KeyFault | undefined {
  const hex = (y + (xIsOdd ? 2n ** 255n : 0n)).toString(16).padStart(64, "0");
  return faultOf({
    kty: "OKP",
    crv: "Ed25519",
    x: Buffer.from(Uint8Array.from(Buffer.from(hex, "hex")).toReversed()).toString("base64url"),
  });
}

function power(base: bigint, exponent: bigint): bigint {
  if (exponent === 0n) return 1n;
  const half = power((base * base) % P, exponent / 2n);
  return exponent % 2n === 0n ? half : (half * base) % P;
}

describe("an Ed25519 key", () => {
  test("is taken in, fresh from a generator", () => {
    for (let round = 0; round < 20; round += 1) {
      expect(faultOf(freshKeyPair("ed25519").publicKey.export({ format: "jwk" }))).toBeUndefined();
    }
  });

  test("is a point of the curve exactly when Euler's criterion says that its x exists", () => {
    const d = (P - 121665n) * power(121666n, P - 2n);
    fc.assert(
      fc.property(fc.bigInt({ min: 2n, max: P - 2n }), fc.boolean(), (y, xIsOdd) => {
        const xSquared = (y * y - 1n) * power((d * y * y + 1n) % P, P - 2n);
        const exists = power(xSquared % P, (P - 1n) / 2n) === 1n;
        expect(faultOfPoint(y, xIsOdd)).toEqual(exists ? undefined : { code: "ed25519_not_a_point" });
      }),
      { numRuns: 100 },
    );
  });

  test.each([
    ["order 1", "0100000000000000000000000000000000000000000000000000000000000000"],
    ["order 2", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"],
    ["order 4", "0000000000000000000000000000000000000000000000000000000000000000"],
    ["order 4", "0000000000000000000000000000000000000000000000000000000000000080"],
    ["order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"],
    ["order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"],
    ["order 8", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"],
    ["order 8", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"],
  ])("of small order is refused (%s, %s)", (_order, hex) => {
    const x = Buffer.from(hex, "hex").toString("base64url");
    expect(faultOf({ kty: "OKP", crv: "Ed25519", x })).toEqual({ code: "ed25519_small_order" });
  });

  test("in any of the 38 encodings with y ≥ p is refused, the small-order ones among them", () => {
    for (let over = 0n; over < 19n; over += 1n) {
      for (const xIsOdd of [false, true]) expect(faultOfPoint(P + over, xIsOdd)).toEqual({ code: "ed25519_not_canonical" });
    }
  });

  test("with a sign on x = 0 is refused: another spelling of the points of order 1 and 2", () => {
    for (const y of [1n, P - 1n]) expect(faultOfPoint(y, true)).toEqual({ code: "ed25519_not_a_point" });
  });

  test.each([0, 31, 33, 57, 64])("of %i bytes is refused", (bytes) => {
    const x = Buffer.alloc(bytes, 9).toString("base64url");
    expect(faultOf({ kty: "OKP", crv: "Ed25519", x })).toEqual({ code: "ed25519_length", bytes });
  });

  test(`is cheap to check: ${JWKS_KEYS_MAX} within 100 ms`, () => {
    const { x } = freshKeyPair("ed25519").publicKey.export({ format: "jwk" });
    const keys = Array.from({ length: JWKS_KEYS_MAX }, () => ({ kty: "OKP", crv: "Ed25519", x }));
    const taken = takeInJwks({ keys });
    expect(taken.ok && taken.value.used.length).toBe(JWKS_KEYS_MAX);
    expect(leastCpuMs(() => takeInJwks({ keys }), 100)).toBeLessThan(100);
  });
});
