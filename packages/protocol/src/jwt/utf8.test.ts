import { Buffer } from "node:buffer";
import { TextDecoder } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeUtf8 } from "./utf8.ts";

const RUNS = { numRuns: 3000 };
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function reference(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

const bytes = (...values: number[]) => Uint8Array.from(values);

/** Lead, continuation and forbidden bytes far more often than chance has them; "%", digits and "u", which an escape is made of. */
const edgeByte = fc.constantFrom(...Buffer.from("0025323541757f808f909fa0bbbfc0c1c2dfe0edeff0f4f5f8fcfeff", "hex"));
const nearlyUtf8 = fc.array(edgeByte, { maxLength: 12 }).map((values) => Uint8Array.from(values));

/** Good text with one byte changed. */
const damaged = fc.tuple(fc.string({ unit: "binary", minLength: 1 }), fc.nat(), edgeByte).map(([text, at, byte]) => {
  const encoded = Uint8Array.from(Buffer.from(text));
  encoded[at % encoded.length] = byte;
  return encoded;
});

describe("decodeUtf8", () => {
  test("reads and refuses what a fatal TextDecoder reads and refuses, for any bytes", () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 40 }), nearlyUtf8, damaged), (input) => {
        expect(decodeUtf8(input)).toBe(reference(input));
      }),
      RUNS,
    );
  });

  test("gives back every text that has no lone surrogate", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        expect(decodeUtf8(Buffer.from(text))).toBe(text);
      }),
      RUNS,
    );
  });

  test("never takes a percent sign for an escape, beside letters outside ASCII or alone", () => {
    for (const text of ["%41", "%", "%%", "%é", "é%41", "%C3%A9é", "%u0041é", "é%2541"]) {
      expect(decodeUtf8(Buffer.from(text))).toBe(text);
    }
  });

  test("keeps a byte order mark, for the JSON parser to refuse", () => {
    expect(decodeUtf8(bytes(0xef, 0xbb, 0xbf, 0x7b, 0x7d))).toBe("\ufeff{}");
  });

  test("reads texts longer than one chunk, whole and in order", () => {
    const ascii = Array.from({ length: 10_000 }, (_, i) => String.fromCharCode(32 + (i % 95))).join("");
    expect(decodeUtf8(Buffer.from(ascii))).toBe(ascii);
    expect(decodeUtf8(Buffer.from(`${ascii}é`))).toBe(`${ascii}é`);
  });

  test("reads no bytes as the empty text", () => {
    expect(decodeUtf8(bytes())).toBe("");
  });

  test("reads a view into a larger buffer, and no byte around it", () => {
    const buffer = Buffer.from("xxé!yy");
    expect(decodeUtf8(buffer.subarray(2, 5))).toBe("é!");
  });

  test.each([
    ["a continuation byte alone", bytes(0x80)],
    ["a lead byte alone", bytes(0xc3)],
    ["a lead byte before ASCII", bytes(0xc3, 0x28)],
    ["an overlong NUL (C0 80)", bytes(0xc0, 0x80)],
    ["an overlong slash (C0 AF)", bytes(0xc0, 0xaf)],
    ["an overlong slash of three bytes", bytes(0xe0, 0x80, 0xaf)],
    ["an overlong slash of four bytes", bytes(0xf0, 0x80, 0x80, 0xaf)],
    ["a high surrogate (CESU-8)", bytes(0xed, 0xa0, 0x80)],
    ["a surrogate pair (CESU-8)", bytes(0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80)],
    ["a code point over U+10FFFF", bytes(0xf4, 0x90, 0x80, 0x80)],
    ["five bytes", bytes(0xf8, 0x88, 0x80, 0x80, 0x80)],
    ["a sequence that is cut", bytes(0xf0, 0x9f, 0x98)],
    ["latin1", bytes(0x63, 0x61, 0x66, 0xe9)],
    ["UTF-16, little endian", bytes(0xff, 0xfe, 0x7b, 0x00)],
    ["UTF-16, big endian", bytes(0xfe, 0xff, 0x00, 0x7b)],
  ])("refuses %s", (_what, input) => {
    expect(decodeUtf8(input)).toBeUndefined();
  });
});
