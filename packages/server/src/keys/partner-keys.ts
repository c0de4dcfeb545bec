import { type PartnerKey, takeInJwks } from "@cambist/protocol";
import { verifierFor } from "./signature.ts";

/** KeyObjects of a partner, made once for each state of its record: the store gives the same object until the record changes. */
const made = new WeakMap<object, readonly PartnerKey[]>();

/** The usable keys of a partner's registered JWKS. What intake refuses is not there; the admin API has said so when it took it in. */
export function partnerKeys(partner: { readonly jwks: unknown }): readonly PartnerKey[] {
  let keys = made.get(partner);
  if (keys === undefined) {
    const intake = takeInJwks(partner.jwks);
    keys = intake.ok ? intake.value.used.map(({ kid, algorithm, jwk }) => ({ kid, algorithm, verify: verifierFor(algorithm, jwk) })) : [];
    made.set(partner, keys);
  }
  return keys;
}
