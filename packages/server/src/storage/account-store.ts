import { ExpectedError } from "@cambist/protocol";
import type { Status } from "./schema.ts";

/** Organizations, workspaces and users: the part of the store that partners write. */

export interface Entitlement {
  readonly billing_feature_id: string;
}

/** The members of an entity are named as on the wire and in the tables: one word for one thing, from the request to the row. */
export interface Organization {
  readonly org_id: string;
  readonly external_org_id: string | null;
  readonly name: string | null;
  readonly email: string | null;
  readonly phone_number: string | null;
  readonly support_email: string | null;
  readonly org_type: string | null;
  readonly entitlements: readonly Entitlement[];
  readonly status: Status;
}

export interface Workspace {
  readonly workspace_id: string;
  readonly external_workspace_id: string | null;
  readonly org_id: string;
  readonly name: string | null;
  readonly entitlements: readonly Entitlement[];
  readonly status: Status;
}

export interface User {
  readonly user_id: string;
  readonly external_user_id: string | null;
  readonly workspace_id: string;
  readonly org_id: string;
  readonly email: string | null;
  readonly name: string | null;
  readonly entitlements: readonly Entitlement[];
  readonly status: Status;
}

export interface Entities {
  readonly organization: Organization;
  readonly workspace: Workspace;
  readonly user: User;
}

export type EntityKind = keyof Entities;

/** By our id or by the partner's own. Either is looked for as it is: neither has to be well-formed. */
export type EntityKey = { readonly id: string } | { readonly externalId: string };

/** The organization of a user is that of its workspace. */
export type NewEntity<K extends EntityKind> = Omit<Entities[K], "status" | (K extends "user" ? "org_id" : never)>;

/** Ids and parents never change. */
export type EntityChange<K extends EntityKind> = Partial<Omit<Entities[K], "org_id" | "workspace_id" | "user_id">>;

export interface StoredEntity<K extends EntityKind> {
  readonly entity: Entities[K];
  /** Another one after every change, and in no other entity. */
  readonly revision: string;
}

export interface EntityTarget {
  readonly partnerId: string;
  readonly key: EntityKey;
  /** Only if its revision is among these; undefined: whatever it is. */
  readonly revisions: readonly string[] | undefined;
}

/** An empty list of a level is not the same as none: each level that is given must hold. A level takes ids of either kind, together. */
export interface EntityFilter {
  readonly kinds: readonly EntityKind[];
  readonly organizations: LevelFilter | undefined;
  readonly workspaces: LevelFilter | undefined;
  readonly users: LevelFilter | undefined;
}

export interface LevelFilter {
  readonly ids: readonly string[];
  readonly externalIds: readonly string[];
}

/** Where a list goes on: behind this entity, in the part of the list that belongs to this parent (empty: the list has no such parts). */
export interface EntityPosition {
  readonly kind: EntityKind;
  readonly parentId: string;
  readonly id: string;
}

export interface EntityPage {
  readonly organizations: readonly Organization[];
  readonly workspaces: readonly Workspace[];
  readonly users: readonly User[];
  readonly next: EntityPosition | undefined;
}

/** A user as a token of it is judged. */
export interface LiveUser {
  readonly workspaceId: string;
  readonly orgId: string;
  /** What of it, its workspace and its organization is disabled. */
  readonly disabled: EntityKind | undefined;
  /** No token with an `iat` at or before it is good. */
  readonly tokensCutOffSeconds: number;
}

/** Thrown by a writer, and undoes what its transaction has done. */
export class AccountRefusal extends ExpectedError {
  readonly kind: EntityKind;
  readonly code: "absent" | "parent_absent" | "external_id_taken" | "revision_stale" | "has_children";
  constructor(kind: EntityKind, code: AccountRefusal["code"]) {
    super(`${kind}: ${code}`);
    this.name = "AccountRefusal";
    this.kind = kind;
    this.code = code;
  }
}

/** One transaction of account writes. Every method throws AccountRefusal. */
export interface AccountWriter {
  create<K extends EntityKind>(kind: K, partnerId: string, entity: NewEntity<K>, nowMs: number): Promise<StoredEntity<K>>;
  /**
   * What is as it was is no change. `cutOff`: another external id ends the tokens that were issued. Another status always does, also when it enables:
   * what was issued in the moment of disabling does not come back.
   */
  update<K extends EntityKind>(
    kind: K,
    target: EntityTarget,
    change: EntityChange<K>,
    at: { readonly nowMs: () => number; readonly cutOff: boolean },
  ): Promise<StoredEntity<K> & { readonly changed: boolean }>;
  /** Nothing of it is left but its id in recorded exchanges. What lies below it must be erased first. Gives its id. */
  erase(kind: EntityKind, target: EntityTarget, nowMs: () => number): Promise<string>;
}

/** What tells a repeated write from another one. */
export interface IdempotentRequest {
  readonly partnerId: string;
  /** 16 bytes that stand for the method, the path and the Idempotency-Key. */
  readonly key: Uint8Array;
  /** 32 bytes that stand for what was asked. */
  readonly fingerprint: Uint8Array;
  readonly nowMs: number;
}

export interface AccountAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** What the body is about: with it, the stored answer is erased. */
  readonly entityId?: string | undefined;
}

export type Repeated =
  | { readonly code: "answered"; readonly answer: AccountAnswer }
  /** Its first step is done, on this entity; the others go on from there. */
  | { readonly code: "begun"; readonly entityId: string }
  /** The key came with another request before. */
  | { readonly code: "other_request" }
  /** It was answered, and what the answer was about has been erased. */
  | { readonly code: "erased" };

export interface AccountStore {
  find<K extends EntityKind>(kind: K, partnerId: string, key: EntityKey): Promise<StoredEntity<K> | undefined>;
  findLiveUser(partnerId: string, userId: string): Promise<LiveUser | undefined>;
  /** At most `limit` entities, in an order of their own that no insertion changes. */
  list(
    partnerId: string,
    filter: EntityFilter,
    page: { readonly after: EntityPosition | undefined; readonly limit: number },
  ): Promise<EntityPage>;
  /** `work` in one durable transaction; it may run more than once. */
  write<T>(work: (writer: AccountWriter) => Promise<T>): Promise<T>;
  /**
   * As {@link write}, but a repetition within 24 h does nothing and gets the first answer. What `work` throws and `refused` turns into an
   * answer is kept too, with nothing else done; any other failure leaves no trace.
   */
  writeOnce(
    request: IdempotentRequest,
    work: (writer: AccountWriter) => Promise<AccountAnswer>,
    refused: (thrown: unknown) => AccountAnswer | undefined,
  ): Promise<Repeated>;
  /**
   * The first of several steps, which gives the entity that the others are about: a repetition goes on from there until {@link writeOnce} has
   * answered, and another request with the key does nothing.
   */
  beginOnce(
    request: IdempotentRequest,
    first: (writer: AccountWriter) => Promise<string>,
    refused: (thrown: unknown) => AccountAnswer | undefined,
  ): Promise<Repeated>;
  /** Erases what lies below, in many transactions: interrupted, it has erased a part. @throws AccountRefusal where more was made meanwhile. */
  eraseBelow(kind: EntityKind, partnerId: string, id: string): Promise<void>;
  /** Forgets stored answers that have expired. Gives the number. */
  purgeRepeated(nowMs: number): Promise<number>;
}
