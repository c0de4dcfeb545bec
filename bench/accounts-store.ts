import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type BenchDatabase, postgresDatabase, sqliteDatabase } from "./accounts-database.ts";
import { closedLoop } from "./accounts-load.ts";
import type { Database } from "./accounts-options.ts";
import { type DemoPartner, PartnerRequests } from "./accounts-requests.ts";
import { type Holding, seed, type Size } from "./accounts-seed.ts";
import { root, type Round } from "./contender.ts";
import { freePort, type ServerCommand, ServerProcess } from "./server-process.ts";

interface Parts {
  readonly command: ServerCommand;
  readonly dataDir: string;
  readonly database: BenchDatabase;
  readonly demo: DemoPartner;
  readonly seedSeconds: number;
}

/** A sandbox, settings as by default, on a database that was filled while it was stopped. */
export class SeededStore {
  private readonly parts: Parts;
  private server: ServerProcess;

  private constructor(parts: Parts, server: ServerProcess) {
    this.parts = parts;
    this.server = server;
  }

  /** The demo partner gets the first holding. */
  static async open(kind: Database, folder: string, [own, ...others]: readonly [Size, ...Holding[]]): Promise<SeededStore> {
    const dataDir = join(folder, "data");
    mkdirSync(dataDir, { recursive: true });
    const database = kind === "sqlite" ? sqliteDatabase(dataDir) : await postgresDatabase(join(folder, "postgres"));
    const command = {
      args: [join(root, "packages", "server", "bin", "cambist.js"), "sandbox"],
      port: await freePort(),
      environment: { CAMBIST_DATA_DIR: dataDir, CAMBIST_LOG_LEVEL: "info", ...database.environment },
      outputPath: join(folder, "server.log"),
      readyPath: "/readyz",
    };
    // the first start makes the schema, the demo partner and its keys
    const first = await ServerProcess.start(command);
    const demo = await readDemoPartner(dataDir);
    await first.server.stop();
    const began = performance.now();
    await database.fill((writer) => seed(writer, { ...own, clientId: demo.clientId }, others));
    const seedSeconds = (performance.now() - began) / 1000;
    const { server } = await ServerProcess.start(command);
    return new SeededStore({ command, dataDir, database, demo, seedSeconds }, server);
  }

  get seedSeconds(): number {
    return this.parts.seedSeconds;
  }

  requestsOf(holding: Size | Holding): PartnerRequests {
    const { command, dataDir, demo } = this.parts;
    const partner = { ...demo, clientId: "clientId" in holding ? holding.clientId : demo.clientId };
    return new PartnerRequests(command.port, dataDir, partner, { ...holding, clientId: partner.clientId });
  }

  /** Loads the server and reads what that cost it, and its database where that is a process of its own. */
  async measure(connections: number, requests: readonly Buffer[]): Promise<Round> {
    const { command, database } = this.parts;
    const { server } = this;
    const readings: { server: number; database: Map<number, number> }[] = [];
    const read = () => void readings.push({ server: server.cpuMs(), database: database.cpuMs() });
    const outcome = await closedLoop(command.port, connections, requests, read);
    const [before, after] = readings as [(typeof readings)[number], (typeof readings)[number]];
    let cpuMs = after.server - before.server;
    for (const [pid, ms] of after.database) cpuMs += ms - (before.database.get(pid) ?? 0);
    const cost = { cpuMicrosPerRequest: (cpuMs * 1000) / requests.length, busy: cpuMs / 1000 / outcome.seconds };
    return { ...outcome, ...cost, rssMb: server.memoryMb().rss };
  }

  /** A process that has done nothing yet: what came before has left its mark on the heap of the old one, and on its compiled code. */
  async restart(): Promise<void> {
    await this.server.stop();
    this.server = (await ServerProcess.start(this.parts.command)).server;
  }

  async size(): Promise<{ readonly storeMb: number; readonly rssMb: number }> {
    return { storeMb: await this.parts.database.megabytes(), rssMb: this.server.memoryMb().rss };
  }

  async stop(): Promise<void> {
    await this.server.stop();
    await this.parts.database.stop();
  }
}

/** Written after the server is ready. */
async function readDemoPartner(dataDir: string): Promise<DemoPartner> {
  for (let tries = 200; ; tries--) {
    try {
      return JSON.parse(readFileSync(join(dataDir, "demo-partner.json"), "utf8")) as DemoPartner;
    } catch (thrown) {
      if (tries === 0) throw thrown;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
