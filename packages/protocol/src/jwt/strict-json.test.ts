import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JSON_DEPTH_MAX } from "../constants.ts";
import { isJsonObject, type JsonFault, parseStrictJson } from "./strict-json.ts";

const RUNS = { numRuns: 2000 };

/** In the manner of JSONTestSuite: y_ must be read, as JSON.parse reads it. */
const ACCEPTED: Readonly<Record<string, string>> = {
  y_object_empty: "{}",
  y_object_simple: '{"a":1,"b":[true,false,null]}',
  y_object_empty_name: '{"":0}',
  y_object_same_name_at_two_depths: '{"a":{"a":{"a":1}}}',
  y_object_same_name_in_two_siblings: '[{"a":1},{"a":2}]',
  y_object_names_differ_by_case: '{"sub":1,"Sub":2}',
  y_object_names_differ_by_normalisation: '{"\u00e9":1,"e\u0301":2}',
  y_object_escaped_name: '{"\\u0061":1}',
  y_array_empty: "[]",
  y_array_spaces: " [ 1 ,\t2\r\n, 3 ] ",
  y_string_alone: '"a"',
  y_string_all_escapes: String.raw`"\"\\\/\b\f\n\r\t\u0041"`,
  y_string_escaped_quote_at_end: String.raw`["a\""]`,
  y_string_escaped_backslash_at_end: String.raw`["a\\"]`,
  y_string_escaped_pair: String.raw`"\ud83d\ude00"`,
  y_string_raw_pair: '"😀"',
  y_string_half_raw_half_astral: String.raw`"😀\ud83d\ude00"`,
  y_string_escaped_nul: String.raw`"\u0000"`,
  y_string_del: '"\u007f"',
  y_string_line_separator: '"\u2028"',
  y_string_bom_inside: '"\ufeff"',
  y_string_noncharacter: '"\uffff"',
  y_string_hex_of_both_cases: String.raw`"\uaBcD"`,
  y_number_zero: "0",
  y_number_negative_zero: "-0",
  y_number_fraction: "-0.5",
  y_number_exponents: "[1e2,1E2,1e+2,1e-2,1.5e300]",
  y_number_largest: "1.7976931348623157e308",
  y_number_underflows_to_zero: "1e-400",
  y_number_beyond_53_bits: "9007199254740993",
  y_words: "[true,false,null]",
};

const SYNTAX: Readonly<Record<string, string>> = {
  n_nothing: "",
  n_space_only: " \t\r\n",
  n_two_documents: "{}{}",
  n_garbage_after: "{}x",
  n_comma_after: "{},",
  n_closing_after: "[]]",
  n_nul_after: "{}\0",
  n_bom_first: "\ufeff{}",
  n_bom_last: "{}\ufeff",
  n_nbsp_first: "\u00a0{}",
  n_form_feed: "\f{}",
  n_line_separator_as_space: "\u2028{}",
  n_utf16_as_latin1: "\u00ff\u00fe{\0}\0",
  n_object_trailing_comma: '{"a":1,}',
  n_object_leading_comma: '{,"a":1}',
  n_object_two_commas: '{"a":1,,"b":2}',
  n_object_comma_only: "{,}",
  n_object_no_colon: '{"a" 1}',
  n_object_two_colons: '{"a"::1}',
  n_object_no_value: '{"a":}',
  n_object_no_comma: '{"a":1 "b":2}',
  n_object_unquoted_name: "{a:1}",
  n_object_single_quotes: "{'a':1}",
  n_object_number_as_name: "{1:1}",
  n_object_unclosed: '{"a":1',
  n_object_unclosed_in_name: '{"a',
  n_object_closed_as_array: '{"a":1]',
  n_object_comment: '{"a":1/**/}',
  n_array_trailing_comma: "[1,]",
  n_array_leading_comma: "[,1]",
  n_array_comma_only: "[,]",
  n_array_no_comma: "[1 2]",
  n_array_unclosed: "[1",
  n_array_closed_as_object: "[1}",
  n_array_colon: '["a":1]',
  n_string_unclosed: '"a',
  n_string_quote_alone: '"',
  n_string_backslash_last: '"\\',
  n_string_closing_quote_escaped: '"a\\"',
  n_string_tab: '"\t"',
  n_string_line_feed: '"\n"',
  n_string_nul: '"\0"',
  n_string_unit_separator: '"\u001f"',
  n_string_escaped_line_feed: '"\\\n"',
  n_string_escape_x: String.raw`"\x41"`,
  n_string_escape_v: String.raw`"\v"`,
  n_string_escape_apostrophe: String.raw`"\'"`,
  n_string_escape_capital_u: String.raw`"\U0041"`,
  n_string_escape_three_digits: String.raw`"\u004"`,
  n_string_escape_not_hex: String.raw`"\u00g1"`,
  n_string_escape_code_point: String.raw`"\u{41}"`,
  n_string_in_a_name_escape_x: String.raw`{"\x61":1}`,
  n_number_plus: "+1",
  n_number_leading_zero: "01",
  n_number_negative_leading_zero: "-01",
  n_number_two_zeros: "00",
  n_number_dot_first: ".5",
  n_number_dot_last: "1.",
  n_number_dot_exponent: "1.e2",
  n_number_no_exponent: "1e",
  n_number_exponent_sign_only: "1e+",
  n_number_minus_alone: "-",
  n_number_two_minus: "--1",
  n_number_minus_space: "- 1",
  n_number_hex: "0x1f",
  n_number_bigint: "1n",
  n_number_separator: "1_000",
  n_number_arabic_digit: "\u0661",
  n_number_full_width_digit: "\uff11",
  n_NaN: "NaN",
  n_Infinity: "Infinity",
  n_negative_Infinity: "-Infinity",
  n_undefined: "undefined",
  n_word_capital: "True",
  n_word_cut: "[nul]",
  n_word_too_long: "nulll",
  n_words_joined: "[truefalse]",
};

const FAULTS: Readonly<Record<string, readonly [string, JsonFault]>> = {
  n_name_twice: ['{"sub":"u1","sub":"u2"}', { code: "name_repeated", name: "sub" }],
  n_name_twice_with_one_value: ['{"a":1,"a":1}', { code: "name_repeated", name: "a" }],
  n_name_twice_not_next_to_each_other: ['{"a":1,"b":2,"a":3}', { code: "name_repeated", name: "a" }],
  n_name_twice_one_escaped: [String.raw`{"a":1,"\u0061":2}`, { code: "name_repeated", name: "a" }],
  n_name_twice_both_escaped_unlike: [String.raw`{"\u002f":1,"\/":2}`, { code: "name_repeated", name: "/" }],
  n_name_twice_hex_of_both_cases: [String.raw`{"\u00e9":1,"\u00E9":2}`, { code: "name_repeated", name: "é" }],
  n_name_twice_astral: [String.raw`{"😀":1,"\ud83d\ude00":2}`, { code: "name_repeated", name: "😀" }],
  n_name_twice_empty: ['{"":1,"":2}', { code: "name_repeated", name: "" }],
  n_name_twice_nested: ['{"a":[{"b":1,"b":2}]}', { code: "name_repeated", name: "b" }],
  n_name_twice_proto: ['{"__proto__":1,"__proto__":2}', { code: "name_repeated", name: "__proto__" }],
  n_name_twice_proto_escaped: [String.raw`{"__proto__":{},"\u005f_proto__":{}}`, { code: "name_repeated", name: "__proto__" }],
  n_name_twice_number: ['{"0":1,"0":2}', { code: "name_repeated", name: "0" }],
  n_number_1e400: ['{"exp":1e400}', { code: "number_not_finite" }],
  n_number_minus_1e400: ["-1e400", { code: "number_not_finite" }],
  n_number_400_digits: ["9".repeat(400), { code: "number_not_finite" }],
  n_surrogate_high_escaped: [String.raw`"\ud800"`, { code: "lone_surrogate" }],
  n_surrogate_low_escaped: [String.raw`"\udc00"`, { code: "lone_surrogate" }],
  n_surrogates_in_the_wrong_order: [String.raw`"\ude00\ud83d"`, { code: "lone_surrogate" }],
  n_surrogate_high_then_letter: [String.raw`"\ud83dx"`, { code: "lone_surrogate" }],
  n_surrogate_two_high: [String.raw`"\ud83d\ud83d\ude00"`, { code: "lone_surrogate" }],
  n_surrogate_high_raw: ['"\ud800"', { code: "lone_surrogate" }],
  n_surrogate_low_raw: ['"\udfff"', { code: "lone_surrogate" }],
  n_surrogate_in_a_name: [String.raw`{"\ud800":1}`, { code: "lone_surrogate" }],
  n_surrogate_raw_in_a_name: ['{"\udbff":1}', { code: "lone_surrogate" }],
};

describe("parseStrictJson reads", () => {
  test.each(Object.entries(ACCEPTED))("%s", (_name, text) => {
    const parsed = parseStrictJson(text);
    expect(parsed).toEqual({ ok: true, value: JSON.parse(text) as unknown });
  });

  test("-0 as JSON.parse does: as minus zero", () => {
    expect(parseStrictJson("-0")).toStrictEqual({ ok: true, value: -0 });
  });

  test("__proto__, constructor and toString as names like any other, on an object that inherits nothing", () => {
    const parsed = parseStrictJson('{"__proto__":{"admin":true},"constructor":1,"toString":2}');
    if (!parsed.ok || !isJsonObject(parsed.value)) throw new Error("not read");
    const prototype = Object.getPrototypeOf(parsed.value) as object;
    expect([Object.getPrototypeOf(prototype), Object.isFrozen(prototype), Reflect.ownKeys(prototype)]).toEqual([null, true, []]);
    expect(Object.keys(parsed.value)).toEqual(["__proto__", "constructor", "toString"]);
    expect(parsed.value["admin"]).toBeUndefined();
    expect(({} as Record<string, unknown>)["admin"]).toBeUndefined();
  });

  test("an object that has none of Object.prototype's members", () => {
    const parsed = parseStrictJson("{}");
    if (!parsed.ok || !isJsonObject(parsed.value)) throw new Error("not read");
    for (const name of Object.getOwnPropertyNames(Object.prototype)) expect(parsed.value[name]).toBeUndefined();
  });
});

describe("parseStrictJson refuses as no JSON", () => {
  test.each(Object.entries(SYNTAX))("%s", (_name, text) => {
    expect(parseStrictJson(text)).toMatchObject({ ok: false, fault: { code: "syntax" } });
    expect(() => JSON.parse(text) as unknown).toThrow(SyntaxError);
  });

  test("where it stands: the fault names a character within the text, or its end", () => {
    expect(parseStrictJson('{"a":1,}')).toEqual({ ok: false, fault: { code: "syntax", at: 7 } });
    expect(parseStrictJson("[1")).toEqual({ ok: false, fault: { code: "syntax", at: 2 } });
  });
});

describe("parseStrictJson refuses what JSON.parse lets through", () => {
  test.each(Object.entries(FAULTS))("%s", (_name, [text, fault]) => {
    expect(parseStrictJson(text)).toEqual({ ok: false, fault });
    expect(() => JSON.parse(text) as unknown).not.toThrow();
  });
});

describe("nesting", () => {
  const nested = (open: string, close: string, depth: number, inside = "") => open.repeat(depth) + inside + close.repeat(depth);

  test.each([
    ["arrays", "[", "]", ""],
    ["objects", '{"a":', "}", "1"],
    ["both", '[{"a":', "}]", "1"],
  ])("of %s: as deep as the limit passes, one more is refused", (_kind, open, close, inside) => {
    const depth = open.startsWith("[{") ? JSON_DEPTH_MAX / 2 : JSON_DEPTH_MAX;
    const text = nested(open, close, depth, inside);
    expect(parseStrictJson(text)).toEqual({ ok: true, value: JSON.parse(text) as unknown });
    expect(parseStrictJson(`[${text}]`)).toEqual({ ok: false, fault: { code: "too_deep" } });
  });

  test("is 32 levels, and an empty array counts as one", () => {
    expect(parseStrictJson("[".repeat(32) + "]".repeat(32)).ok).toBe(true);
    expect(parseStrictJson("[".repeat(33) + "]".repeat(33)).ok).toBe(false);
  });

  test.each(["[", '{"a":', '[{"a":'])("of a million %s does not overflow the stack", (open) => {
    expect(parseStrictJson(open.repeat(1_000_000))).toEqual({ ok: false, fault: { code: "too_deep" } });
  });

  test("is counted down again: 10,000 siblings are not deep", () => {
    expect(parseStrictJson(`[${"[],".repeat(9_999)}[]]`).ok).toBe(true);
  });
});

/** Not deep, and no lone surrogates: what must come out as it went in. */
const jsonValue = fc.jsonValue({ maxDepth: 6, stringUnit: "binary" });

/** A text near JSON: one that is, with a piece cut out, put in or doubled. */
const nearlyJson = fc
  .tuple(
    jsonValue,
    fc.nat(),
    fc.nat({ max: 4 }),
    fc.constantFrom("", ..."{}[],:\"\\'-+.0eE1nu\n\t\0 \ufeff\ud800".split(""), '"a":1,', "\\u0061", "1e999"),
  )
  .map(([value, at, cut, piece]) => {
    const text = JSON.stringify(value);
    const start = at % (text.length + 1);
    return text.slice(0, start) + piece + text.slice(start + cut);
  });

describe("beside JSON.parse", () => {
  test("every JSON value comes out as JSON.parse reads it", () => {
    fc.assert(
      fc.property(jsonValue, fc.constantFrom(undefined, 2, "\t"), (value, space) => {
        const text = JSON.stringify(value, null, space);
        const parsed = parseStrictJson(text);
        const expected = JSON.parse(text) as unknown;
        expect(parsed).toEqual({ ok: true, value: expected });
        expect(parsed.ok && JSON.stringify(parsed.value)).toBe(JSON.stringify(expected));
      }),
      RUNS,
    );
  });

  test("whatever JSON.parse refuses is refused; what only we refuse is for one of the four written reasons", () => {
    fc.assert(
      fc.property(fc.oneof(nearlyJson, fc.string({ unit: "binary", maxLength: 12 }), fc.json()), (text) => {
        const parsed = parseStrictJson(text);
        let expected: { readonly value: unknown } | undefined;
        try {
          expected = { value: JSON.parse(text) as unknown };
        } catch {
          // no JSON
        }
        if (expected === undefined) expect(parsed.ok).toBe(false);
        else if (parsed.ok) expect(JSON.stringify(parsed.value)).toBe(JSON.stringify(expected.value));
        else expect(parsed.fault.code).toMatch(/^(?:name_repeated|too_deep|number_not_finite|lone_surrogate)$/);
      }),
      RUNS,
    );
  });
});
