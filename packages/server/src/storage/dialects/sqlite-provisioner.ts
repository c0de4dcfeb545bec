import { randomBytes } from "node:crypto";
import type { IssuedFor, IssueRequest } from "@cambist/protocol";
import { type ExchangeVerdict, PROPOSED_COLUMNS, type SubjectRow } from "../dialect.ts";
import { hourOf, proposalVerdict, provisioningRule, type Quota, UNKNOWN_SUBJECT, usedThisHour } from "../provisioning.ts";
import type { SqliteDatabase } from "./sqlite-driver.ts";

export interface SqliteProvisioner {
  /** Whom there would be to issue for. Nothing is written yet. */
  propose(request: IssueRequest): ExchangeVerdict;
  /** What was proposed in this transaction. */
  create(request: IssueRequest, proposed: IssuedFor): void;
}

/** Within the one write transaction: between the proposal and its creation nobody else writes. */
export function sqliteProvisioner(database: SqliteDatabase): SqliteProvisioner {
  const home = database.prepare(
    `SELECT ${PROPOSED_COLUMNS} FROM workspaces w
      CROSS JOIN organizations o ON o.partner_id = w.partner_id AND o.org_id = w.org_id
      WHERE w.partner_id = ? AND w.workspace_id = ?`,
  );
  const quota = database.prepare("SELECT hour, used FROM provisioning_quotas WHERE partner_id = ?");
  const setQuota = database.prepare(
    "INSERT INTO provisioning_quotas (partner_id, hour, used) VALUES (?, ?, ?) ON CONFLICT (partner_id) DO UPDATE SET hour = excluded.hour, used = excluded.used",
  );
  const create = database.prepare(
    `INSERT INTO users (partner_id, user_id, external_user_id, workspace_id, org_id, entitlements, status, revision, created_at, updated_at)
      VALUES (?, ?, ?, ?, ?, '[]', 'active', ?, ?, ?)`,
  );
  const readQuota = (clientId: string) => quota.get(clientId) as Quota | undefined;
  return {
    propose(request) {
      const rule = provisioningRule(request);
      if (rule === undefined) return UNKNOWN_SUBJECT;
      const { clientId } = request.client;
      const row = home.get(clientId, rule.homeWorkspaceId) as SubjectRow | undefined;
      return proposalVerdict(row, usedThisHour(readQuota(clientId), request), request);
    },
    create(request, subject) {
      const rule = provisioningRule(request);
      if (rule === undefined || subject.kind !== "user") return;
      const { clientId } = request.client;
      const { atMs } = request.facts;
      const before = readQuota(clientId);
      setQuota.run(clientId, Math.max(hourOf(request), before?.hour ?? 0), usedThisHour(before, request) + 1);
      const ids = [subject.userId, rule.externalId, subject.workspaceId, subject.organizationId];
      create.run(clientId, ...ids, randomBytes(8).toString("hex"), atMs, atMs);
    },
  };
}
