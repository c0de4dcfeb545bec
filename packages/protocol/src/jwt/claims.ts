import { JTI_CHARACTERS_MAX, SUBJECT_CHARACTERS_MAX } from "../constants.ts";
import type { ClaimFault } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";
import type { JsonObject, JsonValue } from "./strict-json.ts";

/** What a token's claims are held against. Times in seconds since 1970, fractions allowed (RFC 7519 §2 NumericDate). */
export interface ClaimRules {
  readonly issuer: string;
  readonly audience: string;
  readonly nowSeconds: number;
  readonly clockSkewSeconds: number;
  readonly lifetimeSecondsMax: number;
  /** Not after this: it was issued before the store was put back from a backup, and may have been spent or withdrawn since. */
  readonly issuedAfterSeconds: number | undefined;
}

export interface Claims {
  readonly subject: string;
  readonly jti: string | undefined;
  /** `iat`. */
  readonly issuedAtSeconds: number;
  /** `exp`, without skew. */
  readonly expiresAtSeconds: number;
}

/**
 * The registered claims (RFC 7519 §4.1, RFC 7523 §3): iss, aud, sub, exp and iat required, nbf and jti read where present, each of
 * the right type, compared character by character. A claim of the wrong type is a fault, never absent. Every other claim is ignored,
 * and nothing here reaches a prototype: `claims` has none.
 * Does NOT look up the subject and does NOT spend the jti.
 */
export function validateClaims(claims: JsonObject, rules: ClaimRules): Result<Claims, ClaimFault> {
  const { iss, sub, aud, jti } = claims;
  if (iss === undefined) return fail({ code: "claim_missing", claim: "iss" });
  if (typeof iss !== "string") return malformed("iss", "a string");
  if (iss !== rules.issuer) return fail({ code: "issuer_mismatch", got: iss, expected: rules.issuer });
  const audience = validateAudience(aud, rules.audience);
  if (audience !== undefined) return fail(audience);
  if (sub === undefined) return fail({ code: "claim_missing", claim: "sub" });
  if (!isIdentifier(sub, SUBJECT_CHARACTERS_MAX)) {
    return malformed("sub", `a string of 1 to ${SUBJECT_CHARACTERS_MAX} characters, none of them a control character`);
  }
  if (jti !== undefined && !isIdentifier(jti, JTI_CHARACTERS_MAX)) {
    return malformed("jti", `a string of 1 to ${JTI_CHARACTERS_MAX} characters, none of them a control character`);
  }
  const times = validateTimes(claims, rules);
  return times.ok ? ok({ subject: sub, jti, ...times.value }) : times;
}

function malformed(claim: string, expected: string): Result<never, ClaimFault> {
  return fail({ code: "claim_malformed", claim, expected });
}

/** One audience and no other: a token for two could be replayed by one at the other (RFC 7523bis, RFC 8725 §3.9). */
function validateAudience(aud: JsonValue | undefined, expected: string): ClaimFault | undefined {
  if (aud === expected) return undefined;
  if (aud === undefined) return { code: "claim_missing", claim: "aud" };
  if (typeof aud === "string") return { code: "audience_mismatch", got: aud, expected };
  if (!Array.isArray(aud) || typeof aud[0] !== "string") {
    return { code: "claim_malformed", claim: "aud", expected: "a string, or an array of one string" };
  }
  if (aud.length > 1) return { code: "audience_mismatch", got: `an array of ${aud.length}`, expected };
  return aud[0] === expected ? undefined : { code: "audience_mismatch", got: aud[0], expected };
}

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

function isIdentifier(value: JsonValue, charactersMax: number): value is string {
  return typeof value === "string" && value !== "" && value.length <= charactersMax && !CONTROL.test(value);
}

/** Valid from `nbf` and `iat` until before `exp`, each with the skew (RFC 7519 §4.1.4: not "on or after" exp). */
function validateTimes(claims: JsonObject, rules: ClaimRules): Result<Pick<Claims, "issuedAtSeconds" | "expiresAtSeconds">, ClaimFault> {
  const { exp, iat, nbf } = claims;
  const { nowSeconds, clockSkewSeconds: skewSeconds, lifetimeSecondsMax: secondsMax } = rules;
  if (exp === undefined) return fail({ code: "claim_missing", claim: "exp" });
  if (iat === undefined) return fail({ code: "claim_missing", claim: "iat" });
  if (!isNumericDate(exp)) return malformed("exp", "a number of seconds since 1970");
  if (!isNumericDate(iat)) return malformed("iat", "a number of seconds since 1970");
  if (nbf !== undefined && !isNumericDate(nbf)) return malformed("nbf", "a number of seconds since 1970");
  if (exp <= iat) return fail({ code: "token_times_contradict", claim: "iat" });
  if (nbf !== undefined && exp <= nbf) return fail({ code: "token_times_contradict", claim: "nbf" });
  if (exp - iat > secondsMax) return fail({ code: "token_lifetime_too_long", seconds: Math.ceil(exp - iat), secondsMax });
  if (nowSeconds >= exp + skewSeconds) return fail({ code: "token_expired", secondsPast: Math.floor(nowSeconds - exp), skewSeconds });
  const { issuedAfterSeconds } = rules;
  if (issuedAfterSeconds !== undefined && iat <= issuedAfterSeconds) {
    return fail({ code: "token_before_restore", secondsBefore: Math.ceil(issuedAfterSeconds - iat) });
  }
  for (const [claim, seconds] of [["iat", iat] as const, ["nbf", nbf] as const]) {
    if (seconds !== undefined && seconds > nowSeconds + skewSeconds) {
      return fail({ code: "token_not_yet_valid", claim, secondsAhead: Math.ceil(seconds - nowSeconds), skewSeconds });
    }
  }
  return ok({ issuedAtSeconds: iat, expiresAtSeconds: exp });
}

function isNumericDate(value: JsonValue): value is number {
  return typeof value === "number" && value >= 0;
}
