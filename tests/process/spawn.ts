import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "../house/import-graph.ts";

export const CLI = join(root, "packages/server/bin/cambist.js");
const READY_MS_MAX = 30_000;

/** The real process, as an operator starts it. */
export interface ServerProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** Everything it has printed. */
  output(): string;
  stdout(): string;
  stderr(): string;
  signal(signal: NodeJS.Signals): void;
  /** The exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>;
}

export function makeDataDir(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "cambist-data-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

export interface CliResult {
  readonly code: number | NodeJS.Signals;
  readonly output: string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command of the CLI to its end. */
export async function runCli(args: readonly string[], env: Record<string, string> = {}, input = ""): Promise<CliResult> {
  const process = startCli(args, env);
  process.child.stdin?.on("error", () => undefined).end(input); // it may have ended without a look at its input
  const code = await process.exited;
  return { code, output: process.output(), stdout: process.stdout(), stderr: process.stderr() };
}

/** A command of the CLI that may be ended half way. */
export function startCli(args: readonly string[], env: Record<string, string>): ServerProcess {
  return startProcess(args, env, "");
}

/** The sandbox prints its guide once its demo partner is there, which is after it is ready to answer. */
const GUIDE = "# The operator's view";

/** Starts a server and waits until it is ready. */
export async function startServer(command: "sandbox" | "serve", port: number, env: Record<string, string>): Promise<ServerProcess> {
  const server = startProcess([command], { ...env, PORT: String(port) }, `http://127.0.0.1:${port}`);
  const deadline = Date.now() + READY_MS_MAX;
  let code: number | NodeJS.Signals | undefined;
  void server.exited.then((value) => (code = value));
  while (code === undefined && Date.now() < deadline) {
    const ready = await fetch(`${server.url}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready && (command === "serve" || server.stdout().includes(GUIDE))) return server;
    await sleep(20);
  }
  server.signal("SIGKILL");
  throw new Error(`the server did not become ready (${code ?? "still running"}):\n${server.output()}`);
}

/** Nothing of the environment of whoever runs the tests but what every program needs. */
export function ownEnvironment(env: Record<string, string>): Record<string, string> {
  const { PATH = "", HOME = "", LANG = "" } = process.env;
  return { PATH, HOME, LANG, ...env };
}

function startProcess(args: readonly string[], env: Record<string, string>, url: string): ServerProcess {
  const child = spawn(process.execPath, [CLI, ...args], { cwd: root, env: ownEnvironment(env), stdio: "pipe" });
  const printed = { all: "", stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (chunk: Buffer) => {
      printed.all += chunk.toString();
      printed[name] += chunk.toString();
    });
  }
  const exited = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? signal ?? "SIGKILL"));
  });
  return {
    url,
    child,
    output: () => printed.all,
    stdout: () => printed.stdout,
    stderr: () => printed.stderr,
    signal: (signal) => void child.kill(signal),
    exited,
  };
}
