import { cpus } from "node:os";
import type { AccountsOptions, Database } from "./accounts-options.ts";
import type { Round } from "./contender.ts";
import { median } from "./load.ts";

/** Of the large store: one of the many, and the one with half of all users. */
export const PARTNERS_MEASURED = ["typical", "largest"] as const;
export type Partner = (typeof PARTNERS_MEASURED)[number];

/** A round on the small store and one on the large, one right after the other. */
export interface Pair {
  readonly small: Round;
  readonly large: Round;
}

export interface Measured {
  readonly measure: string;
  readonly pairs: Readonly<Record<Partner, readonly Pair[]>>;
}

export interface StoreFigures {
  readonly seedSeconds: number;
  readonly storeMb: number;
  readonly rssMb: number;
}

export interface DatabaseFigures {
  readonly database: Database;
  readonly users: Readonly<Record<"small" | Partner, number>>;
  readonly measured: readonly Measured[];
  readonly stores: Readonly<Record<"small" | "large", StoreFigures>>;
}

/** At a million users beside a thousand. */
const RATIO_MAX = 1.2;

/** Pair by pair: what slows the machine down slows both. */
function ratios({ pairs }: Measured, partner: Partner): number[] {
  return pairs[partner].map(({ small, large }) => large.cpuMicrosPerRequest / small.cpuMicrosPerRequest);
}

/** Of the small store, and of each partner of the large one. */
function columns({ pairs }: Measured): readonly (readonly Round[])[] {
  const { typical, largest } = pairs;
  return [[...typical, ...largest].map(({ small }) => small), typical.map(({ large }) => large), largest.map(({ large }) => large)];
}

export function failuresOf(figures: readonly DatabaseFigures[]): { readonly failed: number; readonly sample: string | undefined } {
  const rounds = figures.flatMap(({ measured }) => measured.flatMap((one) => columns(one).flat()));
  return {
    failed: rounds.reduce((sum, round) => sum + round.failed, 0),
    sample: rounds.find((round) => round.sample !== undefined)?.sample,
  };
}

export function renderJson(options: AccountsOptions, figures: readonly DatabaseFigures[]): string {
  const judged = figures.map((one) => ({
    ...one,
    ratios: one.measured.map((measured) => ({
      measure: measured.measure,
      typical: median(ratios(measured, "typical")),
      largest: median(ratios(measured, "largest")),
    })),
  }));
  return `${JSON.stringify({ machine: machine(), options, target: RATIO_MAX, databases: judged }, null, 2)}\n`;
}

/** Markdown, so that it can be put into a document as it is. */
export function renderTables(figures: readonly DatabaseFigures[]): string {
  const lines = [machine(), ""];
  for (const one of figures) {
    const { small, typical, largest } = one.users;
    const counts = `${small} · ${typical} · ${largest}`;
    lines.push(`${one.database === "sqlite" ? "SQLite" : "PostgreSQL (server and database together)"}:`, "");
    lines.push(
      table([
        [
          "CPU µs/request, medians",
          `${small} users in all`,
          `a partner with ${typical} of the million`,
          "÷",
          `with ${largest}`,
          "÷",
          "≤ 1.2",
        ],
        ...one.measured.map(costRow),
      ]),
      "",
      table([[`of ${counts} users`, "req/s", "p50 ms", "p99 ms", "core busy"], ...one.measured.map(speedRow)]),
      "",
      `${storeLine("small", one.stores.small)}; ${storeLine("large", one.stores.large)}.`,
      "",
    );
  }
  lines.push(`${failuresOf(figures).failed} answers other than 2xx.`);
  return `${lines.join("\n")}\n`;
}

function costRow(measured: Measured): string[] {
  const [small = "", ...large] = columns(measured).map((rounds) => median(rounds.map((round) => round.cpuMicrosPerRequest)).toFixed(0));
  const judged = PARTNERS_MEASURED.map((partner) => ratios(measured, partner));
  const cells = judged.flatMap((values, n) => [large[n] ?? "", `${median(values).toFixed(2)} (${range(values)})`]);
  const met = judged.every((values) => median(values) <= RATIO_MAX);
  return [measured.measure, small, ...cells, met ? "met" : "MISSED"];
}

function speedRow(measured: Measured): string[] {
  const of = (figure: (round: Round) => number, digits: number) =>
    columns(measured)
      .map((rounds) => median(rounds.map(figure)).toFixed(digits))
      .join(" · ");
  return [
    measured.measure,
    of((round) => round.requestsPerSecond, 0),
    of((round) => round.p50Ms, 1),
    of((round) => round.p99Ms, 1),
    of((round) => round.busy * 100, 0),
  ];
}

function storeLine(name: string, { seedSeconds, storeMb, rssMb }: StoreFigures): string {
  return `${name} store: ${storeMb.toFixed(0)} MB at the end, seeded in ${seedSeconds.toFixed(1)} s, RSS of its server ${rssMb.toFixed(0)} MB`;
}

function range(values: readonly number[]): string {
  return `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
}

function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  return [head, head.map(() => "---"), ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function machine(): string {
  const [first] = cpus();
  const now = new Date().toISOString().slice(0, 16);
  return `${first?.model.trim() ?? "unknown CPU"}, ${cpus().length} cores, Node ${process.versions.node}, ${now}Z`;
}
