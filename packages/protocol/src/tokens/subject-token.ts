import { SUBJECT_TOKEN_ALGORITHMS } from "../constants.ts";
import { type Claims, validateClaims } from "../jwt/claims.ts";
import { type GateRules, type Jws, parseClaims, parseJws } from "../jwt/gate.ts";
import type { Client, PartnerKey } from "../ports.ts";
import type { JwtFault, SignatureFault } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";

export interface SubjectToken extends Claims {
  readonly kid: string | undefined;
  readonly signingInput: string;
}

/** Absent or JWT. A client assertion, an access token or any other typed token is not a subject token (RFC 8725 §3.11). */
const RULES: GateRules = { algorithms: SUBJECT_TOKEN_ALGORITHMS, typ: { name: "jwt", optional: true } };

/**
 * A partner's JWT, whole: gate → key → signature → claims. The authenticated client selects issuer, keys, algorithms and audience;
 * nothing in the token does.
 * Does NOT look up the subject, and does NOT check that the token is used for the first time: both happen where the token is issued.
 */
export function validateSubjectToken(
  token: string,
  client: Client,
  keys: readonly PartnerKey[],
  nowSeconds: number,
): Result<SubjectToken, JwtFault> {
  const jws = parseJws(token, RULES);
  if (!jws.ok) return jws;
  const key = chooseKey(jws.value, client, keys);
  if (!key.ok) return key;
  if (!key.value.verify(jws.value.signingInput, jws.value.signature)) return fail({ code: "jwt_signature_invalid" });
  const payload = parseClaims(jws.value);
  if (!payload.ok) return payload;
  const claims = validateClaims(payload.value, {
    issuer: client.issuer,
    audience: client.audience,
    nowSeconds,
    clockSkewSeconds: client.clockSkewSeconds,
    lifetimeSecondsMax: client.assertionLifetimeSecondsMax,
  });
  if (!claims.ok) return claims;
  return ok({ ...claims.value, kid: jws.value.header.kid, signingInput: jws.value.signingInput });
}

/** One key or a refusal: keys are never tried one after the other. One algorithm per key (RFC 8725 §3.1). */
function chooseKey(jws: Jws, client: Client, keys: readonly PartnerKey[]): Result<PartnerKey, SignatureFault> {
  const { kid, alg } = jws.header;
  if (keys.length === 0) return fail({ code: "partner_keys_missing" });
  if (kid === undefined && keys.length > 1) return fail({ code: "jwt_kid_missing", keys: keys.length });
  const key = kid === undefined ? keys[0] : keys.find((candidate) => candidate.kid === kid);
  if (key === undefined) return fail({ code: "jwt_kid_unknown", kid: kid ?? "" });
  if (key.algorithm !== alg) return fail({ code: "jwt_algorithm_not_of_key", got: alg, expected: key.algorithm });
  if (!client.allowedAlgorithms.includes(key.algorithm)) return fail({ code: "jwt_algorithm_not_allowed", got: alg });
  return ok(key);
}
