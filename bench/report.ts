import { cpus } from "node:os";
import type { Round } from "./contender.ts";
import { median } from "./load.ts";
import type { Options } from "./options.ts";

export interface Figures {
  readonly rounds: { readonly yardstick: readonly Round[]; readonly exchange: readonly Round[]; readonly compare?: readonly Round[] };
  readonly halfLoad: (Round & { readonly scheduledPerSecond: number }) | undefined;
  readonly memoryMb: { readonly rss: number; readonly rssPeak: number };
  readonly readyMs: readonly number[];
  readonly failed: number;
  readonly sample: string | undefined;
}

/** What the bench is judged by. */
const TARGETS = { cpuRatio: 6, halfLoadP99Ms: 50, rssMb: 200, readyMs: 1_000 } as const;

interface Verdict {
  readonly figure: string;
  readonly measured: string;
  readonly target: string;
  readonly met: boolean;
}

/** The exchange's cost in units of the yardstick's, round by round: what slows the machine down slows both. */
function cpuRatios(of: readonly Round[], yardstick: readonly Round[]): number[] {
  return of.map((round, n) => round.cpuMicrosPerRequest / (yardstick[n]?.cpuMicrosPerRequest ?? Number.NaN));
}

function verdicts({ rounds, halfLoad, memoryMb, readyMs }: Figures): Verdict[] {
  const ratios = cpuRatios(rounds.exchange, rounds.yardstick);
  const ratio = median(ratios);
  const out: Verdict[] = [
    {
      figure: "CPU per request, exchange ÷ yardstick",
      measured: `${ratio.toFixed(2)} (${range(ratios, 2)})`,
      target: `≤ ${TARGETS.cpuRatio}`,
      met: ratio <= TARGETS.cpuRatio,
    },
  ];
  if (halfLoad !== undefined) {
    const figure = `p99 at half load, ${Math.round(halfLoad.scheduledPerSecond)} req/s`;
    const met = halfLoad.p99Ms <= TARGETS.halfLoadP99Ms;
    out.push({ figure, measured: `${halfLoad.p99Ms.toFixed(1)} ms`, target: `≤ ${TARGETS.halfLoadP99Ms} ms`, met });
  }
  const memory = `${memoryMb.rss.toFixed(0)} MB (peak ${memoryMb.rssPeak.toFixed(0)})`;
  out.push({ figure: "RSS after all load", measured: memory, target: `≤ ${TARGETS.rssMb} MB`, met: memoryMb.rss <= TARGETS.rssMb });
  if (readyMs.length > 0) {
    const ready = median(readyMs);
    const measured = `${(ready / 1000).toFixed(2)} s (${range(readyMs, 0)} ms)`;
    out.push({ figure: "ready after a start on this data", measured, target: "≤ 1 s", met: ready <= TARGETS.readyMs });
  }
  return out;
}

export function renderJson(options: Options, figures: Figures): string {
  const ratios = cpuRatios(figures.rounds.exchange, figures.rounds.yardstick);
  return `${JSON.stringify({ machine: machine(), options, verdicts: verdicts(figures), cpuRatios: ratios, ...figures }, null, 2)}\n`;
}

/** Markdown, so that it can be put into a document as it is. */
export function renderTables(figures: Figures): string {
  const { rounds, failed } = figures;
  const load = [
    ["medians of the rounds", "req/s", "CPU µs/request", "core busy", "p50 ms", "p99 ms"],
    loadRow("yardstick: node:http, a form in, a little JSON out", rounds.yardstick),
    loadRow("exchange", rounds.exchange),
    ...(rounds.compare ? [loadRow("exchange of the compared tree", rounds.compare)] : []),
  ];
  const targets = [
    ["figure", "measured", "target", ""],
    ...verdicts(figures).map(({ figure, measured, target, met }) => [figure, measured, target, met ? "met" : "MISSED"]),
  ];
  const lines = [machine(), "", table(load), "", table(targets), "", `${failed} answers other than 200.`];
  if (rounds.compare) {
    const compared = median(cpuRatios(rounds.compare, rounds.yardstick));
    const saved = median(rounds.compare.map((round, n) => round.cpuMicrosPerRequest / (rounds.exchange[n]?.cpuMicrosPerRequest ?? 0)));
    lines.push(`Compared tree: ${compared.toFixed(2)} × yardstick, ${saved.toFixed(3)} × the exchange of this tree (CPU per request).`);
  }
  return `${lines.join("\n")}\n`;
}

function loadRow(name: string, rounds: readonly Round[]): string[] {
  const of = (figure: (round: Round) => number, digits: number) => median(rounds.map(figure)).toFixed(digits);
  return [
    name,
    of((round) => round.requestsPerSecond, 0),
    of((round) => round.cpuMicrosPerRequest, 1),
    `${of((round) => round.busy * 100, 0)} %`,
    of((round) => round.p50Ms, 1),
    of((round) => round.p99Ms, 1),
  ];
}

function range(values: readonly number[], digits: number): string {
  return `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`;
}

export function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  return [head, head.map(() => "---"), ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

export function machine(): string {
  const store = process.env["DATABASE_URL"] ? "PostgreSQL (DATABASE_URL; its own CPU is not counted)" : "embedded store (SQLite)";
  const [first] = cpus();
  return `${first?.model.trim() ?? "unknown CPU"}, ${cpus().length} cores, Node ${process.versions.node}, ${store}, ${new Date().toISOString().slice(0, 16)}Z`;
}
