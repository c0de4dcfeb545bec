import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { UnsecuredJWT } from "jose";
import { describe, expect, test } from "vitest";
import { type ClaimRules, validateClaims } from "./claims.ts";
import { isJsonObject, type JsonObject, parseStrictJson } from "./strict-json.ts";

const NOW = 1_750_000_000;
const RULES: ClaimRules = {
  issuer: "prt_1",
  audience: "https://as.example",
  nowSeconds: NOW,
  clockSkewSeconds: 30,
  lifetimeSecondsMax: 3600,
  issuedAfterSeconds: undefined,
};
const RUNS = { numRuns: 5000 };

function toJsonObject(value: unknown): JsonObject {
  const parsed = parseStrictJson(JSON.stringify(value));
  if (!parsed.ok || !isJsonObject(parsed.value)) throw new Error("the generator made no JSON object");
  return parsed.value;
}

/** Of every JSON type, and the values that a lax reader takes for something else. */
const odd: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(null, true, false, 0, -1, 1e308, "", "0", String(NOW), [], {}, [null], [[]], { length: 1 }),
  fc.jsonValue({ maxDepth: 2 }),
);
/** Mostly right, so that one fault at a time is met. */
const mostly = (right: fc.Arbitrary<unknown>, wrong: fc.Arbitrary<unknown>) =>
  fc.oneof({ arbitrary: right, weight: 12 }, { arbitrary: wrong, weight: 1 }, { arbitrary: odd, weight: 1 });
const near = (seconds: number) => fc.constantFrom(-1, -0.5, 0, 0.5, 1).map((off) => seconds + off);

const issuer = mostly(fc.constant("prt_1"), fc.constantFrom("PRT_1", "prt_1 ", "prt_10", "prt_2"));
const audience = mostly(
  fc.constantFrom<unknown>("https://as.example", ["https://as.example"]),
  fc.constantFrom<unknown>(
    "https://as.example/",
    "HTTPS://as.example",
    ["https://as.example", "x"],
    ["https://as.example", "https://as.example"],
    ["x"],
  ),
);
const identifier = mostly(
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }),
  fc.constantFrom("", "a\0b", "a\nb", "\u007f", "\u0085", "s".repeat(255), "s".repeat(256)),
);
/** Fresh, about to expire, or not valid yet. */
const times = fc.oneof(
  fc.record({
    exp: mostly(near(NOW + 300), near(NOW + 3600)),
    iat: mostly(near(NOW), near(NOW + 30)),
    nbf: mostly(near(NOW), near(NOW + 300)),
  }),
  fc.record({
    exp: mostly(near(NOW - 30), near(NOW)),
    iat: mostly(near(NOW - 3600), near(NOW - 30)),
    nbf: mostly(near(NOW - 600), near(NOW - 30)),
  }),
  fc.record({ exp: near(NOW + 3630), iat: near(NOW + 30), nbf: mostly(near(NOW + 30), odd) }),
);
const claimsArbitrary = fc
  .tuple(
    fc.record({ iss: issuer, aud: audience, sub: identifier, jti: identifier }),
    times,
    fc.subarray(["iss", "aud", "sub", "jti", "exp", "iat", "nbf"], { maxLength: 1 }),
    fc.nat(3),
  )
  .map(([names, seconds, leftOut, often]): Record<string, unknown> => {
    const claims: Record<string, unknown> = { ...names, ...seconds };
    if (often === 0) for (const name of leftOut) delete claims[name];
    return claims;
  });

/** The contract's rules (§1) written a second time, one line each, and without a word of why. */
function passesByTheContract({ iss, aud, sub, jti, exp, iat, nbf }: Record<string, unknown>): boolean {
  const isText = (value: unknown) => typeof value === "string" && value.length >= 1 && value.length <= 255 && !/\p{Cc}/u.test(value);
  const isTime = (value: unknown): value is number => typeof value === "number" && value >= 0;
  return (
    iss === "prt_1" &&
    (aud === "https://as.example" || (Array.isArray(aud) && aud.length === 1 && aud[0] === "https://as.example")) &&
    isText(sub) &&
    (jti === undefined || isText(jti)) &&
    isTime(exp) &&
    isTime(iat) &&
    (nbf === undefined || isTime(nbf)) &&
    exp - iat > 0 &&
    exp - iat <= 3600 &&
    (nbf === undefined || nbf < exp) &&
    exp + 30 > NOW &&
    iat - 30 <= NOW &&
    (nbf === undefined || nbf - 30 <= NOW)
  );
}

describe("validateClaims", () => {
  test("passes what the contract passes, and nothing else", () => {
    let passed = 0;
    fc.assert(
      fc.property(claimsArbitrary, (claims) => {
        const expected = passesByTheContract(claims);
        const verdict = validateClaims(toJsonObject(claims), RULES);
        expect(verdict.ok).toBe(expected);
        if (!verdict.ok) return;
        passed++;
        const told = { issuedAtSeconds: claims["iat"], expiresAtSeconds: claims["exp"] };
        expect(verdict.value).toEqual({ subject: claims["sub"], jti: claims["jti"], ...told });
      }),
      RUNS,
    );
    expect(passed).toBeGreaterThan(RUNS.numRuns / 20); // a generator that makes nothing right would prove nothing
    expect(passed).toBeLessThan(RUNS.numRuns);
  });

  test("passes nothing whose claims an independent library (jose) refuses", () => {
    const header = Buffer.from('{"alg":"none"}').toString("base64url");
    let refusedByJose = 0;
    fc.assert(
      fc.property(claimsArbitrary, (claims) => {
        const token = `${header}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.`;
        const options = {
          issuer: RULES.issuer,
          audience: RULES.audience,
          clockTolerance: 30,
          currentDate: new Date(NOW * 1000),
          requiredClaims: ["sub", "exp", "iat"],
        };
        try {
          UnsecuredJWT.decode(token, options);
        } catch {
          refusedByJose++;
          expect(validateClaims(toJsonObject(claims), RULES).ok).toBe(false);
        }
      }),
      RUNS,
    );
    expect(refusedByJose).toBeGreaterThan(RUNS.numRuns / 20);
  });

  test("never throws, and passes nothing, for any JSON object that is not made for it", () => {
    const names = fc.constantFrom("iss", "aud", "sub", "jti", "exp", "iat", "nbf", "__proto__", "toString");
    fc.assert(
      fc.property(fc.dictionary(names, odd), (claims) => {
        expect(validateClaims(toJsonObject(claims), RULES).ok).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  test("gives no meaning to any other claim", () => {
    const right = { iss: "prt_1", sub: "u", aud: "https://as.example", iat: NOW, exp: NOW + 300 };
    const others = fc.dictionary(
      fc.string({ unit: "grapheme" }).map((name) => `x${name}`),
      odd,
    );
    const known = fc.dictionary(
      fc.constantFrom("scope", "admin", "client_id", "act", "azp", "roles", "Sub", "EXP", "user_id", "__proto__"),
      odd,
    );
    fc.assert(
      fc.property(others, known, (unknown, named) => {
        expect(validateClaims(toJsonObject({ ...unknown, ...named, ...right }), RULES)).toEqual({
          ok: true,
          value: { subject: "u", jti: undefined, issuedAtSeconds: NOW, expiresAtSeconds: NOW + 300 },
        });
      }),
      { numRuns: 500 },
    );
  });
});
