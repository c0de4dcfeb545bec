import { chownSync, existsSync, linkSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { carryOver, type Withdrawals } from "./carry-over.ts";
import { sqliteDialect } from "./dialects/sqlite.ts";
import { migrate, MIGRATION_NAMES } from "./migrate.ts";
import { makePrivateFile, requireDatabaseFile, StoreFileError, StoreFiles, StoreInUse, syncToDisk } from "./store-file.ts";

export interface RestoreRequest {
  readonly file: string;
  readonly storePath: string;
  /** Goes on where the store in place cannot be read: what it had withdrawn comes back then. */
  readonly ignoreReplaced: boolean;
}

export interface RestoreReport {
  /** Nothing that was signed until then is taken. */
  readonly restoredAtMs: number;
  /** Where the store that was in place is now. */
  readonly replaced: string | undefined;
  /** What the backup's schema lacked. */
  readonly migrated: readonly string[];
  /** Absent where no replaced store could be read. */
  readonly withdrawals: Withdrawals | undefined;
}

/**
 * Puts a backup in the place of the store, which no server may use meanwhile. All is made ready beside it, and one rename puts it in
 * place: whatever fails, or ends the process, leaves the store that was there.
 * @throws StoreFileError
 */
export async function restoreStore(request: RestoreRequest): Promise<RestoreReport> {
  const file = resolve(request.file);
  requireBackup(file, request.storePath);
  const files = await StoreFiles.open();
  try {
    const replaced = attachReplaced(files, request);
    const folder = mkdtempSync(join(dirname(request.storePath), "restoring-"));
    try {
      const draft = join(folder, "draft.db");
      const migrated = await makeDraft(files, file, draft);
      files.attach(draft, "restored");
      const settled = settle(files, replaced === "readable");
      const ready = join(folder, "ready.db");
      makePrivateFile(ready);
      files.copy("restored", ready);
      files.detach("restored");
      files.attach(ready, "restored");
      files.verify("restored");
      files.detach("restored");
      giveToOwner(ready, replaced === "absent" ? dirname(request.storePath) : request.storePath);
      syncToDisk(ready);
      return { ...settled, migrated, replaced: putInPlace(ready, request.storePath) };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  } finally {
    files.close();
  }
}

function requireBackup(file: string, storePath: string): void {
  requireDatabaseFile(file);
  if (existsSync(storePath) && isSameFile(file, storePath)) throw new StoreFileError(`${file} is the store itself, not a backup of it.`);
  // the latest commits are in the log, and a server may be at work on it
  if (existsSync(`${file}-wal`) && statSync(`${file}-wal`).size > 0) {
    throw new StoreFileError(
      `${file} is a store in use, or a copy of one: ${file}-wal belongs to it. Make a backup with \`cambist backup\`.`,
    );
  }
}

function isSameFile(a: string, b: string): boolean {
  const [one, other] = [statSync(a), statSync(b)];
  return one.dev === other.dev && one.ino === other.ino;
}

/** Locked until the end, so that no server starts on it. */
function attachReplaced(files: StoreFiles, { storePath, ignoreReplaced }: RestoreRequest): "readable" | "unreadable" | "absent" {
  if (!existsSync(storePath)) return "absent";
  try {
    files.attach(storePath, "replaced");
    files.lock("replaced");
    if (!ignoreReplaced) files.verify("replaced");
    return ignoreReplaced ? "unreadable" : "readable";
  } catch (thrown) {
    if (thrown instanceof StoreInUse) throw thrown;
    if (ignoreReplaced) return "unreadable";
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new StoreFileError(
      `The store in place cannot be read, so what was disabled or removed since the backup would come back: ${message} To restore all the same: --ignore-replaced`,
      { cause: thrown },
    );
  }
}

/** A copy of the backup, checked, with the schema of this version. */
async function makeDraft(files: StoreFiles, file: string, draft: string): Promise<string[]> {
  makePrivateFile(draft);
  files.attach(file, "backup");
  const unknown = files.verify("backup").filter((name) => !MIGRATION_NAMES.includes(name));
  if (unknown.length > 0)
    throw new StoreFileError(`${file} was made by a later version, with ${unknown.join(", ")}; restore it with that.`);
  files.copy("backup", draft);
  files.detach("backup");
  files.attach(draft, "draft");
  files.exec("DELETE FROM draft.leases"); // a server that was starting while the backup was taken has long ended
  files.detach("draft");
  const dialect = await sqliteDialect(draft);
  try {
    return await migrate(dialect);
  } finally {
    await dialect.close();
  }
}

/** What makes the draft a restored store, in one transaction. */
function settle(files: StoreFiles, hasReplaced: boolean): Pick<RestoreReport, "restoredAtMs" | "withdrawals"> {
  let withdrawals: Withdrawals | undefined;
  let restoredAtMs = 0;
  files.transaction(() => {
    withdrawals = hasReplaced ? carryOver(files) : undefined;
    files.exec("DELETE FROM restored.partner_jwks"); // as fetched before the backup: the partner may have withdrawn them long since
    // never earlier than it was, whatever the clock says now
    restoredAtMs = Math.max(Date.now(), readRestoredAtMs(files, "restored"), hasReplaced ? readRestoredAtMs(files, "replaced") : 0);
    files.rows(
      "INSERT INTO restored.store_state (name, value) VALUES ('restored_at', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      String(restoredAtMs),
    );
  });
  return { restoredAtMs, withdrawals };
}

function readRestoredAtMs(files: StoreFiles, name: "restored" | "replaced"): number {
  if (!files.migrations(name).includes("0002-partner-jwks")) return 0;
  const [row] = files.rows<{ value: string }>(`SELECT value FROM ${name}.store_state WHERE name = 'restored_at'`);
  return Number(row?.value ?? 0);
}

/** Run by root, as `sudo` does, it would leave a store that the server may not open. */
function giveToOwner(path: string, model: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(model);
  chownSync(path, uid, gid);
}

/**
 * The name of the store stands for the old one or the new one at every moment; a process that is ended half way may leave the old one
 * with its second name. Gives where the old one is now.
 */
function putInPlace(ready: string, storePath: string): string | undefined {
  const kept = `${storePath}.replaced-${new Date().toISOString().replaceAll(":", "-")}`;
  const isReplacing = existsSync(storePath);
  if (isReplacing) linkSync(storePath, kept);
  try {
    // a log that lies beside an unreadable store, or without one, would be played into the new store
    for (const suffix of LOG_SUFFIXES) moveIfThere(storePath + suffix, kept + suffix);
    renameSync(ready, storePath);
    syncToDisk(dirname(storePath));
  } catch (thrown) {
    if (isReplacing) renameSync(kept, storePath);
    rmSync(isReplacing ? kept : storePath, { force: true }); // two names of one file are left by a rename of the one to the other
    for (const suffix of LOG_SUFFIXES) moveIfThere(kept + suffix, storePath + suffix);
    throw thrown;
  }
  return isReplacing ? kept : undefined;
}

const LOG_SUFFIXES = ["-wal", "-shm", "-journal"];

function moveIfThere(from: string, to: string): void {
  if (existsSync(from)) renameSync(from, to);
}
