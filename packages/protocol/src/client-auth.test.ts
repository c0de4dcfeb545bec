import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseClientCredentials } from "./client-auth.ts";
import { refusalToWire } from "./refusal-wire.ts";

const form = (parameters: Readonly<Record<string, string>> = {}) => new Map(Object.entries(parameters));
const base64 = (text: string | Uint8Array) => Buffer.from(text as string).toString("base64");
const basic = (pair: string | Uint8Array) => `Basic ${base64(pair)}`;
/** RFC 6749 §2.3.1: each half form-encoded first. */
const encode = (text: string) => new URLSearchParams({ x: text }).toString().slice(2);

const MALFORMED = { ok: false, fault: { code: "client_not_authenticated", cause: "malformed" } };
const MULTIPLE = { ok: false, fault: { code: "client_authentication_multiple" } };
const without = (...names: string[]) => ({ ok: false, fault: { code: "client_authentication_missing", missing: names } });

describe("client_secret_post", () => {
  test("200: id and secret in the body", () => {
    const parsed = parseClientCredentials([], form({ client_id: "prt_1", client_secret: "s" }));
    expect(parsed).toEqual({ ok: true, value: { method: "client_secret", clientId: "prt_1", secret: "s" } });
  });

  test("401: neither header nor secret, with or without a client id", () => {
    expect(parseClientCredentials([], form())).toEqual(without("client_id", "client_secret"));
    expect(parseClientCredentials([], form({ client_id: "prt_1" }))).toEqual(without("client_secret"));
  });

  test("400: a secret without a client id", () => {
    const parsed = parseClientCredentials([], form({ client_secret: "s" }));
    expect(parsed).toEqual({ ok: false, fault: { code: "parameter_missing", parameter: "client_id" } });
  });
});

describe("client_secret_basic", () => {
  test.each(["Basic", "basic", "BASIC", "bAsIc"])("200: the scheme written %s", (scheme) => {
    const parsed = parseClientCredentials([`${scheme} ${base64("prt_1:secret")}`], form());
    expect(parsed).toEqual({ ok: true, value: { method: "client_secret", clientId: "prt_1", secret: "secret" } });
  });

  test("200: several spaces between scheme and credentials (RFC 9110 §11.4: 1*SP)", () => {
    expect(parseClientCredentials([`Basic   ${base64("prt_1:secret")}`], form()).ok).toBe(true);
  });

  test("200: the same client id in the body too", () => {
    expect(parseClientCredentials([basic("prt_1:secret")], form({ client_id: "prt_1" })).ok).toBe(true);
  });

  test("400: another client id in the body", () => {
    const parsed = parseClientCredentials([basic("prt_1:secret")], form({ client_id: "prt_2" }));
    expect(parsed).toEqual({ ok: false, fault: { code: "client_id_mismatch" } });
  });

  test("200: any pair comes through, form-encoded and then base64", () => {
    const text = fc.string({ unit: "binary", minLength: 1 });
    fc.assert(
      fc.property(text, text, (clientId, secret) => {
        const parsed = parseClientCredentials([basic(`${encode(clientId)}:${encode(secret)}`)], form());
        expect(parsed).toEqual({ ok: true, value: { method: "client_secret", clientId, secret } });
      }),
      { numRuns: 500 },
    );
  });

  test("the first colon divides: a raw colon in the secret stays in it, an escaped one in the id too", () => {
    expect(parseClientCredentials([basic("a:b:c")], form())).toEqual({
      ok: true,
      value: { method: "client_secret", clientId: "a", secret: "b:c" },
    });
    expect(parseClientCredentials([basic("a%3Ab:c")], form())).toEqual({
      ok: true,
      value: { method: "client_secret", clientId: "a:b", secret: "c" },
    });
  });

  test("a pair that was not form-encoded decodes to another pair, or to none", () => {
    expect(parseClientCredentials([basic("a:b+c")], form())).toEqual({
      ok: true,
      value: { method: "client_secret", clientId: "a", secret: "b c" },
    });
    expect(parseClientCredentials([basic("a:100%")], form())).toEqual(MALFORMED);
    expect(parseClientCredentials([basic("a:é")], form())).toEqual(MALFORMED);
  });

  test.each([
    ["the scheme alone", "Basic"],
    ["no credentials", "Basic "],
    ["a letter that is not base64", "Basic !!!!"],
    ["a colon, not encoded", "Basic prt_1:secret"],
    ["base64url's alphabet", basic("a:???").replace("/", "_")],
    ["padding left out", `Basic ${base64("a:bc").replaceAll("=", "")}`],
    ["padding only", "Basic ===="],
    ["padding within", "Basic YTo=YTph"],
    ["spare bits set", "Basic YTpiYx=="],
    ["two values", `${basic("a:b")}, ${basic("c:d")}`],
    ["a space within", "Basic YTpi YTpi"],
    ["no colon", basic("prt_1")],
    ["bytes that are not UTF-8", basic(Uint8Array.of(0x61, 0x3a, 0xff))],
    ["a lone lead byte in an escape", basic("a:%c3")],
    ["an overlong escape", basic("a:%c0%af")],
    ["a broken escape in the id", basic("%zz:b")],
    ["60 KB without a colon", basic("a".repeat(60_000))],
  ])("401: %s, which reads like a wrong secret", (_what, header) => {
    expect(parseClientCredentials([header], form())).toEqual(MALFORMED);
  });

  test("a NUL is a character of a secret that nobody has", () => {
    expect(parseClientCredentials([basic("a:\0")], form())).toEqual({
      ok: true,
      value: { method: "client_secret", clientId: "a", secret: "\0" },
    });
  });

  test("401: an empty id or an empty secret", () => {
    expect(parseClientCredentials([basic(":secret")], form())).toEqual(without("client_id"));
    expect(parseClientCredentials([basic("prt_1:")], form())).toEqual(without("client_secret"));
    expect(parseClientCredentials([basic(":")], form())).toEqual(without("client_id", "client_secret"));
  });
});

describe("one way, once", () => {
  test("400: two Authorization headers, equal or not", () => {
    const repeated = { ok: false, fault: { code: "authorization_repeated" } };
    expect(parseClientCredentials([basic("a:b"), basic("a:b")], form())).toEqual(repeated);
    expect(parseClientCredentials([basic("a:x"), basic("a:b")], form({ client_id: "a" }))).toEqual(repeated);
  });

  test.each([
    ["Basic and a secret in the body, the same", [basic("a:b")], { client_id: "a", client_secret: "b" }],
    ["Basic and a junk assertion", [basic("a:b")], { client_assertion: "x", client_assertion_type: "y" }],
    ["Basic and half an assertion", [basic("a:b")], { client_assertion_type: "y" }],
    ["a secret and an assertion in the body", [], { client_id: "a", client_secret: "b", client_assertion: "x" }],
    ["all three", [basic("a:b")], { client_id: "a", client_secret: "b", client_assertion: "x" }],
    ["a Bearer header and a secret in the body", ["Bearer x"], { client_id: "a", client_secret: "b" }],
    ["an empty header and a secret in the body", [""], { client_id: "a", client_secret: "b" }],
  ])("400: %s", (_what, authorization, parameters) => {
    expect(parseClientCredentials(authorization, form(parameters))).toEqual(MULTIPLE);
  });

  test("an assertion alone is read, whole, with or without a client_id, and of one type", () => {
    const type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    const parse = (parameters: Record<string, string>) => parseClientCredentials([], form(parameters));
    const read = (clientId: string | undefined) => ({ ok: true, value: { method: "private_key_jwt", clientId, assertion: "x" } });
    expect(parse({ client_id: "a", client_assertion: "x", client_assertion_type: type })).toEqual(read("a"));
    expect(parse({ client_assertion: "x", client_assertion_type: type })).toEqual(read(undefined));
    const missing = (parameter: string) => ({ ok: false, fault: { code: "parameter_missing", parameter } });
    expect(parse({ client_assertion: "x" })).toEqual(missing("client_assertion_type"));
    expect(parse({ client_assertion_type: type })).toEqual(missing("client_assertion"));
    const unsupported = { ok: false, fault: { code: "client_assertion_type_unsupported", got: "y" } };
    expect(parse({ client_assertion: "x", client_assertion_type: "y" })).toEqual(unsupported);
  });

  test.each(["Bearer", "DPoP", "Digest", "Negotiate"])("401: the scheme %s is refused by name", (scheme) => {
    const parsed = parseClientCredentials([`${scheme} abc`], form());
    expect(parsed).toEqual({ ok: false, fault: { code: "client_authentication_unsupported", method: scheme } });
  });

  test.each([
    ["a token without a scheme", "eyJhbGciOiJSUzI1NiJ9.SECRET.c2ln"],
    ["a secret without a scheme", "SECRET"],
    ["a pair without a scheme", "prt_1:SECRET"],
    ["a scheme stuck to its credentials", "Basic:SECRET"],
    ["a tab for the space", "Basic\tSECRET"],
    ["a pair and a space", "prt_1:SECRET x"],
    ["an unknown scheme", "Token SECRET"],
    ["base64 that is none", "Basic SECRET"],
  ])("401: nothing of the credentials is in the refusal of %s, nor in its description", (_what, header) => {
    const parsed = parseClientCredentials([header], form());
    if (parsed.ok) throw new Error("accepted");
    const wire = refusalToWire(parsed.fault);
    expect(wire).toMatchObject({ status: 401, error: "invalid_client" });
    expect(JSON.stringify([parsed.fault, wire])).not.toContain("SECRET");
  });
});
