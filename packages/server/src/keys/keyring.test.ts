import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import type { AccessTokenAlgorithm } from "@cambist/protocol";
import { calculateJwkThumbprint, compactVerify, createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { storeOver } from "../storage/kysely-store.ts";
import { migrate } from "../storage/migrate.ts";
import type { SigningKeyStore, StoredSigningKey } from "../storage/store.ts";
import { createTestDatabase, type TestDatabase } from "../testing/database.ts";
import { type Keyring, openKeyring } from "./keyring.ts";
import { MASTER_KEY_BYTES, MasterKeys } from "./master-key.ts";

const NOW_MS = 1_750_000_000_000;
const newMasterKeys = () => new MasterKeys([randomBytes(MASTER_KEY_BYTES)]);

/** As the store has it: one key for an algorithm and a state, the first one that came. */
function memoryStore(keys: StoredSigningKey[] = []): SigningKeyStore & { readonly keys: StoredSigningKey[] } {
  return {
    keys,
    list: () => Promise.resolve(keys.map((key) => ({ ...key, createdAtMs: NOW_MS, signsFromMs: undefined, dropAfterMs: undefined }))),
    addIfAbsent(key) {
      if (!keys.some((other) => other.algorithm === key.algorithm && other.state === key.state)) keys.push(key);
      return Promise.resolve();
    },
    reseal(kid, beforeKeyId, { sealed, keyId }) {
      for (const [index, key] of keys.entries()) {
        if (key.kid === kid && key.sealingKeyId === beforeKeyId) keys[index] = { ...key, sealedPrivateKey: sealed, sealingKeyId: keyId };
      }
      return Promise.resolve();
    },
    ...NOT_ASKED_HERE,
  };
}

const notAskedHere = () => Promise.reject(new Error("not asked here: rotation has its own tests, on real stores"));
const NOT_ASKED_HERE = { schedule: notAskedHere, switch: notAskedHere, dropRetired: notAskedHere, listMasterKeyUses: notAskedHere };

const opened: Keyring[] = [];
afterEach(() => Promise.all(opened.splice(0).map((keyring) => keyring.close())));

async function openOn(store: SigningKeyStore, masterKeys: MasterKeys, algorithm: AccessTokenAlgorithm = "ES256"): Promise<Keyring> {
  const ignore = () => undefined;
  const events = { scheduled: ignore, switched: ignore, readFailed: ignore, notOpened: ignore };
  const keyring = await openKeyring({ store, masterKeys, algorithm, signingKeyDays: 90, nowMs: () => NOW_MS, events });
  opened.push(keyring);
  return keyring;
}
const states = (keys: readonly StoredSigningKey[]) => keys.map(({ algorithm, state }) => `${algorithm} ${state}`);
const asJwks = (keyring: { jwks(): unknown }) => keyring.jwks() as JSONWebKeySet;

/** Members of a JWK that hold a secret (RFC 7518 §6). */
const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

describe.each(["ES256", "RS256"] as const)("a keyring of %s", (algorithm) => {
  const store = memoryStore();
  const masterKeys = newMasterKeys();

  test("first start: makes a current and a next key, and signs with the current one", async () => {
    const keyring = await openOn(store, masterKeys, algorithm);
    expect(states(store.keys)).toEqual([`${algorithm} current`, `${algorithm} next`]);
    expect(keyring.signer()).toMatchObject({ kid: store.keys[0]?.kid, algorithm });
    expect(store.keys[0]?.kid).not.toBe(store.keys[1]?.kid);
  });

  test("second start: the same keys, no new one", async () => {
    const before = [...store.keys];
    const keyring = await openOn(store, masterKeys, algorithm);
    expect(store.keys).toEqual(before);
    expect(keyring.signer().kid).toBe(before[0]?.kid);
  });

  test("what it signs is verified by jose through the published JWKS, and by its own findKey", async () => {
    const keyring = await openOn(store, masterKeys, algorithm);
    const { kid } = keyring.signer();
    const jwks = createLocalJWKSet(asJwks(keyring));
    for (const payload of ['{"sub":"u"}', '{"sub":"é😀"}', ""]) {
      const token = keyring.signer().sign(`{"alg":"${algorithm}","typ":"at+jwt","kid":"${kid}"}`, payload);
      const verified = await compactVerify(token, jwks, { algorithms: [algorithm] });
      expect(Buffer.from(verified.payload).toString()).toBe(payload);
      expect(verified.protectedHeader).toEqual({ alg: algorithm, typ: "at+jwt", kid });
      const dot = token.lastIndexOf(".");
      const signature = Buffer.from(token.slice(dot + 1), "base64url");
      expect(keyring.findKey(kid)?.algorithm).toBe(algorithm);
      expect(keyring.findKey(kid)?.verify(token.slice(0, dot), signature)).toBe(true);
      expect(keyring.findKey(kid)?.verify(token.slice(0, dot - 1), signature)).toBe(false);
      expect(keyring.findKey(store.keys[1]?.kid ?? "")?.verify(token.slice(0, dot), signature)).toBe(false);
    }
  });

  test("a changed header is written as it is: the encoded header that is kept is never another one's", async () => {
    const signer = (await openOn(store, masterKeys, algorithm)).signer();
    for (const kid of ["a", "b", "a", "a"]) {
      expect(decodeProtectedHeader(signer.sign(`{"alg":"${algorithm}","kid":"${kid}"}`, "{}"))).toEqual({ alg: algorithm, kid });
    }
  });

  test("the JWKS has both keys, public members only, with use, alg and the RFC 7638 thumbprint as kid", async () => {
    const { keys } = asJwks(await openOn(store, masterKeys, algorithm));
    expect(keys.map(({ kid }) => kid)).toEqual(store.keys.map(({ kid }) => kid));
    for (const key of keys) {
      const expected = algorithm === "ES256" ? ["alg", "crv", "kid", "kty", "use", "x", "y"] : ["alg", "e", "kid", "kty", "n", "use"];
      expect(Object.keys(key).toSorted()).toEqual(expected);
      expect(PRIVATE_MEMBERS.filter((member) => member in key)).toEqual([]);
      expect(key).toMatchObject({ use: "sig", alg: algorithm });
      expect(key.kid).toBe(await calculateJwkThumbprint(key, "sha256"));
    }
  });

  test("private keys are stored sealed: no PKCS#8 in clear, and what is sealed is the published key's other half", () => {
    for (const key of store.keys) {
      const der = masterKeys.open(key.sealedPrivateKey, key.sealingKeyId, `signing key ${key.kid}`);
      if (der === undefined) throw new Error("not opened");
      const privateKey = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
      expect(createPublicKey(privateKey).export({ format: "jwk" })).toEqual(
        Object.fromEntries(Object.entries(key.publicJwk).filter(([member]) => !["kid", "alg", "use"].includes(member))),
      );
      const sealed = Buffer.from(key.sealedPrivateKey);
      const everything = JSON.stringify({ ...key, sealedPrivateKey: [sealed.toString("hex"), sealed.toString("base64")] });
      const { d = "" } = privateKey.export({ format: "jwk" });
      expect(d.length).toBeGreaterThan(40);
      expect(sealed.includes(Buffer.from(d, "base64url").subarray(0, 8))).toBe(false);
      for (let at = 0; at + 8 <= der.length; at++) expect(sealed.includes(Buffer.from(der.subarray(at, at + 8)))).toBe(false);
      for (const encoding of ["hex", "base64", "base64url"] as const) {
        expect(everything).not.toContain(Buffer.from(d, "base64url").toString(encoding).slice(0, 16));
      }
    }
  });

  test("a sealed key cannot stand in for another: swapped in the store, neither opens", async () => {
    const [current, next] = store.keys as [StoredSigningKey, StoredSigningKey];
    const swapped = memoryStore([
      { ...current, sealedPrivateKey: next.sealedPrivateKey },
      { ...next, sealedPrivateKey: current.sealedPrivateKey },
    ]);
    await expect(openOn(swapped, masterKeys, algorithm)).rejects.toThrow(/CAMBIST_MASTER_KEY does not open/);
  });

  test("findKey knows no other kid", async () => {
    const keyring = await openOn(store, masterKeys, algorithm);
    for (const kid of ["", "__proto__", "constructor", `${store.keys[0]?.kid} `]) expect(keyring.findKey(kid)).toBeUndefined();
  });
});

describe("the master key", () => {
  test("a wrong one refuses to start, says which key and what to do, and makes no key", async () => {
    const store = memoryStore();
    await openOn(store, newMasterKeys());
    const before = [...store.keys];
    const opening = openOn(store, newMasterKeys());
    await expect(opening).rejects.toThrow(`CAMBIST_MASTER_KEY does not open the stored signing key ${before[0]?.kid}`);
    await expect(opening).rejects.toThrow(/No new signing key was made/);
    expect(store.keys).toEqual(before);
  });

  test("a wrong one makes no key for a newly configured algorithm, or in the place of one that is gone, either", async () => {
    const store = memoryStore();
    await openOn(store, newMasterKeys());
    const wrong = newMasterKeys();
    const before = [...store.keys];
    await expect(openOn(store, wrong, "RS256")).rejects.toThrow(/does not open/);
    expect(store.keys).toEqual(before);
    store.keys.splice(1);
    await expect(openOn(store, wrong)).rejects.toThrow(/does not open/);
    expect(states(store.keys)).toEqual(["ES256 current"]);
  });

  test("rotated, new,old: the stored keys open, go on signing, and open by the new one alone from then on", async () => {
    const store = memoryStore();
    const [oldKey, newKey] = [randomBytes(MASTER_KEY_BYTES), randomBytes(MASTER_KEY_BYTES)];
    const { kid } = (await openOn(store, new MasterKeys([oldKey]))).signer();
    await expect(openOn(store, new MasterKeys([newKey]))).rejects.toThrow(/does not open/);
    expect((await openOn(store, new MasterKeys([newKey, oldKey]))).signer().kid).toBe(kid);
    expect((await openOn(store, new MasterKeys([newKey]))).signer().kid).toBe(kid);
    await expect(openOn(store, new MasterKeys([oldKey]))).rejects.toThrow(/does not open/);
  });

  test("old,new, the step before it: nothing is sealed under the new one yet", async () => {
    const store = memoryStore();
    const [oldKey, newKey] = [randomBytes(MASTER_KEY_BYTES), randomBytes(MASTER_KEY_BYTES)];
    await openOn(store, new MasterKeys([oldKey, newKey]));
    const before = [...store.keys];
    await openOn(store, new MasterKeys([oldKey]));
    expect(store.keys).toEqual(before);
  });
});

describe("another algorithm by configuration", () => {
  test("gets keys of its own; the keys of the former one stay published and go on verifying", async () => {
    const store = memoryStore();
    const masterKeys = newMasterKeys();
    const former = (await openOn(store, masterKeys, "ES256")).signer();
    const token = former.sign(`{"alg":"ES256","kid":"${former.kid}"}`, "{}");
    const keyring = await openOn(store, masterKeys, "RS256");
    expect(states(store.keys)).toEqual(["ES256 current", "ES256 next", "RS256 current", "RS256 next"]);
    expect(keyring.signer().algorithm).toBe("RS256");
    await expect(compactVerify(token, createLocalJWKSet(asJwks(keyring)))).resolves.toBeDefined();
    expect((await openOn(store, masterKeys, "ES256")).signer().kid).toBe(former.kid);
  });
});

describe("on a real store", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createTestDatabase("sqlite");
  });
  afterAll(() => database.drop());

  test("eight nodes that start at once on an empty store sign with one key and publish the same two", async () => {
    const masterKeys = newMasterKeys();
    const first = await database.open();
    await migrate(first);
    const nodes = [first, ...(await Promise.all(Array.from({ length: 7 }, () => database.open())))];
    try {
      const keyrings = await Promise.all(nodes.map((dialect) => openOn(storeOver(dialect).signingKeys, masterKeys)));
      expect(new Set(keyrings.map((keyring) => keyring.signer().kid)).size).toBe(1);
      expect(new Set(keyrings.map((keyring) => JSON.stringify(keyring.jwks()))).size).toBe(1);
      expect(keyrings[0]?.jwks().keys).toHaveLength(2);
      const signer = keyrings[0]?.signer();
      const token = signer?.sign(`{"alg":"ES256","kid":"${signer.kid}"}`, "{}") ?? "";
      for (const keyring of keyrings) await expect(compactVerify(token, createLocalJWKSet(asJwks(keyring)))).resolves.toBeDefined();
    } finally {
      await Promise.all(nodes.map((dialect) => dialect.close()));
    }
    const rows = await database.query("SELECT kid, state FROM signing_keys");
    expect(rows).toHaveLength(2);
  });
});
