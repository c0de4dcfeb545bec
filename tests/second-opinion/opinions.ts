import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import { SUBJECT_TOKEN_ALGORITHMS } from "../../packages/protocol/src/index.ts";
import type { PartnerKey } from "../../packages/protocol/src/ports.ts";
import type { JwtFault } from "../../packages/protocol/src/refusals.ts";
import { validateSubjectToken } from "../../packages/protocol/src/tokens/subject-token.ts";
import { verifiersOf } from "../../packages/server/src/keys/signature.ts";
import { UNLIMITED_CLIENT } from "../../packages/server/src/testing/client.ts";

/** A token, the keys that its partner has registered, and the time at which it is presented: a verdict depends on nothing else. */
export interface Question {
  readonly token: string;
  readonly jwks: Jwks;
  readonly nowMs: number;
}

export interface Jwks {
  readonly keys: readonly unknown[];
}

/** How far a token came: its signature was not verified; it was, and its claims were refused; all is well. */
export const STAGES = ["refused", "verified", "accepted"] as const;
export type Stage = (typeof STAGES)[number];

/** What an application goes by. */
export interface Read {
  readonly sub: unknown;
  readonly jti: unknown;
  readonly exp: unknown;
  readonly kid: unknown;
}

export interface OurOpinion {
  readonly stage: Stage;
  readonly fault?: JwtFault;
  readonly read?: Read;
}

export interface JosesOpinion {
  readonly stage: Stage;
  readonly code?: string;
  readonly claim?: string;
  readonly read?: Read;
}

export function isSame(ours: OurOpinion, joses: JosesOpinion): boolean {
  const [a, b] = [ours.read, joses.read];
  if (ours.stage !== joses.stage || a === undefined || b === undefined) return ours.stage === joses.stage && a === b;
  const isSameKey = a.kid === b.kid || b.kid === undefined; // a header without one leaves us to name the only key that there is
  return a.sub === b.sub && a.jti === b.jti && a.exp === b.exp && isSameKey;
}

/** The whole way of a subject token: gate, choice of the key, signature, claims. */
export async function ourOpinion({ token, jwks, nowMs }: Question): Promise<OurOpinion> {
  const partnerKeys = () => ({ ok: true, value: { keys: ourKeysOf(jwks) } }) as const;
  const result = await validateSubjectToken(token, UNLIMITED_CLIENT, nowMs / 1000, { partnerKeys, restoredAtSeconds: undefined });
  if (!result.ok) {
    const { fault } = result;
    if (fault.code === "partner_keys_unavailable") throw new Error("the keys are in memory");
    return { stage: stageOf(fault), fault };
  }
  const { subject, jti, expiresAtSeconds, kid } = result.value;
  return { stage: "accepted", read: { sub: subject, jti, exp: expiresAtSeconds, kid } };
}

const STAGE_OF_FAULT: Readonly<Record<JwtFault["code"], Stage>> = {
  jwt_too_large: "refused",
  jwt_malformed: "refused",
  jwt_encrypted: "refused",
  jwt_not_base64url: "refused",
  jwt_not_json: "refused", // but see stageOf
  jwt_header_member_unsupported: "refused",
  jwt_typ_unexpected: "refused",
  jwt_algorithm_unsupported: "refused",
  jwt_kid_malformed: "refused",
  partner_keys_missing: "refused",
  jwt_kid_missing: "refused",
  jwt_kid_unknown: "refused",
  jwt_algorithm_not_of_key: "refused",
  jwt_algorithm_not_allowed: "refused",
  jwt_signature_invalid: "refused",
  claim_missing: "verified",
  claim_malformed: "verified",
  issuer_mismatch: "verified",
  audience_mismatch: "verified",
  token_expired: "verified",
  token_not_yet_valid: "verified",
  token_lifetime_too_long: "verified",
  token_times_contradict: "verified",
  token_before_restore: "verified",
};

/** The payload is read after the signature is verified. */
function stageOf(fault: JwtFault): Stage {
  return fault.code === "jwt_not_json" && fault.part === "payload" ? "verified" : STAGE_OF_FAULT[fault.code];
}

/** The same rules, as far as jose has an option for them. */
export async function josesOpinion({ token, jwks, nowMs }: Question): Promise<JosesOpinion> {
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keySetOf(jwks), {
      algorithms: [...SUBJECT_TOKEN_ALGORITHMS],
      issuer: UNLIMITED_CLIENT.issuer,
      audience: UNLIMITED_CLIENT.audience,
      requiredClaims: ["sub", "exp", "iat"],
      clockTolerance: UNLIMITED_CLIENT.clockSkewSeconds,
      maxTokenAge: UNLIMITED_CLIENT.assertionLifetimeSecondsMax,
      currentDate: new Date(nowMs),
    });
    return { stage: "accepted", read: readOf(payload, protectedHeader.kid) };
  } catch (thrown) {
    return refusalOf(thrown);
  }
}

function readOf({ sub, jti, exp }: JWTPayload, kid: string | undefined): Read {
  return { sub, jti, exp, kid };
}

const CLAIM_CODES = new Set(["ERR_JWT_CLAIM_VALIDATION_FAILED", "ERR_JWT_EXPIRED", "ERR_JWT_INVALID"]);

/** @throws what is no refusal of a token or a key: an option that jose does not take would else look like a token that it refuses. */
function refusalOf(thrown: unknown): JosesOpinion {
  if (thrown instanceof errors.JWTClaimValidationFailed || thrown instanceof errors.JWTExpired) {
    return { stage: "verified", code: thrown.code, claim: thrown.claim };
  }
  if (thrown instanceof errors.JOSEError) return { stage: CLAIM_CODES.has(thrown.code) ? "verified" : "refused", code: thrown.code };
  if (thrown instanceof DOMException) return { stage: "refused", code: thrown.name };
  if (thrown instanceof TypeError && /modulusLength|JsonWebKey|importKey/.test(thrown.message))
    return { stage: "refused", code: "TypeError" };
  throw thrown;
}

/** Both sides keep what they made of a set, as they do in a server. */
const ourKeys = new WeakMap<Jwks, readonly PartnerKey[]>();
const keySets = new WeakMap<Jwks, ReturnType<typeof createLocalJWKSet>>();

function ourKeysOf(jwks: Jwks): readonly PartnerKey[] {
  const keys = ourKeys.get(jwks) ?? verifiersOf(jwks);
  ourKeys.set(jwks, keys);
  return keys;
}

function keySetOf(jwks: Jwks): ReturnType<typeof createLocalJWKSet> {
  const keySet = keySets.get(jwks) ?? createLocalJWKSet(jwks as JSONWebKeySet);
  keySets.set(jwks, keySet);
  return keySet;
}
