import { createPrivateKey, type KeyObject } from "node:crypto";
import type { AccessTokenAlgorithm, AccessTokenKey, Signer } from "@cambist/protocol";
import type { SigningKeyStore, StoredSigningKey } from "../storage/store.ts";
import { newKeyPair } from "./key-pair.ts";
import type { MasterKeys } from "./master-key.ts";
import { signJws, verifierFor } from "./signature.ts";
import { thumbprint } from "./thumbprint.ts";

/** Our own signing keys: what we sign with, what we publish, and what our tokens are checked by. */
export interface Keyring {
  signer(): Signer;
  findKey(kid: string): AccessTokenKey | undefined;
  /** RFC 7517 §5: public members only; the next key is published before it signs. */
  jwks(): { readonly keys: readonly Readonly<Record<string, unknown>>[] };
}

/**
 * Loads the keys, and makes a current and a next one where an algorithm has none: at the first start, or for a newly configured
 * algorithm. Private keys are kept only sealed under the master key.
 * @throws when a stored key cannot be opened: a new one is never made in silence, for every API would then refuse every token.
 */
export async function openKeyring(
  store: SigningKeyStore,
  masterKeys: MasterKeys,
  algorithm: AccessTokenAlgorithm,
  nowMs: number,
): Promise<Keyring> {
  // opened before any is made: a key sealed under a wrong master key would lock this store for the right one too
  let keys = openAll(await store.list(), masterKeys);
  const isPresent = (state: string) => keys.some(({ key }) => key.algorithm === algorithm && key.state === state);
  const missing = (["current", "next"] as const).filter((state) => !isPresent(state));
  for (const state of missing) await store.addIfAbsent(makeSigningKey(algorithm, state, masterKeys), nowMs);
  if (missing.length > 0) keys = openAll(await store.list(), masterKeys);
  const current = keys.find(({ key }) => key.algorithm === algorithm && key.state === "current");
  if (current === undefined) throw new Error(`the store has no current ${algorithm} signing key`);

  const verifiers = new Map<string, AccessTokenKey>();
  for (const { key } of keys) {
    const keyAlgorithm = key.algorithm as AccessTokenAlgorithm;
    verifiers.set(key.kid, { algorithm: key.algorithm, verify: verifierFor(keyAlgorithm, key.publicJwk) });
  }
  const signer = signerOf(current.key.kid, algorithm, current.privateKey);
  const jwks = { keys: keys.map(({ key }) => key.publicJwk) };
  return { signer: () => signer, findKey: (kid) => verifiers.get(kid), jwks: () => jwks };
}

function openAll(stored: readonly StoredSigningKey[], masterKeys: MasterKeys) {
  return stored.map((key) => ({ key, privateKey: openPrivateKey(key, masterKeys) }));
}

function signerOf(kid: string, algorithm: AccessTokenAlgorithm, privateKey: KeyObject): Signer {
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

function makeSigningKey(algorithm: AccessTokenAlgorithm, state: "current" | "next", masterKeys: MasterKeys): StoredSigningKey {
  const pair = newKeyPair(algorithm);
  const jwk = pair.publicKey.export({ format: "jwk" });
  const kid = thumbprint(jwk);
  const { sealed, keyId } = masterKeys.seal(pair.privateKey.export({ format: "der", type: "pkcs8" }), sealContext(kid));
  return { kid, algorithm, state, publicJwk: { ...jwk, kid, alg: algorithm, use: "sig" }, sealedPrivateKey: sealed, sealingKeyId: keyId };
}

function openPrivateKey(key: StoredSigningKey, masterKeys: MasterKeys): KeyObject {
  const der = masterKeys.open(key.sealedPrivateKey, key.sealingKeyId, sealContext(key.kid));
  if (der === undefined) {
    throw new Error(
      `CAMBIST_MASTER_KEY does not open the stored signing key ${key.kid}. Start with the master key that this store was made with ` +
        "(a rotated one goes first in the list: new,old). No new signing key was made.",
    );
  }
  return createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
}

function sealContext(kid: string): string {
  return `signing key ${kid}`;
}
