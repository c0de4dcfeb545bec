import { CLOCK_SKEW_SECONDS_MAX } from "../constants.ts";
import { type Claims, type ClaimRules, validateClaims } from "../jwt/claims.ts";
import { type Jws, parseClaims } from "../jwt/gate.ts";
import type { Client, ClientPorts, PartnerKey, PartnerKeySet } from "../ports.ts";
import type { ClaimFault, GateFault, SignatureFault } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";

/** A JWT that a partner signed, whole. */
export interface PartnerJwt extends Claims {
  /** Of the key that verified it, which the header need not name where there is only one. */
  readonly kid: string | undefined;
  readonly signingInput: string;
}

export type PartnerKeysUnavailable = Extract<PartnerKeySet, { readonly ok: false }>["fault"];

type Ports = Pick<ClientPorts, "partnerKeys" | "restoredAtSeconds">;

/**
 * What has passed the gate: key → signature → claims. The client selects keys, algorithms, lifetime and skew; `expected` is what the
 * kind of token demands; nothing in the token selects anything but its key.
 * Does NOT look up the subject, and does NOT check that the token is used for the first time: both happen where the token is issued.
 */
export async function validatePartnerJwt(
  jws: Jws,
  client: Client,
  expected: Pick<ClaimRules, "issuer" | "audience" | "nowSeconds">,
  ports: Ports,
): Promise<Result<PartnerJwt, GateFault | SignatureFault | ClaimFault | PartnerKeysUnavailable>> {
  const found = ports.partnerKeys(client, jws.header.kid);
  const keys = found instanceof Promise ? await found : found;
  if (!keys.ok) return keys;
  const key = chooseKey(jws, client, keys.value);
  if (!key.ok) return key;
  if (!key.value.verify(jws.signingInput, jws.signature)) return fail({ code: "jwt_signature_invalid" });
  const payload = parseClaims(jws);
  if (!payload.ok) return payload;
  const { restoredAtSeconds } = ports;
  const claims = validateClaims(payload.value, {
    ...expected,
    clockSkewSeconds: client.clockSkewSeconds,
    lifetimeSecondsMax: client.assertionLifetimeSecondsMax,
    // a clock that runs ahead may have signed, and had spent, a token of the seconds to come, under whatever skew was set then
    issuedAfterSeconds: restoredAtSeconds === undefined ? undefined : restoredAtSeconds + CLOCK_SKEW_SECONDS_MAX,
  });
  return claims.ok ? ok({ ...claims.value, kid: key.value.kid ?? jws.header.kid, signingInput: jws.signingInput }) : claims;
}

/** One key or a refusal: keys are never tried one after the other. One algorithm per key (RFC 8725 §3.1). */
function chooseKey(
  jws: Jws,
  client: Client,
  { keys, fetchFailure }: { readonly keys: readonly PartnerKey[]; readonly fetchFailure?: string | undefined },
): Result<PartnerKey, SignatureFault> {
  const { kid, alg } = jws.header;
  if (keys.length === 0) return fail({ code: "partner_keys_missing" });
  if (kid === undefined && keys.length > 1) return fail({ code: "jwt_kid_missing", keys: keys.length });
  const key = kid === undefined ? keys[0] : keys.find((candidate) => candidate.kid === kid);
  if (key === undefined) return fail({ code: "jwt_kid_unknown", kid: kid ?? "", fetchFailure });
  if (key.algorithm !== alg) return fail({ code: "jwt_algorithm_not_of_key", got: alg, expected: key.algorithm });
  if (!client.allowedAlgorithms.includes(key.algorithm)) return fail({ code: "jwt_algorithm_not_allowed", got: alg });
  return ok(key);
}
