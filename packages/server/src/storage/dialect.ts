import type { Kysely, RawBuilder, Transaction } from "kysely";
import type { ExchangeFacts, IssueRequest, IssueVerdict, OpaqueToken, Refusal, Spend } from "@cambist/protocol";
import type { BucketCharge } from "./charge-bucket.ts";
import type { OpaqueTokensTable, Schema } from "./schema.ts";

/** Where the two databases differ, and nowhere else. */
export interface Dialect {
  readonly name: "sqlite" | "postgres";
  read<T>(query: (db: Kysely<Schema>) => Promise<T>): Promise<T>;
  /**
   * In a durable transaction, tried again where the database asks for it; `work` may therefore run more than once. Several that arrive together may
   * share the commit, each with an outcome of its own.
   */
  write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T>;
  /** A partner's version by its key, prepared once: the one read before an exchange is checked. */
  findPartnerVersion(clientId: string): Promise<number | undefined>;
  /** A user by its own id, with what it hangs on, prepared once: the one read before a request with its token is served. */
  findSubject(clientId: string, userId: string): Promise<SubjectRow | undefined>;
  /** An opaque token by its hash, prepared once. */
  findOpaqueToken(hash: Uint8Array): Promise<OpaqueTokensTable | undefined>;
  /** Prepared once. */
  isTokenRevoked(tokenId: string): Promise<boolean>;
  /** A single durable statement, which holds nobody up: see charge-bucket.ts. Gives the level. */
  chargeBucket(charge: BucketCharge): Promise<number>;
  /** Rows out of a JSON array of objects, to be selected from: one statement, always the same, for any number of them. */
  unpack(json: string, columns: Readonly<Record<string, "text" | "bigint">>): RawBuilder<unknown>;
  /** All jobs in one durable transaction, each with its own verdict, in order. */
  commitExchanges(jobs: readonly ExchangeJob[]): Promise<ExchangeVerdict[]>;
  isUniqueViolation(error: unknown): boolean;
  isForeignKeyViolation(error: unknown): boolean;
  close(): Promise<void>;
}

/** `touchSecret`: write down that the secret was used; not at every use, for that is a row rewritten at every request. */
export type ExchangeJob = { readonly touchSecret: boolean } & (
  | { readonly kind: "issue"; readonly request: IssueRequest }
  | { readonly kind: "refusal"; readonly facts: Readonly<ExchangeFacts>; readonly refusal: Refusal }
);

export type IssueJob = Extract<ExchangeJob, { kind: "issue" }>;

export type ExchangeVerdict = IssueVerdict | { readonly code: "recorded" };

/** A user with the flags of all that it hangs on, as both dialects read it. */
export interface SubjectRow {
  readonly user_id: string;
  readonly user_status: string;
  readonly user_cut_off: number;
  readonly workspace_id: string;
  readonly workspace_status: string;
  readonly workspace_cut_off: number;
  readonly org_id: string;
  readonly organization_status: string;
  readonly organization_cut_off: number;
}

/** As both dialects read and write it, in this order. */
export const OPAQUE_COLUMNS = [
  "token_hash",
  "pepper_id",
  "token_id",
  "partner_id",
  "audience",
  "scope",
  "kids",
  "issued_at",
  "expires_at",
] as const satisfies readonly (keyof OpaqueTokensTable)[];

export function opaqueRow(token: OpaqueToken): (string | number | Uint8Array)[] {
  const kids = JSON.stringify(token.kids);
  const { hash, pepperId, tokenId, clientId, audience, scope, issuedAtSeconds, expiresAtSeconds } = token;
  return [hash, pepperId, tokenId, clientId, audience, scope, kids, issuedAtSeconds, expiresAtSeconds * 1000];
}

/** Of `workspaces w` and `organizations o`. */
const HOME_COLUMNS = `w.workspace_id, w.status AS workspace_status, w.cut_off_at AS workspace_cut_off,
  o.org_id, o.status AS organization_status, o.cut_off_at AS organization_cut_off`;

/** Of `users u` and these. */
export const SUBJECT_COLUMNS = `u.user_id, u.status AS user_status, u.cut_off_at AS user_cut_off, ${HOME_COLUMNS}`;

/** Of a user that is yet to be made. */
export const PROPOSED_COLUMNS = `'' AS user_id, 'active' AS user_status, 0 AS user_cut_off, ${HOME_COLUMNS}`;

/** A token that is issued in the second of a cut-off would be dead at birth: it waits for the next one. */
export function subjectVerdict(row: SubjectRow, issuedAtSeconds: number): ExchangeVerdict {
  const entity = disabledEntity(row);
  if (entity !== undefined) return { code: "refused", refusal: { code: "subject_disabled", entity } };
  const cutOffSeconds = tokensCutOffSeconds(row);
  if (issuedAtSeconds <= cutOffSeconds) return { code: "too_early", fromSeconds: cutOffSeconds + 1 };
  return { code: "issued", subject: { kind: "user", userId: row.user_id, workspaceId: row.workspace_id, organizationId: row.org_id } };
}

export function replayVerdict({ token }: Spend): ExchangeVerdict {
  return { code: "refused", refusal: { code: token === "subject_token" ? "token_replayed" : "client_assertion_replayed" } };
}

export function disabledEntity(row: SubjectRow): "user" | "workspace" | "organization" | undefined {
  if (row.user_status !== "active") return "user";
  if (row.workspace_status !== "active") return "workspace";
  return row.organization_status === "active" ? undefined : "organization";
}

export function tokensCutOffSeconds(row: SubjectRow): number {
  return Math.max(row.user_cut_off, row.workspace_cut_off, row.organization_cut_off);
}
