import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";

/**
 * A new key pair, read back from DER: on Node 20.20 the export as JWK of a key that the generator itself gave out can wait for ever (see
 * the server's keys/key-pair.ts).
 */
export function freshKeyPair(
  type: "rsa" | "ec" | "ed25519" | "ed448" | "x25519",
  options: { readonly modulusLength?: number; readonly namedCurve?: string } = {},
): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  const pair = generateKeyPairSync(type as "ec", options as { namedCurve: string });
  const key = pair.privateKey.export({ format: "der", type: "pkcs8" });
  const privateKey = createPrivateKey({ key, format: "der", type: "pkcs8" });
  return { privateKey, publicKey: createPublicKey(privateKey) };
}
