import { closeSync, fsyncSync, openSync, readSync, statSync, writeFileSync } from "node:fs";
import { isSqliteBusy, openSqlite, type SqliteDatabase } from "./dialects/sqlite-driver.ts";

/** What is wrong with a store's file, for the operator. */
export class StoreFileError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StoreFileError";
  }
}

/** A server, or another command, has it open. */
export class StoreInUse extends StoreFileError {}

const COPY_WAIT_MS_MAX = 5_000;
const HEADER = "SQLite format 3\0";

/** SQLite makes a file that is missing, and takes an empty one for a database: both are seen here first. @throws StoreFileError. */
export function requireDatabaseFile(path: string): void {
  let header: Buffer;
  try {
    if (!statSync(path).isFile()) throw new StoreFileError(`${path} is not a file.`);
    header = readHeader(path);
  } catch (thrown) {
    throw thrown instanceof StoreFileError ? thrown : unreadable(path, thrown);
  }
  if (header.toString("latin1") !== HEADER) throw new StoreFileError(`${path} is not a Cambist store, nor a backup of one.`);
}

function readHeader(path: string): Buffer {
  const header = Buffer.alloc(HEADER.length);
  const file = openSync(path, "r");
  try {
    return header.subarray(0, readSync(file, header, 0, header.length, 0));
  } finally {
    closeSync(file);
  }
}

/**
 * Database files by the side of an empty one in memory. A file is let go when it is detached: closing a connection would leave it open,
 * locks included, for as long as one of its statements waits for the garbage collector.
 */
export class StoreFiles {
  private readonly database: SqliteDatabase;
  private readonly attached = new Map<string, string>();

  private constructor(database: SqliteDatabase) {
    this.database = database;
  }

  static async open(): Promise<StoreFiles> {
    return new StoreFiles(await openSqlite(":memory:"));
  }

  /** @throws StoreFileError */
  attach(path: string, name: string): void {
    try {
      this.database.exec(`ATTACH ${quoted(path)} AS ${name}`);
    } catch (thrown) {
      throw unreadable(path, thrown);
    }
    this.attached.set(name, path);
  }

  detach(name: string): void {
    this.database.exec(`DETACH ${name}`);
    this.attached.delete(name);
  }

  exec(sql: string): void {
    this.database.exec(sql);
  }

  rows<T>(sql: string, ...values: readonly (string | number)[]): T[] {
    return this.database.prepare(sql).all(...values) as T[];
  }

  /** All or nothing. */
  transaction(work: () => void): void {
    this.database.exec("BEGIN IMMEDIATE");
    try {
      work();
      this.database.exec("COMMIT");
    } catch (thrown) {
      if (this.database.isTransaction) this.database.exec("ROLLBACK");
      throw thrown;
    }
  }

  /** Locks out every other process until the file is detached; its write-ahead log is in the file then. @throws StoreFileError. */
  lock(name: string): void {
    try {
      this.database.exec(`PRAGMA ${name}.locking_mode = EXCLUSIVE`);
      // leaving WAL wants the file for oneself, and a server keeps a share of it from its start to its end
      this.database.exec(`PRAGMA ${name}.journal_mode = DELETE`);
      this.database.exec("BEGIN EXCLUSIVE; COMMIT");
    } catch (thrown) {
      const path = this.attached.get(name) ?? name;
      if (!isSqliteBusy(thrown)) throw unreadable(path, thrown);
      throw new StoreInUse(`${path} is open in another process; stop the server that uses it first.`, { cause: thrown });
    }
  }

  /** A new file with what is in the attached one at this moment, one transaction, readers and writers undisturbed. */
  copy(name: string, path: string): void {
    this.database.exec(`PRAGMA busy_timeout = ${COPY_WAIT_MS_MAX}`); // a server that starts, or recovers its log, holds readers off
    this.database.exec(`VACUUM ${name} INTO ${quoted(path)}`);
  }

  /** The names of its migrations. @throws StoreFileError where it is damaged, or no store of ours. */
  verify(name: string): string[] {
    const path = this.attached.get(name) ?? name;
    try {
      const [found] = this.rows<{ integrity_check: string }>(`PRAGMA ${name}.integrity_check(1)`);
      if (found?.integrity_check !== "ok") throw new StoreFileError(`${path} is damaged (${found?.integrity_check ?? "no answer"}).`);
      if (this.rows(`PRAGMA ${name}.foreign_key_check`).length > 0)
        throw new StoreFileError(`${path} is damaged (rows without those they hang on).`);
    } catch (thrown) {
      throw thrown instanceof StoreFileError ? thrown : unreadable(path, thrown);
    }
    const migrations = this.migrations(name);
    if (migrations.length === 0) throw new StoreFileError(`${path} is a database, but not a Cambist store.`);
    return migrations;
  }

  /** None where it has no tables of ours. */
  migrations(name: string): string[] {
    if (this.rows(`SELECT 1 FROM ${name}.sqlite_schema WHERE type = 'table' AND name = 'migrations'`).length === 0) return [];
    return this.rows<{ name: string }>(`SELECT name FROM ${name}.migrations ORDER BY name`).map((row) => row.name);
  }

  close(): void {
    if (this.database.isTransaction) this.database.exec("ROLLBACK");
    for (const name of this.attached.keys()) this.detach(name);
    this.database.close();
  }
}

/** Readable by its owner only. @throws StoreFileError where the file is there already. */
export function makePrivateFile(path: string): void {
  try {
    writeFileSync(path, "", { mode: 0o600, flag: "wx" });
  } catch (thrown) {
    const isTaken = thrown instanceof Error && "code" in thrown && thrown.code === "EEXIST";
    const why = isTaken ? "exists, and is not written over; choose another name" : `cannot be made (${messageOf(thrown)})`;
    throw new StoreFileError(`${path} ${why}.`, { cause: thrown });
  }
}

/** A rename, and what was written before it, outlives a power cut only when both were synced. */
export function syncToDisk(path: string): void {
  let handle: number | undefined;
  try {
    handle = openSync(path, "r");
    fsyncSync(handle);
  } catch (thrown) {
    if (process.platform !== "win32") throw thrown; // there a folder cannot be opened
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

function unreadable(path: string, thrown: unknown): StoreFileError {
  const isMissing = thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT";
  return new StoreFileError(isMissing ? `There is no file ${path}.` : `${path} cannot be read (${messageOf(thrown)}).`, { cause: thrown });
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

function quoted(path: string): string {
  return `'${path.replaceAll("'", "''")}'`;
}
