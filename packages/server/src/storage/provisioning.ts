import type { IssueRequest } from "@cambist/protocol";
import { type ExchangeVerdict, SUBJECT_COLUMNS, type SubjectRow, subjectVerdict } from "./dialect.ts";

/** Users that an exchange makes: what both dialects say alike. `?` stands for a bound value. */

export const UNKNOWN_SUBJECT: ExchangeVerdict = { code: "refused", refusal: { code: "subject_unknown" } };

const HOUR_MS = 3_600_000;

export interface Quota {
  readonly hour: number;
  readonly used: number;
}

export function hourOf(request: IssueRequest): number {
  return Math.floor(request.facts.atMs / HOUR_MS);
}

/** A user that is yet to be made, with the flags of all that it will hang on. */
export const PROPOSED_SQL = `SELECT ${SUBJECT_COLUMNS}
  FROM (SELECT CAST(? AS text) AS user_id, 'active' AS status, 0 AS cut_off_at, w.partner_id, w.workspace_id
    FROM workspaces w WHERE w.partner_id = ? AND w.workspace_id = ?) AS u
  JOIN workspaces w ON w.partner_id = u.partner_id AND w.workspace_id = u.workspace_id
  JOIN organizations o ON o.partner_id = w.partner_id AND o.org_id = w.org_id`;

export const QUOTA_SQL = "SELECT hour, used FROM provisioning_quotas WHERE partner_id = ?";

/** One row for a partner, of the latest hour: a clock that is behind uses the quota of that hour. Nothing where it is used up. */
export const USE_QUOTA_SQL = `INSERT INTO provisioning_quotas AS q (partner_id, hour, used) VALUES (?, ?, 1)
  ON CONFLICT (partner_id) DO UPDATE SET hour = CASE WHEN q.hour < excluded.hour THEN excluded.hour ELSE q.hour END,
    used = CASE WHEN q.hour < excluded.hour THEN 1 ELSE q.used + 1 END
  WHERE q.hour < excluded.hour OR q.used < CAST(? AS bigint) RETURNING used`;

/** Nothing comes out of the subject token but the id by which it named the user. */
export const CREATE_SQL = `INSERT INTO users (partner_id, user_id, external_user_id, workspace_id, org_id, entitlements, status, revision, created_at, updated_at)
  VALUES (?, ?, ?, ?, ?, '[]', 'active', ?, ?, ?) ON CONFLICT (partner_id, external_user_id) DO NOTHING RETURNING user_id`;

/** Whether the user may be made: a disabled home, or a used up quota, makes none. */
export function proposalVerdict(row: SubjectRow | undefined, quota: Quota | undefined, request: IssueRequest): ExchangeVerdict {
  if (row === undefined) return { code: "refused", refusal: { code: "provisioning_home_missing" } };
  const verdict = subjectVerdict(row, request.issuedAtSeconds);
  if (verdict.code !== "issued" || quota === undefined || quota.hour < hourOf(request)) return verdict;
  return quota.used < hourlyMax(request) ? verdict : quotaVerdict(request);
}

export function quotaVerdict(request: IssueRequest): ExchangeVerdict {
  const retryAfterSeconds = Math.ceil(((hourOf(request) + 1) * HOUR_MS - request.facts.atMs) / 1000);
  return { code: "refused", refusal: { code: "provisioning_quota_exceeded", hourlyMax: hourlyMax(request), retryAfterSeconds } };
}

/** What a principal with a provisioning rule holds of it. */
export function provisioningOf({
  principal,
}: IssueRequest): { readonly externalId: string; readonly home: string; readonly hourlyMax: number } | undefined {
  if (principal.kind !== "user" || principal.provisioning === undefined) return undefined;
  return { externalId: principal.id, home: principal.provisioning.homeWorkspaceId, hourlyMax: principal.provisioning.hourlyMax };
}

function hourlyMax(request: IssueRequest): number {
  return provisioningOf(request)?.hourlyMax ?? 0;
}
