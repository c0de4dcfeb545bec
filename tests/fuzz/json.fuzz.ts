import * as fc from "fast-check";
import { describe, expect } from "vitest";
import { JSON_DEPTH_MAX } from "../../packages/protocol/src/constants.ts";
import { type JsonFault, parseStrictJson } from "../../packages/protocol/src/jwt/strict-json.ts";
import { decodeUtf8 } from "../../packages/protocol/src/jwt/utf8.ts";
import { forgivenBy } from "../second-opinion/lenient.ts";
import { fuzz } from "./fuzz.ts";

/** What a token holds, below the gate: UTF-8 and JSON. */

const STRANGE = [
  "\ufeff",
  "\0",
  "\\",
  "\\u",
  '\\ud800"',
  '"\\ud83d\\ude00"',
  "'",
  "/**/",
  "//",
  "\u00a0",
  "\u2028",
  "\v",
  "01",
  "+1",
  ".5",
  "1.",
  "-",
  "-0",
  "1e400",
  "1E-400",
  "NaN",
  "tru",
];
const SYNTAX = [..."{}[],:".split(""), '"a"', '"b"', '"\\u0061"', '"__proto__"', "null", "true", "1", "0.1e1", " ", "\n", ...STRANGE];
const text = fc.oneof(
  fc.json({ maxDepth: 4, noUnicodeString: false }),
  fc.array(fc.constantFrom(...SYNTAX), { maxLength: 14 }).map((pieces) => pieces.join("")),
  fc.tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.constantFrom(...SYNTAX), fc.nat({ max: 2 })).map(([json, at, piece, cut]) => {
    const place = at % (json.length + 1);
    return json.slice(0, place) + piece + json.slice(place + cut);
  }),
  fc
    .array(fc.constantFrom("1e400", "-1e400", "1e308", "1E-400", "0e999", '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', "[]"), {
      minLength: 1,
      maxLength: 3,
    })
    .map((values) => `[${values.join(",")}]`),
  // An object is the likelier to repeat a name, the fewer names there are.
  fc
    .array(fc.tuple(fc.constantFrom('"a"', '"b"', '"\\u0061"', '"A"', '"__proto__"', '"toString"', '""'), fc.json({ maxDepth: 1 })), {
      maxLength: 4,
    })
    .map((members) => `{${members.map(([name, value]) => `${name}:${value}`).join(",")}}`),
  fc.tuple(fc.constantFrom("[", '{"a":', '[{"b":'), fc.integer({ min: 10, max: 40 }), fc.boolean()).map(([open, depth, closed]) => {
    const close = open.replaceAll(/[^{[]/g, "").replaceAll("[", "]").replaceAll("{", "}").split("").toReversed().join("");
    return `${open.repeat(depth)}1${closed ? close.repeat(depth) : ""}`;
  }),
);

function jsonParse(from: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(from) as unknown };
  } catch {
    return undefined;
  }
}

/** Which of our rules a text breaks that JSON.parse takes. */
function brokenBy(from: string): JsonFault["code"][] {
  const { repeatedNames, depth, infinite, loneSurrogate } = forgivenBy(from);
  const broken: JsonFault["code"][] = [];
  if (repeatedNames.length > 0) broken.push("name_repeated");
  if (depth > JSON_DEPTH_MAX) broken.push("too_deep");
  if (infinite) broken.push("number_not_finite");
  if (loneSurrogate) broken.push("lone_surrogate");
  return broken;
}

describe("parseStrictJson", () => {
  fuzz(
    "takes what JSON.parse takes and I-JSON allows, and reads the same; refuses the rest, by the rule that it breaks",
    { short: 4000, long: 1_000_000 },
    ["accepted", "syntax", "name_repeated", "too_deep", "number_not_finite", "lone_surrogate"],
    text,
    (from, tally) => {
      const ours = parseStrictJson(from);
      const theirs = jsonParse(from);
      tally.count(ours.ok ? "accepted" : ours.fault.code);
      const broken = theirs === undefined ? [] : brokenBy(from);
      expect(ours.ok).toBe(theirs !== undefined && broken.length === 0);
      if (!ours.ok && theirs !== undefined) expect(broken).toContain(ours.fault.code);
      // As text: −0 aside, equal texts are equal values, whatever their prototypes; ours have none of Object's.
      if (ours.ok) expect(JSON.stringify(ours.value)).toBe(JSON.stringify(theirs?.value));
      if (ours.ok && typeof ours.value === "object" && ours.value !== null && !Array.isArray(ours.value))
        expect("toString" in ours.value).toBe(Object.hasOwn(ours.value, "toString"));
    },
  );
});

const EDGES = [
  0x00, 0x25, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xa0, 0x9f, 0xed, 0xef, 0xbb, 0xbe, 0xf0, 0x90, 0x8f, 0xf4, 0xf5, 0xff,
];
const bytes = fc.oneof(
  fc
    .array(fc.constantFrom("%", "%41", "%C3%A9", "a", "é", "\u20ac", "😀", "\ufeff"), { maxLength: 4 })
    .map((pieces) => new TextEncoder().encode(pieces.join(""))),
  fc.uint8Array({ maxLength: 12 }),
  fc.array(fc.constantFrom(...EDGES), { maxLength: 8 }).map((codes) => Uint8Array.from(codes)),
  fc.string({ unit: "binary" }).map((chars) => new TextEncoder().encode(chars)),
  fc.tuple(fc.string({ unit: "binary", minLength: 1 }), fc.nat(), fc.nat({ max: 255 })).map(([chars, at, put]) => {
    const encoded = new TextEncoder().encode(chars);
    encoded[at % encoded.length] = put;
    return encoded;
  }),
);

describe("decodeUtf8", () => {
  fuzz(
    "reads what a strict TextDecoder reads, byte order mark and all, and nothing else",
    { short: 2000, long: 1_000_000 },
    ["accepted", "refused"],
    bytes,
    (from, tally) => {
      let expected: string | undefined;
      try {
        expected = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(from);
      } catch {
        expected = undefined;
      }
      tally.count(expected === undefined ? "refused" : "accepted");
      expect(decodeUtf8(from)).toBe(expected);
    },
  );
});
