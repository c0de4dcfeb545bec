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
  database.exec("PRAGMA secure_delete = ON"); // what is erased is overwritten, and not only unlinked
  database.exec(`PRAGMA cache_size = -${CACHE_KIB}`);
  database.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  return database;
}

/** The spent tokens' index is written at random places: with the default of 2 MB each of them would be read from the file first. */
const CACHE_KIB = 16 * 1024;
/** And each of those pages would be copied into the file at every checkpoint: fewer checkpoints copy it once for many writes. */
const CHECKPOINT_PAGES = 8_000;

/** Waiting here blocks the event loop: wait briefly, and let the caller try again in a later turn. */
const BUSY_TIMEOUT_MS = 5;

/** Primary result codes (sqlite.org/rescode.html). */
const BUSY = 5;
const LOCKED = 6;
const READONLY = 8;
const IOERR = 10;
const FULL = 13;
const CANTOPEN = 14;
/** Extended ones. */
const CONSTRAINT_FOREIGNKEY = 787;
const CONSTRAINT_PRIMARYKEY = 1555;
const CONSTRAINT_UNIQUE = 2067;

/** What a caller may try again: somebody else writes. */
export function isSqliteBusy(error: unknown): boolean {
  return [BUSY, LOCKED].includes(primaryCode(error));
}

/** The disk is full, read-only, unreadable or gone: nothing that a request did. */
export function isSqliteFault(error: unknown): boolean {
  return [READONLY, IOERR, FULL, CANTOPEN].includes(primaryCode(error));
}

export function isSqliteUniqueViolation(error: unknown): boolean {
  return [CONSTRAINT_UNIQUE, CONSTRAINT_PRIMARYKEY].includes(resultCode(error));
}

export function isSqliteForeignKeyViolation(error: unknown): boolean {
  return resultCode(error) === CONSTRAINT_FOREIGNKEY;
}

function primaryCode(error: unknown): number {
  return resultCode(error) & 0xff;
}

/** The package's `all` and `iterate` throw without the code that `run` and `get` give, so the message has to tell. */
const CODE_BY_MESSAGE: readonly (readonly [string, number])[] = [
  ["UNIQUE constraint failed", CONSTRAINT_UNIQUE],
  ["FOREIGN KEY constraint failed", CONSTRAINT_FOREIGNKEY],
  ["is locked", BUSY],
  ["readonly database", READONLY],
  ["disk I/O error", IOERR],
  ["disk is full", FULL],
  ["unable to open", CANTOPEN],
];

/** The extended code; 0 where the error is none of SQLite's. */
function resultCode(error: unknown): number {
  if (!(error instanceof Error) || !("code" in error) || error.code !== "ERR_SQLITE_ERROR") return 0;
  if ("errcode" in error && typeof error.errcode === "number") return error.errcode;
  return CODE_BY_MESSAGE.find(([text]) => error.message.includes(text))?.[1] ?? 0;
}
