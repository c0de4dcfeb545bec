import { constants, type KeyObject, randomUUID, sign } from "node:crypto";
import { newKeyPair } from "../keys/key-pair.ts";

/** Signs what it is given, right or wrong: tests make tokens that no library would. */

export type TestAlgorithm = "RS256" | "PS256" | "ES256" | "ES384" | "EdDSA";

export interface TestKey {
  readonly kid: string;
  readonly algorithm: TestAlgorithm;
  readonly privateKey: KeyObject;
  /** With `kid` and `alg`. */
  readonly publicJwk: Record<string, unknown>;
}

export function makeTestKey(algorithm: TestAlgorithm, kid: string = randomUUID()): TestKey {
  const { privateKey, publicKey } = newKeyPair(algorithm);
  return { kid, algorithm, privateKey, publicJwk: { ...publicKey.export({ format: "jwk" }), kid, alg: algorithm, use: "sig" } };
}

/** A part of a token: an object is serialized, a string or bytes are taken as they are. */
export type Part = object | string | Uint8Array;

export function encodePart(part: Part): string {
  const bytes =
    typeof part === "string" ? Buffer.from(part) : part instanceof Uint8Array ? Buffer.from(part) : Buffer.from(JSON.stringify(part));
  return bytes.toString("base64url");
}

/** header.payload.signature, signed by the key whatever the header says. */
export function signJwt(header: Part, payload: Part, key: TestKey): string {
  const signingInput = `${encodePart(header)}.${encodePart(payload)}`;
  return `${signingInput}.${signatureOf(signingInput, key).toString("base64url")}`;
}

export function signatureOf(signingInput: string, { algorithm, privateKey }: TestKey): Buffer {
  const data = Buffer.from(signingInput);
  switch (algorithm) {
    case "RS256":
      return sign("sha256", data, privateKey);
    case "PS256":
      return sign("sha256", data, { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
    case "ES256":
      return sign("sha256", data, { key: privateKey, dsaEncoding: "ieee-p1363" });
    case "ES384":
      return sign("sha384", data, { key: privateKey, dsaEncoding: "ieee-p1363" });
    case "EdDSA":
      return sign(null, data, privateKey);
  }
}

export function decodeJwt(token: string): { header: Record<string, unknown>; payload: Record<string, unknown> } {
  const [header, payload] = token
    .split(".")
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>);
  return { header: header ?? {}, payload: payload ?? {} };
}
