import type { AccessTokenAlgorithm, AccessTokenKey, Signer } from "@cambist/protocol";
import type { ListedSigningKey } from "../storage/store.ts";
import { findKeyInState } from "./key-schedule.ts";
import type { MasterKeys } from "./master-key.ts";
import { verifierFor } from "./signature.ts";
import { openPrivateKey, signerOf } from "./signing-key.ts";

/** The signing keys as the store had them at one moment, made ready for use. */
export interface KeySnapshot {
  readonly keys: readonly ListedSigningKey[];
  readonly jwks: { readonly keys: readonly Readonly<Record<string, unknown>>[] };
  readonly verifiers: ReadonlyMap<string, AccessTokenKey>;
  /** What signs until the next key does. */
  readonly current: Signer | undefined;
  readonly next: Signer | undefined;
  /** Milliseconds since 1970; infinite where no switch is scheduled. */
  readonly nextSignsFromMs: number;
  /** The kids of the keys in use that no master key of ours opens. */
  readonly notOpened: readonly string[];
}

interface Opener {
  readonly masterKeys: MasterKeys;
  readonly algorithm: AccessTokenAlgorithm;
}

/** `before` itself where nothing has changed; what it has made ready is used on. */
export function snapshotOf(
  keys: readonly ListedSigningKey[],
  before: KeySnapshot | undefined,
  { masterKeys, algorithm }: Opener,
): KeySnapshot {
  if (before !== undefined && fingerprint(keys) === fingerprint(before.keys)) return before;
  const notOpened: string[] = [];
  const signerFor = (key: ListedSigningKey | undefined): Signer | undefined => {
    if (key === undefined) return undefined;
    const known = [before?.current, before?.next].find((signer) => signer?.kid === key.kid);
    if (known !== undefined) return known;
    const privateKey = openPrivateKey(key, masterKeys);
    if (privateKey === undefined) notOpened.push(key.kid);
    return privateKey && signerOf(key.kid, algorithm, privateKey);
  };
  const verifiers = new Map(keys.map((key) => [key.kid, before?.verifiers.get(key.kid) ?? verifierOf(key)]));
  const next = findKeyInState(keys, algorithm, "next");
  // a node without the master key of the new one signs on with the one before it, as long as that is taken
  const former = before?.current !== undefined && verifiers.has(before.current.kid) ? before.current : undefined;
  return {
    keys,
    jwks: { keys: keys.map(({ publicJwk }) => publicJwk) },
    verifiers,
    current: signerFor(findKeyInState(keys, algorithm, "current")) ?? former,
    next: signerFor(next),
    nextSignsFromMs: next?.signsFromMs ?? Number.POSITIVE_INFINITY,
    notOpened,
  };
}

function verifierOf(key: ListedSigningKey): AccessTokenKey {
  return { algorithm: key.algorithm, verify: verifierFor(key.algorithm as AccessTokenAlgorithm, key.publicJwk) };
}

/** All that may change of a key. */
function fingerprint(keys: readonly ListedSigningKey[]): string {
  return JSON.stringify(keys.map((key) => [key.kid, key.state, key.signsFromMs, key.dropAfterMs, key.sealingKeyId]));
}
