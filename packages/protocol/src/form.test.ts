import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FORM_PARAMETERS_MAX } from "./constants.ts";
import { decodeFormComponent, parseForm, requireParameter } from "./form.ts";

const FORM = "application/x-www-form-urlencoded";
const RUNS = { numRuns: 2000 };

function entriesOf(body: string): Record<string, string> {
  const form = parseForm(FORM, body);
  if (!form.ok) throw new Error(form.fault.code);
  return Object.fromEntries(form.value);
}

function faultOf(body: string, mediaType: string | undefined = FORM): unknown {
  const form = parseForm(mediaType, body);
  return form.ok ? undefined : form.fault;
}

describe("the media type", () => {
  test.each([
    FORM,
    "Application/X-WWW-Form-URLEncoded",
    `${FORM};charset=utf-8`,
    `${FORM}; charset=UTF-8`,
    `${FORM}; charset="utf-8"`,
    `${FORM}; Charset=Utf-8`,
  ])("%s is a form", (mediaType) => {
    expect(parseForm(mediaType, "a=1")).toEqual({ ok: true, value: new Map([["a", "1"]]) });
  });

  test.each([
    "",
    "text",
    "text/plain",
    "text/[html]",
    "</><script>",
    "application/json",
    "multipart/form-data; boundary=x",
    "*/*",
    ` ${FORM}`,
    `${FORM} `,
    `${FORM}\t;a=b`,
    `${FORM};`,
    `${FORM}; `,
    `${FORM};a=b`,
    `${FORM};charset=utf-8;a=b`,
    `${FORM}\n`,
    `${FORM};  charset=utf-8`,
    `${FORM}; charset=latin1`,
    `${FORM}; charset=utf-16`,
    `${FORM}; charset=utf-88`,
    `${FORM}; charset=`,

    `${FORM}; charset="utf-8`,
    `${FORM}; charset=utf-8"`,
    `${FORM}, application/json`,
    `application/json, ${FORM}`,
    `${FORM}ed`,
    `x${FORM}`,
  ])("%j is refused, and the body is not read", (mediaType) => {
    expect(faultOf("a=1&a=2", mediaType)).toEqual({ code: "media_type_unsupported", got: mediaType });
  });

  test("none at all is refused", () => {
    expect(parseForm(undefined, "a=1")).toEqual({ ok: false, fault: { code: "media_type_unsupported", got: undefined } });
  });
});

describe("parameters", () => {
  test.each<[string, string, Record<string, string>]>([
    ["no body", "", {}],
    ["one", "a=1", { a: "1" }],
    ["+ is a space", "a+b=c+d", { "a b": "c d" }],
    ["an escaped + is a plus", "a=1%2B2", { a: "1+2" }],
    ["escapes of either case", "a=%c3%A9", { a: "é" }],
    ["an escaped percent sign is decoded once", "a=%2541", { a: "%41" }],
    ["escaped separators do not separate", "a=b%26c%3Dd", { a: "b&c=d" }],
    ["= in a value", "a=b=c", { a: "b=c" }],
    ["; does not separate", "a=1;b=2", { a: "1;b=2" }],
    ["a name without =", "a&b=1", { b: "1" }],
    ["an empty value is not there", "a=&b=1", { b: "1" }],
    ["a value that is a space is there", "a=+", { a: " " }],
    ["empty pairs", "&a=1&&b=2&", { a: "1", b: "2" }],
    [
      "a name of Object.prototype",
      "__proto__=1&constructor=2",
      JSON.parse('{"__proto__":"1","constructor":"2"}') as Record<string, string>,
    ],
    ["names differ by letter case", "scope=a&Scope=b", { scope: "a", Scope: "b" }],
    ["NUL is a character", "a=%00", { a: "\0" }],
    ["a BOM is a character", "a=%EF%BB%BFx", { a: "\ufeffx" }],
    ["a name in brackets is that name", "a[]=1&a[b]=2", { "a[]": "1", "a[b]": "2" }],
  ])("%s", (_what, body, expected) => {
    expect(entriesOf(body)).toEqual(expected);
  });

  test("a parameter without a value is missing", () => {
    const form = parseForm(FORM, "scope=&grant_type=x");
    if (!form.ok) throw new Error(form.fault.code);
    expect(requireParameter(form.value, "scope")).toEqual({ ok: false, fault: { code: "parameter_missing", parameter: "scope" } });
    expect(requireParameter(form.value, "grant_type")).toEqual({ ok: true, value: "x" });
    expect(requireParameter(form.value, "toString").ok).toBe(false);
  });

  test.each<[string, string, string]>([
    ["with one value", "grant_type=a&grant_type=a", "grant_type"],
    ["with two", "client_id=a&client_id=b", "client_id"],
    ["one of them empty", "scope=&scope=thread", "scope"],
    ["both empty", "scope=&scope=", "scope"],
    ["one of them without =", "scope&scope=thread", "scope"],
    ["one of them escaped", "scope=a&%73cope=b", "scope"],
    ["far apart", "a=1&b=2&c=3&a=4", "a"],
    ["one that nobody knows", "x=1&x=2", "x"],
    ["without a name", "=1&=2", ""],
  ])("400: a name twice, %s", (_what, body, parameter) => {
    expect(faultOf(body)).toEqual({ code: "parameter_repeated", parameter });
  });

  test.each(["audience", "resource"])(
    "400 invalid_target: %s may repeat by RFC 8693, and a second one is a target that is not offered",
    (name) => {
      expect(faultOf(`${name}=a&${name}=a`)).toEqual({ code: "target_repeated" });
      expect(entriesOf(`${name}=a`)).toEqual({ [name]: "a" });
    },
  );

  test("one audience beside one resource is not a repetition: the grant decides", () => {
    expect(entriesOf("audience=a&resource=b")).toEqual({ audience: "a", resource: "b" });
  });

  test("64 are read, and the 65th is refused", () => {
    const body = (count: number) => Array.from({ length: count }, (_, i) => `p${i}=${i}`).join("&");
    expect(FORM_PARAMETERS_MAX).toBe(64);
    expect(Object.keys(entriesOf(body(64)))).toHaveLength(64);
    expect(faultOf(body(65))).toEqual({ code: "parameters_too_many", countMax: 64 });
  });

  test("a body of nothing but separators, or of empty parameters, is not walked to its end", () => {
    expect(faultOf("&".repeat(65_536))).toEqual({ code: "parameters_too_many", countMax: 64 });
    expect(faultOf(Array.from({ length: 9_000 }, (_, i) => `p${i}=`).join("&"))).toEqual({ code: "parameters_too_many", countMax: 64 });
  });
});

describe("decoding", () => {
  test.each([
    ["a broken escape", "%zz"],
    ["an escape that is cut", "%4"],
    ["a percent sign at the end", "100%"],
    ["a percent sign alone", "%"],
    ["%u0041", "%u0041"],
    ["an escape with a sign in it", "%+1"],
    ["FF", "%ff"],
    ["a continuation byte alone", "%80"],
    ["a sequence that is cut", "%c3"],
    ["a sequence broken by a letter", "%c3x%a9"],
    ["an overlong slash", "%c0%af"],
    ["an overlong NUL", "%c0%80"],
    ["an overlong slash of three bytes", "%e0%80%af"],
    ["a surrogate", "%ed%a0%80"],
    ["a surrogate pair (CESU-8)", "%ed%a0%bd%ed%b8%80"],
    ["a code point over U+10FFFF", "%f4%90%80%80"],
    ["a high byte unescaped", "caf\u00e9"],
    ["UTF-8 unescaped, one character per byte", "\u00c3\u00a9"],
    ["byte FF unescaped", "\u00ff"],
    ["a high byte beside an escape of its other half", "%c3\u00a9"],
  ])("refuses %s, in a value and in a name", (_what, text) => {
    expect(decodeFormComponent(text)).toBeUndefined();
    expect(faultOf(`client_id=${text}`)).toEqual({ code: "form_malformed" });
    expect(faultOf(`${text}=1`)).toEqual({ code: "form_malformed" });
  });

  test("reads every form that URLSearchParams writes, and reads the same", () => {
    const pairs = fc.uniqueArray(fc.tuple(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })), {
      selector: ([name]) => name,
      maxLength: FORM_PARAMETERS_MAX,
    });
    fc.assert(
      fc.property(pairs, (entries) => {
        const form = parseForm(FORM, new URLSearchParams(entries).toString());
        expect(form).toEqual({ ok: true, value: new Map(entries.filter(([, value]) => value !== "")) });
      }),
      { numRuns: 500 },
    );
  });

  test("whatever body it reads, URLSearchParams reads the same out of it", () => {
    const piece = fc.constantFrom(..."a b = = & & + % %4 %41 %C3%A9 %c3 %ff %00 %26 %3D %25 ; ? \u00e9 scope audience".split(" "));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 16 }), (pieces) => {
        const body = pieces.join("");
        const form = parseForm(FORM, body);
        if (!form.ok) return;
        const reference = [...new URLSearchParams(`&${body}`)]; // without the & it would drop a leading question mark
        expect([...form.value]).toEqual(reference.filter(([, value]) => value !== ""));
        expect(new Set(reference.map(([name]) => name)).size).toBe(reference.length);
      }),
      RUNS,
    );
  });
});
