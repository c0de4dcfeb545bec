import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import type { SubjectTokenAlgorithm } from "@cambist/protocol";

export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/**
 * A new key pair for an algorithm. It is read back from DER, and not taken from the generator: on Node 20.20 the export as JWK of a key
 * that the generator itself gave out can wait for ever (the garbage collector and the export want one lock; seen within 10,000 rounds).
 */
export function newKeyPair(algorithm: SubjectTokenAlgorithm, rsaBits = 2048): KeyPair {
  const der = generate(algorithm, rsaBits).privateKey.export({ format: "der", type: "pkcs8" });
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

function generate(algorithm: SubjectTokenAlgorithm, rsaBits: number): KeyPair {
  switch (algorithm) {
    case "RS256":
    case "PS256":
      return generateKeyPairSync("rsa", { modulusLength: rsaBits });
    case "ES256":
      return generateKeyPairSync("ec", { namedCurve: "P-256" });
    case "ES384":
      return generateKeyPairSync("ec", { namedCurve: "P-384" });
    case "EdDSA":
      return generateKeyPairSync("ed25519");
  }
}
