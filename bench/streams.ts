import { mkdirSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { postgresDatabase, sqliteDatabase } from "./accounts-database.ts";
import { median } from "./load.ts";
import { table } from "./report.ts";
import { type BenchOptions, progress, runBench } from "./run-bench.ts";
import { StreamsHome } from "./streams-home.ts";
import { type IdleFigures, type Latencies, measureFirst, measureIdle, measurePaced, type PacedFigures } from "./streams-measures.ts";
import { measurePages, type PageFigures } from "./streams-pages.ts";
import { measureRate, type RateFigures, type RateRound } from "./streams-rate.ts";

const NUMBERS = {
  idle: [5_000, "open streams of which nothing comes"],
  "idle-seconds": [30, "over which the CPU of the idle server is read"],
  paced: [1_000, "answers at once, 10 chunks a second each"],
  "paced-seconds": [20, "which each of them takes"],
  sends: [200, "messages of which the first event is waited for"],
  connections: [200, "streams whose events come as fast as they are taken"],
  events: [2_000, "of each of them in a round"],
  rounds: [5, "in turns, of events per second and of pages"],
} as const;

const KILOBYTES_MAX = 30;
const PACED_P99_MS_MAX = 500;
const FIRST_MS_MAX = 50;
const RATE_SHARE_MIN = 0.5;
const PAGE_RATIO_MAX = 1.2;

type Options = BenchOptions<typeof NUMBERS>;

interface Figures {
  readonly first?: Latencies;
  readonly pages?: readonly PageFigures[];
  readonly rate?: RateFigures;
  readonly paced?: PacedFigures;
  readonly idle?: IdleFigures;
}

const verdict = (isMet: boolean) => (isMet ? "met" : "MISSED");
const ms = (value: number) => value.toFixed(1);
const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

type Measure = (home: StreamsHome, options: Options, at: { readonly folder: string; readonly database: Database }) => Promise<Figures>;
type Database = ReturnType<typeof sqliteDatabase>;

/** Each on a server and a store of its own. */
const MEASURES: Readonly<Record<keyof Figures, Measure>> = {
  first: async (home, { numbers }) => ({ first: await measureFirst(home, numbers.sends) }),
  pages: async (home, { numbers }, { database }) => ({ pages: await measurePages(home, database, numbers.rounds) }),
  rate: async (home, { numbers }, { folder }) => ({ rate: await measureRate(home, folder, numbers) }),
  paced: async (home, { numbers }) => ({ paced: await measurePaced(home, numbers.paced, numbers["paced-seconds"]) }),
  idle: async (home, { numbers }) => ({ idle: await measureIdle(home, numbers.idle, numbers["idle-seconds"]) }),
};

async function bench(options: Options, folder: string): Promise<Figures> {
  const figures: Figures[] = [];
  for (const [name, measure] of Object.entries(MEASURES)) {
    if (options.only !== undefined && options.only !== name) continue;
    progress(name);
    const own = join(folder, name);
    mkdirSync(join(own, "data"), { recursive: true });
    const database = options.database === "postgres" ? await postgresDatabase(join(own, "postgres")) : sqliteDatabase(join(own, "data"));
    const profile = options.cpuProfile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${join(options.cpuProfile, name)}`];
    const home = await StreamsHome.open(own, database.environment, ["--expose-gc", ...profile]);
    figures.push(await measure(home, options, { folder: own, database }));
    await home.stop();
    await database.stop();
  }
  return Object.assign({}, ...figures) as Figures;
}

function targets({ first, pages = [], paced, idle, rate }: Figures): string[][] {
  const rows: string[][] = [["figure", "measured", "target", ""]];
  const add = (figure: string, measured: string, target: string, isMet: boolean) => rows.push([figure, measured, target, verdict(isMet)]);
  if (idle) {
    const cpu = `${(100 * idle.busy).toFixed(1)} % of a core, ${(100 * idle.busyBefore).toFixed(1)} before`;
    const { kilobytes, streams } = idle;
    add(`memory of an open stream, ${streams} of them (${cpu})`, `${kilobytes.toFixed(1)} KB`, "≤ 30 KB", kilobytes <= KILOBYTES_MAX);
  }
  if (paced) {
    const load = `${paced.streams} answers at once, ${paced.perSecond.toFixed(0)} chunks/s, core ${percent(paced.busy)} busy, loader ${percent(paced.loaderBusy)}`;
    const measured = `p50 ${ms(paced.p50Ms)}, p99 ${ms(paced.p99Ms)}, longest ${ms(paced.maxMs)} ms`;
    add(`from the agent to the reader: ${load}`, measured, "p99 ≤ 500 ms", paced.p99Ms <= PACED_P99_MS_MAX);
  }
  if (first) {
    const measured = `p50 ${ms(first.p50Ms)}, p99 ${ms(first.p99Ms)}, longest ${ms(first.maxMs)} ms`;
    add("from Send to the first event, at rest", measured, "p99 ≤ 50 ms", first.p99Ms <= FIRST_MS_MAX);
  }
  for (const way of rate ? (["turns", "loop"] as const) : []) {
    const shares = rate!.ours.map(({ perSecond }, n) => perSecond / (rate![way][n]?.perSecond ?? Number.NaN));
    add(`events per second ÷ the bare server's, ${way}`, spread(shares), "≥ 0.5", median(shares) >= RATE_SHARE_MIN);
  }
  for (const { name, small, large } of pages) {
    const ratios = large.map((cost, n) => cost / (small[n] ?? Number.NaN));
    const cost = `${median(small).toFixed(0)} and ${median(large).toFixed(0)} µs`;
    add(`a page of 100,000 messages ÷ of 100: ${name} (${cost})`, spread(ratios), "≤ 1.2", median(ratios) <= PAGE_RATIO_MAX);
  }
  return rows;
}

function spread(values: readonly number[]): string {
  return `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`;
}

function rateTable({ rate }: Figures): string {
  if (rate === undefined) return "";
  const row = (name: string, rounds: readonly RateRound[]) => [
    name,
    median(rounds.map(({ perSecond }) => perSecond)).toFixed(0),
    median(rounds.map(({ cpuMicrosPerEvent }) => cpuMicrosPerEvent)).toFixed(1),
    percent(median(rounds.map(({ busy }) => busy))),
    percent(median(rounds.map(({ loaderBusy }) => loaderBusy))),
  ];
  const head = ["medians of the rounds", "events/s", "CPU µs/event", "core busy", "loader busy"];
  const rows = [head, row("bare, turns", rate.turns), row("bare, loop", rate.loop), row("ours", rate.ours)];
  return `${table(rows)}\n\n`;
}

function renderTables(figures: Figures, { database }: Options): string {
  const machine = `${cpus()[0]?.model.trim()}, ${cpus().length} cores, Node ${process.versions.node}, ${database}, ${new Date().toISOString().slice(0, 16)}Z`;
  return `${machine}\n\n${rateTable(figures)}${table(targets(figures))}\n`;
}

/** What streams of threads cost. What is measured and how: README.md. */
await runBench(
  "bench:streams",
  NUMBERS,
  async (options, folder) => {
    const figures = await bench(options, folder);
    const text = options.json ? `${JSON.stringify({ options, ...figures }, null, 2)}\n` : renderTables(figures, options);
    return { text, exitCode: 0 };
  },
  Object.keys(MEASURES),
);
