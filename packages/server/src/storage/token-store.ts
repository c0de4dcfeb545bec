import type { OpaqueToken, ScopeDefinition } from "@cambist/protocol";
import type { EntityKind } from "./account-store.ts";

/** Tokens that were issued, what of them was revoked, and the APIs and scopes that they are for. */

/** What the operator, or a partner, has revoked: everything issued for it until now. */
export type RevocationTarget =
  | { readonly kind: "token"; readonly tokenId: string; readonly partnerId: string | null }
  | { readonly kind: EntityKind; readonly id: string }
  | { readonly kind: "partner"; readonly clientId: string }
  | { readonly kind: "partner_key"; readonly clientId: string; readonly kid: string };

/** A subject whose tokens have ended. */
export interface EndedTokens {
  readonly kind: RevocationTarget["kind"];
  readonly id: string;
  readonly kid?: string;
  readonly partnerId: string | null;
}

/** A line of the revocation feed. Tokens of the subject with an `iat` at or before `cutOffSeconds` are dead. */
export interface Revocation {
  readonly kind: RevocationTarget["kind"];
  /** A jti, an entity's id or a client id. */
  readonly subjectId: string;
  /** Of a partner's key, else empty. */
  readonly kid: string;
  readonly cutOffSeconds: number;
  readonly revokedAtMs: number;
  /** No token that it is about lives longer. */
  readonly expiresAtMs: number;
}

/** Where the feed goes on: behind this line. */
export type RevocationPosition = Pick<Revocation, "revokedAtMs" | "subjectId" | "kind" | "kid">;

export interface TokenStore {
  /** By its hash under whichever pepper. Does not look whether its time is over, or whether it was revoked. */
  findOpaque(hashes: readonly Uint8Array[]): Promise<OpaqueToken | undefined>;
  /** Whether that very token was revoked; what it hangs on is in the records of its partner and its user. */
  isRevoked(tokenId: string): Promise<boolean>;
  /**
   * Durable, and seen by the next request on every node. Again only moves the cut-off on. "absent": there is no such subject; whether there is such a
   * token or such a key of the partner is not looked at.
   */
  revoke(target: RevocationTarget, nowMs: () => number): Promise<{ readonly cutOffSeconds: number } | "absent">;
  /**
   * In the order in which they were revoked, at most `limit`, of one partner or of all. What is behind the position may come late: a node commits what
   * it began some seconds ago.
   */
  listRevocations(partnerId: string | undefined, after: RevocationPosition | undefined, limit: number): Promise<readonly Revocation[]>;
  /** Calls back whenever this process, by whatever write, has ended tokens: once that is durable. */
  onEnded(listener: (ended: EndedTokens) => void): void;
  /** Forgets opaque tokens and revocations whose time is over. Gives the number. */
  purge(nowMs: number): Promise<number>;
}

/** Of a client: a partner or an API of the operator. */
export interface StoredSecret {
  readonly secretId: string;
  readonly hash: Uint8Array;
  readonly pepperId: string;
  readonly createdAtMs: number;
}

/** To the minute. */
interface LastUse {
  readonly lastUsedAtMs: number | undefined;
}

/** An API of the operator, which may introspect the tokens that are for it. */
export interface ResourceServer {
  /** Server-made, `rs_…`. */
  readonly resourceServerId: string;
  readonly name: string;
  /** Unique: the `aud` of the tokens that are for it. */
  readonly audience: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export interface StoredScope extends Omit<ScopeDefinition, "audience"> {
  /** null: our own API. */
  readonly resourceServerId: string | null;
  /** Of the resource server; null: our own. */
  readonly audience: string | null;
  readonly description: string;
  readonly createdAtMs: number;
}

export interface ResourceServerStore {
  create(api: ResourceServer, secret: StoredSecret): Promise<"created" | "audience_taken">;
  list(): Promise<readonly ResourceServer[]>;
  find(resourceServerId: string): Promise<(ResourceServer & { readonly secrets: readonly (StoredSecret & LastUse)[] }) | undefined>;
  update(
    resourceServerId: string,
    change: Partial<Pick<ResourceServer, "name" | "audience">>,
    nowMs: number,
  ): Promise<ResourceServer | "absent" | "audience_taken">;
  /** "in_use": a scope still opens it. */
  remove(resourceServerId: string): Promise<"removed" | "absent" | "in_use">;
  /** At most `countMax` live at once. */
  addSecret(resourceServerId: string, secret: StoredSecret, countMax: number): Promise<"added" | "absent" | "too_many">;
  /** The last one stays: "last". Refused where it was used after `unusedSinceMs`, unless that is undefined. */
  removeSecret(
    resourceServerId: string,
    secretId: string,
    unusedSinceMs: number | undefined,
  ): Promise<"removed" | "absent" | "last" | "in_use">;
  noteUse(resourceServerId: string, secretId: string, nowMs: number): Promise<void>;
  /** Another keyed hash of the same secret. Does nothing where its hash is no longer `before`. */
  rehashSecret(
    resourceServerId: string,
    secretId: string,
    before: Uint8Array,
    after: Pick<StoredSecret, "hash" | "pepperId">,
  ): Promise<void>;

  /** In a fixed order, those of our own API first. */
  listScopes(): Promise<readonly StoredScope[]>;
  createScope(scope: Omit<StoredScope, "audience">): Promise<"created" | "name_taken" | "resource_server_absent">;
  updateScope(name: string, change: { readonly description: string }): Promise<StoredScope | "absent">;
  /** "in_use": a partner is allowed it. The built-in ones stay: "built_in". */
  removeScope(name: string): Promise<"removed" | "absent" | "in_use" | "built_in">;
}
