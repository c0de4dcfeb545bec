import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { get } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Each on a core of its own: the two never take time from one another. */
const SERVER_CORE = "0";
const LOADER_CORE = "1";

const READY_MS_MAX = 30_000;
const POLL_MS = 5;
const STOP_MS_MAX = 12_000;

export interface ServerCommand {
  readonly args: readonly string[];
  readonly port: number;
  readonly environment: Readonly<Record<string, string>>;
  /** Where standard output and standard error go. */
  readonly outputPath: string;
  readonly readyPath: string;
}

/** A server in a process of its own, pinned to its core. */
export class ServerProcess {
  private static readonly running = new Set<ServerProcess>();
  private readonly child: ChildProcess;
  private readonly exited: Promise<void>;
  readonly pid: number;

  private constructor(child: ChildProcess, pid: number) {
    this.child = child;
    this.pid = pid;
    this.exited = new Promise((resolve) => {
      child.once("exit", () => {
        ServerProcess.running.delete(this);
        resolve();
      });
    });
    ServerProcess.running.add(this);
  }

  /** Resolves when `readyPath` answers 200, with the milliseconds since the process was asked for. */
  static async start(command: ServerCommand): Promise<{ readonly server: ServerProcess; readonly readyMs: number }> {
    const output = openSync(command.outputPath, "a");
    const env = { ...inherited("PATH", "HOME", "TMPDIR", "LANG"), ...command.environment, PORT: String(command.port) };
    const began = performance.now();
    // taskset becomes the server (execve), so that its pid is the server's
    const child = spawn("taskset", ["-c", SERVER_CORE, process.execPath, ...command.args], { env, stdio: ["ignore", output, output] });
    closeSync(output);
    if (child.pid === undefined) throw new Error("taskset could not be started; it is part of util-linux");
    const server = new ServerProcess(child, child.pid);
    while (!(await answers(command.port, command.readyPath))) {
      if (child.exitCode !== null || performance.now() - began > READY_MS_MAX) {
        throw new Error(`the server did not get ready:\n${readFileSync(command.outputPath, "utf8").slice(-2_000)}`);
      }
      await sleep(POLL_MS);
    }
    return { server, readyMs: performance.now() - began };
  }

  /** CPU time of all its threads so far: what the scheduler counted, in nanoseconds and not in ticks of 10 ms. */
  cpuMs(): number {
    let nanoseconds = 0;
    for (const thread of readdirSync(`/proc/${this.pid}/task`)) {
      nanoseconds += Number(readFileSync(`/proc/${this.pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    }
    return nanoseconds / 1e6;
  }

  memoryMb(): { readonly rss: number; readonly rssPeak: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
    const megabytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) / 1024;
    return { rss: megabytes("VmRSS"), rssPeak: megabytes("VmHWM") };
  }

  async stop(): Promise<void> {
    this.child.kill("SIGTERM");
    const cutOff = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS_MAX);
    await this.exited;
    clearTimeout(cutOff);
  }

  /** The last resort of a bench that ends early. Only what was started here, by its pid. */
  static killAll(): void {
    for (const server of ServerProcess.running) server.child.kill("SIGKILL");
  }
}

function inherited(...names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
}

function answers(port: number, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ port, path, host: "127.0.0.1", agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on("error", () => resolve(false));
  });
}

/** @throws where the machine cannot do it; without a core of its own for each, the figures would mean nothing. */
export function pinLoader(): void {
  try {
    execFileSync("taskset", ["-a", "-p", "-c", LOADER_CORE, String(process.pid)], { stdio: ["ignore", "ignore", "pipe"] });
  } catch (cause) {
    throw new Error("this bench needs Linux, taskset (util-linux) and the cores 0 and 1", { cause });
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
