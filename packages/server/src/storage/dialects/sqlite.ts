import { setTimeout as sleep } from "node:timers/promises";
import { StoreUnavailable } from "@cambist/protocol";
import { type Kysely, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import { GroupCommit } from "../group-commit.ts";
import { PerTurn } from "../per-turn.ts";
import type { Schema } from "../schema.ts";
import {
  isSqliteBusy,
  isSqliteFault,
  isSqliteForeignKeyViolation,
  isSqliteUniqueViolation,
  openSqlite,
  type SqliteDatabase,
} from "./sqlite-driver.ts";
import { type SqliteExchanges, sqliteExchanges } from "./sqlite-exchanges.ts";
import { kyselyOverSqlite } from "./sqlite-kysely.ts";
import { TurnReads } from "./sqlite-turn-reads.ts";

/** Writes that share a commit. They hold up the exchanges meanwhile, which come in between two groups. */
const WRITES_MAX = 32;
/** How long a write waits for another process that holds the write lock. */
const WRITE_WAIT_MS_MAX = 2_000;
const RETRY_MS = 10;

/**
 * Three connections in one thread: one for Kysely's writes, whose transactions stretch over several turns of the event loop, one for its
 * reads, which need not wait for them (WAL), one for the hot path, whose statements are prepared once and whose transaction is a single
 * synchronous stretch. The turnstile keeps the writes apart.
 */
export async function sqliteDialect(path: string): Promise<Dialect> {
  const hot = await openSqlite(path);
  const turn = new TurnReads(hot);
  const writing = kyselyOverSqlite(await openSqlite(path), () => turn.end());
  const reading = kyselyOverSqlite(await openSqlite(path));
  const turnstile = new Turnstile();
  /** The wait for one's turn counts: eight writers must not wait two seconds each, one after the other. */
  function inTurn<T>(work: () => T | Promise<T>): Promise<T> {
    const deadline = Date.now() + WRITE_WAIT_MS_MAX;
    return turnstile.pass(() => patiently(work, deadline));
  }
  const lazyHot = lazy(() => sqliteExchanges(hot));
  const readHot = <T>(read: (statements: SqliteExchanges) => T): Promise<T> => asUnavailable(() => turn.read(() => read(lazyHot())));
  const writeHot = <T>(write: (statements: SqliteExchanges) => T): Promise<T> =>
    inTurn(() => {
      turn.end();
      return write(lazyHot());
    });
  const versions = new PerTurn<number | undefined>();
  const group = new GroupCommit<Write, Outcome>((works) => inTurn(() => writeTogether(writing, works)), WRITES_MAX);

  return {
    name: "sqlite",
    read: (query) => asUnavailable(() => query(reading)),
    async write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
      const outcome = await group.submit(work);
      versions.forget();
      if (outcome.ok) return outcome.value as T;
      throw outcome.thrown;
    },
    findPartnerVersion: (clientId) => versions.get(clientId, () => readHot((statements) => statements.findPartnerVersion(clientId))),
    findSubject: (clientId, userId) => readHot((statements) => statements.findSubject(clientId, userId)),
    findOpaqueToken: (hash) => readHot((statements) => statements.findOpaqueToken(hash)),
    isTokenRevoked: (tokenId) => readHot((statements) => statements.isTokenRevoked(tokenId)),
    chargeBucket: (charge) => writeHot((statements) => statements.chargeBucket(charge)),
    unpack: (json, columns) =>
      sql`(SELECT ${sql.join(Object.keys(columns).map((name) => sql`value ->> ${sql.lit(`$.${name}`)} AS ${sql.ref(name)}`))} FROM json_each(${json}))`,
    commitExchanges: (jobs) => writeHot((statements) => statements.commitExchanges(jobs)),
    isUniqueViolation: isSqliteUniqueViolation,
    isForeignKeyViolation: isSqliteForeignKeyViolation,
    async close() {
      await turnstile.pass(() => Promise.all([writing.destroy(), reading.destroy()]));
      turn.end();
      mergeLog(hot);
      hot.close();
    },
  };
}

type Write = (transaction: Transaction<Schema>) => Promise<unknown>;
type Outcome = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly thrown: unknown };

/** One commit, which is what a write costs most, for all of them; what one of them throws undoes that one alone. */
async function writeTogether(db: Kysely<Schema>, works: readonly Write[]): Promise<Outcome[]> {
  const [only] = works;
  return db.transaction().execute(async (transaction) => {
    if (only !== undefined && works.length === 1) return [{ ok: true, value: await only(transaction) }];
    const outcomes: Outcome[] = [];
    for (const work of works) outcomes.push(await writeApart(transaction, work));
    return outcomes;
  });
}

async function writeApart(transaction: Transaction<Schema>, work: Write): Promise<Outcome> {
  await sql`SAVEPOINT write`.execute(transaction);
  try {
    const value = await work(transaction);
    await sql`RELEASE SAVEPOINT write`.execute(transaction);
    return { ok: true, value };
  } catch (thrown) {
    if (isSqliteBusy(thrown) || isSqliteFault(thrown)) throw thrown; // the database may have undone all of them already
    await sql`ROLLBACK TO SAVEPOINT write`.execute(transaction);
    await sql`RELEASE SAVEPOINT write`.execute(transaction);
    return { ok: false, thrown };
  }
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
async function patiently<T>(work: () => T | Promise<T>, deadline: number): Promise<T> {
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

async function asUnavailable<T>(work: () => T | Promise<T>): Promise<T> {
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
