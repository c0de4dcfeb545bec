import { createHmac, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { KeyedHash } from "./keyed-hash.ts";

test("RFC 4231 §4.2 and §4.3", () => {
  const hex = (key: Uint8Array, text: string) => Buffer.from(new KeyedHash(key).digest(text)).toString("hex");
  expect(hex(Buffer.alloc(20, 0x0b), "Hi There")).toBe("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  expect(hex(Buffer.from("Jefe"), "what do ya want for nothing?")).toBe("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
});

test("is HMAC-SHA-256 for keys up to a block and texts of every length and kind, one after the other", () => {
  for (const length of [0, 1, 31, 32, 63, 64]) {
    const key = randomBytes(length);
    const keyed = new KeyedHash(key);
    for (const text of ["", "a", "é€😀", "\u{d800}", "x".repeat(255), "€".repeat(256), "x".repeat(257), "😀".repeat(5_000), "a"]) {
      expect(Buffer.from(keyed.digest(text)).equals(createHmac("sha256", key).update(text).digest()), `${length} ${text.length}`).toBe(
        true,
      );
    }
  }
});
