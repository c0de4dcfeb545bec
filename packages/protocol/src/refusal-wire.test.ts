import { describe, expect, test } from "vitest";
import type { JsonFault } from "./jwt/strict-json.ts";
import { REFUSAL_CODES, refusalPage, refusalToWire } from "./refusal-wire.ts";
import type { Refusal, RefusalCode } from "./refusals.ts";

type Samples = { readonly [Code in RefusalCode]: Extract<Refusal, { readonly code: Code }> };

/** One of each, with `text` wherever a field can hold what came with a request. A new refusal does not compile until it stands here. */
const samplesWith = (text: string): Samples => ({
  media_type_unsupported: { code: "media_type_unsupported", got: text },
  body_too_large: { code: "body_too_large", bytesMax: 65_536 },
  method_not_allowed: { code: "method_not_allowed" },
  form_malformed: { code: "form_malformed" },
  parameters_too_many: { code: "parameters_too_many", countMax: 64 },
  parameter_repeated: { code: "parameter_repeated", parameter: text },
  parameter_missing: { code: "parameter_missing", parameter: text },
  parameters_in_query: { code: "parameters_in_query" },
  authorization_repeated: { code: "authorization_repeated" },
  client_authentication_missing: { code: "client_authentication_missing", missing: ["client_secret"] },
  client_authentication_multiple: { code: "client_authentication_multiple" },
  client_authentication_unsupported: { code: "client_authentication_unsupported", method: text },
  client_id_mismatch: { code: "client_id_mismatch" },
  wrong_secrets_too_many: { code: "wrong_secrets_too_many", retryAfterSeconds: 6 },
  rate_limited: { code: "rate_limited", requestsPerMinute: 60_000, retryAfterSeconds: 1 },
  client_not_authenticated: { code: "client_not_authenticated", cause: "unknown" },
  client_assertion_type_unsupported: { code: "client_assertion_type_unsupported", got: text },
  client_assertion_invalid: { code: "client_assertion_invalid", fault: { code: "issuer_mismatch", got: text, expected: text } },
  client_assertion_replayed: { code: "client_assertion_replayed" },
  grant_type_unsupported: { code: "grant_type_unsupported", got: text },
  grant_not_allowed: { code: "grant_not_allowed", grant: text },
  subject_token_type_unsupported: { code: "subject_token_type_unsupported", got: text },
  requested_token_type_unsupported: { code: "requested_token_type_unsupported", got: text },
  actor_token_incomplete: { code: "actor_token_incomplete", missing: "actor_token_type" },
  delegation_not_allowed: { code: "delegation_not_allowed" },
  dpop_unsupported: { code: "dpop_unsupported" },
  target_unknown: { code: "target_unknown", parameter: "audience", expected: text },
  target_repeated: { code: "target_repeated" },
  target_ambiguous: { code: "target_ambiguous" },
  scope_malformed: { code: "scope_malformed" },
  scope_unknown: { code: "scope_unknown", scope: text },
  scope_not_for_principal: { code: "scope_not_for_principal", scope: text, principal: "user" },
  scope_not_allowed: { code: "scope_not_allowed", scope: text },
  scope_not_for_target: { code: "scope_not_for_target", scope: text },
  scope_empty: { code: "scope_empty", principal: "service_account" },
  jwt_too_large: { code: "jwt_too_large", bytesMax: 16_384 },
  jwt_malformed: { code: "jwt_malformed", segments: 2 },
  jwt_encrypted: { code: "jwt_encrypted" },
  jwt_not_base64url: { code: "jwt_not_base64url", part: "signature" },
  jwt_not_json: { code: "jwt_not_json", part: "payload", fault: { code: "name_repeated", name: text } },
  jwt_header_member_unsupported: { code: "jwt_header_member_unsupported", member: text },
  jwt_typ_unexpected: { code: "jwt_typ_unexpected", got: text },
  jwt_algorithm_unsupported: { code: "jwt_algorithm_unsupported", got: text },
  jwt_kid_malformed: { code: "jwt_kid_malformed" },
  partner_keys_missing: { code: "partner_keys_missing" },
  jwt_kid_missing: { code: "jwt_kid_missing", keys: 2 },
  jwt_kid_unknown: { code: "jwt_kid_unknown", kid: text, fetchFailure: "it answered 500" },
  jwt_algorithm_not_of_key: { code: "jwt_algorithm_not_of_key", got: text, expected: "RS256" },
  jwt_algorithm_not_allowed: { code: "jwt_algorithm_not_allowed", got: text },
  jwt_signature_invalid: { code: "jwt_signature_invalid" },
  claim_missing: { code: "claim_missing", claim: text },
  claim_malformed: { code: "claim_malformed", claim: text, expected: "a string" },
  issuer_mismatch: { code: "issuer_mismatch", got: text, expected: text },
  audience_mismatch: { code: "audience_mismatch", got: text, expected: text },
  token_expired: { code: "token_expired", secondsPast: 74, skewSeconds: 30 },
  token_not_yet_valid: { code: "token_not_yet_valid", claim: "iat", secondsAhead: 31, skewSeconds: 30 },
  token_lifetime_too_long: { code: "token_lifetime_too_long", seconds: 3601, secondsMax: 3600 },
  token_times_contradict: { code: "token_times_contradict", claim: "nbf" },
  token_before_restore: { code: "token_before_restore", secondsBefore: 31 },
  subject_unknown: { code: "subject_unknown" },
  subject_disabled: { code: "subject_disabled", entity: "workspace" },
  token_replayed: { code: "token_replayed" },
  provisioning_quota_exceeded: { code: "provisioning_quota_exceeded", hourlyMax: 10, retryAfterSeconds: 900 },
  provisioning_home_missing: { code: "provisioning_home_missing" },
  temporarily_unavailable: { code: "temporarily_unavailable", retryAfterSeconds: 1 },
  partner_keys_unavailable: { code: "partner_keys_unavailable", failure: "it answered 500", retryAfterSeconds: 30 },
  server_error: { code: "server_error" },
});

const PLAIN = samplesWith("value-of-the-request");

/** RFC 6749 §5.2. */
const DESCRIPTION = /^[\x20-\x21\x23-\x5b\x5d-\x7e]{10,500}$/;

/** What an attacker puts where a value is echoed. */
const HOSTILE: Readonly<Record<string, string>> = {
  nothing: "",
  "a forged header": '"\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>',
  "quotes and backslashes": '"\\","error":"none","x":"\\"',
  emoji: "😀".repeat(200),
  "a right-to-left override": "\u202egnp.exe\u2066",
  "lone surrogates": "\ud800x\udfff",
  "control characters": Array.from({ length: 160 }, (_, unit) => String.fromCharCode(unit)).join(""),
  "10 KB": "x".repeat(10_240),
  "10 KB of quotes": '"'.repeat(10_240),
};

/** The contract's table of errors (§1), for what is not 400. */
const STATUS_OF: Readonly<Record<string, number>> = {
  invalid_client: 401,
  slow_down: 429,
  temporarily_unavailable: 503,
  server_error: 500,
};
const STATUS_OF_CODE: Readonly<Partial<Record<RefusalCode, number>>> = { body_too_large: 413, method_not_allowed: 405 };

test("every code has a sample, and every sample is a code", () => {
  expect(Object.keys(PLAIN).toSorted()).toEqual([...REFUSAL_CODES].toSorted());
  for (const [code, sample] of Object.entries(PLAIN)) expect(sample.code).toBe(code);
});

describe("on the wire", () => {
  test.each(REFUSAL_CODES)("%s has the status of its error, and a sentence", (code) => {
    const wire = refusalToWire(PLAIN[code]);
    expect(wire.status).toBe(STATUS_OF_CODE[code] ?? STATUS_OF[wire.error] ?? 400);
    expect(wire.error).toMatch(/^[a-z_]+$/);
    expect(wire.description).toMatch(DESCRIPTION);
    expect(wire.description).toMatch(/^[A-Za-z'].*[.?]$/);
    expect(wire.description).not.toMatch(/undefined|\[object|NaN/);
  });

  test.each(REFUSAL_CODES.filter((code) => /^(?:jwt|claim|issuer|audience_mismatch|token|subject|partner_keys_missing)_?/.test(code)))(
    "%s, a fault of the subject token, is 400 invalid_request (RFC 8693 §2.2.2)",
    (code) => {
      expect(refusalToWire(PLAIN[code])).toMatchObject({ status: 400, error: "invalid_request" });
    },
  );

  test("each error name is for the refusals that the contract gives it", () => {
    const codesOf = (error: string) => REFUSAL_CODES.filter((code) => refusalToWire(PLAIN[code]).error === error).toSorted();
    expect(codesOf("invalid_client")).toEqual([
      "client_assertion_invalid",
      "client_assertion_replayed",
      "client_authentication_missing",
      "client_authentication_unsupported",
      "client_not_authenticated",
    ]);
    expect(codesOf("invalid_scope")).toEqual([
      "scope_empty",
      "scope_malformed",
      "scope_not_allowed",
      "scope_not_for_principal",
      "scope_not_for_target",
      "scope_unknown",
    ]);
    expect(codesOf("invalid_target")).toEqual(["target_ambiguous", "target_repeated", "target_unknown"]);
    expect(codesOf("unauthorized_client")).toEqual(["grant_not_allowed"]);
    expect(codesOf("unsupported_grant_type")).toEqual(["grant_type_unsupported"]);
    expect(codesOf("invalid_dpop_proof")).toEqual(["dpop_unsupported"]);
    expect(codesOf("slow_down")).toEqual(["provisioning_quota_exceeded", "rate_limited", "wrong_secrets_too_many"]);
    expect(codesOf("temporarily_unavailable")).toEqual(["partner_keys_unavailable", "temporarily_unavailable"]);
    expect(codesOf("server_error")).toEqual(["server_error"]);
  });

  test("a client that is unknown, has the wrong secret, key or method, is disabled or cannot be read gets one answer", () => {
    const causes = [
      "unknown",
      "wrong_method",
      "wrong_secret",
      "disabled",
      "malformed",
      "jwt_kid_unknown",
      "jwt_signature_invalid",
    ] as const;
    const answers = causes.map((cause) => JSON.stringify(refusalToWire({ code: "client_not_authenticated", cause })));
    expect(new Set(answers).size).toBe(1);
  });

  test("the description names what failed", () => {
    expect(refusalToWire(PLAIN.token_expired).description).toBe("exp is 74 s in the past (skew allowed: 30 s); is your clock right?");
    expect(refusalToWire(PLAIN.issuer_mismatch).description).toContain("'value-of-the-request'");
    expect(refusalToWire({ code: "issuer_mismatch", got: "", expected: "prt_1" }).description).toBe("iss is empty; expected 'prt_1'.");
    expect(refusalToWire({ code: "media_type_unsupported", got: undefined }).description).toContain("Content-Type is empty");
    const milliseconds = refusalToWire({ code: "token_lifetime_too_long", seconds: 1.7e12, secondsMax: 3600 });
    expect(milliseconds.description).toContain("exp looks like milliseconds");
  });

  test("each fault of the JSON has a sentence of its own", () => {
    const faults: {
      readonly [Code in JsonFault["code"] | "not_utf8" | "not_an_object"]: JsonFault | { readonly code: "not_utf8" | "not_an_object" };
    } = {
      syntax: { code: "syntax", at: 7 },
      name_repeated: { code: "name_repeated", name: "sub" },
      too_deep: { code: "too_deep" },
      number_not_finite: { code: "number_not_finite" },
      lone_surrogate: { code: "lone_surrogate" },
      not_utf8: { code: "not_utf8" },
      not_an_object: { code: "not_an_object" },
    };
    const sentences = Object.values(faults).map((fault) => refusalToWire({ code: "jwt_not_json", part: "header", fault }).description);
    for (const sentence of sentences) expect(sentence).toMatch(/^The header of the subject token (?:is|has) [^.]+\.$/);
    expect(new Set(sentences).size).toBe(Object.keys(faults).length);
  });
});

describe.each(Object.entries(HOSTILE))("with %s in its fields", (_what, text) => {
  const samples = samplesWith(text);

  test.each(REFUSAL_CODES)("%s keeps to the grammar of error_description, and to its length", (code) => {
    const wire = refusalToWire(samples[code]);
    expect(wire.description).toMatch(DESCRIPTION);
    expect({ status: wire.status, error: wire.error }).toEqual({
      status: refusalToWire(PLAIN[code]).status,
      error: refusalToWire(PLAIN[code]).error,
    });
  });
});

describe("the pages behind error_uri", () => {
  test.each(REFUSAL_CODES)("%s has a title, a meaning and a remedy", (code) => {
    const page = refusalPage(code);
    expect(page.title).toMatch(/^.{5,80}$/);
    for (const text of [page.meaning, page.remedy]) expect(text).toMatch(/^.{10,400}\.$/);
    expect(page.title).not.toMatch(/\.$/);
  });

  test("no two have one title, or one meaning", () => {
    expect(new Set(REFUSAL_CODES.map((code) => refusalPage(code).title)).size).toBe(REFUSAL_CODES.length);
    expect(new Set(REFUSAL_CODES.map((code) => refusalPage(code).meaning)).size).toBe(REFUSAL_CODES.length);
  });

  test("a code is a path segment as it stands", () => {
    for (const code of REFUSAL_CODES) expect(code).toMatch(/^[a-z][a-z0-9_]+$/);
  });
});
