import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Loader, type Outcome } from "./load.ts";
import { freePort, type ServerCommand, ServerProcess } from "./server-process.ts";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface Round extends Outcome {
  readonly cpuMicrosPerRequest: number;
  /** CPU time ÷ wall time: near 1 where the server was the bottleneck, as it must be. */
  readonly busy: number;
  readonly rssMb: number;
}

export interface ExchangeOptions {
  /** Where it leaves its CPU profile when it stops. */
  readonly cpuProfile?: string | undefined;
  readonly databaseUrl?: string | undefined;
}

/** One of the servers that take turns under load. */
export class Contender {
  readonly name: string;
  readonly command: ServerCommand;
  readonly rounds: Round[] = [];
  readonly dataDir: string;
  private server: ServerProcess;

  private constructor(name: string, command: ServerCommand, dataDir: string, server: ServerProcess) {
    this.name = name;
    this.command = command;
    this.dataDir = dataDir;
    this.server = server;
  }

  static async yardstick(folder: string): Promise<Contender> {
    const script = join(root, "bench", "yardstick.mjs");
    const output = { outputPath: join(folder, "yardstick.log"), readyPath: "/" };
    const command = { args: [script], port: await freePort(), environment: {}, ...output };
    return new Contender("yardstick", command, folder, (await ServerProcess.start(command)).server);
  }

  /** The built server of a tree, as a sandbox in a fresh data folder, with the settings that it has by default. */
  static async exchange(name: string, tree: string, folder: string, more: ExchangeOptions = {}): Promise<Contender> {
    const { cpuProfile, databaseUrl = process.env["DATABASE_URL"] } = more;
    const bin = join(tree, "packages", "server", "bin", "cambist.js");
    if (!existsSync(join(tree, "packages", "server", "dist"))) throw new Error(`${tree} is not built; run npm run build there`);
    const dataDir = join(folder, name);
    mkdirSync(dataDir);
    const command = {
      args: [...(cpuProfile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${cpuProfile}`]), bin, "sandbox"],
      port: await freePort(),
      environment: { CAMBIST_DATA_DIR: dataDir, CAMBIST_LOG_LEVEL: "info", ...(databaseUrl ? { DATABASE_URL: databaseUrl } : {}) },
      outputPath: join(folder, `${name}.log`),
      readyPath: "/readyz",
    };
    return new Contender(name, command, dataDir, (await ServerProcess.start(command)).server);
  }

  /** Loads the server by `run`, over connections of its own, and reads what that cost it. */
  async measure(connections: number, run: (loader: Loader) => Promise<Outcome>): Promise<Round> {
    const loader = await Loader.open(this.command.port, connections, this.command.readyPath);
    try {
      const before = this.server.cpuMs();
      const outcome = await run(loader);
      const cpuMs = this.server.cpuMs() - before;
      const count = outcome.requestsPerSecond * outcome.seconds;
      const cost = { cpuMicrosPerRequest: (cpuMs * 1000) / count, busy: cpuMs / 1000 / outcome.seconds };
      return { ...outcome, ...cost, rssMb: this.memoryMb().rss };
    } finally {
      loader.close();
    }
  }

  /** CPU time so far. */
  cpuMs(): number {
    return this.server.cpuMs();
  }

  memoryMb(): ReturnType<ServerProcess["memoryMb"]> {
    return this.server.memoryMb();
  }

  /** Stops it and starts it again on the same data. Gives the time from spawn to the first 200 of /readyz. */
  async restart(): Promise<number> {
    await this.server.stop();
    const { server, readyMs } = await ServerProcess.start(this.command);
    this.server = server;
    return readyMs;
  }

  stop(): Promise<void> {
    return this.server.stop();
  }
}
