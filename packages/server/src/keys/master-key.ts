import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { KeyedHash } from "./keyed-hash.ts";

export const MASTER_KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

export interface HashedSecret {
  readonly hash: Uint8Array;
  readonly pepperId: string;
}

export interface SealedBytes {
  readonly sealed: Uint8Array;
  readonly keyId: string;
}

/**
 * What is derived from the master key, and the only place that sees it: the pepper of secret hashes and the encryption key of signing
 * keys, each by HKDF-SHA-256 (RFC 5869) under its own label. The first key of the list is used for what is new; the others still open
 * and compare what was made under them, so that a key is rotated by putting its successor in front.
 */
export class MasterKeys {
  private readonly keys: readonly DerivedKeys[];

  /** @param keys each MASTER_KEY_BYTES long, the newest first, at least one. */
  constructor(keys: readonly Uint8Array[]) {
    this.keys = keys.map(deriveKeys);
  }

  /** HMAC-SHA-256 under a pepper. Enough for a random secret of 256 bits; NOT for a password that a person chose. */
  hashSecret(secret: string): HashedSecret {
    const newest = this.newest();
    return { hash: newest.pepper.digest(secret), pepperId: newest.id };
  }

  /** Under each key of the list, newest first: where the hash itself is what is looked for. */
  hashesOf(secret: string): readonly Uint8Array[] {
    return this.keys.map(({ pepper }) => pepper.digest(secret));
  }

  /** In constant time, and in the same time where there is nothing to compare with. Gives the index of the hash that fits, or -1. */
  findSecret(secret: string, hashes: readonly HashedSecret[]): number {
    const byPepper = new Map<string, Uint8Array>();
    let found = -1;
    for (const [index, { hash, pepperId }] of (hashes.length === 0 ? [NOBODY] : hashes).entries()) {
      const keys = this.keys.find((candidate) => candidate.id === pepperId) ?? this.newest();
      const presented = byPepper.get(keys.id) ?? keys.pepper.digest(secret);
      byPepper.set(keys.id, presented);
      if (timingSafeEqual(presented, hash) && keys.id === pepperId) found = index;
    }
    return found;
  }

  /** AES-256-GCM: iv, tag, ciphertext. `context` is authenticated, so that one sealed value cannot stand in for another. */
  seal(plain: Uint8Array, context: string): SealedBytes {
    const newest = this.newest();
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv("aes-256-gcm", newest.sealing, iv).setAAD(Buffer.from(context));
    const body = Buffer.concat([cipher.update(plain), cipher.final()]);
    return { sealed: Buffer.concat([iv, cipher.getAuthTag(), body]), keyId: newest.id };
  }

  /** Undefined when the value was sealed under a key that is not in the list, for another context, or was changed. */
  open(sealed: Uint8Array, keyId: string, context: string): Uint8Array | undefined {
    const keys = this.keys.find((candidate) => candidate.id === keyId);
    if (keys === undefined || sealed.length < IV_BYTES + TAG_BYTES) return undefined;
    const decipher = createDecipheriv("aes-256-gcm", keys.sealing, sealed.subarray(0, IV_BYTES))
      .setAAD(Buffer.from(context))
      .setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  /** Of the list, newest first: what tells which master key something was made under. */
  ids(): readonly string[] {
    return this.keys.map(({ id }) => id);
  }

  /** That it was made under the first key of the list, as everything new is. */
  isNewest(keyId: string): boolean {
    return keyId === this.newest().id;
  }

  private newest(): DerivedKeys {
    return this.keys[0] as DerivedKeys;
  }
}

interface DerivedKeys {
  /** Tells which master key was used, and nothing about it. */
  readonly id: string;
  readonly pepper: KeyedHash;
  readonly sealing: Uint8Array;
}

function deriveKeys(master: Uint8Array): DerivedKeys {
  const derive = (label: string, bytes: number) => Buffer.from(hkdfSync("sha256", master, "", `cambist ${label} v1`, bytes));
  return { id: derive("key id", 6).toString("base64url"), pepper: new KeyedHash(derive("pepper", 32)), sealing: derive("sealing", 32) };
}

const NOBODY: HashedSecret = { hash: new Uint8Array(32), pepperId: "" };
