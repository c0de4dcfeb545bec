import { setTimeout as sleep } from "node:timers/promises";
import { type Principal, StoreUnavailable } from "@cambist/protocol";
import { type Dialect, type ExchangeJob, type ExchangeVerdict, replayVerdict, type SubjectRow, subjectVerdict } from "../dialect.ts";
import { EXCHANGE_COLUMNS, exchangeRow } from "../exchange-row.ts";
import { isSqliteBusy, isSqliteFault, isSqliteUniqueViolation, openSqlite, type SqliteDatabase } from "./sqlite-driver.ts";
import { kyselyOverSqlite } from "./sqlite-kysely.ts";

/** How long a write waits for another process that holds the write lock. */
const WRITE_WAIT_MS_MAX = 2_000;
const RETRY_MS = 10;

/**
 * Two connections in one thread: one for Kysely, whose transactions stretch over several turns of the event loop, one for the hot
 * path, whose statements are prepared once and whose transaction is a single synchronous stretch. The turnstile keeps their writes
 * apart; readers need none (WAL).
 */
export async function sqliteDialect(path: string): Promise<Dialect> {
  const hot = await openSqlite(path);
  const cold = await openSqlite(path);
  const db = kyselyOverSqlite(cold);
  const turnstile = new Turnstile();
  /** The wait for one's turn counts: eight writers must not wait two seconds each, one after the other. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const deadline = Date.now() + WRITE_WAIT_MS_MAX;
    return turnstile.pass(() => patiently(work, deadline));
  }
  const lazyHot = lazy(() => prepareHotPath(hot));

  return {
    name: "sqlite",
    read: (query) => asUnavailable(() => query(db)),
    write: (work) => inTurn(() => db.transaction().execute(work)),
    findPartnerVersion: (clientId) => asUnavailable(() => Promise.resolve(lazyHot().findPartnerVersion(clientId))),
    commitExchanges: (jobs) => inTurn(() => Promise.resolve(lazyHot().commitExchanges(jobs))),
    isUniqueViolation: isSqliteUniqueViolation,
    async close() {
      await turnstile.pass(() => db.destroy());
      mergeLog(hot);
      hot.close();
    },
  };
}

/** The driver may keep its files open until the garbage collector comes, so that closing does not do it. */
function mergeLog(database: SqliteDatabase): void {
  try {
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch {
    // a full disk, say: what was committed is in the log, and the next start finds it there
  }
}

/** One at a time, in order of arrival. */
class Turnstile {
  private last: Promise<unknown> = Promise.resolve();

  pass<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }
}

/** Tries again while another process holds the write lock, without holding up the event loop. */
async function patiently<T>(work: () => Promise<T>, deadline: number): Promise<T> {
  for (;;) {
    try {
      return await asUnavailable(work);
    } catch (thrown) {
      if (!isSqliteBusy(thrown)) throw thrown;
      if (Date.now() >= deadline) throw new StoreUnavailable("the database is locked by another process", 1, { cause: thrown });
    }
    await sleep(RETRY_MS);
  }
}

async function asUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (isSqliteFault(thrown)) throw new StoreUnavailable("the database cannot be read or written", 1, { cause: thrown });
    throw thrown;
  }
}

function lazy<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

function prepareHotPath(database: SqliteDatabase) {
  const begin = database.prepare("BEGIN IMMEDIATE");
  const commit = database.prepare("COMMIT");
  const version = database.prepare("SELECT version FROM partners WHERE client_id = ?");
  // CROSS JOIN keeps the order as it is written: three point reads, whatever a build's planner or ANALYZE would make of it
  const subject = `SELECT u.user_id, u.status AS user_status, w.workspace_id, w.status AS workspace_status, o.org_id, o.status AS organization_status
    FROM users u
    CROSS JOIN workspaces w ON w.partner_id = u.partner_id AND w.workspace_id = u.workspace_id
    CROSS JOIN organizations o ON o.partner_id = w.partner_id AND o.org_id = w.org_id
    WHERE u.partner_id = ? AND`;
  const userBy = {
    user_id: database.prepare(`${subject} u.user_id = ?`),
    external_user_id: database.prepare(`${subject} u.external_user_id = ?`),
  };
  const spend = database.prepare(
    "INSERT INTO spent_tokens (partner_id, spend_key, expires_at) VALUES (?, ?, ?) ON CONFLICT (partner_id, spend_key) DO NOTHING",
  );
  const record = database.prepare(
    `INSERT INTO exchanges (${EXCHANGE_COLUMNS.join(", ")}) VALUES (${EXCHANGE_COLUMNS.map(() => "?").join(", ")})`,
  );
  const touchSecret = database.prepare("UPDATE partner_secrets SET last_used_at = ? WHERE partner_id = ? AND secret_id = ?");

  const findPartnerVersion = (clientId: string) => (version.get(clientId) as { version: number } | undefined)?.version;

  function findSubject(partnerId: string, principal: Principal): ExchangeVerdict {
    if (principal.kind === "service_account") return { code: "issued", subject: principal };
    const row = userBy[principal.namespace].get(partnerId, principal.id) as SubjectRow | undefined;
    return row === undefined ? { code: "refused", refusal: { code: "subject_unknown" } } : subjectVerdict(row);
  }

  /** `versions`: what this transaction has read of partners; the same row is the same for all of its jobs. */
  function settle(job: ExchangeJob, versions: Map<string, number | undefined>): ExchangeVerdict {
    const used = job.kind === "issue" ? job.request.facts : job.facts;
    if (job.touchSecret) touchSecret.run(used.atMs, used.partnerId ?? "", used.secretId ?? "");
    if (job.kind === "refusal") {
      record.run(...exchangeRow(job.facts, job.refusal));
      return { code: "recorded" };
    }
    const { client, principal, spends, facts } = job.request;
    if (!versions.has(client.clientId)) versions.set(client.clientId, findPartnerVersion(client.clientId));
    if (versions.get(client.clientId) !== client.version) return { code: "client_changed" };
    let verdict = findSubject(client.clientId, principal);
    if (verdict.code === "issued") {
      const replayed = spends.find((once) => spend.run(client.clientId, once.key, once.expiresAtMs).changes === 0);
      if (replayed !== undefined) verdict = replayVerdict(replayed);
    }
    record.run(...exchangeRow(facts, verdict.code === "refused" ? verdict.refusal : undefined));
    return verdict;
  }

  function commitExchanges(jobs: readonly ExchangeJob[]): ExchangeVerdict[] {
    begin.run();
    try {
      const versions = new Map<string, number | undefined>();
      const verdicts = jobs.map((job) => settle(job, versions));
      commit.run();
      return verdicts;
    } catch (thrown) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw thrown;
    }
  }

  return { findPartnerVersion, commitExchanges };
}
