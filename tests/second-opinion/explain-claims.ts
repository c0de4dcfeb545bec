import type { JwtFault } from "../../packages/protocol/src/refusals.ts";
import { type Asked, type Explanation, joseRefuses, weRefuse } from "./explanation.ts";
import { UNLIMITED_CLIENT } from "../../packages/server/src/testing/client.ts";

/** Claims, and the clock. */

type Malformed = Extract<JwtFault, { code: "claim_malformed" }>;
const isOf = (claim: string, fault?: Malformed): boolean => fault === undefined || fault.claim === claim;

const claimOf = ({ token }: Asked, name: string): unknown => token.payload.members?.[name];
const numberOf = (asked: Asked, name: string): number => {
  const value = claimOf(asked, name);
  return typeof value === "number" ? value : Number.NaN;
};

function isNoIdentifier(value: unknown): boolean {
  return typeof value !== "string" || value.length === 0 || value.length > 255 || /\p{Cc}/u.test(value);
}

const SKEW = UNLIMITED_CLIENT.clockSkewSeconds;
const wholeSeconds = ({ question }: Asked): number => Math.floor(question.nowMs / 1000);
const seconds = ({ question }: Asked): number => question.nowMs / 1000;

export const CLAIM_EXPLANATIONS: readonly Explanation[] = [
  weRefuse(
    "our audience among others",
    ["audience_mismatch", "claim_malformed"],
    (asked, fault) => {
      const aud = claimOf(asked, "aud");
      const named = fault?.code !== "claim_malformed" || fault.claim === "aud";
      return named && Array.isArray(aud) && aud.length > 1 && aud.includes(UNLIMITED_CLIENT.audience);
    },
    "jose wants our audience to be in the array, whatever else is (RFC 7519 §4.1.3); a token for two could be replayed by one at the other, so we want it alone (RFC 8725 §3.9, RFC 7523bis).",
  ),
  weRefuse(
    "sub that is no identifier",
    ["claim_malformed"],
    (asked, fault?: Malformed) => isOf("sub", fault) && isNoIdentifier(claimOf(asked, "sub")),
    "jose wants sub to be there, of any type; RFC 7519 §4.1.2 has a string, and ours has 1 to 255 characters, none a control character (OpenID Connect Core §2).",
  ),
  weRefuse(
    "jti that is no identifier",
    ["claim_malformed"],
    (asked, fault?: Malformed) => isOf("jti", fault) && claimOf(asked, "jti") !== undefined && isNoIdentifier(claimOf(asked, "jti")),
    "jose does not look at jti; RFC 7519 §4.1.7 has a string, and used-once goes by it.",
  ),
  weRefuse(
    "nbf before 1970",
    ["claim_malformed"],
    (asked, fault?: Malformed) => isOf("nbf", fault) && numberOf(asked, "nbf") < 0,
    "RFC 7519 §2 counts seconds from 1970; a negative time is a producer's mistake, which jose lets pass where it is not asked for.",
  ),
  weRefuse(
    "times that contradict each other",
    ["token_times_contradict"],
    (asked, fault) =>
      (fault === undefined ? ["iat", "nbf"] : [fault.claim]).some((name) => numberOf(asked, "exp") <= numberOf(asked, name)),
    "jose holds each time against the clock alone; a token that ends before it begins is never valid but for the tolerance (RFC 7519 §4.1.4, §4.1.5).",
  ),
  weRefuse(
    "a lifetime over the partner's limit",
    ["token_lifetime_too_long"],
    (asked) => numberOf(asked, "exp") - numberOf(asked, "iat") > UNLIMITED_CLIENT.assertionLifetimeSecondsMax,
    "jose's maxTokenAge bounds the age now and not exp − iat; RFC 7523 §3 lets a server refuse an exp that is unreasonably far away.",
  ),
  weRefuse(
    "expired within this second",
    ["token_expired"],
    (asked) => {
      const end = numberOf(asked, "exp") + SKEW;
      return wholeSeconds(asked) < end && end <= seconds(asked);
    },
    "jose cuts its clock to whole seconds, ours has milliseconds, and exp may have a fraction (RFC 7519 §2): jose is late by less than a second.",
  ),
  joseRefuses(
    "valid from within this second",
    ["ERR_JWT_CLAIM_VALIDATION_FAILED"],
    (difference) => {
      const { claim = "" } = difference.joses;
      const begin = numberOf(difference, claim) - SKEW;
      return (claim === "nbf" || claim === "iat") && wholeSeconds(difference) < begin && begin <= seconds(difference);
    },
    ({ question }) => ({ ...question, nowMs: Math.ceil(question.nowMs / 1000) * 1000 }),
    "the same in the other direction: by a clock with milliseconds (RFC 7519 §2, §4.1.5) the token is already valid.",
  ),
];
