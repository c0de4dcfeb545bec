import { chmodSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";

/** Of Linux, where files are in memory. */
const MEMORY = "/dev/shm";
/** What all stores of a run take is a tenth of it; in a container there may be 64 MB. */
const FREE_BYTES_MIN = 4 * 1024 ** 3;

/**
 * Where there is room in memory, the run keeps its temporary files there: a disk makes each commit wait, for a third of the whole time. Nothing is lost
 * by it: no power cut is tested, and what a killed process has written is there in either case.
 */
export default function useMemory(): (() => void) | undefined {
  if (freeBytes() < FREE_BYTES_MIN) return undefined;
  const folder = mkdtempSync(join(MEMORY, "cambist-tests-"));
  chmodSync(folder, 0o711); // PostgreSQL, which is another user where we are root, has its folder in it
  process.env["TMPDIR"] = folder; // which the workers inherit
  return () => rmSync(folder, { recursive: true, force: true });
}

function freeBytes(): number {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize;
  } catch {
    return 0; // another system
  }
}
