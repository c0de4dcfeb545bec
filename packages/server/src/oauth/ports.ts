import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  ClientAuthentication,
  ClientPorts,
  ExchangeFacts,
  IntrospectionPorts,
  RevocationPorts,
  TokenCallerPorts,
  TokenEndpointPorts,
  TooManyWrong,
  WorkingToken,
} from "@cambist/protocol";
import type { LiveToken, LiveTokens } from "../http/live-token.ts";
import type { Quotas } from "../http/quotas.ts";
import type { WrongSecrets } from "../http/wrong-secrets.ts";
import { isClientId, isResourceServerId, newOpaqueToken, newTokenId, shownClientId } from "../ids.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { MasterKeys } from "../keys/master-key.ts";
import type { PartnerKeys } from "../keys/partner-keys.ts";
import { secretRehash } from "../keys/secret-rehash.ts";
import type { AccountStore, Entitlement } from "../storage/account-store.ts";
import type { Partner, PartnerSecret, Store } from "../storage/store.ts";
import type { ScopeCatalog } from "./scope-catalog.ts";

export interface PortSources {
  readonly issuer: string;
  readonly store: Pick<Store, "accounts" | "partners" | "exchanges" | "tokens" | "resourceServers" | "restoredAtSeconds">;
  readonly partnerKeys: PartnerKeys;
  readonly masterKeys: MasterKeys;
  readonly keyring: Keyring;
  readonly scopes: ScopeCatalog;
  readonly liveTokens: LiveTokens;
  readonly quotas: Quotas;
  readonly wrongSecrets: WrongSecrets;
  readonly nowMs: () => number;
}

/** What the pure endpoints ask of the outside, out of the parts of this server. */
export interface OAuthPorts {
  readonly token: TokenEndpointPorts;
  readonly introspection: IntrospectionPorts;
  readonly revocation: RevocationPorts;
}

export function oauthPorts(sources: PortSources): OAuthPorts {
  const { store, masterKeys, keyring, scopes, liveTokens, nowMs } = sources;
  const client = clientPorts(sources);
  const caller = callerPorts(client, sources);
  return {
    token: {
      ...client,
      nowMs,
      waitMs: (ms) => sleep(ms),
      newTokenId,
      newOpaqueToken() {
        const token = newOpaqueToken();
        return { token, ...masterKeys.hashSecret(token) };
      },
      scopeCatalog: ({ allowedScopes }) => scopes.find(allowedScopes),
      issue: (request) => store.exchanges.issue(request),
      recordRefusal: (facts, refusal) => store.exchanges.recordRefusal(withoutForeignId(facts), refusal),
      signer: () => keyring.signer(),
    },
    introspection: {
      ...caller,
      async findWorkingToken(token) {
        const live = await liveTokens.findLive(token);
        return "dead" in live ? undefined : withinAllowed(live);
      },
      findEntitlements: (clientId, userId) => findEntitlements(store.accounts, clientId, userId),
    },
    revocation: {
      ...caller,
      findIssuedToken: (token) => liveTokens.findIssued(token),
      async revokeToken({ tokenId, clientId }) {
        await store.tokens.revoke({ kind: "token", tokenId, partnerId: clientId }, nowMs);
      },
    },
  };
}

/** A scope that the partner may no longer have opens nothing, and a token of no other scope neither. */
function withinAllowed(live: LiveToken): WorkingToken | undefined {
  const { token, partner, user } = live;
  const granted = token.scope.split(" ");
  const scope = granted.filter((name) => partner.allowedScopes.includes(name));
  if (scope.length === granted.length) return live;
  return scope.length === 0 ? undefined : { token: { ...token, scope: scope.join(" ") }, user };
}

function clientPorts({ issuer, store, partnerKeys, masterKeys, quotas, wrongSecrets }: PortSources): ClientPorts {
  const rehash = secretRehash(store.partners, masterKeys);
  return {
    issuer,
    sha256: (text) => createHash("sha256").update(text).digest(),
    restoredAtSeconds: store.restoredAtSeconds,
    partnerKeys: (client, kid) => partnerKeys.find(client as Partner, kid), // the very object that findClient or authenticateClient gave out
    async findClient(clientId) {
      const partner = isClientId(clientId) ? await store.partners.find(clientId) : undefined;
      if (partner === undefined) return { ok: false, fault: { cause: "unknown" } };
      return partner.status === "active" ? { ok: true, value: partner } : { ok: false, fault: { cause: "disabled" } };
    },
    async authenticateClient(clientId, secret, address): Promise<ClientAuthentication> {
      const partner = isClientId(clientId) ? await store.partners.find(clientId) : undefined;
      const limited = tooManyWrong(wrongSecrets.check(clientId, address)); // from here to the count there is no wait
      if (limited !== undefined) return { ok: false, fault: limited };
      const authenticated = checkSecret(partner, secret, masterKeys);
      if (!authenticated.ok) wrongSecrets.note(clientId, address);
      else rehash({ clientId, secret: authenticated.value.kept, presented: secret });
      return authenticated.ok
        ? { ok: true, value: { client: authenticated.value.client, secretId: authenticated.value.kept.secretId } }
        : authenticated;
    },
    async admit(client, request) {
      const { isAdmitted, limits, resetSeconds } = await quotas.admit(client as Partner, request);
      if (isAdmitted) return { ok: true, value: undefined };
      return { ok: false, fault: { requestsPerMinute: limits.requestsPerMinute, retryAfterSeconds: resetSeconds } };
    },
  };
}

function tooManyWrong(retryAfterSeconds: number | undefined): TooManyWrong | undefined {
  return retryAfterSeconds === undefined ? undefined : { cause: "too_many_wrong", retryAfterSeconds };
}

type CheckedSecret =
  | { readonly ok: true; readonly value: { readonly client: Partner; readonly kept: PartnerSecret } }
  | { readonly ok: false; readonly fault: { readonly cause: "unknown" | "wrong_method" | "wrong_secret" | "disabled" } };

function checkSecret(partner: Partner | undefined, secret: string, masterKeys: MasterKeys): CheckedSecret {
  const found = masterKeys.findSecret(secret, partner?.secrets ?? []); // the same work, whether or not there is such a partner
  const kept = partner?.secrets[found];
  if (partner === undefined) return { ok: false, fault: { cause: "unknown" } };
  if (partner.tokenEndpointAuthMethod !== "client_secret") return { ok: false, fault: { cause: "wrong_method" } };
  if (kept === undefined) return { ok: false, fault: { cause: "wrong_secret" } };
  return partner.status === "active" ? { ok: true, value: { client: partner, kept } } : { ok: false, fault: { cause: "disabled" } };
}

function callerPorts(client: ClientPorts, { store, masterKeys, wrongSecrets, nowMs }: PortSources): TokenCallerPorts {
  const rehash = secretRehash(store.resourceServers, masterKeys);
  const notedAtMs = new Map<string, number>();
  return {
    ...client,
    nowMs,
    noteCaller: (clientId, used) => store.exchanges.noteCaller(clientId, used),
    async authenticateResourceServer(resourceServerId, secret, address) {
      const api = isResourceServerId(resourceServerId) ? await store.resourceServers.find(resourceServerId) : undefined;
      const limited = tooManyWrong(wrongSecrets.check(resourceServerId, address));
      if (limited !== undefined) return limited;
      const kept = api?.secrets[masterKeys.findSecret(secret, api?.secrets ?? [])]; // the same work, whether or not there is such an API
      if (api === undefined || kept === undefined) {
        wrongSecrets.note(resourceServerId, address);
        return undefined;
      }
      rehash({ clientId: resourceServerId, secret: kept, presented: secret });
      if (nowMs() - Math.max(kept.lastUsedAtMs ?? 0, notedAtMs.get(kept.secretId) ?? 0) > SECRET_USE_MS) {
        notedAtMs.set(kept.secretId, nowMs());
        // behind the request's back: a store that can only be read must not keep an API from asking
        store.resourceServers.noteUse(resourceServerId, kept.secretId, nowMs()).catch(() => undefined);
      }
      return { kind: "resource_server", resourceServerId, audience: api.audience };
    },
  };
}

/** `last_used_at` is true to this. */
const SECRET_USE_MS = 60_000;

/** The effective set: what the user, its workspace and its organization hold together (contract §1). */
async function findEntitlements(accounts: Pick<AccountStore, "find">, clientId: string, userId: string): Promise<readonly Entitlement[]> {
  const user = await accounts.find("user", clientId, { id: userId });
  if (user === undefined) return [];
  const [workspace, organization] = await Promise.all([
    accounts.find("workspace", clientId, { id: user.entity.workspace_id }),
    accounts.find("organization", clientId, { id: user.entity.org_id }),
  ]);
  const held = [organization, workspace, user].flatMap((stored) => stored?.entity.entitlements ?? []);
  return [...new Map(held.map((entitlement) => [entitlement.billing_feature_id, entitlement])).values()];
}

function withoutForeignId(facts: Readonly<ExchangeFacts>): Readonly<ExchangeFacts> {
  const { clientId } = facts;
  return clientId === undefined || isClientId(clientId) ? facts : { ...facts, clientId: shownClientId(clientId) };
}
