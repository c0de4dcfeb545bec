import {
  type AccessToken,
  accessTokenFault,
  type AccessTokenKey,
  accessTokenOf,
  cutOffSecondsOf,
  OPAQUE_TOKEN_FORM,
  parseAccessToken,
} from "@cambist/protocol";
import type { AccountStore } from "../storage/account-store.ts";
import type { Partner, PartnerStore } from "../storage/store.ts";
import type { TokenStore } from "../storage/token-store.ts";

export interface LiveTokenPorts {
  readonly issuer: string;
  readonly partners: Pick<PartnerStore, "find">;
  readonly accounts: Pick<AccountStore, "findLiveUser">;
  readonly tokens: Pick<TokenStore, "findOpaque" | "isRevoked">;
  /** Under every master key in use. */
  readonly hashesOf: (opaqueToken: string) => readonly Uint8Array[];
  readonly keys: {
    findKey(kid: string): AccessTokenKey | undefined;
    refreshForKid(kid: string): Promise<boolean>;
    generation(): number;
  };
  readonly nowMs: () => number;
  readonly restoredAtSeconds: number | undefined;
}

/** A token that works right now, and whose it is. */
export interface LiveToken {
  readonly token: AccessToken;
  readonly partner: Partner;
  /** Of a user's token. */
  readonly user: { readonly userId: string; readonly workspaceId: string; readonly orgId: string } | undefined;
}

/** Why a token does not work; a sentence for its bearer. */
export interface DeadToken {
  readonly dead: string;
}

export interface LiveTokens {
  /**
   * Whether a token works at this moment, decided in this one place for every API and for introspection: it is ours, JWT or opaque; its time is not
   * over; it was not revoked, nor all of its partner's, of the key behind it, or of its user; its partner and its user are enabled. Partner, user
   * and revocations are read at each use, so that what was withdrawn stops at once, on every node.
   * Does NOT check that it is for the API that asks (`token.audience`), nor its scope.
   */
  findLive(token: string): Promise<LiveToken | DeadToken>;
  /** What a token of ours says, whatever has become of it since. */
  findIssued(token: string): Promise<AccessToken | undefined>;
}

/** Tokens that are remembered. */
const READ_MAX = 10_000;

const NOT_OURS: DeadToken = { dead: "This is not an access token of this server, or it was changed on its way." };
const OVER: DeadToken = { dead: "The access token has expired; exchange for a new one." };
const ENDED: DeadToken = { dead: "The access token has been ended; exchange for a new one." };

export function liveTokens(ports: LiveTokenPorts): LiveTokens {
  const read = tokenReader(ports);

  async function findLive(text: string): Promise<LiveToken | DeadToken> {
    const token = await read(text);
    if (token === undefined) return NOT_OURS;
    if (accessTokenFault(token, ports.nowMs() / 1000, ports.restoredAtSeconds) !== undefined) return OVER;
    const [partner, revoked] = await Promise.all([ports.partners.find(token.clientId), ports.tokens.isRevoked(token.tokenId)]);
    if (partner?.status !== "active") return { dead: "The access token's partner is no longer active." };
    if (revoked || token.issuedAtSeconds <= cutOffSecondsOf(partner.cutOffs, token.kids)) return ENDED;
    return token.principal === "user" ? liveUser(partner, token) : { token, partner, user: undefined };
  }

  async function liveUser(partner: Partner, token: AccessToken): Promise<LiveToken | DeadToken> {
    const user = await ports.accounts.findLiveUser(partner.clientId, token.subject);
    if (user === undefined) return { dead: "The access token's user no longer exists." };
    if (user.disabled !== undefined) return { dead: `The access token's ${user.disabled} is disabled.` };
    if (token.issuedAtSeconds <= user.tokensCutOffSeconds) return ENDED;
    return { token, partner, user: { userId: token.subject, workspaceId: user.workspaceId, orgId: user.orgId } };
  }

  return { findLive, findIssued: read };
}

/**
 * By its form a token is opaque or a JWT. What one says never changes, and is read once: a JWT's signature costs more than all the rest of a check,
 * and an opaque token's row half of it.
 */
function tokenReader({ issuer, tokens, hashesOf, keys }: LiveTokenPorts): (text: string) => Promise<AccessToken | undefined> {
  const known = new Map<string, AccessToken>();
  let generation = keys.generation();
  const findKey = (kid: string) => keys.findKey(kid);

  async function verify(text: string): Promise<AccessToken | undefined> {
    let parsed = parseAccessToken(text, issuer, findKey);
    if (!parsed.ok && parsed.fault.code === "jwt_kid_unknown" && (await keys.refreshForKid(parsed.fault.kid))) {
      parsed = parseAccessToken(text, issuer, findKey);
    }
    return parsed.ok ? parsed.value : undefined;
  }

  async function find(text: string): Promise<AccessToken | undefined> {
    const found = await tokens.findOpaque(hashesOf(text));
    return found === undefined ? undefined : accessTokenOf(found);
  }

  return async (text) => {
    if (generation !== keys.generation()) known.clear(); // a key is gone, and what it signed with it
    const began = keys.generation();
    generation = began;
    const remembered = known.get(text);
    if (remembered !== undefined) return remembered;
    const token = await (OPAQUE_TOKEN_FORM.test(text) ? find(text) : verify(text));
    if (token === undefined) return undefined;
    if (known.size >= READ_MAX) known.delete(known.keys().next().value as string);
    if (began === keys.generation()) known.set(text, token); // not where a key went while this was read
    return token;
  };
}
