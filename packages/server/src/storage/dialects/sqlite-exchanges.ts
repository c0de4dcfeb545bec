import {
  type ExchangeJob,
  type ExchangeVerdict,
  type IssueJob,
  OPAQUE_COLUMNS,
  opaqueRow,
  replayVerdict,
  SUBJECT_COLUMNS,
  type SubjectRow,
  subjectVerdict,
} from "../dialect.ts";
import { type BucketCharge, chargeBucketSql, chargeParameters } from "../charge-bucket.ts";
import { EXCHANGE_COLUMNS, exchangeRow } from "../exchange-row.ts";
import type { OpaqueTokensTable } from "../schema.ts";
import type { SqliteDatabase } from "./sqlite-driver.ts";
import { sqliteProvisioner } from "./sqlite-provisioner.ts";

export interface SqliteExchanges {
  findPartnerVersion(clientId: string): number | undefined;
  findSubject(clientId: string, userId: string): SubjectRow | undefined;
  findOpaqueToken(hash: Uint8Array): OpaqueTokensTable | undefined;
  isTokenRevoked(tokenId: string): boolean;
  chargeBucket(charge: BucketCharge): number;
  commitExchanges(jobs: readonly ExchangeJob[]): ExchangeVerdict[];
}

function prepareStatements(database: SqliteDatabase) {
  // CROSS JOIN keeps the order as it is written: three point reads, whatever a build's planner or ANALYZE would make of it
  const subject = `SELECT ${SUBJECT_COLUMNS} FROM users u
    CROSS JOIN workspaces w ON w.partner_id = u.partner_id AND w.workspace_id = u.workspace_id
    CROSS JOIN organizations o ON o.partner_id = w.partner_id AND o.org_id = w.org_id
    WHERE u.partner_id = ? AND`;
  return {
    begin: database.prepare("BEGIN IMMEDIATE"),
    commit: database.prepare("COMMIT"),
    version: database.prepare("SELECT version FROM partners WHERE client_id = ?"),
    userBy: {
      user_id: database.prepare(`${subject} u.user_id = ?`),
      external_user_id: database.prepare(`${subject} u.external_user_id = ?`),
    },
    spend: database.prepare(
      "INSERT INTO spent_tokens (partner_id, spend_key, expires_at) VALUES (?, ?, ?) ON CONFLICT (partner_id, spend_key) DO NOTHING",
    ),
    keep: database.prepare(`INSERT INTO opaque_tokens (${OPAQUE_COLUMNS.join(", ")}) VALUES (${OPAQUE_COLUMNS.map(() => "?").join(", ")})`),
    opaque: database.prepare("SELECT * FROM opaque_tokens WHERE token_hash = ?"),
    revoked: database.prepare("SELECT 1 FROM revocations WHERE subject_id = ? AND kind = 'token' AND kid = ''"),
    charge: database.prepare(chargeBucketSql((n) => `?${n}`)),
    record: database.prepare(
      `INSERT INTO exchanges (${EXCHANGE_COLUMNS.join(", ")}) VALUES (${EXCHANGE_COLUMNS.map(() => "?").join(", ")})`,
    ),
    touchSecret: database.prepare("UPDATE partner_secrets SET last_used_at = ? WHERE partner_id = ? AND secret_id = ?"),
  };
}

/** The hot path: statements that are prepared once, and a transaction that is a single synchronous stretch. */
export function sqliteExchanges(database: SqliteDatabase): SqliteExchanges {
  const statements = prepareStatements(database);
  const provisioner = sqliteProvisioner(database);

  const findPartnerVersion = (clientId: string) => (statements.version.get(clientId) as { version: number } | undefined)?.version;
  const findUser = (namespace: "user_id" | "external_user_id", clientId: string, id: string) =>
    statements.userBy[namespace].get(clientId, id) as SubjectRow | undefined;

  function findPrincipal({ request: { client, principal, issuedAtSeconds } }: IssueJob): ExchangeVerdict | undefined {
    if (principal.kind === "service_account") return { code: "issued", subject: principal };
    const row = findUser(principal.namespace, client.clientId, principal.id);
    return row === undefined ? undefined : subjectVerdict(row, issuedAtSeconds);
  }

  /** A user that does not exist yet is made last, when nothing can refuse any more. */
  function issue(job: IssueJob): ExchangeVerdict {
    const found = findPrincipal(job);
    const verdict = found ?? provisioner.propose(job.request);
    if (verdict.code !== "issued") return verdict;
    const { client, spends, opaque } = job.request;
    const replayed = spends.find((once) => statements.spend.run(client.clientId, once.key, once.expiresAtMs).changes === 0);
    if (replayed !== undefined) return replayVerdict(replayed);
    if (found === undefined) provisioner.create(job.request, verdict.subject);
    if (opaque !== undefined) statements.keep.run(...opaqueRow(opaque));
    return verdict;
  }

  /** `versions`: what this transaction has read of partners; the same row is the same for all of its jobs. */
  function settle(job: ExchangeJob, versions: Map<string, number | undefined>): ExchangeVerdict {
    const used = job.kind === "issue" ? job.request.facts : job.facts;
    if (job.touchSecret) statements.touchSecret.run(used.atMs, used.partnerId ?? "", used.secretId ?? "");
    if (job.kind === "refusal") {
      statements.record.run(...exchangeRow(job.facts, job.refusal));
      return { code: "recorded" };
    }
    const { client, facts } = job.request;
    if (!versions.has(client.clientId)) versions.set(client.clientId, findPartnerVersion(client.clientId));
    if (versions.get(client.clientId) !== client.version) return { code: "client_changed" };
    const verdict = issue(job);
    if (verdict.code === "refused") statements.record.run(...exchangeRow(facts, verdict.refusal));
    if (verdict.code === "issued") statements.record.run(...exchangeRow(facts, undefined));
    return verdict;
  }

  return {
    findPartnerVersion,
    findSubject: (clientId, userId) => findUser("user_id", clientId, userId),
    findOpaqueToken: (hash) => statements.opaque.get(hash) as OpaqueTokensTable | undefined,
    isTokenRevoked: (tokenId) => statements.revoked.get(tokenId) !== undefined,
    chargeBucket: (charge) => (statements.charge.get(...chargeParameters(charge)) as { level: number }).level,
    commitExchanges(jobs) {
      statements.begin.run();
      try {
        const versions = new Map<string, number | undefined>();
        const verdicts = jobs.map((job) => settle(job, versions));
        statements.commit.run();
        return verdicts;
      } catch (thrown) {
        if (database.isTransaction) database.exec("ROLLBACK");
        throw thrown;
      }
    },
  };
}
