import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, Pool, types } from "pg";
import { inject } from "vitest";
import type { Dialect } from "../storage/dialect.ts";
import { postgresDialect } from "../storage/dialects/postgres.ts";
import { openSqlite } from "../storage/dialects/sqlite-driver.ts";
import { sqliteDialect } from "../storage/dialects/sqlite.ts";
import type { StoreLocation } from "../storage/kysely-store.ts";
import { migrate } from "../storage/migrate.ts";

types.setTypeParser(types.builtins.INT8, Number); // as our server does to the same driver, whichever of the two is loaded first

export type DialectName = Dialect["name"];
/** Every test of the store runs on each. */
export const DIALECTS: readonly DialectName[] = ["sqlite", "postgres"];

/** An empty database of its own, as a node would open it; it may be opened several times, like several nodes would. */
export interface TestDatabase {
  readonly location: StoreLocation;
  open(): Promise<Dialect>;
  /** Looks at or changes the rows behind the server's back. Values are bound with $1, $2, … on both. */
  query(sql: string, values?: readonly (string | number | null)[]): Promise<Record<string, unknown>[]>;
  drop(): Promise<void>;
}

export async function createTestDatabase(dialect: DialectName): Promise<TestDatabase> {
  return dialect === "sqlite" ? createSqlite() : createPostgres("template1");
}

/** The same with every table in it, and nothing else: what a node that has started for the first time leaves. */
export async function createMigratedDatabase(dialect: DialectName): Promise<TestDatabase> {
  if (dialect === "postgres") return createPostgres(await (postgresTemplate ??= makePostgresTemplate()));
  return createSqlite(await (sqliteTemplate ??= makeSqliteTemplate()));
}

/** Copied for each test file, in a tenth of the time that the migrations take; each test worker makes its own. */
let sqliteTemplate: Promise<Uint8Array> | undefined;
let postgresTemplate: Promise<string> | undefined;

async function makeSqliteTemplate(): Promise<Uint8Array> {
  const database = createSqlite();
  await migrateAndClose(database);
  const file = readFileSync("sqlitePath" in database.location ? database.location.sqlitePath : "");
  await database.drop();
  return file;
}

async function makePostgresTemplate(): Promise<string> {
  const database = await createPostgres("template1");
  await migrateAndClose(database);
  return new URL("postgresUrl" in database.location ? database.location.postgresUrl : "").pathname.slice(1);
}

async function migrateAndClose(database: TestDatabase): Promise<void> {
  const dialect = await database.open();
  await migrate(dialect);
  await dialect.close();
}

function createSqlite(file?: Uint8Array): TestDatabase {
  const directory = mkdtempSync(join(tmpdir(), "cambist-sqlite-"));
  const sqlitePath = join(directory, "cambist.db");
  if (file !== undefined) writeFileSync(sqlitePath, file, { mode: 0o600 });
  return {
    location: { sqlitePath },
    open: () => sqliteDialect(sqlitePath),
    async query(sql, values = []) {
      const database = await openSqlite(sqlitePath);
      try {
        database.exec("PRAGMA busy_timeout = 5000");
        return database.prepare(sql.replaceAll(/\$(\d+)/g, "?$1")).all(...values) as Record<string, unknown>[];
      } finally {
        database.close();
      }
    },
    drop: () => Promise.resolve(rmSync(directory, { recursive: true, force: true })),
  };
}

async function createPostgres(template: string): Promise<TestDatabase> {
  const server = inject("postgresUrl");
  const name = `test_${randomBytes(8).toString("hex")}`;
  await onServer(server, `CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY file_copy`);
  const postgresUrl = `${server}/${name}`;
  const pool = new Pool({ connectionString: postgresUrl, allowExitOnIdle: true });
  pool.on("error", () => undefined); // a test has cut an idle connection
  return {
    location: { postgresUrl },
    open: () => postgresDialect(postgresUrl, () => undefined),
    async query(sql, values = []) {
      return (await pool.query(sql, [...values])).rows as Record<string, unknown>[];
    },
    async drop() {
      await pool.end();
      await onServer(server, `DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

async function onServer(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: `${url}/postgres` });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** Another process that holds the write lock of the same SQLite file. */
export async function holdSqlite({ location }: TestDatabase): Promise<{ release(): void }> {
  const other = await openSqlite("sqlitePath" in location ? location.sqlitePath : "");
  other.exec("BEGIN IMMEDIATE");
  return {
    release() {
      other.exec("ROLLBACK");
      other.close();
    },
  };
}

/** Another client of the same PostgreSQL, in the middle of a transaction. */
export async function holdPostgres(database: TestDatabase, sql: string): Promise<{ release(): Promise<void> }> {
  const client = new Client({ connectionString: "postgresUrl" in database.location ? database.location.postgresUrl : "" });
  await client.connect();
  await client.query("BEGIN");
  await client.query(sql);
  return { release: () => client.query("ROLLBACK").then(() => client.end()) };
}
