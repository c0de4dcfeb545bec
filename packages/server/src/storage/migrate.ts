import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Kysely, sql } from "kysely";
import type { Dialect } from "./dialect.ts";
import { first } from "./migrations/0001-first.ts";
import { partnerJwks } from "./migrations/0002-partner-jwks.ts";
import { accounts } from "./migrations/0003-accounts.ts";
import { signingKeySchedule } from "./migrations/0004-signing-key-schedule.ts";
import { rateLimits } from "./migrations/0005-rate-limits.ts";
import { tokens } from "./migrations/0006-tokens.ts";
import { partnerOrigins } from "./migrations/0007-partner-origins.ts";
import { threads } from "./migrations/0008-threads.ts";
import { threadFiles } from "./migrations/0009-thread-files.ts";

type Migration = (db: Kysely<never>, dialect: Dialect["name"]) => Promise<void>;

/** In the order in which they run. A name that has landed is never changed. */
const MIGRATIONS: readonly (readonly [name: string, migrate: Migration])[] = [
  ["0001-first", first],
  ["0002-partner-jwks", partnerJwks],
  ["0003-accounts", accounts],
  ["0004-signing-key-schedule", signingKeySchedule],
  ["0005-rate-limits", rateLimits],
  ["0006-tokens", tokens],
  ["0007-partner-origins", partnerOrigins],
  ["0008-threads", threads],
  ["0009-thread-files", threadFiles],
];

export const MIGRATION_NAMES: readonly string[] = MIGRATIONS.map(([name]) => name);

const LEASE = "migrations";
const LEASE_MS = 60_000;
const WAIT_MS_MAX = 120_000;

/**
 * Brings the schema up to date. A lease row lets one node migrate while the others wait for it: a session advisory lock is missing on
 * some PostgreSQL-compatible engines, and lost behind a transaction pooler. The lease of a node that died runs out by itself.
 * Migrations that this version does not know are left alone: version N goes on running beside N+1, which only adds.
 * Gives the names of those that ran.
 */
export async function migrate(dialect: Dialect, migrations: readonly (readonly [string, Migration])[] = MIGRATIONS): Promise<string[]> {
  await createBookkeeping(dialect);
  const applied = new Set(await appliedNames(dialect));
  if (migrations.every(([name]) => applied.has(name))) return [];

  const holder = randomUUID();
  await acquireLease(dialect, holder);
  try {
    return await applyPending(dialect, holder, migrations);
  } finally {
    await dialect.write((db) => db.deleteFrom("leases").where("name", "=", LEASE).where("holder", "=", holder).execute());
  }
}

async function createBookkeeping(dialect: Dialect): Promise<void> {
  const exists = await dialect.read((db) => db.introspection.getTables()).then((tables) => tables.some((table) => table.name === "leases"));
  if (exists) return;
  try {
    await dialect.write(async (db) => {
      await sql`CREATE TABLE IF NOT EXISTS migrations (name text NOT NULL PRIMARY KEY, applied_at bigint NOT NULL)`.execute(db);
      await sql`CREATE TABLE IF NOT EXISTS leases (name text NOT NULL PRIMARY KEY, holder text NOT NULL, expires_at bigint NOT NULL)`.execute(
        db,
      );
    });
  } catch (thrown) {
    if (
      await appliedNames(dialect).then(
        () => false,
        () => true,
      )
    )
      throw thrown; // another node made them in the same moment (PostgreSQL 23505)
  }
}

async function appliedNames(dialect: Dialect): Promise<string[]> {
  const rows = await dialect.read((db) => db.selectFrom("migrations").select("name").orderBy("name").execute());
  return rows.map((row) => row.name);
}

async function acquireLease(dialect: Dialect, holder: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS_MAX;
  while (!(await tryLease(dialect, holder))) {
    if (Date.now() > deadline) throw new Error("another node has held the migration lease for two minutes");
    await sleep(100);
  }
}

/** One statement: takes the lease where it is free, run out or one's own. */
async function tryLease(dialect: Dialect, holder: string): Promise<boolean> {
  const now = Date.now();
  const taken = await dialect.write((db) =>
    db
      .insertInto("leases")
      .values({ name: LEASE, holder, expires_at: now + LEASE_MS })
      .onConflict((conflict) =>
        conflict
          .column("name")
          .doUpdateSet({ holder, expires_at: now + LEASE_MS })
          .where((where) => where.or([where("leases.expires_at", "<", now), where("leases.holder", "=", holder)])),
      )
      .returning("holder")
      .execute(),
  );
  return taken.length > 0;
}

async function applyPending(dialect: Dialect, holder: string, migrations: readonly (readonly [string, Migration])[]): Promise<string[]> {
  const done = new Set(await appliedNames(dialect));
  const ran: string[] = [];
  for (const [name, run] of migrations) {
    if (done.has(name)) continue;
    if (!(await tryLease(dialect, holder))) throw new Error("the migration lease was lost to another node; start again");
    await dialect.write(async (db) => {
      await run(db as unknown as Kysely<never>, dialect.name);
      await db.insertInto("migrations").values({ name, applied_at: Date.now() }).execute();
    });
    ran.push(name);
  }
  return ran;
}
