import { randomBytes, randomUUID } from "node:crypto";
import type { IssuedFor, IssueRequest } from "@cambist/protocol";
import type { ExchangeVerdict, SubjectRow } from "../dialect.ts";
import {
  CREATE_SQL,
  hourOf,
  proposalVerdict,
  PROPOSED_SQL,
  provisioningOf,
  type Quota,
  QUOTA_SQL,
  UNKNOWN_SUBJECT,
  USE_QUOTA_SQL,
} from "../provisioning.ts";
import type { SqliteDatabase } from "./sqlite-driver.ts";

export interface SqliteProvisioner {
  /** Whom there would be to issue for. Nothing is written yet. */
  propose(request: IssueRequest): ExchangeVerdict;
  /** What was proposed in this transaction. */
  create(request: IssueRequest, proposed: IssuedFor): void;
}

/** Within the one write transaction: between the proposal and its creation nobody else writes. */
export function sqliteProvisioner(database: SqliteDatabase): SqliteProvisioner {
  const proposed = database.prepare(PROPOSED_SQL);
  const quota = database.prepare(QUOTA_SQL);
  const useQuota = database.prepare(USE_QUOTA_SQL);
  const create = database.prepare(CREATE_SQL);
  return {
    propose(request) {
      const rule = provisioningOf(request);
      if (rule === undefined) return UNKNOWN_SUBJECT;
      const { clientId } = request.client;
      const row = proposed.get(randomUUID(), clientId, rule.home) as SubjectRow | undefined;
      return proposalVerdict(row, quota.get(clientId) as Quota | undefined, request);
    },
    create(request, subject) {
      const rule = provisioningOf(request);
      if (rule === undefined || subject.kind !== "user") return;
      const { clientId } = request.client;
      const { atMs } = request.facts;
      useQuota.get(clientId, hourOf(request), rule.hourlyMax);
      const ids = [subject.userId, rule.externalId, subject.workspaceId, subject.organizationId];
      create.get(clientId, ...ids, randomBytes(8).toString("hex"), atMs, atMs);
    },
  };
}
