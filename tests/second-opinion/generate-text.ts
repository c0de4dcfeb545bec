import { Buffer } from "node:buffer";
import * as fc from "fast-check";

/** JSON as it is written, so that what no serializer writes can be written; and base64url as it should not be spelled. */

/** A member as its two texts. */
export type Member = readonly [name: string, value: string];

export type Edit =
  | { readonly edit: "set"; readonly name: string; readonly value: string }
  | { readonly edit: "remove"; readonly name: string }
  /** `first`: before all others, else after them. */
  | { readonly edit: "add"; readonly first: boolean; readonly name: string; readonly value: string };

export function applyEdits(members: readonly Member[], edits: readonly Edit[]): Member[] {
  let edited = [...members];
  for (const { name, ...change } of edits) {
    if (change.edit === "remove") edited = edited.filter(([other]) => other !== name);
    else if (change.edit === "set" && edited.some(([other]) => other === name)) {
      edited = edited.map((member) => (member[0] === name ? [name, change.value] : member));
    } else edited = change.edit === "add" && change.first ? [[name, change.value], ...edited] : [...edited, [name, change.value]];
  }
  return edited;
}

export const quoted = (name: string): string => JSON.stringify(name);

/** The same name with its first letter escaped: equal to a JSON parser, and not to a pattern. */
const escapedName = (name: string): string => `"\\u${name.charCodeAt(0).toString(16).padStart(4, "0")}${name.slice(1)}"`;

/** Every JSON type, and what a lax reader takes for something else. */
export const oddValue: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom("null", "true", "false", "0", "-0", "-1", "1e400", "-1e400", "1e308", "9007199254740993", "1E0", "0.1e1", '""', '"0"'),
  fc.constantFrom(
    "[]",
    "{}",
    "[null]",
    "[[]]",
    '{"length":1}',
    '["a","b"]',
    '"\\u0000"',
    '"\\n"',
    '"\\ud800"',
    '"\\udc00x"',
    '"é😀"',
    '"\\ud83d\\ude00"',
  ),
  fc.constantFrom(31, 32, 33, 200).map((depth) => "[".repeat(depth) + "]".repeat(depth)),
  fc.constantFrom(255, 256, 20_000).map((length) => quoted("s".repeat(length))),
  fc.constantFrom("01", "+1", ".5", "1.", "NaN", "Infinity", "undefined", "'a'", '"\t"', '"\\x"', "/**/1", "tru", ""),
  fc.json({ maxDepth: 2 }),
);

/** Edits of members whose right values are known: most wrong values are near a right one. */
export function editsOf(members: readonly Member[], near: fc.Arbitrary<Member>, strange: fc.Arbitrary<Member>): fc.Arbitrary<Edit[]> {
  const known = fc.constantFrom(...members.map(([name]) => name));
  const edit = fc.oneof(
    { weight: 8, arbitrary: near.map(([name, value]): Edit => ({ edit: "set", name, value })) },
    { weight: 4, arbitrary: fc.tuple(known, oddValue).map(([name, value]): Edit => ({ edit: "set", name, value })) },
    { weight: 1, arbitrary: known.map((name): Edit => ({ edit: "remove", name })) },
    { weight: 2, arbitrary: fc.tuple(strange, fc.boolean()).map(([[name, value], first]): Edit => ({ edit: "add", first, name, value })) },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.constantFrom(...members), fc.boolean(), fc.boolean(), fc.option(oddValue, { nil: undefined }))
        .map(([[name, value], escaped, first, other]): Edit => {
          const again = escaped ? escapedName(JSON.parse(name) as string) : name;
          return { edit: "add", first, name: again, value: other ?? value };
        }),
    },
  );
  return fc.oneof(
    { weight: 6, arbitrary: fc.array(edit, { minLength: 1, maxLength: 1 }) },
    { weight: 1, arbitrary: fc.array(edit, { maxLength: 4 }) },
  );
}

/** What is done to the bytes of a JSON text. */
export type ByteEdit =
  | "none"
  | "bom"
  | "utf16"
  | "spaced"
  | "trailing comma"
  | "trailing text"
  | "in an array"
  | "latin1 byte"
  | "overlong"
  | "cut"
  | "nothing";
export const byteEdit: fc.Arbitrary<ByteEdit> = fc.constantFrom<ByteEdit[]>(
  ...(["bom", "utf16", "spaced", "trailing comma", "trailing text", "in an array", "latin1 byte", "overlong", "cut", "nothing"] as const),
);

export function bytesOf(members: readonly Member[], edit: ByteEdit): Buffer {
  const text = `{${members.map(([name, value]) => `${name}:${value}`).join(",")}}`;
  switch (edit) {
    case "none":
      return Buffer.from(text);
    case "bom":
      return Buffer.from(`\ufeff${text}`);
    case "utf16":
      return Buffer.from(text, "utf16le");
    case "spaced":
      return Buffer.from(`\t${text.replaceAll(/[,{}]/g, " $&\r\n")}`);
    case "trailing comma":
      return Buffer.from(`${text.slice(0, -1)},}`);
    case "trailing text":
      return Buffer.from(`${text}{}`);
    case "in an array":
      return Buffer.from(`[${text}]`);
    case "latin1 byte":
      return Buffer.from(text.replace('":"', '":"\u00e9'), "latin1");
    case "overlong":
      return Buffer.from(text.replace('":"', '":"\u00c0\u00af'), "latin1");
    case "cut":
      return Buffer.from(text).subarray(0, -1);
    case "nothing":
      return Buffer.alloc(0);
  }
}

/** Another spelling of base64url; `at` is a place in the text, 0 to 1. */
export type Spelling = {
  readonly how: "space" | "line feed" | "vertical tab" | "nbsp" | "=" | "==" | "bits" | "alphabet" | "letter" | "?" | "nul";
  readonly at: number;
};
export const spelling: fc.Arbitrary<Spelling> = fc.record({
  how: fc.constantFrom(...(["space", "line feed", "vertical tab", "nbsp", "=", "==", "bits", "alphabet", "letter", "?", "nul"] as const)),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
});

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const INSERTED = { space: " ", "line feed": "\n", "vertical tab": "\v", nbsp: "\u00a0", letter: "A", "?": "?", nul: "\0" } as const;

export function respell(text: string, { how, at }: Spelling): string {
  if (how === "=" || how === "==") return text + how;
  if (how === "bits") return text.slice(0, -1) + (LETTERS[LETTERS.indexOf(text.at(-1) ?? "") ^ 1] ?? "");
  if (how === "alphabet") return text.replaceAll("-", "+").replaceAll("_", "/");
  const place = Math.round(at * text.length);
  return text.slice(0, place) + INSERTED[how] + text.slice(place);
}
