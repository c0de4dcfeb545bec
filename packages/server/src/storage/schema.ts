/** The tables as Kysely sees them. Times are milliseconds since 1970; JSON is text. Every key of a partner's row starts with the partner. */
export interface Schema {
  partners: PartnersTable;
  partner_secrets: PartnerSecretsTable;
  partner_jwks: PartnerJwksTable;
  organizations: OrganizationsTable;
  workspaces: WorkspacesTable;
  users: UsersTable;
  signing_keys: SigningKeysTable;
  spent_tokens: SpentTokensTable;
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

export interface OrganizationsTable {
  partner_id: string;
  org_id: string;
  external_org_id: string | null;
  name: string | null;
  email: string | null;
  phone_number: string | null;
  support_email: string | null;
  org_type: string | null;
  entitlements: string;
  status: Status;
  created_at: number;
  updated_at: number;
}

export interface WorkspacesTable {
  partner_id: string;
  workspace_id: string;
  external_workspace_id: string | null;
  org_id: string;
  name: string | null;
  entitlements: string;
  status: Status;
  created_at: number;
  updated_at: number;
}

export interface UsersTable {
  partner_id: string;
  user_id: string;
  external_user_id: string | null;
  workspace_id: string;
  email: string | null;
  name: string | null;
  entitlements: string;
  status: Status;
  created_at: number;
  updated_at: number;
}

export interface SigningKeysTable {
  kid: string;
  algorithm: string;
  state: "current" | "next" | "retired";
  public_jwk: string;
  /** AES-256-GCM under a key derived from the master key. */
  private_key_sealed: Uint8Array;
  sealing_key_id: string;
  created_at: number;
}

export interface SpentTokensTable {
  partner_id: string;
  spend_key: Uint8Array;
  expires_at: number;
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
