import { join } from "node:path";
import { postgresDatabase } from "./accounts-database.ts";
import { Contender, root } from "./contender.ts";
import { OpenLoop, type OpenLoopOutcome, type Supply } from "./open-loop.ts";
import { machine, table } from "./report.ts";
import { type BenchOptions, progress, runBench } from "./run-bench.ts";
import { Subjects } from "./subjects.ts";

const NUMBERS = {
  seconds: [5, "length of each open-loop run"],
  "times-max": [3, "loads are offered from 1 to N times the peak"],
  connections: [1500, "of the open loop"],
} as const;

const USERS = 200;
const WARM_UP_REQUESTS = 10_000;
const PEAK_REQUESTS = 20_000;
const PEAK_CONNECTIONS = 64;
/** More than a run can spend: the peak is a mean, and a run may be a little better. */
const SPARE = 1.3;
const TARGETS = { goodput: 0.8, refusedP99Ms: 50, acceptedP99Ms: 250 } as const;

type Options = BenchOptions<typeof NUMBERS>;

interface Figures {
  readonly peakPerSecond: number;
  readonly runs: readonly (OpenLoopOutcome & { readonly times: number; readonly busy: number; readonly rssMb: number })[];
}

async function bench(options: Options, folder: string, databaseUrl: string | undefined): Promise<Figures> {
  const { seconds, connections } = options.numbers;
  const contender = await Contender.exchange("exchange", root, folder, { cpuProfile: options.cpuProfile, databaseUrl });
  const subjects = new Subjects(contender.command.port, contender.dataDir);
  await subjects.createUsers(USERS);
  await contender.measure(PEAK_CONNECTIONS, async (loader) => loader.closedLoop(await subjects.requests(WARM_UP_REQUESTS, () => {})));
  const peak = await contender.measure(PEAK_CONNECTIONS, async (loader) =>
    loader.closedLoop(await subjects.requests(PEAK_REQUESTS, progress)),
  );
  if (peak.failed > 0) throw new Error(`an answer at the peak was not 200:\n${peak.sample}`);
  const peakPerSecond = peak.requestsPerSecond;
  progress(`peak: ${peakPerSecond.toFixed(0)} per second`);
  const runs: Figures["runs"][number][] = [];
  for (let times = 1; times <= options.numbers["times-max"]; times++) {
    const requests = await subjects.requests(Math.ceil(peakPerSecond * seconds * SPARE), progress);
    const supply: Supply = { take: () => requests.pop(), giveBack: (request) => void requests.push(request) };
    const loop = await OpenLoop.open(contender.command.port, connections, contender.command.readyPath);
    progress(`${times} times the peak for ${seconds} s`);
    const beforeMs = contender.cpuMs();
    const outcome = await loop.run(supply, peakPerSecond * times, seconds);
    const busy = (contender.cpuMs() - beforeMs) / 1000 / outcome.seconds;
    loop.close();
    runs.push({ times, ...outcome, busy, rssMb: contender.memoryMb().rss });
  }
  await contender.stop();
  return { peakPerSecond, runs };
}

function renderTables({ peakPerSecond, runs }: Figures): string {
  const rows = runs.map(({ times, accepted, refused, goodputPerSecond, ...run }) => [
    `${times}`,
    `${goodputPerSecond.toFixed(0)} (${((goodputPerSecond / peakPerSecond) * 100).toFixed(0)} %)`,
    `${(refused.share * 100).toFixed(0)} %`,
    milliseconds(accepted.sinceSent.p50Ms, accepted.sinceSent.p99Ms),
    milliseconds(accepted.sinceDue.p50Ms, accepted.sinceDue.p99Ms),
    milliseconds(refused.sinceSent.p50Ms, refused.sinceSent.p99Ms),
    milliseconds(refused.sinceDue.p50Ms, refused.sinceDue.p99Ms),
    `${(run.busy * 100).toFixed(0)} %`,
    `${(run.lateShare * 100).toFixed(1)} %`,
    run.rssMb.toFixed(0),
  ]);
  const head = [
    "× peak",
    "goodput/s (of the peak)",
    "refused",
    "accepted p50, p99 ms since sent",
    "… since due",
    "refused p50, p99 ms since sent",
    "… since due",
    "core busy",
    "sent late",
    "RSS MB",
  ];
  const failed = runs.reduce((sum, run) => sum + run.failed, 0);
  const peak = `Peak: ${peakPerSecond.toFixed(0)} exchanges per second, closed loop, ${PEAK_CONNECTIONS} connections.`;
  return `${machine()}\n\n${peak}\n\n${table([head, ...rows])}\n\n${verdict(peakPerSecond, runs)}\n${failed} other answers.\n`;
}

function verdict(peakPerSecond: number, runs: Figures["runs"]): string {
  const over = runs.filter(({ times }) => times > 1);
  if (over.length === 0) return "";
  const goodput = Math.min(...over.map((run) => run.goodputPerSecond / peakPerSecond));
  const refused = Math.max(...over.map((run) => run.refused.sinceDue.p99Ms || 0));
  const accepted = Math.max(...over.map((run) => run.accepted.sinceDue.p99Ms));
  const met = (ok: boolean) => (ok ? "met" : "MISSED");
  return table([
    ["past the peak, worst run, since due", "measured", "target", ""],
    ["goodput ÷ peak", goodput.toFixed(2), `≥ ${TARGETS.goodput}`, met(goodput >= TARGETS.goodput)],
    ["p99 of what is refused", `${refused.toFixed(1)} ms`, `≤ ${TARGETS.refusedP99Ms} ms`, met(refused <= TARGETS.refusedP99Ms)],
    ["p99 of what is accepted", `${accepted.toFixed(1)} ms`, `≤ ${TARGETS.acceptedP99Ms} ms`, met(accepted <= TARGETS.acceptedP99Ms)],
  ]);
}

function milliseconds(p50: number, p99: number): string {
  return Number.isNaN(p50) ? "none" : `${p50.toFixed(1)}, ${p99.toFixed(1)}`;
}

/** What becomes of requests past the server's capacity. What is measured and how: README.md. */
await runBench("bench:overload", NUMBERS, async (options, folder) => {
  const database = options.database === "postgres" ? await postgresDatabase(join(folder, "postgres")) : undefined;
  const figures = await bench(options, folder, database?.environment["DATABASE_URL"]);
  await database?.stop();
  const sample = figures.runs.find((run) => run.sample !== undefined)?.sample;
  if (sample !== undefined) progress(`one of the other answers:\n${sample}`);
  const text = options.json ? `${JSON.stringify({ options, ...figures }, null, 2)}\n` : renderTables(figures);
  return { text, exitCode: sample === undefined ? 0 : 1 };
});
