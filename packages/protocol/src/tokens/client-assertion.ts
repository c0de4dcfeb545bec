import { SUBJECT_TOKEN_ALGORITHMS } from "../constants.ts";
import { type GateRules, type Jws, parseClaims, parseJws } from "../jwt/gate.ts";
import type { Client, ClientPorts } from "../ports.ts";
import type { GateFault, JwtFault, Refusal, SignatureFault } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";
import { type PartnerJwt, validatePartnerJwt } from "./partner-jwt.ts";

/** The type that the revision of RFC 7523 defines. Required here: a service account's subject token has the same claims, and one must never serve as the other. */
const RULES: GateRules = { algorithms: SUBJECT_TOKEN_ALGORITHMS, typ: { name: "client-authentication+jwt", optional: false } };

/** Whom an assertion claims to be from, before anything in it is verified: good for looking the client up, and for nothing else. */
export interface UnverifiedAssertion {
  readonly jws: Jws;
  readonly clientId: string;
}

export function parseClientAssertion(assertion: string): Result<UnverifiedAssertion, Refusal> {
  const jws = parseJws(assertion, RULES);
  if (!jws.ok) return invalid(jws.fault);
  const claims = parseClaims(jws.value);
  if (!claims.ok) return invalid(claims.fault);
  const { sub } = claims.value;
  return typeof sub === "string" ? ok({ jws: jws.value, clientId: sub }) : fail({ code: "client_not_authenticated", cause: "malformed" });
}

function invalid(fault: GateFault): Result<never, Refusal> {
  return fail({ code: "client_assertion_invalid", fault });
}

/**
 * RFC 7523 §3: `iss` and `sub` are the client id, `aud` is our issuer identifier and nothing else (its revision: not the token
 * endpoint's URL either), under the client's own limits of lifetime and skew. Until the client's key has verified it, a fault reads
 * like an unknown client; after that, the one who holds the key is told what is wrong.
 * Does NOT spend it: that happens where the token is issued.
 */
export async function validateClientAssertion(
  { jws, clientId }: UnverifiedAssertion,
  client: Client,
  nowSeconds: number,
  ports: Pick<ClientPorts, "issuer" | "partnerKeys" | "restoredAtSeconds">,
): Promise<Result<PartnerJwt, Refusal>> {
  const validated = await validatePartnerJwt(jws, client, { issuer: clientId, audience: ports.issuer, nowSeconds }, ports);
  if (validated.ok) return validated;
  const { fault } = validated;
  if (fault.code === "partner_keys_unavailable") return fail({ ...fault, failure: "the operator sees why" }); // nobody is authenticated yet
  return fail(
    isSignatureFault(fault) ? { code: "client_not_authenticated", cause: fault.code } : { code: "client_assertion_invalid", fault },
  );
}

const SIGNATURE_FAULTS: { readonly [Code in SignatureFault["code"]]: true } = {
  partner_keys_missing: true,
  jwt_kid_missing: true,
  jwt_kid_unknown: true,
  jwt_algorithm_not_of_key: true,
  jwt_algorithm_not_allowed: true,
  jwt_signature_invalid: true,
};

function isSignatureFault(fault: JwtFault): fault is SignatureFault {
  return Object.hasOwn(SIGNATURE_FAULTS, fault.code);
}
