import { randomBytes, randomUUID } from "node:crypto";
import type { IssuedFor } from "@cambist/protocol";
import type { PoolClient } from "pg";
import type { ExchangeVerdict, IssueJob, SubjectRow } from "../dialect.ts";
import {
  CREATE_SQL,
  hourOf,
  proposalVerdict,
  PROPOSED_SQL,
  provisioningOf,
  type Quota,
  QUOTA_SQL,
  quotaVerdict,
  UNKNOWN_SUBJECT,
  USE_QUOTA_SQL,
} from "../provisioning.ts";

/** `?` to `$1`, `$2`, … */
const numbered = (sql: string) => {
  let n = 0;
  return sql.replaceAll("?", () => `$${++n}`);
};
const statements = {
  proposed: numbered(PROPOSED_SQL),
  quota: numbered(QUOTA_SQL),
  useQuota: numbered(USE_QUOTA_SQL),
  create: numbered(CREATE_SQL),
};

async function firstRow<T>(connection: PoolClient, name: keyof typeof statements, values: unknown[]): Promise<T | undefined> {
  const found = await connection.query({ name: `provision_${name}`, text: statements[name], values });
  return found.rows[0] as T | undefined;
}

/** Reads the subject of a job anew: another node may have made it since. */
export type ReadAgain = () => Promise<ExchangeVerdict | undefined>;

/** Whom there would be to issue for. Nothing is written yet: a replayed token makes no user. */
export async function proposeUser(connection: PoolClient, { request }: IssueJob, again: ReadAgain): Promise<ExchangeVerdict> {
  const rule = provisioningOf(request);
  if (rule === undefined) return UNKNOWN_SUBJECT;
  const { clientId } = request.client;
  const row = await firstRow<SubjectRow>(connection, "proposed", [randomUUID(), clientId, rule.home]);
  const verdict = proposalVerdict(row, await firstRow<Quota>(connection, "quota", [clientId]), request);
  return verdict.code === "refused" ? ((await again()) ?? verdict) : verdict; // the quota may be used up by this very user
}

/**
 * Makes what was proposed, unless another node has made it or used up the quota since: then this node waited at its row, and sees that.
 */
export async function createUser(
  connection: PoolClient,
  { request }: IssueJob,
  subject: IssuedFor,
  again: ReadAgain,
): Promise<ExchangeVerdict> {
  const rule = provisioningOf(request);
  if (rule === undefined || subject.kind !== "user") return UNKNOWN_SUBJECT;
  const { clientId } = request.client;
  const { atMs } = request.facts;
  const used = await firstRow(connection, "useQuota", [clientId, hourOf(request), rule.hourlyMax]);
  const made = await again(); // by whoever held the quota's row before
  if (made !== undefined) {
    if (used !== undefined) await connection.query("UPDATE provisioning_quotas SET used = used - 1 WHERE partner_id = $1", [clientId]);
    return made;
  }
  if (used === undefined) return quotaVerdict(request);
  const ids = [subject.userId, rule.externalId, subject.workspaceId, subject.organizationId];
  const values = [clientId, ...ids, randomBytes(8).toString("hex"), atMs, atMs];
  const created = await firstRow(connection, "create", values);
  return created === undefined ? ((await again()) ?? UNKNOWN_SUBJECT) : { code: "issued", subject };
}
