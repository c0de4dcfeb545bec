import { Buffer } from "node:buffer";
import { constants, createHmac, createPublicKey, sign } from "node:crypto";
import * as fc from "fast-check";
import { signatureOf, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import { ATTACKERS, type Signer } from "./partners.ts";

/** Signatures as they should not be. */

export type SignatureEdit =
  | { readonly how: "right" | "empty" | "zeros" | "ones" | "reversed" | "twice" | "attacker" | "hmac" | "der" | "other digest" | "-s" }
  | { readonly how: "flip" | "cut" | "cut front" | "append" | "prepend" | "widen s"; readonly at: number }
  | { readonly how: "edges"; readonly r: Edge; readonly s: Edge }
  | { readonly how: "salt"; readonly saltLength: number };

/** For r and s, and for R and S of Ed25519: what a careless check takes (CVE-2022-21449), and what is right. */
type Edge = "own" | "0" | "1" | "n-1" | "n" | "n+1" | "own+n" | "max" | "other half";
const edge = fc.constantFrom<Edge[]>("own", "0", "1", "n-1", "n", "n+1", "own+n", "max", "other half");

export const signatureEdit: fc.Arbitrary<SignatureEdit> = fc.oneof(
  fc.record({
    how: fc.constantFrom(...(["empty", "zeros", "ones", "reversed", "twice", "attacker", "hmac", "der", "other digest", "-s"] as const)),
  }),
  fc.record({
    how: fc.constantFrom(...(["flip", "cut", "cut front", "append", "prepend", "widen s"] as const)),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
  fc.record({ how: fc.constant("edges" as const), r: edge, s: edge }),
  fc.record({ how: fc.constant("salt" as const), saltLength: fc.constantFrom(0, 20, 31, 33, 64, 222) }),
);

export interface Signature {
  readonly bytes: Buffer;
  /** What the key did sign this text with; whatever `bytes` are, only this and its ECDSA twin may pass. */
  readonly genuine: Uint8Array | undefined;
}

export function signatureBy(signer: Signer, input: string, edit: SignatureEdit): Signature {
  const forged = forgery(signer, input, edit);
  if (forged !== undefined) return { bytes: Buffer.from(forged), genuine: undefined };
  const genuine = signer.sign(input);
  return { bytes: changed(genuine, signer, edit), genuine };
}

/** By another key, or by the right one in a way that is not its own. A key made by hand signs in one way only. */
function forgery(signer: Signer, input: string, edit: SignatureEdit): Uint8Array | undefined {
  const { testKey } = signer;
  if (edit.how === "attacker") return ATTACKERS.find(({ algorithm }) => algorithm === signer.algorithm)?.sign(input);
  if (edit.how === "hmac") return hmacByPublicKey(signer, input);
  const isOtherwise = edit.how === "der" || edit.how === "other digest" || edit.how === "salt";
  return isOtherwise && testKey !== undefined ? otherwise(testKey, input, edit) : undefined;
}

/** Did the key sign this? (r, n − s) is the twin of (r, s): whoever has one has both, and RFC 7518 §3.4 takes either. */
export function isGenuine(bytes: Buffer, genuine: Uint8Array | undefined, signer: Signer): boolean {
  if (genuine === undefined) return false;
  const isEcdsa = signer.algorithm === "ES256" || signer.algorithm === "ES384";
  return bytes.equals(genuine) || (isEcdsa && bytes.equals(changed(Buffer.from(genuine), signer, { how: "-s" })));
}

/** Algorithm confusion: the public key is the HMAC's secret (RFC 8725 §2.1). */
function hmacByPublicKey({ jwk }: Signer, input: string): Buffer {
  const pem = createPublicKey({ key: jwk, format: "jwk" }).export({ format: "pem", type: "spki" });
  return createHmac("sha256", pem).update(input).digest();
}

/** By the right key in another scheme, digest or form. */
function otherwise(key: TestKey, input: string, edit: SignatureEdit): Buffer {
  const { algorithm, privateKey } = key;
  const data = Buffer.from(input);
  if (algorithm === "EdDSA") return signatureOf(`${input} `, key);
  if (algorithm === "ES256" || algorithm === "ES384") {
    const digest = (algorithm === "ES256") === (edit.how === "der") ? "sha256" : "sha384";
    return sign(digest, data, { key: privateKey, dsaEncoding: edit.how === "der" ? "der" : "ieee-p1363" });
  }
  if (edit.how === "salt")
    return sign("sha256", data, { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: edit.saltLength });
  return edit.how === "der"
    ? signatureOf(input, { ...key, algorithm: algorithm === "RS256" ? "PS256" : "RS256" })
    : sign("sha512", data, privateKey);
}

function changed(signature: Buffer, signer: Signer, edit: SignatureEdit): Buffer {
  const place = "at" in edit ? Math.floor(edit.at * signature.length) : 0;
  switch (edit.how) {
    case "empty":
      return Buffer.alloc(0);
    case "zeros":
    case "ones":
      return Buffer.alloc(signature.length, edit.how === "ones" ? 0xff : 0);
    case "reversed":
      return Buffer.from(signature.toReversed());
    case "twice":
      return Buffer.concat([signature, signature]);
    case "flip":
      return Buffer.from(signature.map((byte, i) => (i === Math.min(place, signature.length - 1) ? byte ^ (1 << (place % 8)) : byte)));
    case "cut":
      return signature.subarray(0, place);
    case "cut front":
      return signature.subarray(signature.length - place);
    case "append":
      return Buffer.concat([signature, Buffer.alloc(1 + (place % 3))]);
    case "prepend":
      return Buffer.concat([Buffer.alloc(1 + (place % 3)), signature]);
    case "widen s": // a zero byte in front of s is the same number: the length is all that tells (RFC 7518 §3.4)
      return Buffer.concat([signature.subarray(0, signature.length / 2), Buffer.alloc(1), signature.subarray(signature.length / 2)]);
    case "edges":
    case "-s":
      return inHalves(signature, signer, edit);
    case "right":
    case "attacker":
    case "hmac":
    case "der":
    case "other digest":
    case "salt":
      return signature;
  }
}

const L25519 = 2n ** 252n + 27742317777372353535851937790883648493n;
const N256 = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const N384 = 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n;

/** S of Ed25519 is little-endian (RFC 8032 §5.1.6); s and n − s of ECDSA are both right. */
function inHalves(signature: Buffer, { algorithm }: Signer, edit: SignatureEdit): Buffer {
  const order = algorithm === "EdDSA" ? L25519 : algorithm === "ES384" ? N384 : N256;
  const bytes = signature.length / 2;
  const oriented = (half: Buffer) => (algorithm === "EdDSA" ? Buffer.from(half.toReversed()) : half);
  const halves = [signature.subarray(0, bytes), signature.subarray(bytes)].map((half) => BigInt(`0x${oriented(half).toString("hex")}`));
  const [r = 0n, s = 0n] = halves;
  const max = 2n ** BigInt(bytes * 8) - 1n;
  const written = (value: bigint) => oriented(Buffer.from((value > max ? max : value).toString(16).padStart(bytes * 2, "0"), "hex"));
  if (edit.how !== "edges") return Buffer.concat([written(r), written(s < order ? order - s : s)]);
  const at = (own: bigint, other: bigint): Record<Edge, bigint> => ({
    own,
    "0": 0n,
    "1": 1n,
    "n-1": order - 1n,
    n: order,
    "n+1": order + 1n,
    "own+n": own + order,
    max,
    "other half": other,
  });
  return Buffer.concat([written(at(r, s)[edit.r]), written(at(s, r)[edit.s])]);
}
