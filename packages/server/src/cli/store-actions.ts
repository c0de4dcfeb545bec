import { join, resolve } from "node:path";
import { processEnvironment } from "../config.ts";
import { DATABASE_FILE, prepareDataDir } from "../data-dir.ts";
import { backUpStore } from "../storage/backup.ts";
import type { StoreLocation } from "../storage/kysely-store.ts";
import { markRestored, migrateStore, pendingMigrations } from "../storage/maintenance.ts";
import { restoreStore } from "../storage/restore.ts";
import { UsageError } from "./failure.ts";
import { printJson, printLines } from "./output.ts";
import { restoreAnswer, restoreLines } from "./restore-report.ts";
import { readSettings } from "./settings.ts";

export interface StoreOptions {
  readonly json?: boolean;
}

export interface RestoreOptions extends StoreOptions {
  readonly ignoreReplaced?: boolean;
  readonly mark?: boolean;
}

interface Configured {
  readonly location: StoreLocation;
  readonly dataDir: string;
  /** Of the embedded store; the database's URL may hold a password, and is not said. */
  readonly name: string;
}

function configured(): Configured {
  const { dataDir, databaseUrl } = readSettings(processEnvironment());
  const sqlitePath = join(dataDir, DATABASE_FILE);
  if (databaseUrl === undefined) return { location: { sqlitePath }, dataDir, name: sqlitePath };
  return { location: { postgresUrl: databaseUrl }, dataDir, name: "the database of DATABASE_URL" };
}

export async function runMigrate(options: StoreOptions & { readonly check?: boolean }): Promise<void> {
  const { location, name } = configured();
  if (options.check) {
    const pending = await pendingMigrations(location);
    if (pending.length > 0) process.exitCode = 1;
    if (options.json) printJson({ store: name, pending });
    else printLines(pending.length === 0 ? `The schema of ${name} is up to date.` : `Pending in ${name}: ${pending.join(", ")}`);
    return;
  }
  const migrations = await migrateStore(location);
  if (options.json) printJson({ store: name, migrations });
  else printLines(migrations.length === 0 ? `The schema of ${name} is up to date.` : `Done in ${name}: ${migrations.join(", ")}`);
}

export async function runBackup(file: string, options: StoreOptions): Promise<void> {
  const { location, name } = configured();
  if (!("sqlitePath" in location)) {
    throw new Error(
      "this is for the embedded store, and DATABASE_URL is set; back up PostgreSQL with pg_dump, and see docs/operating.md on restoring.",
    );
  }
  const path = resolve(file);
  const { bytes, takenAtMs, migrations } = await backUpStore(location.sqlitePath, path);
  const takenAt = new Date(takenAtMs).toISOString();
  if (options.json) return printJson({ store: name, file: path, bytes, taken_at: takenAt, migrations });
  printLines(
    `${path} holds ${name} as of ${takenAt}: ${bytes} bytes, checked.`,
    "It opens with the master key that the store has now. Keep that somewhere else: with both, our signing keys can be opened.",
  );
}

export async function runRestore(file: string | undefined, options: RestoreOptions): Promise<void> {
  if ((file === undefined) !== (options.mark === true)) throw new UsageError("give exactly one of FILE and --mark");
  if (file === undefined) return runMark(options);
  const { location, dataDir } = configured();
  if (!("sqlitePath" in location)) {
    throw new Error(
      "a file is for the embedded store, and DATABASE_URL is set; put PostgreSQL back with pg_restore, and then run: cambist restore --mark",
    );
  }
  prepareDataDir(dataDir);
  const storePath = location.sqlitePath;
  const report = await restoreStore({ file, storePath, ignoreReplaced: options.ignoreReplaced === true });
  if (options.json) printJson(restoreAnswer(storePath, report));
  else printLines(...restoreLines(storePath, report));
}

async function runMark(options: RestoreOptions): Promise<void> {
  if (options.ignoreReplaced) throw new UsageError("--ignore-replaced goes with a file");
  const { location, name } = configured();
  const restoredAt = new Date(await markRestored(location)).toISOString();
  if (options.json) return printJson({ store: name, restored_at: restoredAt });
  printLines(
    `${name} is marked as restored at ${restoredAt}: no token that was signed until then is taken by a server that starts from now on.`,
    "Statuses, secrets and keys are those of the backup. Before you start: disable and remove again what was since.",
  );
}
