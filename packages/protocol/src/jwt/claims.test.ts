import { describe, expect, test } from "vitest";
import { type ClaimRules, validateClaims } from "./claims.ts";
import { isJsonObject, type JsonObject, parseStrictJson } from "./strict-json.ts";

/** The edges of time, where a running server's clock does not stand still. */

const NOW = 1_800_000_000;
const RULES: ClaimRules = {
  issuer: "i",
  audience: "a",
  nowSeconds: NOW,
  clockSkewSeconds: 30,
  lifetimeSecondsMax: 300,
  issuedAfterSeconds: undefined,
};

function claims(changes: Record<string, unknown>): JsonObject {
  const text = JSON.stringify({ iss: "i", sub: "s", aud: "a", iat: NOW - 100, exp: NOW + 100, ...changes });
  const parsed = parseStrictJson(text);
  if (!parsed.ok || !isJsonObject(parsed.value)) throw new Error(`not an object: ${text}`);
  return parsed.value;
}

/** The code of the fault, or `ok`. */
function verdict(changes: Record<string, unknown>, rules: Partial<ClaimRules> = {}): string {
  const result = validateClaims(claims(changes), { ...RULES, ...rules });
  return result.ok ? "ok" : result.fault.code;
}

describe("the skew", () => {
  test.each([
    [-31, "token_expired"],
    [-30, "token_expired"],
    [-29.999, "ok"],
    [-29, "ok"],
    [0, "ok"],
  ])("P4.2: exp at now %d s, skew 30 s", (seconds, expected) => {
    expect(verdict({ exp: NOW + seconds })).toBe(expected);
  });

  test.each([
    [-0.001, "token_expired"],
    [0, "token_expired"],
    [0.001, "ok"],
  ])("P4.3: exp at now %d s, skew 0: not on or after exp", (seconds, expected) => {
    expect(verdict({ exp: NOW + seconds }, { clockSkewSeconds: 0 })).toBe(expected);
  });

  test.each(["iat", "nbf"])("P4.9: %s is taken up to and including the skew", (claim) => {
    expect(verdict({ [claim]: NOW + 30 })).toBe("ok");
    expect(verdict({ [claim]: NOW + 30.001 })).toBe("token_not_yet_valid");
    expect(verdict({ [claim]: NOW + 31 })).toBe("token_not_yet_valid");
    expect(verdict({ [claim]: NOW }, { clockSkewSeconds: 0 })).toBe("ok");
    expect(verdict({ [claim]: NOW + 0.001 }, { clockSkewSeconds: 0 })).toBe("token_not_yet_valid");
  });
});

describe("the lifetime", () => {
  test("P4.8: exp - iat up to and including the cap, skew not added", () => {
    expect(verdict({ iat: NOW, exp: NOW + 300 })).toBe("ok");
    expect(verdict({ iat: NOW, exp: NOW + 300.001 })).toBe("token_lifetime_too_long");
    expect(verdict({ iat: NOW + 30, exp: NOW + 330 })).toBe("ok");
    expect(verdict({ iat: NOW + 30, exp: NOW + 331 })).toBe("token_lifetime_too_long");
  });

  test("P4.5: numbers so large that their difference is 0 are refused all the same", () => {
    expect(verdict({ iat: 2 ** 60, exp: 2 ** 60 })).toBe("token_times_contradict");
    expect(verdict({ iat: 2 ** 60, exp: 2 ** 60 + 256 })).toBe("token_not_yet_valid");
    expect(verdict({ iat: Number.MAX_VALUE, exp: Number.MAX_VALUE })).toBe("token_times_contradict");
  });

  test("P4.10: exp after iat and after nbf by any fraction, not at them", () => {
    expect(verdict({ iat: NOW, exp: NOW })).toBe("token_times_contradict");
    expect(verdict({ iat: NOW, exp: NOW + 0.001 })).toBe("ok");
    expect(verdict({ nbf: NOW, exp: NOW })).toBe("token_times_contradict");
    expect(verdict({ nbf: NOW, exp: NOW + 0.001 })).toBe("ok");
  });
});

test("P4.20: sub and jti of 1 to 255 characters, none of them a control character", () => {
  for (const claim of ["sub", "jti"]) {
    for (const value of ["x", "x".repeat(255), "\u00a0", "\u2028", "😀"]) expect(verdict({ [claim]: value }), value).toBe("ok");
    for (const value of ["", "x".repeat(256), "\u0000", "\u001f", "\u007f", "\u0080", "\u009f", 1, null, {}, [], ["x"], true]) {
      expect(verdict({ [claim]: value }), JSON.stringify(value)).toBe("claim_malformed");
    }
  }
});

test("what passes is told: sub, jti, iat and exp without the skew", () => {
  const result = validateClaims(claims({ jti: "j", exp: NOW + 60.5 }), RULES);
  expect(result).toEqual({ ok: true, value: { subject: "s", jti: "j", issuedAtSeconds: NOW - 100, expiresAtSeconds: NOW + 60.5 } });
});
