import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeBase64url, encodeBase64url, unsignedFromBytes } from "./base64url.ts";

const RUNS = { numRuns: 2000 };

/** Texts near the edge: mostly letters of the alphabet, with what lenient decoders forgive strewn in. */
const nearlyBase64url = fc.string({
  unit: fc.constantFrom(
    ..."A B C D w x y z 0 1 8 9 - _".split(" "),
    ..."A Q g w".split(" "),
    "+",
    "/",
    "=",
    " ",
    "\n",
    "\0",
    ".",
    "é",
    "\u0141",
    "\uff21",
    "😀",
  ),
  maxLength: 24,
});

describe("decodeBase64url", () => {
  test("gives back what was encoded, for every byte string", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(decodeBase64url(encodeBase64url(bytes))).toEqual(bytes);
      }),
      RUNS,
    );
  });

  test("takes no second spelling: what decodes is what encoding gives", () => {
    fc.assert(
      fc.property(nearlyBase64url, (text) => {
        const bytes = decodeBase64url(text);
        expect(bytes === undefined || encodeBase64url(bytes) === text).toBe(true);
      }),
      RUNS,
    );
  });

  test("takes exactly the texts that Node writes, and reads the same bytes out of them", () => {
    fc.assert(
      fc.property(fc.oneof(nearlyBase64url, fc.string({ unit: "binary" })), (text) => {
        const lenient = Buffer.from(text, "base64url");
        const expected = lenient.toString("base64url") === text ? Uint8Array.from(lenient) : undefined;
        expect(decodeBase64url(text)).toEqual(expected);
      }),
      RUNS,
    );
  });

  test("reads all 64 letters, at every place of a group", () => {
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (const text of [alphabet, `A${alphabet}AAA`, `AA${alphabet}AA`, `AAA${alphabet}A`]) {
      expect(decodeBase64url(text)).toEqual(Uint8Array.from(Buffer.from(text, "base64url")));
    }
  });

  test("reads the empty text as no bytes", () => {
    expect(decodeBase64url("")).toEqual(new Uint8Array(0));
  });

  test.each([
    ["padding", "QQ=="],
    ["padding of a whole group", "QUI="],
    ["a space", "QUJD QUJD"],
    ["a line break at the end", "QUJD\n"],
    ["the standard alphabet's +", "QUJ+"],
    ["the standard alphabet's /", "QUJ/"],
    ["a dot", "QU.D"],
    ["a length no byte string has (1)", "Q"],
    ["a length no byte string has (5)", "QUJDQ"],
    ["unused bits set, one byte", "QR"],
    ["the highest unused bit set, one byte", "QY"],
    ["unused bits set, two bytes", "QUJ"],
    ["a letter whose low byte is an A (U+0141)", "QUJ\u0141"],
    ["a letter whose low byte is an A, in the tail", "Q\u0141"],
    ["a full-width A", "QUJ\uff21"],
    ["a lone surrogate", "QUJ\ud800"],
    ["NUL", "QUJ\0"],
  ])("refuses %s", (_what, text) => {
    expect(decodeBase64url(text)).toBeUndefined();
  });
});

describe("encodeBase64url", () => {
  test("writes what Node writes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(encodeBase64url(bytes)).toBe(Buffer.from(bytes).toString("base64url"));
      }),
      RUNS,
    );
  });
});

describe("unsignedFromBytes", () => {
  test("reads big-endian numbers, leading zeros or not", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 300n }), fc.nat({ max: 3 }), (value, zeros) => {
        const digits = value.toString(16);
        const hex = "00".repeat(zeros) + (digits.length % 2 === 0 ? digits : `0${digits}`);
        expect(unsignedFromBytes(Buffer.from(hex, "hex"))).toBe(value);
      }),
    );
  });

  test("reads no bytes as zero", () => {
    expect(unsignedFromBytes(new Uint8Array(0))).toBe(0n);
  });
});
