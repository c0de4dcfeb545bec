import { parseArgs } from "node:util";

export const DATABASES = ["sqlite", "postgres"] as const;
export type Database = (typeof DATABASES)[number];

export interface AccountsOptions {
  readonly databases: readonly Database[];
  readonly requests: number;
  readonly starts: number;
  readonly rounds: number;
  readonly warmUp: number;
  readonly connections: number;
  /** Users of the large store. */
  readonly users: number;
  /** Measure those alone whose name has this text in it. */
  readonly only: string;
  readonly json: boolean;
}

/** The number that an option has unless told, and what it is. */
const NUMBERS = {
  requests: [2_000, "requests of one round; a page of 200 counts for five"],
  starts: [2, "fresh starts of both servers for each measure"],
  rounds: [3, "rounds after each start, the stores in turns"],
  "warm-up": [2_000, "requests before the first of these rounds, counted likewise"],
  connections: [32, "keep-alive connections, one request in flight on each"],
  users: [1_000_000, "users of the large store"],
} as const satisfies Record<string, readonly [number, string]>;

type NumberName = keyof typeof NUMBERS;

/** @throws an Error whose message is for the person who typed the options. */
export function readOptions(args: readonly string[]): AccountsOptions | "help" {
  const numbers = Object.keys(NUMBERS) as NumberName[];
  const parsed = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(numbers.map((name) => [name, { type: "string" as const }])),
      database: { type: "string", default: "both" },
      only: { type: "string", default: "" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const values: Readonly<Record<string, string | boolean | undefined>> = parsed.values;
  if (values["help"] === true) return "help";
  const count = (name: NumberName, min: number): number => {
    const value = Number(values[name] ?? NUMBERS[name][0]);
    if (!Number.isInteger(value) || value < min) throw new Error(`--${name} must be a whole number of at least ${min}`);
    return value;
  };
  const databases = DATABASES.filter((name) => ["both", name].includes(String(values["database"])));
  if (databases.length === 0) throw new Error(`--database must be ${DATABASES.join(", ")} or both`);
  return {
    databases,
    requests: count("requests", 100),
    starts: count("starts", 1),
    rounds: count("rounds", 1),
    warmUp: count("warm-up", 100),
    connections: count("connections", 16), // fewer would leave the grouped commit nothing to group
    users: count("users", 600_000),
    only: String(values["only"]),
    json: values["json"] === true,
  };
}

export const HELP = `Usage: npm run bench:accounts -- [options]

  --database NAME         sqlite, postgres or both (both)
${Object.entries(NUMBERS)
  .map(([name, [value, what]]) => `  ${`--${name} N`.padEnd(24)}${what} (${value})`)
  .join("\n")}
  --only TEXT             the measures alone whose name has this in it
  --json                  print every round, as JSON
`;
