import type { Kysely, Transaction } from "kysely";
import type { IssueRequest, IssueVerdict, Refusal, ExchangeFacts } from "@cambist/protocol";
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

export type EnabledFlags = { readonly user: string; readonly workspace: string; readonly organization: string };

/** The first of user, workspace and organization that is disabled. */
export function disabledEntity(flags: EnabledFlags): "user" | "workspace" | "organization" | undefined {
  if (flags.user !== "active") return "user";
  if (flags.workspace !== "active") return "workspace";
  return flags.organization === "active" ? undefined : "organization";
}
