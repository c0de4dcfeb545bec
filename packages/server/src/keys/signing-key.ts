import { createPrivateKey, type KeyObject } from "node:crypto";
import type { AccessTokenAlgorithm, Signer } from "@cambist/protocol";
import type { StoredSigningKey } from "../storage/store.ts";
import { newKeyPair } from "./key-pair.ts";
import type { MasterKeys, SealedBytes } from "./master-key.ts";
import { signJws } from "./signature.ts";
import { thumbprint } from "./thumbprint.ts";

/** A new one of our own signing keys, its private half sealed under the newest master key. */
export function makeSigningKey(algorithm: AccessTokenAlgorithm, state: "current" | "next", masterKeys: MasterKeys): StoredSigningKey {
  const pair = newKeyPair(algorithm);
  const jwk = pair.publicKey.export({ format: "jwk" });
  const kid = thumbprint(jwk);
  const { sealed, keyId } = masterKeys.seal(pair.privateKey.export({ format: "der", type: "pkcs8" }), sealContext(kid));
  return { kid, algorithm, state, publicJwk: { ...jwk, kid, alg: algorithm, use: "sig" }, sealedPrivateKey: sealed, sealingKeyId: keyId };
}

/** Undefined where no master key of the list opens it. Does NOT look whether there is a private half: a retired key has none. */
export function openPrivateKey(key: StoredSigningKey, masterKeys: MasterKeys): KeyObject | undefined {
  const der = masterKeys.open(key.sealedPrivateKey, key.sealingKeyId, sealContext(key.kid));
  return der === undefined ? undefined : createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
}

/** The same private half under the newest master key; undefined where it is so already, or where it cannot be opened. */
export function resealed(key: StoredSigningKey, masterKeys: MasterKeys): SealedBytes | undefined {
  if (masterKeys.isNewest(key.sealingKeyId)) return undefined;
  const der = masterKeys.open(key.sealedPrivateKey, key.sealingKeyId, sealContext(key.kid));
  return der === undefined ? undefined : masterKeys.seal(der, sealContext(key.kid));
}

export function hasPrivateHalf(key: StoredSigningKey): boolean {
  return key.sealingKeyId !== "";
}

/** Of one algorithm, with the encoded header kept: it is the same for token after token. */
export function signerOf(kid: string, algorithm: AccessTokenAlgorithm, privateKey: KeyObject): Signer {
  let lastHeader = "";
  let encodedHeader = "";
  return {
    kid,
    algorithm,
    sign(header, payload) {
      if (header !== lastHeader) {
        encodedHeader = Buffer.from(header).toString("base64url");
        lastHeader = header;
      }
      const signingInput = `${encodedHeader}.${Buffer.from(payload).toString("base64url")}`;
      return `${signingInput}.${signJws(algorithm, privateKey, signingInput)}`;
    },
  };
}

function sealContext(kid: string): string {
  return `signing key ${kid}`;
}
