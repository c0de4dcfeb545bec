import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Contender, root } from "./contender.ts";
import { median, type Outcome } from "./load.ts";
import { HELP, type Options, readOptions } from "./options.ts";
import { type Figures, renderJson, renderTables } from "./report.ts";
import { pinLoader, ServerProcess } from "./server-process.ts";
import { Subjects } from "./subjects.ts";

/** Requests of a yardstick round for one of an exchange round. */
const YARDSTICK_TIMES = 5;

const progress = (line: string) => void process.stderr.write(`bench: ${line}\n`);

interface Supply {
  readonly subjects: Subjects;
  readonly warmUp: readonly Buffer[];
  readonly rounds: readonly Buffer[];
}

/** What a server is loaded with, made before any load. */
async function supply(contender: Contender, options: Options): Promise<Supply> {
  const subjects = new Subjects(contender.command.port, contender.dataDir);
  progress(`${contender.name}: creating ${options.users} users`);
  await subjects.createUsers(options.users);
  const warmUp = await subjects.requests(options.warmUp, progress);
  return { subjects, warmUp, rounds: await subjects.requests(options.requests * options.rounds, progress) };
}

/** Exchanges measured against a bare HTTP server on the same core, in turns. What is measured and how: README.md. */
async function bench(options: Options, folder: string): Promise<Figures> {
  const yardstick = await Contender.yardstick(folder);
  const exchange = await Contender.exchange("exchange", root, folder, { cpuProfile: options.cpuProfile });
  const compared = options.compare === undefined ? [] : [await Contender.exchange("compare", options.compare, folder)];
  const supplies = new Map<Contender, Supply>();
  for (const contender of [exchange, ...compared]) supplies.set(contender, await supply(contender, options));
  const ownSupply = supplies.get(exchange)!;
  const supplyOf = (contender: Contender) => supplies.get(contender) ?? ownSupply;
  const contenders = [yardstick, exchange, ...compared];
  const outcomes: Outcome[] = [];
  const load = async (contender: Contender, requests: readonly Buffer[]) => {
    // the yardstick reads the very forms that the exchange reads, over and over, so that its rounds last about as long
    const own = contender === yardstick ? Array.from({ length: YARDSTICK_TIMES }, () => requests).flat() : requests;
    const round = await contender.measure(options.connections, (loader) => loader.closedLoop(own));
    outcomes.push(round);
    return round;
  };
  for (const contender of contenders) await load(contender, supplyOf(contender).warmUp);
  for (let n = 0; n < options.rounds; n++) {
    progress(`round ${n + 1} of ${options.rounds}`);
    for (const contender of contenders) {
      const requests = supplyOf(contender).rounds.slice(n * options.requests, (n + 1) * options.requests);
      contender.rounds.push(await load(contender, requests));
    }
  }

  const rate = median(exchange.rounds.map((round) => round.requestsPerSecond)) / 2;
  let halfLoad: Figures["halfLoad"];
  if (options.halfLoadSeconds > 0) {
    const requests = await ownSupply.subjects.requests(Math.ceil(rate * options.halfLoadSeconds), progress);
    progress(`half load: ${Math.round(rate)} requests per second`);
    const round = await exchange.measure(options.connections, (loader) => loader.openLoop(requests, rate));
    outcomes.push(round);
    halfLoad = { scheduledPerSecond: rate, ...round };
  }

  const memoryMb = exchange.memoryMb();
  const readyMs: number[] = [];
  for (let n = 0; n < options.starts; n++) {
    progress(`start ${n + 1} of ${options.starts}`);
    readyMs.push(await exchange.restart());
  }
  for (const contender of contenders) await contender.stop();
  const [compare] = compared;
  return {
    rounds: { yardstick: yardstick.rounds, exchange: exchange.rounds, ...(compare ? { compare: compare.rounds } : {}) },
    halfLoad,
    memoryMb,
    readyMs,
    failed: outcomes.reduce((sum, outcome) => sum + outcome.failed, 0),
    sample: outcomes.find((outcome) => outcome.sample !== undefined)?.sample,
  };
}

function optionsOrExit(): Options | "help" {
  try {
    return readOptions(process.argv.slice(2));
  } catch (thrown) {
    progress(`${(thrown as Error).message} (--help lists what there is)`);
    process.exit(2);
  }
}

async function main(): Promise<void> {
  const options = optionsOrExit();
  if (options === "help") {
    process.stdout.write(HELP);
    return;
  }
  if (options.compare !== undefined && process.env["DATABASE_URL"]) {
    throw new Error("--compare needs the embedded store: two data folders cannot share one PostgreSQL database");
  }
  pinLoader();
  const folder = mkdtempSync(join(tmpdir(), "cambist-bench-"));
  process.on("exit", () => {
    ServerProcess.killAll();
    rmSync(folder, { recursive: true, force: true });
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  const figures = await bench(options, folder);
  process.stdout.write(options.json ? renderJson(options, figures) : renderTables(figures));
  if (figures.failed === 0) return;
  progress(`${figures.failed} answers were not 200; one of them:\n${figures.sample}`);
  process.exitCode = 1;
}

try {
  await main();
} catch (thrown) {
  progress(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
  process.exit(1);
}
