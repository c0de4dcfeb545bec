import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { inject } from "vitest";
import type { Dialect } from "../storage/dialect.ts";
import { postgresDialect } from "../storage/dialects/postgres.ts";
import { openSqlite } from "../storage/dialects/sqlite-driver.ts";
import { sqliteDialect } from "../storage/dialects/sqlite.ts";
import type { StoreLocation } from "../storage/kysely-store.ts";

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
  return dialect === "sqlite" ? createSqlite() : createPostgres();
}

async function createSqlite(): Promise<TestDatabase> {
  const directory = mkdtempSync(join(tmpdir(), "cambist-sqlite-"));
  const sqlitePath = join(directory, "cambist.db");
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

async function createPostgres(): Promise<TestDatabase> {
  const server = inject("postgresUrl");
  const name = `test_${randomBytes(8).toString("hex")}`;
  await onServer(server, `CREATE DATABASE ${name}`);
  const postgresUrl = `${server}/${name}`;
  return {
    location: { postgresUrl },
    open: () => postgresDialect(postgresUrl, () => undefined),
    async query(sql, values = []) {
      const client = new Client({ connectionString: postgresUrl });
      await client.connect();
      try {
        return (await client.query(sql, [...values])).rows as Record<string, unknown>[];
      } finally {
        await client.end();
      }
    },
    drop: () => onServer(server, `DROP DATABASE ${name} WITH (FORCE)`),
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

/** Another client of the same PostgreSQL, in the middle of a transaction. */
export async function holdPostgres(database: TestDatabase, sql: string): Promise<{ release(): Promise<void> }> {
  const client = new Client({ connectionString: "postgresUrl" in database.location ? database.location.postgresUrl : "" });
  await client.connect();
  await client.query("BEGIN");
  await client.query(sql);
  return { release: () => client.query("ROLLBACK").then(() => client.end()) };
}
