import { fail, ok } from "../result.ts";
import type { Result } from "../result.ts";
import { encodeBase64url, unsignedFromBytes } from "./base64url.ts";

export type EcCurve = "P-256" | "P-384";

export interface EcPublicJwk {
  readonly kty: "EC";
  readonly crv: EcCurve;
  readonly x: string;
  readonly y: string;
}

export type EcKeyFault =
  | { readonly code: "ec_coordinate_length"; readonly member: "x" | "y"; readonly bytes: number; readonly bytesExpected: number }
  | { readonly code: "ec_coordinate_too_large"; readonly member: "x" | "y" }
  | { readonly code: "ec_point_off_curve"; readonly crv: EcCurve };

/** y² = x³ − 3x + b over the field of p elements (NIST SP 800-186 §3.2.1). */
interface CurveParameters {
  readonly coordinateBytes: number;
  readonly p: bigint;
  readonly b: bigint;
}

const CURVES: Readonly<Record<EcCurve, CurveParameters>> = {
  "P-256": {
    coordinateBytes: 32,
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  },
  "P-384": {
    coordinateBytes: 48,
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
  },
};

/**
 * The public key validation of NIST SP 800-56A §5.6.2.3.3. A point off the curve lies on another, weaker one (invalid-curve attack). Both
 * curves have cofactor 1, so a point on the curve has the right order, and the point at infinity has no affine coordinates. Public values
 * only: nothing here needs constant time.
 */
export function validateEcPublicKey(crv: EcCurve, x: Uint8Array, y: Uint8Array): Result<EcPublicJwk, EcKeyFault> {
  const { coordinateBytes, p, b } = CURVES[crv];
  // RFC 7518 §6.2.1.2: exactly the field's length, leading zeros included; a shorter one is a known bug of producers, and one key of two
  // spellings otherwise.
  if (x.length !== coordinateBytes) {
    return fail({ code: "ec_coordinate_length", member: "x", bytes: x.length, bytesExpected: coordinateBytes });
  }
  if (y.length !== coordinateBytes) {
    return fail({ code: "ec_coordinate_length", member: "y", bytes: y.length, bytesExpected: coordinateBytes });
  }
  const xValue = unsignedFromBytes(x);
  if (xValue >= p) return fail({ code: "ec_coordinate_too_large", member: "x" });
  const yValue = unsignedFromBytes(y);
  if (yValue >= p) return fail({ code: "ec_coordinate_too_large", member: "y" });
  // The difference may be negative; it is a multiple of p or it is not.
  if ((yValue * yValue - ((xValue * xValue - 3n) * xValue + b)) % p !== 0n) return fail({ code: "ec_point_off_curve", crv });
  return ok({ kty: "EC", crv, x: encodeBase64url(x), y: encodeBase64url(y) });
}

export function describeEcKeyFault(fault: EcKeyFault): string {
  switch (fault.code) {
    case "ec_coordinate_length":
      return `"${fault.member}" has ${fault.bytes} bytes; this curve's coordinates have exactly ${fault.bytesExpected}, leading zero bytes included (RFC 7518 section 6.2.1.2).`;
    case "ec_coordinate_too_large":
      return `"${fault.member}" is not below the curve's prime; check how the key was exported.`;
    case "ec_point_off_curve":
      return `"x" and "y" are no point of ${fault.crv}; check that both come from the same key and that "crv" names its curve.`;
    default:
      return fault satisfies never;
  }
}
