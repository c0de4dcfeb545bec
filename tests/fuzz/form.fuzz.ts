import * as fc from "fast-check";
import { describe, expect } from "vitest";
import { FORM_PARAMETERS_MAX } from "../../packages/protocol/src/constants.ts";
import { parseForm } from "../../packages/protocol/src/form.ts";
import { fuzz, type Tally } from "./fuzz.ts";

const FORM = "application/x-www-form-urlencoded";

/** One character per byte, as the server hands a body over. */
const byte = fc.nat({ max: 255 }).map((code) => String.fromCharCode(code));
const NAMES = [
  "grant_type",
  "subject_token",
  "scope",
  "audience",
  "resource",
  "client_id",
  "__proto__",
  "a",
  "",
  "%61",
  "A",
  "a%00",
  "%C3%A9",
  "%ff",
];
const VALUES = [
  "",
  "x",
  "+",
  "a+b++c",
  "%2B",
  "%25",
  "%2541",
  "%26",
  "%3D",
  "%00",
  "%C3%A9",
  "%c3%a9",
  "%EF%BB%BF",
  "a=b",
  "a;b",
  "https%3A%2F%2Fas.example",
];
const BROKEN = [
  "%",
  "%4",
  "%zz",
  "%u0041",
  "%ff",
  "%80",
  "%c3",
  "%C0%AF",
  "%ED%A0%80",
  "%F4%90%80%80",
  "%e2%82",
  "\u00e9",
  "\u00ff",
  "\u0080",
];
const pair = fc.oneof(
  { weight: 12, arbitrary: fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...VALUES)).map(([name, value]) => `${name}=${value}`) },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }))
      .map(([name, value]) => String(new URLSearchParams([[name, value]]))),
  },
  { weight: 2, arbitrary: fc.constantFrom(...NAMES, "", "=", "==", "?a=1", "#", "a=1;b=2") },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(...BROKEN), fc.boolean()).map(([text, isName]) => (isName ? `${text}=1` : `b=${text}`)),
  },
  { weight: 1, arbitrary: fc.array(byte, { maxLength: 12 }).map((bytes) => bytes.join("")) },
);
const body = fc.oneof(
  { weight: 12, arbitrary: fc.array(pair, { maxLength: 6 }).map((pairs) => pairs.join("&")) },
  { weight: 2, arbitrary: fc.array(byte, { maxLength: 60 }).map((bytes) => bytes.join("")) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.integer({ min: 60, max: 70 }), fc.constantFrom("", "x", "&"), pair)
      .map(([count, value, last]) => `${Array.from({ length: count }, (_, i) => `p${i}=${value}`).join("&")}&${last}`),
  },
);

/** RFC 6749 appendix B by way of bytes: `undefined` for an escape that is none, a byte over 7F, or what is not UTF-8. */
function decodedByBytes(text: string): string | undefined {
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return undefined;
    if (code !== 0x25) bytes.push(code === 0x2b ? 0x20 : code);
    else {
      const digits = text.slice(i + 1, i + 3);
      if (!/^[0-9A-Fa-f]{2}$/.test(digits)) return undefined;
      bytes.push(Number.parseInt(digits, 16));
      i += 2;
    }
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}

/** The form a second time, by splitting. What comes first in the body is what is refused. */
function expectedOf(text: string): unknown {
  const pairs = text === "" ? [] : text.replace(/&$/, "").split("&");
  const form = new Map<string, string>();
  for (const [i, one] of pairs.entries()) {
    if (i >= FORM_PARAMETERS_MAX) return { ok: false, fault: { code: "parameters_too_many", countMax: FORM_PARAMETERS_MAX } };
    if (one === "") continue;
    const [first = "", ...rest] = one.split("=");
    const [name, value] = [decodedByBytes(first), decodedByBytes(rest.join("="))];
    if (name === undefined || value === undefined) return { ok: false, fault: { code: "form_malformed" } };
    if (form.has(name)) {
      const isTarget = name === "audience" || name === "resource";
      return { ok: false, fault: isTarget ? { code: "target_repeated" } : { code: "parameter_repeated", parameter: name } };
    }
    form.set(name, value);
  }
  return { ok: true, value: new Map([...form].filter(([, value]) => value !== "")) };
}

const outcome = (form: ReturnType<typeof parseForm>): string => (form.ok ? "accepted" : form.fault.code);

describe("parseForm", () => {
  fuzz(
    "a body is read, or refused for what is wrong in it, as by a second reader that goes by bytes",
    { short: 2000, long: 1_000_000 },
    ["accepted", "form_malformed", "parameter_repeated", "parameters_too_many"],
    body,
    (text, tally) => {
      const form = parseForm(FORM, text);
      tally.count(outcome(form));
      expect(form).toEqual(expectedOf(text));
    },
  );

  fuzz(
    "what is accepted, URLSearchParams reads the same, and writes again so that it is read the same",
    { short: 1000, long: 600_000 },
    ["accepted"],
    body,
    (text, tally) => {
      const form = parseForm(FORM, text);
      tally.count(outcome(form));
      if (!form.ok) return;
      // Without the & it would drop a leading question mark. An empty value is none with us (RFC 6749 §3.2).
      const all = [...new URLSearchParams(`&${text}`)];
      expect([...form.value]).toEqual(all.filter(([, value]) => value !== ""));
      expect(new Set(all.map(([name]) => name)).size).toBe(all.length);
      for (const part of [...form.value].flat()) expect(part.isWellFormed()).toBe(true);
      expect(parseForm(FORM, String(new URLSearchParams([...form.value])))).toEqual(form);
    },
  );

  fuzz(
    "a name that is there cannot be added again, however it is spelled and whatever its value (RFC 6749 §3.2)",
    { short: 1000, long: 600_000 },
    ["parameter_repeated", "target_repeated"],
    fc.tuple(body, fc.nat(), fc.nat(), fc.boolean(), fc.constantFrom("", "=", "=x")),
    ([text, which, letter, first, value], tally) => expectNoSecond({ text, which, letter, first, value }, tally),
  );

  /** The five spellings that pass; the letter case is anyone's. */
  const PASSING = new Set([
    "",
    ...["; ", ";"].flatMap((separator) => ['"utf-8"', "utf-8"].map((charset) => `${separator}charset=${charset}`)),
  ]);
  const piece = fc.constantFrom(
    ...'application /x-www-form-urlencoded ; charset = utf-8 " , \t \u212a \u017f a=b'.split(" "),
    " ",
    FORM,
    FORM.toUpperCase(),
  );
  const mediaType = fc.oneof(
    fc
      .tuple(fc.constantFrom(FORM, FORM.toUpperCase(), "Application/X-WWW-Form-URLEncoded"), fc.constantFrom(...PASSING))
      .map((parts) => parts.join("")),
    fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join("")),
    fc
      .tuple(
        fc.constantFrom(" ", "  ", "", "\t"),
        fc.constantFrom(" ", "  ", "", "\t"),
        fc.constantFrom("utf-8", '"utf-8"', '"utf-8', "utf-16", "utf8"),
      )
      .map(([before, after, charset]) => `${FORM}${before};${after}charset=${charset}`),
    fc
      .tuple(fc.constantFrom(...PASSING), fc.nat({ max: 60 }), fc.string({ unit: "binary", maxLength: 2 }), fc.nat({ max: 2 }))
      .map(([parameters, at, text, cut]) => `${FORM}${parameters}`.slice(0, at) + text + `${FORM}${parameters}`.slice(at + cut)),
  );
  fuzz(
    "one media type passes, in its few spellings, and no other",
    { short: 1000, long: 600_000 },
    ["accepted", "media_type_unsupported"],
    mediaType,
    (text, tally) => {
      const form = parseForm(text, "a=1");
      tally.count(outcome(form));
      const lower = text.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase()); // of ASCII: U+212A is no k
      expect(form.ok).toBe(lower.startsWith(FORM) && PASSING.has(lower.slice(FORM.length)));
    },
  );
});

interface Second {
  readonly text: string;
  readonly which: number;
  readonly letter: number;
  readonly first: boolean;
  readonly value: string;
}

function expectNoSecond({ text, which, letter, first, value }: Second, tally: Tally): void {
  const form = parseForm(FORM, text);
  const names = form.ok ? [...form.value.keys()] : [];
  if (names.length === 0) return;
  const name = names[which % names.length] ?? "";
  const bytes = [...new TextEncoder().encode(name)].map((code) => `%${code.toString(16).padStart(2, "0")}`);
  // One byte escaped in the other letter case, or all of them; a lone = has no name to leave out.
  const spelled = letter % 2 === 0 ? bytes.join("") : bytes.join("").toUpperCase();
  const again = `${spelled}${name === "" && value === "" ? "=" : value}`;
  const twice = parseForm(FORM, first ? `${again}&${text}` : `${text}&${again}`);
  tally.count(outcome(twice));
  expect(twice.ok).toBe(false);
  if (twice.ok || twice.fault.code === "parameters_too_many") return;
  expect(twice.fault).toEqual(
    name === "audience" || name === "resource" ? { code: "target_repeated" } : { code: "parameter_repeated", parameter: name },
  );
}
