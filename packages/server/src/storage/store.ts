import type { Client, ExchangeFacts, IssueRequest, IssueVerdict, Refusal, Spend, SubjectTokenAlgorithm } from "@cambist/protocol";
import type { AccountStore } from "./account-store.ts";
import type { TaskStore, ThreadStore } from "./thread-store.ts";
import type { ResourceServerStore, StoredSecret, TokenStore } from "./token-store.ts";

/**
 * Everything that is kept, behind one interface on two databases. Every method that belongs to a partner takes the partner; an object
 * of another partner is absent. Methods throw StoreUnavailable when the database does not answer in time, and nothing else on purpose.
 */
export interface Store {
  readonly partners: PartnerStore;
  readonly partnerJwks: PartnerJwksStore;
  readonly accounts: AccountStore;
  readonly signingKeys: SigningKeyStore;
  readonly exchanges: ExchangeStore;
  readonly tokens: TokenStore;
  readonly resourceServers: ResourceServerStore;
  readonly rateLimits: RateLimitStore;
  readonly threads: ThreadStore;
  readonly tasks: TaskStore;
  /**
   * When this store was last put back from a backup, seconds since 1970. What was spent or withdrawn between the backup and then is not in it: nothing
   * that was signed until then may pass.
   */
  readonly restoredAtSeconds: number | undefined;
  /** Resolves when the database answers. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

export type Status = "active" | "disabled";

export interface PartnerSettings extends Omit<Client, "clientId" | "version" | "issuer" | "audience" | "cutOffs"> {
  /** What its entitlements may name; null: anything. */
  readonly billingFeatures: readonly string[] | null;
  /** null: the server's own. */
  readonly rateLimits: RateLimits | null;
  /** Web origins (RFC 6454 §6.2) whose pages may call the routes that are for browsers, each once. */
  readonly allowedOrigins: readonly string[];
}

/** Of a partner, over all nodes: so many in a minute on average, and after a rest so many at once. */
export interface RateLimits {
  readonly requestsPerMinute: number;
  readonly burst: number;
  /** Streams of threads that may be open at once on each node; absent: as the server has it. */
  readonly streams?: number | undefined;
}

export type PartnerSecret = StoredSecret;

/** A secret as it is listed: when it was last used, to the minute. */
export interface ListedSecret {
  readonly secretId: string;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number | undefined;
}

export interface Partner extends Client, PartnerSettings {
  readonly name: string;
  readonly status: Status;
  /** The JWKS as it was registered, public members only; null where the keys are behind `jwksUri`. */
  readonly jwks: unknown;
  /** The normal form of the URL; null where the keys are in `jwks`. */
  readonly jwksUri: string | null;
  readonly secrets: readonly PartnerSecret[];
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export interface NewPartner extends Omit<Client, "version" | "cutOffs">, PartnerSettings {
  readonly name: string;
  readonly jwks: unknown;
  readonly jwksUri: string | null;
  /** Absent where the partner authenticates otherwise. */
  readonly secret: Omit<PartnerSecret, "createdAtMs"> | undefined;
}

/** What belongs to another partner already. */
export type Taken = "issuer_taken" | "jwks_uri_taken";

/** Why a partner's record is not written. "scope_unknown": one of the allowed scopes does not exist. */
export type PartnerRefused = Taken | "scope_unknown";

/** A list and where it goes on; `next` is absent at the end. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | undefined;
}

export interface PartnerStore {
  /** Issuer and JWKS URL are unique among partners: two partners with one would be one tenant. */
  create(partner: NewPartner, nowMs: number): Promise<Partner | PartnerRefused>;
  /** The same object as long as the record does not change. */
  find(clientId: string): Promise<Partner | undefined>;
  list(page: { readonly after: string | undefined; readonly limit: number }): Promise<Page<Partner>>;
  /** Whether any active partner lists it, exactly so. Not for what has a caller: that is for the caller's partner alone to allow. */
  isOriginAllowed(origin: string): Promise<boolean>;
  update(clientId: string, change: PartnerChange, nowMs: () => number): Promise<Partner | "absent" | PartnerRefused>;
  listSecrets(clientId: string): Promise<readonly ListedSecret[]>;
  /** At most `countMax` live at once. */
  addSecret(clientId: string, secret: PartnerSecret, countMax: number): Promise<"added" | "absent" | "too_many">;
  /** Refused where it was used after `unusedSinceMs`, unless that is undefined. */
  removeSecret(clientId: string, secretId: string, unusedSinceMs: number | undefined): Promise<"removed" | "absent" | "in_use">;
  /** Another keyed hash of the same secret. Does nothing where its hash is no longer `before`. */
  rehashSecret(clientId: string, secretId: string, before: Uint8Array, after: Pick<PartnerSecret, "hash" | "pepperId">): Promise<void>;
}

export type PartnerChange = Partial<Omit<NewPartner, "clientId" | "secret"> & { readonly status: Status }>;

/** What became of one key of a fetched set. Times are milliseconds since 1970. */
export interface FetchedKey {
  readonly kid: string | null;
  /** RFC 7638; null where the key was refused. */
  readonly thumbprint: string | null;
  readonly algorithm: SubjectTokenAlgorithm | null;
  /** `gone`: used once, and no longer in the set. */
  readonly state: "used" | "refused" | "gone";
  /** Why it was refused. */
  readonly reason: string | null;
  /** As intake took it, public members only, with its name and algorithm; null where it was refused. */
  readonly jwk: Readonly<Record<string, unknown>> | null;
  readonly firstSeenAtMs: number;
  readonly lastSeenAtMs: number;
}

export interface FetchedJwks {
  /** Of the last good answer, which may be an old one. */
  readonly keys: readonly FetchedKey[];
  readonly fetchedAtMs: number | undefined;
  readonly freshUntilMs: number | undefined;
  readonly failedAtMs: number | undefined;
  readonly failure: string | undefined;
}

export interface PartnerJwksStore {
  /** What was fetched from this URL for this partner. */
  find(clientId: string, jwksUri: string): Promise<FetchedJwks | undefined>;
  /**
   * `change` may run more than once. Where the used keys are other ones afterwards, the partner's version moves, so that every node
   * reads them at its next request. "outdated": the partner's URL is another one by now, and nothing was written.
   */
  update(clientId: string, jwksUri: string, change: (before: FetchedJwks | undefined) => FetchedJwks): Promise<"updated" | "outdated">;
}

export interface StoredSigningKey {
  readonly kid: string;
  readonly algorithm: string;
  readonly state: "current" | "next" | "retired";
  readonly publicJwk: Readonly<Record<string, unknown>>;
  /** No bytes once it is retired: nothing is signed by it any more. */
  readonly sealedPrivateKey: Uint8Array;
  /** Of the master key; empty with it. */
  readonly sealingKeyId: string;
}

/** Times are milliseconds since 1970. */
export interface ListedSigningKey extends StoredSigningKey {
  /** And published. */
  readonly createdAtMs: number;
  /** Of the next key: undefined where no switch is scheduled. Of any other: undefined where it signed from the first start on. */
  readonly signsFromMs: number | undefined;
  /** Of a retired key: from when on it is neither published nor taken. */
  readonly dropAfterMs: number | undefined;
}

/** One turn of the keys of the successor's algorithm: the next one becomes the current one, and the successor the next one. */
export interface KeySwitch {
  /** The kid of what was the current key when the switch was decided on: it happens once. */
  readonly from: string;
  /** What becomes of it, and of the keys of other algorithms. `drop`: they go at once, and what was retired before with them. */
  readonly former: "drop" | { readonly dropAfterMs: number };
  readonly successor: StoredSigningKey;
}

/** How many rows of a kind were hashed or sealed under a master key. */
export interface MasterKeyUse {
  readonly masterKeyId: string;
  readonly what: "signing_keys" | "secrets" | "tokens";
  readonly count: number;
}

export interface SigningKeyStore {
  list(): Promise<readonly ListedSigningKey[]>;
  /** Does nothing where the algorithm has a key in that state: of several nodes that start at once, one key wins. */
  addIfAbsent(key: StoredSigningKey, nowMs: number): Promise<void>;
  /**
   * Has the next key sign from `notBeforeMs` on, or from when it will have been published for `publishedMsMin`, whichever is later. A
   * switch that is scheduled already is only ever brought forward. Gives all keys.
   */
  schedule(
    algorithm: string,
    when: { readonly notBeforeMs: number; readonly publishedMsMin: number },
  ): Promise<readonly ListedSigningKey[]>;
  /** In one transaction; gives all keys. "outdated": the key that was to go is not the current one, and nothing was written. */
  switch(change: KeySwitch, nowMs: number): Promise<readonly ListedSigningKey[] | "outdated">;
  /** Does nothing where the key is no longer sealed under `beforeKeyId`. */
  reseal(kid: string, beforeKeyId: string, sealed: { readonly sealed: Uint8Array; readonly keyId: string }): Promise<void>;
  /** Forgets the retired keys whose time is over. */
  dropRetired(nowMs: number): Promise<void>;
  /** What is hashed or sealed under which master key, of everything that is kept. */
  listMasterKeyUses(): Promise<readonly MasterKeyUse[]>;
}

export interface ExchangeStore {
  /** In one durable transaction: re-reads the enabled flags, spends, records. Requests that arrive together share it. */
  issue(request: IssueRequest): Promise<IssueVerdict>;
  /** Durable when it resolves; what a limit turned away is written within a second. */
  recordRefusal(facts: Readonly<ExchangeFacts>, refusal: Refusal): Promise<void>;
  /** For a client that called, but for no exchange: spends its assertion, and writes down that its secret was used. False: spent before. */
  noteCaller(clientId: string, used: { readonly spend: Spend | undefined; readonly facts: Readonly<ExchangeFacts> }): Promise<boolean>;
  /** Forgets spent tokens that have expired. Gives the number. */
  purgeSpent(nowMs: number): Promise<number>;
}

export interface RateLimitStore {
  /**
   * Takes what a node has let pass off the partner's bucket, after filling it up to now; a bucket that is not there is full. Gives what is left,
   * below zero where more passed than was there; the debt is at most one burst. Does not look whether there is such a partner.
   */
  charge(partnerId: string, used: number, limits: RateLimits, nowMs: number): Promise<number>;
}
