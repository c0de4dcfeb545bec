import type { Client, ExchangeFacts, IssueRequest, IssueVerdict, Refusal } from "@cambist/protocol";

/**
 * Everything that is kept, behind one interface on two databases. Every method that belongs to a partner takes the partner; an object
 * of another partner is absent. Methods throw StoreUnavailable when the database does not answer in time, and nothing else on purpose.
 */
export interface Store {
  readonly partners: PartnerStore;
  readonly accounts: AccountStore;
  readonly signingKeys: SigningKeyStore;
  readonly exchanges: ExchangeStore;
  /** Resolves when the database answers. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

export type Status = "active" | "disabled";

export interface PartnerSettings extends Omit<Client, "clientId" | "version" | "issuer" | "audience"> {
  readonly tokenEndpointAuthMethod: "client_secret";
}

export interface PartnerSecret {
  readonly secretId: string;
  readonly hash: Uint8Array;
  readonly pepperId: string;
  readonly createdAtMs: number;
}

/** A secret as it is listed: when it was last used, to the minute. */
export interface ListedSecret {
  readonly secretId: string;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number | undefined;
}

export interface Partner extends Client, PartnerSettings {
  readonly name: string;
  readonly status: Status;
  /** The JWKS as it was registered, public members only. */
  readonly jwks: unknown;
  readonly secrets: readonly PartnerSecret[];
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export interface NewPartner extends Omit<Client, "version">, PartnerSettings {
  readonly name: string;
  readonly jwks: unknown;
  readonly secret: Omit<PartnerSecret, "createdAtMs">;
}

/** A list and where it goes on; `next` is absent at the end. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | undefined;
}

export interface PartnerStore {
  /** The issuer is unique among partners: two partners with one would be one tenant. */
  create(partner: NewPartner, nowMs: number): Promise<Partner | "issuer_taken">;
  /** The same object as long as the record does not change. */
  find(clientId: string): Promise<Partner | undefined>;
  list(page: { readonly after: string | undefined; readonly limit: number }): Promise<Page<Partner>>;
  update(clientId: string, change: PartnerChange, nowMs: number): Promise<Partner | "absent" | "issuer_taken">;
  listSecrets(clientId: string): Promise<readonly ListedSecret[]>;
  /** At most `countMax` live at once. */
  addSecret(clientId: string, secret: PartnerSecret, countMax: number): Promise<"added" | "absent" | "too_many">;
  /** Refused where it was used after `unusedSinceMs`, unless that is undefined. */
  removeSecret(clientId: string, secretId: string, unusedSinceMs: number | undefined): Promise<"removed" | "absent" | "in_use">;
}

export type PartnerChange = Partial<Omit<NewPartner, "clientId" | "secret"> & { readonly status: Status }>;

export interface Entitlement {
  readonly billing_feature_id: string;
}

export interface Organization {
  readonly orgId: string;
  readonly externalOrgId: string | null;
  readonly name: string | null;
  readonly email: string | null;
  readonly phoneNumber: string | null;
  readonly supportEmail: string | null;
  readonly orgType: string | null;
  readonly entitlements: readonly Entitlement[];
}

export interface Workspace {
  readonly workspaceId: string;
  readonly externalWorkspaceId: string | null;
  readonly orgId: string;
  readonly name: string | null;
  readonly entitlements: readonly Entitlement[];
}

export interface User {
  readonly userId: string;
  readonly externalUserId: string | null;
  readonly workspaceId: string;
  readonly orgId: string;
  readonly email: string | null;
  readonly name: string | null;
  readonly entitlements: readonly Entitlement[];
}

export type UserKey = { readonly userId: string } | { readonly externalUserId: string };

export interface AccountStore {
  /** Both or neither. The conflict names the external id that is taken. */
  createOrganizationAndWorkspace(
    partnerId: string,
    organization: Organization,
    workspace: Workspace,
    nowMs: number,
  ): Promise<"created" | "external_org_id_taken" | "external_workspace_id_taken">;
  createUser(partnerId: string, user: Omit<User, "orgId">, nowMs: number): Promise<User | "workspace_absent" | "external_user_id_taken">;
  findUser(partnerId: string, key: UserKey): Promise<User | undefined>;
}

export interface StoredSigningKey {
  readonly kid: string;
  readonly algorithm: string;
  readonly state: "current" | "next" | "retired";
  readonly publicJwk: Readonly<Record<string, unknown>>;
  readonly sealedPrivateKey: Uint8Array;
  readonly sealingKeyId: string;
}

export interface SigningKeyStore {
  list(): Promise<readonly StoredSigningKey[]>;
  /** Does nothing where the algorithm has a key in that state: of several nodes that start at once, one key wins. */
  addIfAbsent(key: StoredSigningKey, nowMs: number): Promise<void>;
}

export interface ExchangeStore {
  /** In one durable transaction: re-reads the enabled flags, spends, records. Requests that arrive together share it. */
  issue(request: IssueRequest): Promise<IssueVerdict>;
  recordRefusal(facts: Readonly<ExchangeFacts>, refusal: Refusal): Promise<void>;
  /** Forgets spent tokens that have expired. Gives the number. */
  purgeSpent(nowMs: number): Promise<number>;
}
