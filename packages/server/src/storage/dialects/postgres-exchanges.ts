import type { Principal, Spend } from "@cambist/protocol";
import type { Pool, PoolClient } from "pg";
import {
  type ExchangeJob,
  type ExchangeVerdict,
  type IssueJob,
  replayVerdict,
  SUBJECT_COLUMNS,
  type SubjectRow,
  subjectVerdict,
} from "../dialect.ts";
import { createUsers, type Proposals, proposeUsers } from "./postgres-provisioner.ts";
import { keepOpaqueTokens } from "./postgres-tokens.ts";
import { EXCHANGE_COLUMNS, exchangeRow, type ExchangeRow } from "../exchange-row.ts";

/** A round trip costs more than a row: whatever the number of jobs, each step is one statement over arrays. */
export async function commitExchanges(pool: Pool, jobs: readonly ExchangeJob[]): Promise<ExchangeVerdict[]> {
  const connection = await pool.connect();
  let broken: Error | undefined;
  try {
    await connection.query("BEGIN; SET LOCAL synchronous_commit = on"); // whatever the role's default: durable before answered
    const verdicts = await settle(connection, jobs);
    await connection.query("COMMIT");
    return verdicts;
  } catch (thrown) {
    await connection.query("ROLLBACK").catch((error: Error) => {
      broken = error;
    });
    throw thrown;
  } finally {
    connection.release(broken);
  }
}

type Verdicts = Map<ExchangeJob, ExchangeVerdict>;

async function settle(connection: PoolClient, jobs: readonly ExchangeJob[]): Promise<ExchangeVerdict[]> {
  const issues = jobs.filter((job) => job.kind === "issue");
  const versions = await readVersions(connection, issues);
  const subjects = await readSubjects(connection, issues);
  const unknown: IssueJob[] = [];
  const verdicts: Verdicts = new Map();
  for (const job of jobs) {
    const verdict = verdictOf(job, versions, subjects);
    if (verdict === undefined) unknown.push(job as IssueJob);
    else verdicts.set(job, verdict);
  }
  const again = (some: readonly IssueJob[]) => readVerdicts(connection, some);
  for (const [job, verdict] of await proposeUsers(connection, unknown, again)) verdicts.set(job, verdict);
  await spendOnce(connection, verdicts);
  const proposals = new Map(unknown.map((job) => [job, verdicts.get(job) as ExchangeVerdict]));
  for (const [job, verdict] of await createUsers(connection, proposals, again)) {
    verdicts.set(job, verdict);
    if (verdict.code !== "issued") await giveBack(connection, spentRows(job));
  }
  await keepOpaqueTokens(connection, verdicts);
  await record(connection, verdicts);
  await touchSecrets(connection, jobs);
  return jobs.map((job) => verdicts.get(job) as ExchangeVerdict);
}

/** Undefined where the subject is a user that does not exist. */
function verdictOf(
  job: ExchangeJob,
  versions: ReadonlyMap<string, number>,
  subjects: ReadonlyMap<string, SubjectRow>,
): ExchangeVerdict | undefined {
  if (job.kind === "refusal") return { code: "recorded" };
  const { client, principal, issuedAtSeconds } = job.request;
  if (versions.get(client.clientId) !== client.version) return { code: "client_changed" };
  if (principal.kind === "service_account") return { code: "issued", subject: principal };
  const row = subjects.get(subjectKey(job));
  return row === undefined ? undefined : subjectVerdict(row, issuedAtSeconds);
}

async function readVerdicts(connection: PoolClient, jobs: readonly IssueJob[]): Promise<Proposals> {
  const subjects = await readSubjects(connection, jobs);
  return new Map(
    jobs.flatMap((job) => {
      const row = subjects.get(subjectKey(job));
      return row === undefined ? [] : [[job, subjectVerdict(row, job.request.issuedAtSeconds)] as const];
    }),
  );
}

async function readVersions(connection: PoolClient, issues: readonly IssueJob[]): Promise<Map<string, number>> {
  if (issues.length === 0) return new Map();
  const found = await connection.query<{ client_id: string; version: number }>({
    name: "issue_versions",
    text: "SELECT client_id, version FROM partners WHERE client_id = ANY($1::text[])",
    values: [[...new Set(issues.map((job) => job.request.client.clientId))]],
  });
  return new Map(found.rows.map((row) => [row.client_id, row.version]));
}

type UserPrincipal = Extract<Principal, { kind: "user" }>;

function subjectKey(job: IssueJob): string {
  const { namespace, id } = job.request.principal as UserPrincipal;
  return `${namespace} ${job.request.client.clientId} ${id}`;
}

/** Lookups of one row each: of a plain join the planner, which goes by the average partner, made a walk through all organizations of a large one. */
const SUBJECTS_SQL = (["user_id", "external_user_id"] as const)
  .map(
    (namespace, index) => `
SELECT '${namespace} ' || u.partner_id || ' ' || u.${namespace} AS key, ${SUBJECT_COLUMNS}
FROM unnest($${index * 2 + 1}::text[], $${index * 2 + 2}::text[]) AS wanted (partner_id, id)
CROSS JOIN LATERAL (SELECT * FROM users WHERE partner_id = wanted.partner_id AND ${namespace} = wanted.id LIMIT 1) u
CROSS JOIN LATERAL (SELECT * FROM workspaces WHERE partner_id = u.partner_id AND workspace_id = u.workspace_id LIMIT 1) w
CROSS JOIN LATERAL (SELECT * FROM organizations WHERE partner_id = w.partner_id AND org_id = w.org_id LIMIT 1) o`,
  )
  .join("\nUNION ALL");

export async function findSubject(pool: Pool, clientId: string, userId: string): Promise<SubjectRow | undefined> {
  const values = [[clientId], [userId], [], []];
  return (await pool.query<SubjectRow>({ name: "issue_subjects", text: SUBJECTS_SQL, values })).rows[0];
}

async function readSubjects(connection: PoolClient, issues: readonly IssueJob[]): Promise<Map<string, SubjectRow>> {
  const wanted = {
    user_id: { partners: [] as string[], ids: [] as string[] },
    external_user_id: { partners: [] as string[], ids: [] as string[] },
  };
  const keys = new Set<string>();
  for (const job of issues) {
    const { client, principal } = job.request;
    if (principal.kind !== "user" || keys.has(subjectKey(job))) continue;
    keys.add(subjectKey(job));
    wanted[principal.namespace].partners.push(client.clientId);
    wanted[principal.namespace].ids.push(principal.id);
  }
  if (keys.size === 0) return new Map();
  const found = await connection.query<SubjectRow & { key: string }>({
    name: "issue_subjects",
    text: SUBJECTS_SQL,
    values: [wanted.user_id.partners, wanted.user_id.ids, wanted.external_user_id.partners, wanted.external_user_id.ids],
  });
  return new Map(found.rows.map((row) => [row.key, row]));
}

/**
 * One INSERT asks for the keys of all jobs, in one order on all nodes, so that none waits for another in a circle. Then each job in turn
 * takes its own out of what was won: of two with one key the first gets it, be they in this batch or on two nodes. What nobody took,
 * for its job was refused before it came to it, is given back.
 */
async function spendOnce(connection: PoolClient, verdicts: Verdicts): Promise<void> {
  const spenders = [...verdicts].flatMap(([job, verdict]) => (job.kind === "issue" && verdict.code === "issued" ? [job] : []));
  const wanted = new Map(spenders.flatMap(spentRows).map((row) => [spendName(row.partnerId, row.key), row]));
  if (wanted.size === 0) return;
  const sorted = [...wanted.entries()].toSorted(([left], [right]) => (left < right ? -1 : 1)).map(([, row]) => row);
  const inserted = await connection.query<{ partner_id: string; spend_key: Buffer }>({
    name: "issue_spend",
    text: `INSERT INTO spent_tokens (partner_id, spend_key, expires_at)
           SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[]) ON CONFLICT (partner_id, spend_key) DO NOTHING
           RETURNING partner_id, spend_key`,
    values: [sorted.map((row) => row.partnerId), sorted.map((row) => row.key), sorted.map((row) => row.expiresAtMs)],
  });
  const won = new Set(inserted.rows.map((row) => spendName(row.partner_id, row.spend_key)));
  for (const job of spenders) {
    const replayed = job.request.spends.find((spend) => !won.delete(spendName(job.request.client.clientId, spend.key)));
    if (replayed !== undefined) verdicts.set(job, replayVerdict(replayed));
  }
  if (won.size > 0)
    await giveBack(
      connection,
      sorted.filter((row) => won.has(spendName(row.partnerId, row.key))),
    );
}

type SpentRow = Pick<Spend, "key" | "expiresAtMs"> & { readonly partnerId: string };

function spentRows({ request }: IssueJob): SpentRow[] {
  return request.spends.map((spend) => ({ partnerId: request.client.clientId, ...spend }));
}

async function giveBack(connection: PoolClient, rows: readonly SpentRow[]): Promise<void> {
  await connection.query({
    name: "issue_give_back",
    text: `DELETE FROM spent_tokens WHERE (partner_id, spend_key) IN (SELECT * FROM unnest($1::text[], $2::bytea[]))`,
    values: [rows.map((row) => row.partnerId), rows.map((row) => row.key)],
  });
}

function spendName(partnerId: string, key: Uint8Array): string {
  return `${partnerId} ${Buffer.from(key).toString("hex")}`;
}

const RECORD_SQL = `INSERT INTO exchanges (${EXCHANGE_COLUMNS.join(", ")})
SELECT * FROM unnest(${EXCHANGE_COLUMNS.map((column, index) => `$${index + 1}::${column === "at" ? "bigint" : "text"}[]`).join(", ")})`;

async function record(connection: PoolClient, verdicts: Verdicts): Promise<void> {
  const rows: ExchangeRow[] = [];
  for (const [job, verdict] of verdicts) {
    if (job.kind === "refusal") rows.push(exchangeRow(job.facts, job.refusal));
    else if (verdict.code === "refused") rows.push(exchangeRow(job.request.facts, verdict.refusal));
    else if (verdict.code === "issued") rows.push(exchangeRow(job.request.facts, undefined));
  }
  if (rows.length === 0) return;
  const columns = EXCHANGE_COLUMNS.map((_, column) => rows.map((row) => row[column]));
  await connection.query({ name: "issue_record", text: RECORD_SQL, values: columns });
}

/** In one order on all nodes, so that none waits for another in a circle. */
async function touchSecrets(connection: PoolClient, jobs: readonly ExchangeJob[]): Promise<void> {
  const touched = jobs.filter((job) => job.touchSecret).map((job) => (job.kind === "issue" ? job.request.facts : job.facts));
  for (const facts of touched.toSorted((a, b) => ((a.secretId ?? "") < (b.secretId ?? "") ? -1 : 1))) {
    const values = [facts.atMs, facts.partnerId, facts.secretId];
    await connection.query("UPDATE partner_secrets SET last_used_at = $1 WHERE partner_id = $2 AND secret_id = $3", values);
  }
}
