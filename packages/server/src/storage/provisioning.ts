import { randomUUID } from "node:crypto";
import type { IssueRequest, Provisioning } from "@cambist/protocol";
import { type ExchangeVerdict, type SubjectRow, subjectVerdict } from "./dialect.ts";

/** Users that an exchange makes: what both dialects judge alike. */

const HOUR_MS = 3_600_000;

export const UNKNOWN_SUBJECT: ExchangeVerdict = { code: "refused", refusal: { code: "subject_unknown" } };

/** How many a partner's exchanges have made in the latest hour in which one did. */
export interface Quota {
  readonly hour: number;
  readonly used: number;
}

export interface ProvisioningRule extends Provisioning {
  readonly externalId: string;
}

/** Undefined where an unknown subject is refused. */
export function provisioningRule({ principal }: IssueRequest): ProvisioningRule | undefined {
  if (principal.kind !== "user" || principal.provisioning === undefined) return undefined;
  return { ...principal.provisioning, externalId: principal.id };
}

export function hourOf(request: IssueRequest): number {
  return Math.floor(request.facts.atMs / HOUR_MS);
}

/** A clock that is behind uses the quota of the hour that another one has begun. */
export function usedThisHour(quota: Quota | undefined, request: IssueRequest): number {
  return quota === undefined || quota.hour < hourOf(request) ? 0 : quota.used;
}

/** Whether the user may be made: `home` are the flags of all that it would hang on. A disabled home, or a used up quota, makes none. */
export function proposalVerdict(home: SubjectRow | undefined, used: number, request: IssueRequest): ExchangeVerdict {
  const rule = provisioningRule(request);
  if (rule === undefined) return UNKNOWN_SUBJECT;
  if (home === undefined) return { code: "refused", refusal: { code: "provisioning_home_missing" } };
  const verdict = subjectVerdict({ ...home, user_id: randomUUID() }, request.issuedAtSeconds);
  if (verdict.code !== "issued" || used < rule.hourlyMax) return verdict;
  const retryAfterSeconds = Math.ceil(((hourOf(request) + 1) * HOUR_MS - request.facts.atMs) / 1000);
  return { code: "refused", refusal: { code: "provisioning_quota_exceeded", hourlyMax: rule.hourlyMax, retryAfterSeconds } };
}
