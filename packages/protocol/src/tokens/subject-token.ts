import { SUBJECT_TOKEN_ALGORITHMS } from "../constants.ts";
import { type GateRules, parseJws } from "../jwt/gate.ts";
import type { Client, ClientPorts } from "../ports.ts";
import type { JwtFault } from "../refusals.ts";
import type { Result } from "../result.ts";
import { type PartnerJwt, type PartnerKeysUnavailable, validatePartnerJwt } from "./partner-jwt.ts";

/** Absent or JWT. A client assertion, an access token or any other typed token is not a subject token (RFC 8725 §3.11). */
const RULES: GateRules = { algorithms: SUBJECT_TOKEN_ALGORITHMS, typ: { name: "jwt", optional: true } };

/**
 * A partner's JWT that names a subject: gate → key → signature → claims. The authenticated client selects issuer and audience.
 * Does NOT look up the subject, and does NOT check that the token is used for the first time: both happen where the token is issued.
 */
export async function validateSubjectToken(
  token: string,
  client: Client,
  nowSeconds: number,
  ports: Pick<ClientPorts, "partnerKeys" | "restoredAtSeconds">,
): Promise<Result<PartnerJwt, JwtFault | PartnerKeysUnavailable>> {
  const jws = parseJws(token, RULES);
  if (!jws.ok) return jws;
  return validatePartnerJwt(jws.value, client, { issuer: client.issuer, audience: client.audience, nowSeconds }, ports);
}
