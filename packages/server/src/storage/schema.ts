import type { ThreadSchema } from "./thread-schema.ts";

/** The tables as Kysely sees them. Times are milliseconds since 1970; JSON is text. Every key of a partner's row starts with the partner. */
export interface Schema extends ThreadSchema {
  partners: PartnersTable;
  partner_secrets: PartnerSecretsTable;
  partner_origins: PartnerOriginsTable;
  partner_jwks: PartnerJwksTable;
  organizations: OrganizationsTable;
  workspaces: WorkspacesTable;
  users: UsersTable;
  idempotent_requests: IdempotentRequestsTable;
  provisioning_quotas: ProvisioningQuotasTable;
  rate_limit_buckets: RateLimitBucketsTable;
  signing_keys: SigningKeysTable;
  spent_tokens: SpentTokensTable;
  opaque_tokens: OpaqueTokensTable;
  revocations: RevocationsTable;
  resource_servers: ResourceServersTable;
  resource_server_secrets: ResourceServerSecretsTable;
  scopes: ScopesTable;
  exchanges: ExchangesTable;
  store_state: StoreStateTable;
  leases: LeasesTable;
  migrations: MigrationsTable;
}

export type Status = "active" | "disabled";

export interface PartnersTable {
  client_id: string;
  name: string;
  status: Status;
  /** +1 with every change of the partner or of its secrets. */
  version: number;
  issuer: string;
  audience: string;
  /** Public keys only; JSON null where they are behind `jwks_uri`. */
  jwks: string;
  jwks_uri: string | null;
  /** The other settings of contract §9, JSON. */
  settings: string;
  created_at: number;
  updated_at: number;
}

export interface PartnerSecretsTable {
  partner_id: string;
  secret_id: string;
  /** HMAC-SHA-256 under a pepper; the secret itself is nowhere. */
  secret_hash: Uint8Array;
  /** Which master key the pepper was derived from. */
  pepper_id: string;
  created_at: number;
  last_used_at: number | null;
}

/** The `allowedOrigins` of the partner's settings once more, to be found without knowing the partner. */
export interface PartnerOriginsTable {
  partner_id: string;
  origin: string;
}

/** The last good answer of a partner's `jwks_uri`, and the last bad one. */
export interface PartnerJwksTable {
  partner_id: string;
  /** Where this came from: another one than the partner's now is not looked at. */
  jwks_uri: string;
  /** What became of each key of the set, JSON; public keys only. */
  keys: string;
  fetched_at: number | null;
  fresh_until: number | null;
  failed_at: number | null;
  failure: string | null;
}

/** What organizations, workspaces and users have in common. */
interface EntityColumns {
  partner_id: string;
  entitlements: string;
  status: Status;
  /** Another one after every change. */
  revision: string;
  /** Seconds: no token with an `iat` at or before it is good. */
  cut_off_at: number;
  created_at: number;
  updated_at: number;
}

export interface OrganizationsTable extends EntityColumns {
  org_id: string;
  external_org_id: string | null;
  name: string | null;
  email: string | null;
  phone_number: string | null;
  support_email: string | null;
  org_type: string | null;
}

export interface WorkspacesTable extends EntityColumns {
  workspace_id: string;
  external_workspace_id: string | null;
  org_id: string;
  name: string | null;
}

export interface UsersTable extends EntityColumns {
  user_id: string;
  external_user_id: string | null;
  workspace_id: string;
  /** The workspace's, which never moves. */
  org_id: string;
  email: string | null;
  name: string | null;
}

/** A write that came with an Idempotency-Key, and its answer. */
export interface IdempotentRequestsTable {
  partner_id: string;
  /** A hash of the method, the path and the key. */
  request_key: Uint8Array;
  /** A hash of the query and the body. */
  fingerprint: Uint8Array;
  /** JSON; null once what it was about is erased. */
  answer: string | null;
  /** What the answer is about: the workspace where it is an organization with a workspace. */
  entity_id: string | null;
  expires_at: number;
}

/** How many users exchanges have made in the latest hour in which one did. Hours since 1970. */
export interface ProvisioningQuotasTable {
  partner_id: string;
  hour: number;
  used: number;
}

/** A token bucket: filled up to `level` at `updated_at`, and evenly since. */
export interface RateLimitBucketsTable {
  partner_id: string;
  level: number;
  updated_at: number;
}

export interface SigningKeysTable {
  kid: string;
  algorithm: string;
  state: "current" | "next" | "retired";
  public_jwk: string;
  /** AES-256-GCM under a key derived from the master key; no bytes once it is retired. */
  private_key_sealed: Uint8Array;
  sealing_key_id: string;
  created_at: number;
  /** From when it signs; null on a next key: not scheduled. */
  signs_from: number | null;
  /** Of a retired one. */
  drop_after: number | null;
}

export interface SpentTokensTable {
  partner_id: string;
  spend_key: Uint8Array;
  expires_at: number;
}

/** Access tokens that say nothing of themselves. Found by the hash alone: the token is all that its bearer sends. */
export interface OpaqueTokensTable {
  /** HMAC-SHA-256 under a pepper; the token itself is nowhere. */
  token_hash: Uint8Array;
  /** Which master key the pepper was derived from. */
  pepper_id: string;
  /** Its `jti`. */
  token_id: string;
  partner_id: string;
  audience: string;
  scope: string;
  /** Of the partner's keys behind it, JSON. */
  kids: string;
  /** Seconds: its `iat`. */
  issued_at: number;
  expires_at: number;
}

/** The latest cut-off of each subject, kept as long as a token that it has ended could live. */
export interface RevocationsTable {
  kind: "token" | "user" | "workspace" | "organization" | "partner" | "partner_key";
  /** A jti, an entity's id or a client id. */
  subject_id: string;
  /** Of a partner's key, else empty. */
  kid: string;
  /** null: the operator named a jti, and no partner. */
  partner_id: string | null;
  /** Seconds: no token of the subject with an `iat` at or before it is good. */
  cut_off_at: number;
  revoked_at: number;
  expires_at: number;
}

export interface ResourceServersTable {
  resource_server_id: string;
  name: string;
  audience: string;
  created_at: number;
  updated_at: number;
}

export interface ResourceServerSecretsTable {
  resource_server_id: string;
  secret_id: string;
  secret_hash: Uint8Array;
  pepper_id: string;
  created_at: number;
  last_used_at: number | null;
}

export interface ScopesTable {
  name: string;
  principal: "user" | "service_account";
  /** null: our own API. */
  resource_server_id: string | null;
  description: string;
  created_at: number;
}

export interface ExchangesTable {
  /** Begins with the time, so that rows are written and read in order. */
  trace_id: string;
  at: number;
  outcome: "granted" | "refused";
  /** A refusal code and its fields, JSON; null when granted. */
  refusal: string | null;
  refusal_detail: string | null;
  /** As the request named it. */
  client_id: string | null;
  /** The partner that authenticated. */
  partner_id: string | null;
  grant_name: string | null;
  kid: string | null;
  subject: string | null;
  jti: string | null;
  scope: string | null;
  /** The `jti` of the access token. */
  token_id: string | null;
  address: string;
}

/** `restored_at`: when this store was put in place of another one, milliseconds. */
export interface StoreStateTable {
  name: "restored_at";
  value: string;
}

export interface LeasesTable {
  name: string;
  holder: string;
  expires_at: number;
}

export interface MigrationsTable {
  name: string;
  applied_at: number;
}
