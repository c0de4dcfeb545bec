import type { Kysely, Transaction } from "kysely";
import type { IssueRequest, IssueVerdict, Refusal, ExchangeFacts, Spend } from "@cambist/protocol";
import type { Schema } from "./schema.ts";

/** Where the two databases differ, and nowhere else. */
export interface Dialect {
  readonly name: "sqlite" | "postgres";
  read<T>(query: (db: Kysely<Schema>) => Promise<T>): Promise<T>;
  /** One transaction, tried again where the database asks for it; `work` may therefore run more than once. */
  write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T>;
  /** A partner's version by its key, prepared once: the one read before an exchange is checked. */
  findPartnerVersion(clientId: string): Promise<number | undefined>;
  /** All jobs in one durable transaction, each with its own verdict, in order. */
  commitExchanges(jobs: readonly ExchangeJob[]): Promise<ExchangeVerdict[]>;
  isUniqueViolation(error: unknown): boolean;
  close(): Promise<void>;
}

/** `touchSecret`: write down that the secret was used; not at every use, for that is a row rewritten at every request. */
export type ExchangeJob = { readonly touchSecret: boolean } & (
  | { readonly kind: "issue"; readonly request: IssueRequest }
  | { readonly kind: "refusal"; readonly facts: Readonly<ExchangeFacts>; readonly refusal: Refusal }
);

export type ExchangeVerdict = IssueVerdict | { readonly code: "recorded" };

/** A user with the flags of all that it hangs on, as both dialects read it. */
export interface SubjectRow {
  readonly user_id: string;
  readonly user_status: string;
  readonly workspace_id: string;
  readonly workspace_status: string;
  readonly org_id: string;
  readonly organization_status: string;
}

export function subjectVerdict(row: SubjectRow): ExchangeVerdict {
  const entity = disabledEntity(row);
  if (entity !== undefined) return { code: "refused", refusal: { code: "subject_disabled", entity } };
  return { code: "issued", subject: { kind: "user", userId: row.user_id, workspaceId: row.workspace_id, organizationId: row.org_id } };
}

export function replayVerdict({ token }: Spend): ExchangeVerdict {
  return { code: "refused", refusal: { code: token === "subject_token" ? "token_replayed" : "client_assertion_replayed" } };
}

function disabledEntity(row: SubjectRow): "user" | "workspace" | "organization" | undefined {
  if (row.user_status !== "active") return "user";
  if (row.workspace_status !== "active") return "workspace";
  return row.organization_status === "active" ? undefined : "organization";
}
