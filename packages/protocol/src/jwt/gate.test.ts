import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JWT_BYTES_MAX, SUBJECT_TOKEN_ALGORITHMS } from "../constants.ts";
import type { GateFault } from "../refusals.ts";
import { type GateRules, parseClaims, parseJws } from "./gate.ts";

/** As for a subject token. */
const RULES: GateRules = { algorithms: SUBJECT_TOKEN_ALGORITHMS, typ: { name: "jwt", optional: true } };

type Part = string | Uint8Array | object;

function encode(part: Part): string {
  const bytes = typeof part === "string" || part instanceof Uint8Array ? part : JSON.stringify(part);
  return Buffer.from(bytes as string).toString("base64url");
}

const jws = (header: Part, payload: Part = {}, signature: Part = "signature") => [header, payload, signature].map(encode).join(".");
const HEADER = { alg: "RS256", kid: "k1" };
const faultOf = (token: string, rules = RULES) => {
  const parsed = parseJws(token, rules);
  return parsed.ok ? undefined : parsed.fault;
};

describe("a compact JWS", () => {
  test("is taken apart: header, payload, signature and the text that was signed", () => {
    const token = jws({ alg: "ES256", kid: "k1", typ: "JWT" }, { sub: "é" }, Uint8Array.of(0, 1, 255));
    const parsed = parseJws(token, RULES);
    expect(parsed).toEqual({
      ok: true,
      value: {
        header: { alg: "ES256", kid: "k1", typ: "JWT" },
        payload: Uint8Array.from(Buffer.from('{"sub":"é"}')),
        signature: Uint8Array.of(0, 1, 255),
        signingInput: token.slice(0, token.lastIndexOf(".")),
      },
    });
    expect(parsed.ok && parseClaims(parsed.value)).toEqual({ ok: true, value: { sub: "é" } });
  });

  test.each(SUBJECT_TOKEN_ALGORITHMS)("may be signed with %s, with or without kid and typ", (alg) => {
    const parsed = parseJws(jws({ alg }), RULES);
    expect(parsed.ok && parsed.value.header).toEqual({ alg, kid: undefined, typ: undefined });
  });

  test.each(["JWT", "jwt", "JwT", "application/jwt", "application/JWT", "APPLICATION/jwt"])("may have the typ %s", (typ) => {
    expect(faultOf(jws({ ...HEADER, typ }))).toBeUndefined();
  });

  test("may have white space in its header's JSON", () => {
    expect(faultOf(jws('{ "alg" : "RS256",\n\t"kid" : "k1" }'))).toBeUndefined();
  });

  test("may be as large as the limit, and no larger", () => {
    const start = `${encode(HEADER)}.e30.`;
    const length = JWT_BYTES_MAX - start.length;
    const signature = "A".repeat(length % 4 === 1 ? length - 1 : length);
    expect(faultOf(start + signature)).toBeUndefined();
    expect(faultOf(start + "A".repeat(length + 1))).toEqual({ code: "jwt_too_large", bytesMax: JWT_BYTES_MAX });
  });

  test("of ten megabytes of dots or letters is refused before it is looked at", () => {
    for (const token of [".".repeat(10_000_000), "A".repeat(10_000_000), `${encode(HEADER)}.${"A".repeat(10_000_000)}.AA`]) {
      expect(faultOf(token)).toEqual({ code: "jwt_too_large", bytesMax: JWT_BYTES_MAX });
    }
  });
});

describe("the shape", () => {
  const token = jws(HEADER);
  const [header, payload, signature] = token.split(".");
  test.each<[string, string, GateFault]>([
    ["nothing", "", { code: "jwt_malformed", segments: 1 }],
    ["one part", encode(HEADER), { code: "jwt_malformed", segments: 1 }],
    ["two parts", `${header}.${payload}`, { code: "jwt_malformed", segments: 2 }],
    ["four parts", `${token}.${signature}`, { code: "jwt_malformed", segments: 4 }],
    ["four parts, the last one empty", `${token}.`, { code: "jwt_malformed", segments: 4 }],
    ["six parts", `${token}.a.b.c`, { code: "jwt_malformed", segments: 6 }],
    ["two dots", "..", { code: "jwt_malformed", segments: 3 }],
    ["no header", `.${payload}.${signature}`, { code: "jwt_malformed", segments: 3 }],
    ["no signature", `${header}.${payload}.`, { code: "jwt_malformed", segments: 3 }],
    ["five empty parts", "....", { code: "jwt_encrypted" }],
    ["a JWE", `${encode({ alg: "dir", enc: "A256GCM" })}..AAAA.AAAA.AAAA`, { code: "jwt_encrypted" }],
    ["a JWE of PBES2 rounds", `${encode({ alg: "PBES2-HS256+A128KW", p2c: 2 ** 31 })}.a.b.c.d`, { code: "jwt_encrypted" }],
    ["a JWE that is compressed", `${encode({ alg: "dir", enc: "A256GCM", zip: "DEF" })}.a.b.c.d`, { code: "jwt_encrypted" }],
    ["the flattened JSON serialization", JSON.stringify({ protected: header, payload, signature }), { code: "jwt_malformed", segments: 1 }],
    [
      "JSON around a token (CVE-2022-39227)",
      `{" ${header}.${payload}.":"x","signature":"a"}`,
      { code: "jwt_not_base64url", part: "header" },
    ],
    ["space before", ` ${token}`, { code: "jwt_not_base64url", part: "header" }],
    ["a line feed after", `${token}\n`, { code: "jwt_not_base64url", part: "signature" }],
    ["= after the signature", `${jws(HEADER, {}, "si")}=`, { code: "jwt_not_base64url", part: "signature" }],
    ["+ for -", `${header}.${payload}.+AAA`, { code: "jwt_not_base64url", part: "signature" }],
    ["spare bits in the signature", `${header}.${payload}.QR`, { code: "jwt_not_base64url", part: "signature" }],
    ["spare bits in the payload", `${header}.QR.${signature}`, { code: "jwt_not_base64url", part: "payload" }],
    ["a signature of one letter", `${header}.${payload}.A`, { code: "jwt_not_base64url", part: "signature" }],
    ["Bearer before it", `Bearer ${token}`, { code: "jwt_not_base64url", part: "header" }],
  ])("%s is refused", (_what, text, fault) => {
    expect(faultOf(text)).toEqual(fault);
  });

  test("every change of one character is refused, or leaves another text to be verified", () => {
    const original = parseJws(token, RULES);
    if (!original.ok) throw new Error(original.fault.code);
    const letter = fc.constantFrom(..."AQgwz09-_=+/. \n\0é".split(""));
    fc.assert(
      fc.property(fc.nat({ max: token.length - 1 }), letter, fc.boolean(), (at, put, insert) => {
        const changed = token.slice(0, at) + put + token.slice(insert ? at : at + 1);
        const parsed = parseJws(changed, RULES);
        if (!parsed.ok || changed === token) return;
        const same = parsed.value.signingInput === original.value.signingInput;
        expect(same && Buffer.compare(parsed.value.signature, original.value.signature) === 0).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("the header", () => {
  const unsupported = (member: string): GateFault => ({ code: "jwt_header_member_unsupported", member });
  const algorithm = (got: string): GateFault => ({ code: "jwt_algorithm_unsupported", got });
  const notJson = (fault: Extract<GateFault, { code: "jwt_not_json" }>["fault"]): GateFault => ({
    code: "jwt_not_json",
    part: "header",
    fault,
  });

  test.each([
    "none",
    "None",
    "nOnE",
    "NONE",
    "None ",
    "HS256",
    "HS512",
    "RS1",
    "RS384",
    "ES256K",
    "ES512",
    "PS512",
    "RSA-OAEP",
    "dir",
    "rs256",
    "RS256 ",
    "toString",
    "0",
    "",
  ])("alg %j is refused", (alg) => {
    expect(faultOf(jws({ alg, kid: "k1" }))).toEqual(algorithm(alg));
  });

  test.each([
    ["absent", { kid: "k1" }, ""],
    ["null", { alg: null }, "a JSON null"],
    ["a number", { alg: 256 }, "a JSON number"],
    ["an array of an algorithm", { alg: ["RS256"] }, "a JSON array"],
    ["an object", { alg: { length: 1 } }, "a JSON object"],
  ])("alg that is %s is refused", (_what, header, got) => {
    expect(faultOf(jws(header))).toEqual(algorithm(got));
  });

  test.each([
    "at+jwt",
    "application/at+jwt",
    "dpop+jwt",
    "logout+jwt",
    "client-authentication+jwt",
    "secevent+jwt",
    "JOSE",
    "x/jwt",
    "application/application/jwt",
    "jwt ",
    " jwt",
    "jwt;a=b",
    "",
  ])("typ %j is refused", (typ) => {
    expect(faultOf(jws({ ...HEADER, typ }))).toEqual({ code: "jwt_typ_unexpected", got: typ });
  });

  test.each([
    [null, "a JSON null"],
    [["JWT"], "a JSON array"],
    [1, "a JSON number"],
    [true, "a JSON boolean"],
  ])("typ %j is refused", (typ, got) => {
    expect(faultOf(jws({ ...HEADER, typ }))).toEqual({ code: "jwt_typ_unexpected", got });
  });

  test.each([
    ["a key of its own", { jwk: { kty: "RSA", n: "AQ", e: "AQAB" } }, "jwk"],
    ["a URL of keys", { jku: "https://evil.example/jwks" }, "jku"],
    ["a certificate", { x5c: ["MIIB"] }, "x5c"],
    ["a URL of a certificate", { x5u: "https://evil.example/x" }, "x5u"],
    ["a certificate's digest", { x5t: "AQ" }, "x5t"],
    ["crit with a member", { crit: ["x"], x: 1 }, "crit"],
    ["crit without one", { crit: [] }, "crit"],
    ["crit that is a string", { crit: "exp" }, "crit"],
    ["b64", { b64: false }, "b64"],
    ["zip", { zip: "DEF" }, "zip"],
    ["cty", { cty: "JWT" }, "cty"],
    ["a claim", { iss: "x" }, "iss"],
    ["a member of Object.prototype", { toString: "x" }, "toString"],
    ["kid in another case", { KID: "x" }, "KID"],
  ])("%s is refused, and named", (_what, members, member) => {
    expect(faultOf(jws({ ...HEADER, ...members }))).toEqual(unsupported(member));
  });

  test("__proto__ is refused, and gives the header nothing", () => {
    expect(faultOf(jws('{"__proto__":{"alg":"RS256"}}'))).toEqual(unsupported("__proto__"));
  });

  test.each([
    ["", "empty"],
    ["k".repeat(256), "too long"],
    [7, "a number"],
    [null, "null"],
    [["k1"], "an array"],
    [{}, "an object"],
  ])("kid that is %j is refused (%s)", (kid, _what) => {
    expect(faultOf(jws({ alg: "RS256", kid }))).toEqual({ code: "jwt_kid_malformed" });
  });

  test.each(["k".repeat(255), "../../dev/null", "' OR 1=1--", "__proto__", "constructor", "\0", "é😀"])(
    "kid %j is a name like any other: kept as it is, to be looked up",
    (kid) => {
      const parsed = parseJws(jws({ alg: "RS256", kid }), RULES);
      expect(parsed.ok && parsed.value.header.kid).toBe(kid);
    },
  );

  test.each<[string, Part, GateFault]>([
    ["a BOM", '\ufeff{"alg":"RS256"}', notJson({ code: "syntax", at: 0 })],
    ["UTF-16", Buffer.from('{"alg":"RS256"}', "utf16le"), notJson({ code: "syntax", at: 1 })],
    ["bytes that are not UTF-8", Uint8Array.of(0x7b, 0xff, 0x7d), notJson({ code: "not_utf8" })],
    ["two documents", '{"alg":"RS256"}{}', notJson({ code: "syntax", at: 15 })],
    ["an array", "[]", notJson({ code: "not_an_object" })],
    ["a string", '"RS256"', notJson({ code: "not_an_object" })],
    ["null", "null", notJson({ code: "not_an_object" })],
    ["alg twice", '{"alg":"none","alg":"RS256"}', notJson({ code: "name_repeated", name: "alg" })],
    ["alg twice, once escaped", String.raw`{"alg":"RS256","\u0061lg":"none"}`, notJson({ code: "name_repeated", name: "alg" })],
    ["half a surrogate pair", String.raw`{"alg":"RS256","kid":"\ud800"}`, notJson({ code: "lone_surrogate" })],
  ])("of %s is refused", (_what, header, fault) => {
    expect(faultOf(jws(header))).toEqual(fault);
  });

  test("typ is required where the rules say so", () => {
    const rules: GateRules = { algorithms: ["ES256"], typ: { name: "at+jwt", optional: false } };
    expect(faultOf(jws({ alg: "ES256" }), rules)).toEqual({ code: "jwt_typ_unexpected", got: "" });
    expect(faultOf(jws({ alg: "ES256", typ: "JWT" }), rules)).toEqual({ code: "jwt_typ_unexpected", got: "JWT" });
    expect(faultOf(jws({ alg: "ES256", typ: "at+JWT" }), rules)).toBeUndefined();
    expect(faultOf(jws({ alg: "RS256", typ: "at+jwt" }), rules)).toEqual(algorithm("RS256"));
  });
});

describe("the payload", () => {
  test.each<[string, Part, Extract<GateFault, { code: "jwt_not_json" }>["fault"]]>([
    ["nothing", "", { code: "syntax", at: 0 }],
    ["a BOM", "\ufeff{}", { code: "syntax", at: 0 }],
    ["bytes that are not UTF-8", Uint8Array.of(0x22, 0xc3, 0x22), { code: "not_utf8" }],
    ["an array", '[{"sub":"u"}]', { code: "not_an_object" }],
    ["a string", '"sub"', { code: "not_an_object" }],
    ["a number", "1", { code: "not_an_object" }],
    ["null", "null", { code: "not_an_object" }],
    ["sub twice", '{"sub":"a","sub":"b"}', { code: "name_repeated", name: "sub" }],
    ["exp that is not finite", '{"exp":1e400}', { code: "number_not_finite" }],
    ["33 levels", '{"a":'.repeat(33) + "1" + "}".repeat(33), { code: "too_deep" }],
  ])("of %s passes the gate unread, and is refused when it is read", (_what, payload, fault) => {
    const parsed = parseJws(jws(HEADER, payload), RULES);
    expect(parsed.ok && parseClaims(parsed.value)).toEqual({ ok: false, fault: { code: "jwt_not_json", part: "payload", fault } });
  });
});
