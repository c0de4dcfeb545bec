import { randomUUID } from "node:crypto";
import { renameSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { makePrivateFile, requireDatabaseFile, StoreFiles, syncToDisk } from "./store-file.ts";

export interface BackupReport {
  readonly bytes: number;
  /** Everything that was committed before this moment is in it. */
  readonly takenAtMs: number;
  readonly migrations: readonly string[];
}

/**
 * The whole store as of one moment in a new file, while a server goes on using it. Under its name it is whole and checked, or, where
 * the process was ended half way, empty.
 * @throws StoreFileError
 */
export async function backUpStore(storePath: string, file: string): Promise<BackupReport> {
  requireDatabaseFile(storePath);
  const partial = `${file}.partial-${randomUUID()}`;
  makePrivateFile(file);
  const files = await StoreFiles.open();
  try {
    makePrivateFile(partial);
    files.attach(storePath, "live");
    const takenAtMs = Date.now();
    files.copy("live", partial);
    files.attach(partial, "copy");
    const migrations = files.verify("copy");
    files.detach("copy");
    syncToDisk(partial);
    renameSync(partial, file);
    syncToDisk(dirname(file));
    return { bytes: statSync(file).size, takenAtMs, migrations };
  } catch (thrown) {
    for (const path of [partial, file]) rmSync(path, { force: true });
    throw thrown;
  } finally {
    files.close();
  }
}
