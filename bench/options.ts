import { resolve } from "node:path";
import { parseArgs } from "node:util";

export interface Options {
  readonly requests: number;
  readonly rounds: number;
  readonly warmUp: number;
  readonly users: number;
  readonly connections: number;
  readonly halfLoadSeconds: number;
  readonly starts: number;
  readonly json: boolean;
  /** Another built tree of this repository, measured in the same run. */
  readonly compare: string | undefined;
  /** Where the server under load leaves its CPU profiles. */
  readonly cpuProfile: string | undefined;
}

/** The number that an option has unless told, and what it is. */
const NUMBERS = {
  requests: [10_000, "requests of one round"],
  rounds: [6, "rounds of each server, one after the other in turn"],
  "warm-up": [5_000, "requests before the first round"],
  users: [1_000, "users that the subject tokens name"],
  connections: [64, "keep-alive connections, one request in flight on each"],
  "half-load-seconds": [8, "length of the open-loop run at half the measured rate; 0 leaves it out"],
  starts: [5, "starts on the data folder that the load left; 0 leaves them out"],
} as const satisfies Record<string, readonly [number, string]>;

type NumberName = keyof typeof NUMBERS;

/** @throws an Error whose message is for the person who typed the options. */
export function readOptions(args: readonly string[]): Options | "help" {
  const numbers = Object.keys(NUMBERS) as NumberName[];
  const parsed = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(numbers.map((name) => [name, { type: "string" as const }])),
      json: { type: "boolean", default: false },
      compare: { type: "string" },
      "cpu-prof": { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const values: Readonly<Record<string, string | boolean | undefined>> = parsed.values;
  if (values["help"] === true) return "help";
  const count = (name: NumberName, min: number): number => {
    const given = values[name];
    const value = given === undefined ? NUMBERS[name][0] : Number(given);
    if (!Number.isInteger(value) || value < min) throw new Error(`--${name} must be a whole number of at least ${min}`);
    return value;
  };
  return {
    requests: count("requests", 100),
    rounds: count("rounds", 1),
    warmUp: count("warm-up", 100),
    users: count("users", 1),
    connections: count("connections", 1),
    halfLoadSeconds: count("half-load-seconds", 0),
    starts: count("starts", 0),
    json: values["json"] === true,
    compare: path(values["compare"]),
    cpuProfile: path(values["cpu-prof"]),
  };
}

function path(value: string | boolean | undefined): string | undefined {
  return typeof value === "string" ? resolve(value) : undefined;
}

export const HELP = `Usage: npm run bench -- [options]

${Object.entries(NUMBERS)
  .map(([name, [value, what]]) => `  ${`--${name} N`.padEnd(24)}${what} (${value})`)
  .join("\n")}
  --compare FOLDER        another built tree of this repository, loaded in the same run (embedded store only)
  --cpu-prof FOLDER       have the server write a CPU profile there (slows it down: no figures for the record)
  --json                  print JSON instead of tables
`;
