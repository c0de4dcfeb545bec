import { randomBytes } from "node:crypto";
import type { PoolClient } from "pg";
import { type ExchangeVerdict, type IssueJob, PROPOSED_COLUMNS, type SubjectRow } from "../dialect.ts";
import {
  hourOf,
  proposalVerdict,
  provisioningRule,
  type ProvisioningRule,
  type Quota,
  UNKNOWN_SUBJECT,
  usedThisHour,
} from "../provisioning.ts";

/** Verdicts on jobs whose user did not exist. */
export type Proposals = Map<IssueJob, ExchangeVerdict>;
/** Of jobs whose user exists by now. */
type ReadAgain = (jobs: readonly IssueJob[]) => Promise<Proposals>;

/**
 * Whom there would be to issue for, in three statements for any number of jobs. The quotas' rows are held until the end of the transaction: what is
 * read behind them is what nodes before this one have left. Nobody is made yet: a replayed token makes no user.
 */
export async function proposeUsers(connection: PoolClient, jobs: readonly IssueJob[], again: ReadAgain): Promise<Proposals> {
  const proposals: Proposals = new Map(jobs.map((job) => [job, UNKNOWN_SUBJECT]));
  const ruled = jobs.filter((job) => provisioningRule(job.request) !== undefined);
  if (ruled.length === 0) return proposals;
  const quotas = await holdQuotas(connection, ruled);
  const made = await again(ruled);
  const homes = await readHomes(connection, ruled);
  const proposed = new Map<string, ExchangeVerdict>();
  const counts = new Map<string, number>();
  for (const job of ruled) {
    const { clientId } = job.request.client;
    const count = counts.get(clientId) ?? 0;
    const used = usedThisHour(quotas.get(clientId), job.request) + count;
    const before = made.get(job) ?? proposed.get(nameOf(job));
    const verdict = before ?? proposalVerdict(homes.get(homeOf(job)), used, job.request);
    proposals.set(job, verdict);
    if (before !== undefined || verdict.code !== "issued") continue;
    proposed.set(nameOf(job), verdict);
    counts.set(clientId, count + 1);
  }
  return proposals;
}

/** Makes those that were proposed and nothing has refused since. Gives the verdicts that are other ones now: the API has made the user meanwhile. */
export async function createUsers(connection: PoolClient, proposals: Proposals, again: ReadAgain): Promise<Proposals> {
  const rows = new Map<string, readonly unknown[]>();
  for (const [job, verdict] of proposals) {
    if (verdict.code !== "issued" || verdict.subject.kind !== "user") continue;
    const { clientId } = job.request.client;
    const { userId, workspaceId, organizationId } = verdict.subject;
    const revision = randomBytes(8).toString("hex");
    rows.set(nameOf(job), [clientId, userId, ruleOf(job).externalId, workspaceId, organizationId, revision, job.request.facts.atMs]);
  }
  if (rows.size === 0) return new Map();
  const sorted = [...rows.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  const created = await connection.query<{ partner_id: string; external_user_id: string }>({
    name: "provision_create",
    text: `INSERT INTO users (partner_id, user_id, external_user_id, workspace_id, org_id, revision, created_at, updated_at, entitlements, status)
      SELECT *, at, '[]', 'active' FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])
        AS wanted (partner_id, user_id, external_user_id, workspace_id, org_id, revision, at)
      ON CONFLICT (partner_id, external_user_id) DO NOTHING RETURNING partner_id, external_user_id`,
    values: [0, 1, 2, 3, 4, 5, 6].map((column) => sorted.map((row) => row[column])),
  });
  await useQuotas(
    connection,
    created.rows.map((row) => row.partner_id),
  );
  const names = new Set(created.rows.map((row) => `${row.partner_id} ${row.external_user_id}`));
  const others = [...proposals.keys()].filter((job) => rows.has(nameOf(job)) && !names.has(nameOf(job)));
  const made: Proposals = others.length === 0 ? new Map() : await again(others);
  return new Map(others.map((job) => [job, made.get(job) ?? UNKNOWN_SUBJECT]));
}

function ruleOf(job: IssueJob): ProvisioningRule {
  return provisioningRule(job.request) as ProvisioningRule;
}

const nameOf = (job: IssueJob) => `${job.request.client.clientId} ${ruleOf(job).externalId}`;
const homeOf = (job: IssueJob) => `${job.request.client.clientId} ${ruleOf(job).homeWorkspaceId}`;

/** In the order of the partners, so that two nodes that wait for each other's rows do not do so in a circle. */
async function holdQuotas(connection: PoolClient, jobs: readonly IssueJob[]): Promise<Map<string, Quota>> {
  const hours = new Map(jobs.map((job) => [job.request.client.clientId, hourOf(job.request)]));
  const held = await connection.query<Quota & { partner_id: string }>({
    name: "provision_quotas",
    text: `INSERT INTO provisioning_quotas AS q (partner_id, hour, used)
      SELECT partner_id, hour, 0 FROM unnest($1::text[], $2::bigint[]) AS wanted (partner_id, hour) ORDER BY partner_id
      ON CONFLICT (partner_id) DO UPDATE SET hour = greatest(q.hour, excluded.hour),
        used = CASE WHEN q.hour < excluded.hour THEN 0 ELSE q.used END
      RETURNING partner_id, hour, used`,
    values: [[...hours.keys()], [...hours.values()]],
  });
  return new Map(held.rows.map((row) => [row.partner_id, row]));
}

async function useQuotas(connection: PoolClient, partnerIds: readonly string[]): Promise<void> {
  await connection.query({
    name: "provision_use",
    text: `UPDATE provisioning_quotas AS q SET used = q.used + made.users
      FROM (SELECT partner_id, count(*) AS users FROM unnest($1::text[]) AS each (partner_id) GROUP BY partner_id) AS made
      WHERE q.partner_id = made.partner_id`,
    values: [partnerIds],
  });
}

/** The flags of all that a user which is yet to be made will hang on. */
async function readHomes(connection: PoolClient, jobs: readonly IssueJob[]): Promise<Map<string, SubjectRow>> {
  const wanted = new Map(jobs.map((job) => [homeOf(job), [job.request.client.clientId, ruleOf(job).homeWorkspaceId] as const]));
  const found = await connection.query<SubjectRow & { key: string }>({
    name: "provision_homes",
    text: `SELECT w.partner_id || ' ' || w.workspace_id AS key, ${PROPOSED_COLUMNS}
      FROM unnest($1::text[], $2::text[]) AS wanted (partner_id, workspace_id)
      JOIN workspaces w ON w.partner_id = wanted.partner_id AND w.workspace_id = wanted.workspace_id
      JOIN organizations o ON o.partner_id = w.partner_id AND o.org_id = w.org_id`,
    values: [0, 1].map((column) => [...wanted.values()].map((pair) => pair[column])),
  });
  return new Map(found.rows.map((row) => [row.key, row]));
}
