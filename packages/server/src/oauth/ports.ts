import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientAuthentication, ExchangeFacts, TokenEndpointPorts } from "@cambist/protocol";
import { isClientId, newTokenId } from "../ids.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { MasterKeys } from "../keys/master-key.ts";
import type { PartnerKeys } from "../keys/partner-keys.ts";
import type { Partner, Store } from "../storage/store.ts";

export interface PortSources {
  readonly issuer: string;
  readonly resource: string;
  readonly store: Pick<Store, "partners" | "exchanges" | "restoredAtSeconds">;
  readonly partnerKeys: PartnerKeys;
  readonly masterKeys: MasterKeys;
  readonly keyring: Keyring;
  readonly nowMs: () => number;
}

/** What the pure token endpoint asks of the outside, out of the parts of this server. */
export function tokenEndpointPorts({ issuer, resource, store, partnerKeys, masterKeys, keyring, nowMs }: PortSources): TokenEndpointPorts {
  return {
    issuer,
    resource,
    nowMs,
    waitMs: (ms) => sleep(ms),
    newTokenId,
    sha256: (text) => createHash("sha256").update(text).digest(),
    restoredAtSeconds: store.restoredAtSeconds,
    partnerKeys: (client, kid) => partnerKeys.find(client as Partner, kid), // the very object that findClient or authenticateClient gave out
    issue: (request) => store.exchanges.issue(request),
    recordRefusal: (facts, refusal) => store.exchanges.recordRefusal(withoutForeignId(facts), refusal),
    signer: () => keyring.signer(),
    async findClient(clientId) {
      const partner = isClientId(clientId) ? await store.partners.find(clientId) : undefined;
      if (partner === undefined) return { ok: false, fault: { cause: "unknown" } };
      return partner.status === "active" ? { ok: true, value: partner } : { ok: false, fault: { cause: "disabled" } };
    },
    async authenticateClient(clientId, secret): Promise<ClientAuthentication> {
      const partner = isClientId(clientId) ? await store.partners.find(clientId) : undefined;
      const found = masterKeys.findSecret(secret, partner?.secrets ?? []); // the same work, whether or not there is such a partner
      const secretId = partner?.secrets[found]?.secretId;
      if (partner === undefined) return { ok: false, fault: { cause: "unknown" } };
      if (partner.tokenEndpointAuthMethod !== "client_secret") return { ok: false, fault: { cause: "wrong_method" } };
      if (secretId === undefined) return { ok: false, fault: { cause: "wrong_secret" } };
      if (partner.status !== "active") return { ok: false, fault: { cause: "disabled" } };
      return { ok: true, value: { client: partner, secretId } };
    },
  };
}

const FOREIGN_ID_CHARACTERS_MAX = 8;

/** What came as a client id and is none may be the secret, in the wrong field: only its beginning is kept. */
function withoutForeignId(facts: Readonly<ExchangeFacts>): Readonly<ExchangeFacts> {
  const { clientId } = facts;
  if (clientId === undefined || isClientId(clientId)) return facts;
  return { ...facts, clientId: clientId.slice(0, FOREIGN_ID_CHARACTERS_MAX) };
}
