import type { AccessTokenAlgorithm, ClientAuthMethod, SubjectTokenAlgorithm } from "./constants.ts";
import type { Refusal } from "./refusals.ts";
import type { Result } from "./result.ts";
import type { ScopeDefinition } from "./scope.ts";

/** What the token endpoint knows of a partner. Its record, never the token, selects issuer, keys, algorithms and audience. */
export interface Client {
  /** Server-made, `prt_…`: no user id can equal one. */
  readonly clientId: string;
  /** Grows with every change of the record: issuing stops when it is no longer the one that was checked. */
  readonly version: number;
  readonly issuer: string;
  readonly audience: string;
  readonly subjectNamespace: "user_id" | "external_user_id";
  readonly replay: "single_use" | "reusable";
  readonly assertionLifetimeSecondsMax: number;
  readonly clockSkewSeconds: number;
  readonly accessTokenLifetimeSeconds: number;
  readonly allowedAlgorithms: readonly SubjectTokenAlgorithm[];
  readonly allowedGrants: readonly string[];
  readonly allowedScopes: readonly string[];
  readonly tokenEndpointAuthMethod: ClientAuthMethod;
  /** `create`: a user that its subject token names by an unknown external id is made, in the home workspace, so many in an hour. */
  readonly provisioning: "off" | "create";
  readonly homeWorkspaceId: string | null;
  readonly provisioningHourlyMax: number;
  readonly cutOffs: CutOffs;
}

/** Tokens with an `iat` at or before the second are no longer good, and none is issued for that second. */
export interface CutOffs {
  /** Of all tokens of the client. */
  readonly seconds: number;
  /** Of those that a key of the client brought about. */
  readonly keys: readonly { readonly kid: string; readonly seconds: number }[];
}

export interface PartnerKey {
  readonly kid: string | undefined;
  readonly algorithm: SubjectTokenAlgorithm;
  /** False for anything but a signature by this key over the ASCII of `signingInput`; never throws. ECDSA is raw r||s (RFC 7518 §3.4). */
  verify(signingInput: string, signature: Uint8Array): boolean;
}

/**
 * The keys of a partner, or why there are none. `fetchFailure`: the keys are the last good ones, and this became of the latest attempt to
 * fetch them anew.
 */
export type PartnerKeySet = Result<
  { readonly keys: readonly PartnerKey[]; readonly fetchFailure?: string | undefined },
  { readonly code: "partner_keys_unavailable"; readonly failure: string; readonly retryAfterSeconds: number }
>;

export interface Signer {
  readonly kid: string;
  readonly algorithm: AccessTokenAlgorithm;
  /** The compact JWS of a JSON header and a JSON payload (RFC 7515 §7.1). */
  sign(header: string, payload: string): string;
}

/** Who a token is for. A service account and a user never share a lookup. */
export type Principal =
  | { readonly kind: "service_account" }
  | {
      readonly kind: "user";
      readonly namespace: "user_id" | "external_user_id";
      readonly id: string;
      /** Where it is made if there is no such user; undefined: it is refused. */
      readonly provisioning?: Provisioning | undefined;
    };

export interface Provisioning {
  readonly homeWorkspaceId: string;
  readonly hourlyMax: number;
}

/** What the store found for the principal while it issued. */
export type IssuedFor =
  | { readonly kind: "service_account" }
  | { readonly kind: "user"; readonly userId: string; readonly workspaceId: string; readonly organizationId: string };

/** A one-time thing that is spent by issuing. `key` is 16 bytes, unique per partner for what it stands for. */
export interface Spend {
  readonly token: "client_assertion" | "subject_token";
  readonly key: Uint8Array;
  readonly expiresAtMs: number;
}

/** What is recorded of one exchange, granted or refused. No secret, no whole token. Filled in as the checks go by. */
export interface ExchangeFacts {
  readonly traceId: string;
  readonly atMs: number;
  /** Of the peer. */
  readonly address: string;
  /** As the request named it; it may be nobody's. */
  clientId?: string;
  /** Set once the client is authenticated. */
  partnerId?: string;
  secretId?: string;
  grant?: string;
  /** From here on as the verified subject token says. */
  kid?: string;
  subject?: string;
  jti?: string;
  scope?: string;
  /** The `jti` of the access token. */
  tokenId?: string;
}

export interface IssueRequest {
  readonly client: Client;
  readonly principal: Principal;
  /** In the order in which they are spent. The first that was spent before refuses the request, and what comes before it stays spent. */
  readonly spends: readonly Spend[];
  /** The `iat` to be: read before the flags and cut-offs are, so that a later cut-off covers the token. */
  readonly issuedAtSeconds: number;
  /** To be kept beside it, where the token is opaque. */
  readonly opaque: OpaqueToken | undefined;
  readonly facts: Readonly<ExchangeFacts>;
}

/** What the store keeps of an opaque access token: all that a JWT says of itself. Not the token: a keyed hash of it. */
export interface OpaqueToken extends HashedToken {
  readonly tokenId: string;
  readonly clientId: string;
  readonly audience: string;
  readonly scope: string;
  /** The client's keys that brought it about. */
  readonly kids: readonly string[];
  readonly issuedAtSeconds: number;
  readonly expiresAtSeconds: number;
}

export interface HashedToken {
  readonly hash: Uint8Array;
  /** Which master key the pepper of the hash was derived from. */
  readonly pepperId: string;
}

export type IssueVerdict =
  | { readonly code: "issued"; readonly subject: IssuedFor }
  /** The partner was changed or disabled since it was read: read it again. Nothing was spent or recorded. */
  | { readonly code: "client_changed" }
  /** A cut-off covers this second: ask again from then on. Nothing was spent or recorded. */
  | { readonly code: "too_early"; readonly fromSeconds: number }
  /** Recorded as refused. */
  | { readonly code: "refused"; readonly refusal: Refusal };

export type ClientAuthentication = Result<
  { readonly client: Client; readonly secretId: string },
  { readonly cause: "unknown" | "wrong_method" | "wrong_secret" | "disabled" } | TooManyWrong
>;

/** There were so many wrong secrets for the client from this address that this one was not looked at. */
export interface TooManyWrong {
  readonly cause: "too_many_wrong";
  readonly retryAfterSeconds: number;
}

/** Whether a client may make one more request now. */
export type Admission = Result<undefined, { readonly requestsPerMinute: number; readonly retryAfterSeconds: number }>;

/** What it takes to tell which client calls, at any endpoint. A port that fails throws StoreUnavailable; nothing else is expected of it. */
export interface ClientPorts {
  /** The issuer identifier, RFC 8414 §2. */
  readonly issuer: string;
  sha256(text: string): Uint8Array;
  /** When the store was put back from a backup: what was signed until then may have been spent or withdrawn. */
  readonly restoredAtSeconds: number | undefined;
  /** Takes the same time for an unknown client as for a wrong secret. */
  authenticateClient(clientId: string, secret: string, address: string): Promise<ClientAuthentication>;
  /** Takes a request off the client's quota; again for the same request does nothing. `request` is the object that the endpoint was called with. */
  admit(client: Client, request: object): Promise<Admission>;
  /** For a client that authenticates by its keys; `cause` is that of a client that may not. */
  findClient(clientId: string): Promise<Result<Client, { readonly cause: "unknown" | "disabled" }>>;
  /** The client's keys, among them the one with this `kid` if it can be had: keys behind a URL are fetched again for one that is unknown. */
  partnerKeys(client: Client, kid: string | undefined): PartnerKeySet | Promise<PartnerKeySet>;
}

/** All that the token endpoint asks of the outside. */
export interface TokenEndpointPorts extends ClientPorts {
  nowMs(): number;
  waitMs(ms: number): Promise<void>;
  /** 128 bits or more, unguessable, text. */
  newTokenId(): string;
  /** `sk-` and 32 hex digits, 128 random bits, with the hash that is kept of it. */
  newOpaqueToken(): HashedToken & { readonly token: string };
  /** Every scope there is, ours first; those that this client is allowed are all among them. */
  scopeCatalog(client: Client): readonly ScopeDefinition[] | Promise<readonly ScopeDefinition[]>;
  /**
   * In ONE transaction: re-reads every enabled flag, spends, makes the user where that is due, keeps an opaque token, records. Durable before it resolves.
   */
  issue(request: IssueRequest): Promise<IssueVerdict>;
  /** Records a refusal; durable before it resolves. */
  recordRefusal(facts: Readonly<ExchangeFacts>, refusal: Refusal): Promise<void>;
  signer(): Signer;
}

/** Thrown by a port whose store did not answer in time. */
export class StoreUnavailable extends Error {
  readonly retryAfterSeconds: number;
  constructor(message: string, retryAfterSeconds = 1, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "StoreUnavailable";
    this.retryAfterSeconds = retryAfterSeconds;
  }
}
