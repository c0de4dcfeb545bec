import { Buffer } from "node:buffer";
import { createHash, createHmac, hkdfSync, randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MASTER_KEY_BYTES, MasterKeys } from "./master-key.ts";

const OLD = randomBytes(MASTER_KEY_BYTES);
const NEW = randomBytes(MASTER_KEY_BYTES);
const OTHER = randomBytes(MASTER_KEY_BYTES);
const old = new MasterKeys([OLD]);
/** As CAMBIST_MASTER_KEY=new,old. */
const rotated = new MasterKeys([NEW, OLD]);
const SECRET = "a-secret-of-a-partner";

describe("secrets", () => {
  test("are found again, at their place among others", () => {
    const hashes = ["a", SECRET, "b"].map((secret) => old.hashSecret(secret));
    expect(old.findSecret(SECRET, hashes)).toBe(1);
    expect(old.findSecret("b", hashes)).toBe(2);
  });

  test("are not found by any other secret, whatever it looks like", () => {
    const hashes = [old.hashSecret(SECRET)];
    for (const other of ["", " ", `${SECRET} `, ` ${SECRET}`, SECRET.toUpperCase(), SECRET.slice(1), `${SECRET}\0`, "x".repeat(60_000)]) {
      expect(old.findSecret(other, hashes)).toBe(-1);
    }
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (one, two) => {
        expect(old.findSecret(two, [old.hashSecret(one)])).toBe(one === two ? 0 : -1);
      }),
      { numRuns: 300 },
    );
  });

  test("are not found where there is nothing to compare with", () => {
    expect(old.findSecret(SECRET, [])).toBe(-1);
    expect(old.findSecret("", [])).toBe(-1);
  });

  test("are kept as HMAC-SHA-256 under a derived pepper: neither plain, nor a bare digest, nor under the master key itself", () => {
    const { hash, pepperId } = old.hashSecret(SECRET);
    const pepper = Buffer.from(hkdfSync("sha256", OLD, "", "cambist pepper v1", 32));
    expect(Buffer.from(hash)).toEqual(createHmac("sha256", pepper).update(SECRET).digest());
    expect(Buffer.from(hash)).not.toEqual(createHash("sha256").update(SECRET).digest());
    expect(Buffer.from(hash)).not.toEqual(createHmac("sha256", OLD).update(SECRET).digest());
    expect(pepperId).toMatch(/^[A-Za-z0-9_-]{8}$/);
    expect(OLD.toString("base64url")).not.toContain(pepperId);
  });

  test("have one hash under one master key, and another under another", () => {
    expect(new MasterKeys([OLD]).hashSecret(SECRET)).toEqual(old.hashSecret(SECRET));
    expect(new MasterKeys([OTHER]).hashSecret(SECRET).hash).not.toEqual(old.hashSecret(SECRET).hash);
  });

  test("under a pepper that is not in the list are not found, and do not hide the others", () => {
    const foreign = new MasterKeys([OTHER]).hashSecret(SECRET);
    expect(old.findSecret(SECRET, [foreign])).toBe(-1);
    expect(old.findSecret(SECRET, [foreign, old.hashSecret(SECRET), foreign])).toBe(1);
  });

  test("are not found by a hash that is right under a pepper id that is not", () => {
    const { hash } = old.hashSecret(SECRET);
    expect(old.findSecret(SECRET, [{ hash, pepperId: "" }])).toBe(-1);
    expect(old.findSecret(SECRET, [{ hash, pepperId: "AAAAAAAA" }])).toBe(-1);
    expect(rotated.findSecret(SECRET, [{ hash, pepperId: rotated.hashSecret("x").pepperId }])).toBe(-1);
  });

  test("an all-zero hash under an empty pepper id, which stands for nobody, fits no secret", () => {
    expect(old.findSecret(SECRET, [{ hash: new Uint8Array(32), pepperId: "" }])).toBe(-1);
  });
});

describe("rotation, new,old", () => {
  test("what was hashed under the old key is found, and what is new is hashed under the new one", () => {
    const before = old.hashSecret(SECRET);
    const after = rotated.hashSecret(SECRET);
    expect(after).toEqual(new MasterKeys([NEW]).hashSecret(SECRET));
    expect(after.pepperId).not.toBe(before.pepperId);
    expect(rotated.findSecret(SECRET, [before])).toBe(0);
    expect(rotated.findSecret(SECRET, [after])).toBe(0);
    expect(rotated.findSecret("another", [before, after])).toBe(-1);
  });

  test("what was sealed under the old key is opened, and what is new is sealed under the new one", () => {
    const before = old.seal(Buffer.from("key"), "c");
    const after = rotated.seal(Buffer.from("key"), "c");
    expect(rotated.open(before.sealed, before.keyId, "c")).toEqual(Buffer.from("key"));
    expect(new MasterKeys([NEW]).open(after.sealed, after.keyId, "c")).toEqual(Buffer.from("key"));
    expect(old.open(after.sealed, after.keyId, "c")).toBeUndefined();
  });

  test("once the old key has left the list, nothing of it is found or opened", () => {
    const done = new MasterKeys([NEW]);
    const { sealed, keyId } = old.seal(Buffer.from("key"), "c");
    expect(done.findSecret(SECRET, [old.hashSecret(SECRET)])).toBe(-1);
    expect(done.open(sealed, keyId, "c")).toBeUndefined();
  });

  test("the order in the list matters only for what is new", () => {
    const reversed = new MasterKeys([OLD, NEW]);
    expect(reversed.hashSecret(SECRET)).toEqual(old.hashSecret(SECRET));
    expect(reversed.findSecret(SECRET, [rotated.hashSecret(SECRET)])).toBe(0);
  });
});

describe("sealed bytes", () => {
  const plain = Buffer.from("a private key in PKCS#8");
  const { sealed, keyId } = old.seal(plain, "signing key k1");

  test("are opened again, any bytes in any context", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.string({ unit: "binary" }), (bytes, context) => {
        const { sealed: text, keyId: id } = old.seal(bytes, context);
        expect(Buffer.from(old.open(text, id, context) ?? "nothing")).toEqual(Buffer.from(bytes));
      }),
      { numRuns: 300 },
    );
  });

  test("do not show what they hold, and are other bytes each time", () => {
    expect(Buffer.from(sealed).includes(plain.subarray(0, 4))).toBe(false);
    const again = old.seal(plain, "signing key k1");
    expect(Buffer.from(again.sealed).subarray(0, 12)).not.toEqual(Buffer.from(sealed).subarray(0, 12));
    expect(Buffer.from(again.sealed).subarray(28)).not.toEqual(Buffer.from(sealed).subarray(28));
    expect(sealed).toHaveLength(12 + 16 + plain.length);
  });

  test("are not opened with any one bit changed: iv, tag or body", () => {
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Uint8Array.from(sealed, (byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
      expect(old.open(changed, keyId, "signing key k1")).toBeUndefined();
    }
    expect(old.open(sealed, keyId, "signing key k1")).toEqual(plain);
  });

  test("are not opened cut short or made longer, and nothing throws", () => {
    for (let length = 0; length < sealed.length; length++) {
      expect(old.open(sealed.subarray(0, length), keyId, "signing key k1")).toBeUndefined();
    }
    expect(old.open(Buffer.concat([sealed, Buffer.of(0)]), keyId, "signing key k1")).toBeUndefined();
  });

  test.each(["signing key k2", "signing key k1 ", "", "Signing key k1"])("are not opened in the context %j", (context) => {
    expect(old.open(sealed, keyId, context)).toBeUndefined();
  });

  test("are not opened by another master key, whatever key id is claimed", () => {
    const other = new MasterKeys([OTHER]);
    expect(other.open(sealed, keyId, "signing key k1")).toBeUndefined();
    expect(other.open(sealed, other.seal(plain, "x").keyId, "signing key k1")).toBeUndefined();
    expect(old.open(sealed, "", "signing key k1")).toBeUndefined();
    expect(rotated.open(sealed, rotated.seal(plain, "x").keyId, "signing key k1")).toBeUndefined();
  });

  test("name the same master key as the secrets' pepper does, so that an operator sees when one is no longer needed", () => {
    expect(keyId).toBe(old.hashSecret(SECRET).pepperId);
  });
});
