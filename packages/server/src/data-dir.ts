import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "./config.ts";

export const DATABASE_FILE = "cambist.db";

/** What it holds is its owner's alone: a folder of somebody else's making keeps its mode, and every file in it is closed to others. */
export function prepareDataDir(dataDir: string): void {
  inDataDir(dataDir, () => mkdirSync(dataDir, { recursive: true, mode: 0o700 }));
}

/** Gives the path. SQLite gives the files beside it the mode of this one. */
export function prepareDatabaseFile(dataDir: string): string {
  prepareDataDir(dataDir);
  const path = join(dataDir, DATABASE_FILE);
  if (!existsSync(path)) inDataDir(dataDir, () => writeFileSync(path, "", { mode: 0o600, flag: "wx" }));
  return path;
}

function inDataDir(dataDir: string, work: () => void): void {
  try {
    work();
  } catch (thrown) {
    throw new ConfigError([`CAMBIST_DATA_DIR: ${dataDir} cannot be used (${thrown instanceof Error ? thrown.message : String(thrown)}).`]);
  }
}
