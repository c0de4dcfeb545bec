import type * as SqliteModule from "@photostructure/sqlite";

export type SqliteDatabase = InstanceType<typeof SqliteModule.DatabaseSync>;
export type SqliteStatement = ReturnType<SqliteDatabase["prepare"]>;

/** The built-in module where it is stable, the package with the same interface on Node 20 and 22. */
export async function openSqlite(path: string): Promise<SqliteDatabase> {
  const builtIn = Number(process.versions.node.split(".")[0]) >= 24;
  const moduleName = builtIn ? "node:sqlite" : "@photostructure/sqlite";
  const driver = (await import(moduleName)) as typeof SqliteModule;
  const database = new driver.DatabaseSync(path);
  database.exec("PRAGMA journal_mode = WAL");
  database.exec("PRAGMA synchronous = FULL"); // WAL with NORMAL may lose the last commits at a power cut: a spent jti would be accepted again
  database.exec("PRAGMA foreign_keys = ON");
  database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  return database;
}

/** Waiting here blocks the event loop: wait briefly, and let the caller try again in a later turn. */
const BUSY_TIMEOUT_MS = 5;

const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;

/** What a caller may try again: somebody else writes. The low byte is the primary code. */
export function isSqliteBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === SQLITE_BUSY || code === SQLITE_LOCKED;
}

/** The disk is full, read-only, unreadable or gone: nothing that a request did. */
export function isSqliteFault(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== undefined && [8, 10, 13, 14].includes(code); // READONLY, IOERR, FULL, CANTOPEN
}

function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error) || typeof error.errcode !== "number") return undefined;
  return error.errcode & 0xff;
}

/** SQLITE_CONSTRAINT_UNIQUE and _PRIMARYKEY, extended codes. */
export function isSqliteUniqueViolation(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && (error.errcode === 2067 || error.errcode === 1555);
}
