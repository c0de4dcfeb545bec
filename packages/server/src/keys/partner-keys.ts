import type { PartnerKeySet } from "@cambist/protocol";
import type { Partner } from "../storage/store.ts";
import { JwksCache, type JwksOwner, type JwksPorts } from "./jwks-cache.ts";
import { verifiersOf } from "./signature.ts";

/** The keys that a partner signs with: those of its registered JWKS, or those behind its `jwks_uri`. */
export class PartnerKeys {
  private readonly fetched: JwksCache;
  /** Made once for each state of a record: the store gives the same object until the record changes. */
  private readonly registered = new WeakMap<object, PartnerKeySet>();

  constructor(ports: JwksPorts) {
    this.fetched = new JwksCache(ports);
  }

  find(partner: Partner, kid: string | undefined): PartnerKeySet | Promise<PartnerKeySet> {
    if (hasJwksUri(partner)) return this.fetched.find(partner, kid);
    let keys = this.registered.get(partner);
    if (keys === undefined) {
      keys = { ok: true, value: { keys: verifiersOf(partner.jwks) } };
      this.registered.set(partner, keys);
    }
    return keys;
  }

  /** Fetches now, whatever is cached. Nothing to do for keys that the operator registered. */
  async refresh(partner: Partner): Promise<void> {
    if (hasJwksUri(partner)) await this.fetched.refresh(partner);
  }
}

function hasJwksUri(partner: Partner): partner is Partner & JwksOwner {
  return partner.jwksUri !== null;
}
