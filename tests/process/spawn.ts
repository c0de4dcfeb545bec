import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "../house/import-graph.ts";

const CLI = join(root, "packages/server/bin/cambist.js");
const READY_MS_MAX = 15_000;

/** The real process, as an operator starts it. */
export interface ServerProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** Everything it has printed. */
  output(): string;
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

/** Runs a command of the CLI to its end. */
export async function runCli(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number | NodeJS.Signals; output: string }> {
  const process = startProcess(args, env, "");
  return { code: await process.exited, output: process.output() };
}

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
    if (ready) return server;
    await sleep(20);
  }
  server.signal("SIGKILL");
  throw new Error(`the server did not become ready (${code ?? "still running"}):\n${server.output()}`);
}

function startProcess(args: readonly string[], env: Record<string, string>, url: string): ServerProcess {
  const { PATH = "", HOME = "", LANG = "" } = process.env;
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd: root,
    env: { PATH, HOME, LANG, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const exited = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? signal ?? "SIGKILL"));
  });
  return { url, child, output: () => output, signal: (signal) => void child.kill(signal), exited };
}
