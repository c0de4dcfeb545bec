import { setTimeout as sleep } from "node:timers/promises";
import { Kysely, PostgresDialect, sql } from "kysely";
import { StoreUnavailable } from "@cambist/protocol";
import type { Client, PoolClient } from "pg";
import { chargeBucketSql, chargeParameters } from "../charge-bucket.ts";
import type { Dialect } from "../dialect.ts";
import { PerTurn } from "../per-turn.ts";
import type { Schema } from "../schema.ts";
import { commitExchanges, findSubject } from "./postgres-exchanges.ts";
import { findOpaqueToken, isTokenRevoked } from "./postgres-tokens.ts";

const CONNECTIONS_MAX = 10;
/** Of their own for what each request and exchange begins with: account writes that wait for one row must not take their place. */
const HOT_CONNECTIONS_MAX = 4;
const CONNECT_MS_MAX = 2_000;
const STATEMENT_MS_MAX = 5_000;
const TRIES_MAX = 5;

/**
 * A shared database. Nothing is kept in a session but prepared statements: a transaction-mode pooler in between must know them
 * (PgBouncer from 1.21 on, with max_prepared_statements).
 */
export async function postgresDialect(url: string, onLost: (error: Error) => void): Promise<Dialect> {
  const { default: pg } = await import("pg"); // not loaded where the embedded store is used: it would cost every start
  pg.types.setTypeParser(pg.types.builtins.INT8, Number); // our int8 are milliseconds and versions, below 2^53
  const openPool = (max: number) => {
    const connecting = { connectionString: url, connectionTimeoutMillis: CONNECT_MS_MAX, query_timeout: STATEMENT_MS_MAX, keepAlive: true };
    const opened = new pg.Pool({ ...connecting, max });
    opened.on("error", onLost);
    opened.on("connect", (client) => guardConnection(client, onLost));
    return opened;
  };
  const pool = openPool(HOT_CONNECTIONS_MAX);
  const versions = new PerTurn<number | undefined>();
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool: openPool(CONNECTIONS_MAX) }) });

  return {
    name: "postgres",
    read: (query) => asUnavailable(() => query(db)),
    async write(work) {
      const result = await withRetry(() => db.transaction().execute(work));
      versions.forget();
      return result;
    },
    findPartnerVersion: (clientId) =>
      versions.get(clientId, () =>
        asUnavailable(async () => {
          const found = await pool.query<{ version: number }>({
            name: "partner_version",
            text: "SELECT version FROM partners WHERE client_id = $1",
            values: [clientId],
          });
          return found.rows[0]?.version;
        }),
      ),
    findSubject: (clientId, userId) => asUnavailable(() => findSubject(pool, clientId, userId)),
    findOpaqueToken: (hash) => asUnavailable(() => findOpaqueToken(pool, hash)),
    isTokenRevoked: (tokenId) => asUnavailable(() => isTokenRevoked(pool, tokenId)),
    chargeBucket: (charge) =>
      withRetry(async () => {
        const values = chargeParameters(charge);
        return (await pool.query<{ level: number }>({ name: "charge_bucket", text: CHARGE_SQL, values })).rows[0]?.level ?? 0;
      }),
    unpack: (json, columns) =>
      sql`(SELECT * FROM json_to_recordset(${json}::json) AS rows(${sql.join(Object.entries(columns).map(([name, type]) => sql`${sql.ref(name)} ${sql.raw(type)}`))}))`,
    // again also where a user was to be made in a workspace that another transaction has just erased: then there is none
    commitExchanges: (jobs) => withRetry(() => commitExchanges(pool, jobs), [...COLLISIONS, FOREIGN_KEY_VIOLATION]),
    isUniqueViolation: (error) => sqlState(error) === UNIQUE_VIOLATION,
    isForeignKeyViolation: (error) => sqlState(error) === FOREIGN_KEY_VIOLATION,
    close: () => Promise.all([db.destroy(), pool.end()]).then(() => undefined),
  };
}

/**
 * The pool listens to idle connections only: one that breaks while it is in use would end the process. And one whose statement was given
 * up on is closed: its transaction is still open, and would be committed with the work of whoever gets the connection next.
 */
function guardConnection(client: PoolClient, onLost: (error: Error) => void): void {
  client.on("error", onLost);
  const query = client.query.bind(client) as (...args: unknown[]) => unknown;
  client.query = ((...args: unknown[]) => {
    const result = query(...args);
    if (result instanceof Promise) {
      result.catch((thrown: unknown) => {
        if (thrown instanceof Error && thrown.message === "Query read timeout") (client as unknown as Client).end().catch(onLost);
      });
    }
    return result;
  }) as typeof client.query;
}

const CHARGE_SQL = chargeBucketSql((n) => `$${n}`);
const UNIQUE_VIOLATION = "23505";
const FOREIGN_KEY_VIOLATION = "23503";
/** The database asks for the transaction to be run again (serialization, deadlock). */
const COLLISIONS: readonly string[] = ["40001", "40P01"];

async function withRetry<T>(work: () => Promise<T>, retried = COLLISIONS): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await asUnavailable(work);
    } catch (thrown) {
      if (!retried.includes(sqlState(thrown) ?? "")) throw thrown;
      if (attempt >= TRIES_MAX) throw new StoreUnavailable("the transaction kept colliding", 1, { cause: thrown });
      await sleep(attempt * 5 + Math.random() * 10);
    }
  }
}

/**
 * Everything that says that the database is away, too busy, full or read-only: connection (08, 57P), resources (53), statement
 * time-out (57014), read-only transaction (25006), and the driver's own errors, which carry no SQLSTATE.
 */
async function asUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (isUnavailable(thrown)) throw new StoreUnavailable("the database does not answer", 1, { cause: thrown });
    throw thrown;
  }
}

function isUnavailable(thrown: unknown): boolean {
  const code = sqlState(thrown);
  if (code !== undefined) return /^(?:08|53|57|25006)/.test(code);
  if (!(thrown instanceof Error)) return false;
  if ("code" in thrown && typeof thrown.code === "string" && /^E(?!RR_)[A-Z_]+$/.test(thrown.code)) return true; // ECONNREFUSED, EAI_AGAIN and their kin
  return /timeout|Connection terminated|Client has encountered a connection error|not queryable/i.test(thrown.message);
}

function sqlState(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || !("code" in thrown) || typeof thrown.code !== "string") return undefined;
  return /^[0-9A-Z]{5}$/.test(thrown.code) && /\d/.test(thrown.code) ? thrown.code : undefined;
}
