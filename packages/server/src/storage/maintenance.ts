import { existsSync } from "node:fs";
import type { Dialect } from "./dialect.ts";
import { postgresDialect } from "./dialects/postgres.ts";
import { sqliteDialect } from "./dialects/sqlite.ts";
import type { StoreLocation } from "./kysely-store.ts";
import { migrate, MIGRATION_NAMES } from "./migrate.ts";
import { requireDatabaseFile, StoreFileError, StoreFiles } from "./store-file.ts";

/** Gives the names of the migrations that ran. */
export function migrateStore(location: StoreLocation): Promise<string[]> {
  return withDialect(location, migrate);
}

/** Gives the names of those that would run. */
export async function pendingMigrations(location: StoreLocation): Promise<readonly string[]> {
  return withDialect(location, async (dialect) => {
    const tables = await dialect.read((db) => db.introspection.getTables());
    if (!tables.some((table) => table.name === "migrations")) return MIGRATION_NAMES;
    const applied = await dialect.read((db) => db.selectFrom("migrations").select("name").execute());
    const names = new Set(applied.map((row) => row.name));
    return MIGRATION_NAMES.filter((name) => !names.has(name));
  });
}

/**
 * For a database that was put back by its own tools: the same mark that {@link restoreStore} sets. Servers read it at their start.
 * @throws StoreFileError where an embedded store is in use.
 */
export async function markRestored(location: StoreLocation): Promise<number> {
  if ("sqlitePath" in location) await requireUnused(location.sqlitePath);
  return withDialect(location, async (dialect) => {
    await migrate(dialect);
    return dialect.write(async (db) => {
      await db.deleteFrom("partner_jwks").execute(); // as fetched before the backup: the partner may have withdrawn them long since
      const before = await db.selectFrom("store_state").select("value").where("name", "=", "restored_at").executeTakeFirst();
      const restoredAtMs = Math.max(Date.now(), Number(before?.value ?? 0));
      const value = String(restoredAtMs);
      await db
        .insertInto("store_state")
        .values({ name: "restored_at", value })
        .onConflict((conflict) => conflict.column("name").doUpdateSet({ value }))
        .execute();
      return restoredAtMs;
    });
  });
}

async function requireUnused(path: string): Promise<void> {
  requireStore(path);
  const files = await StoreFiles.open();
  try {
    files.attach(path, "store");
    files.lock("store");
  } finally {
    files.close();
  }
}

async function withDialect<T>(location: StoreLocation, work: (dialect: Dialect) => Promise<T>): Promise<T> {
  const dialect = await openDialect(location);
  try {
    return await work(dialect);
  } finally {
    await dialect.close();
  }
}

async function openDialect(location: StoreLocation): Promise<Dialect> {
  if ("postgresUrl" in location) return postgresDialect(location.postgresUrl, () => undefined);
  requireStore(location.sqlitePath);
  return sqliteDialect(location.sqlitePath);
}

/** A store is made by the server's first start, with the keys that open it: a wrong folder must not get an empty one. */
function requireStore(path: string): void {
  if (!existsSync(path)) throw new StoreFileError(`There is no store at ${path}; the server makes one at its first start.`);
  requireDatabaseFile(path);
}
