import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { postgresDatabase } from "./accounts-database.ts";
import { Contender, type Round, root } from "./contender.ts";
import { median } from "./load.ts";
import { machine, table } from "./report.ts";
import { type BenchOptions, progress, runBench } from "./run-bench.ts";

const NUMBERS = {
  requests: [10_000, "requests of one round"],
  rounds: [6, "rounds of each measure, one after the other in turn"],
  "warm-up": [5_000, "requests of each measure before the first round"],
  connections: [64, "keep-alive connections, one request in flight on each"],
} as const;

type Options = BenchOptions<typeof NUMBERS>;

/** Requests of a yardstick round for one of another round. */
const YARDSTICK_TIMES = 5;
/** Different tokens: what is remembered of one of them helps the next time that it comes, as with a client that keeps its token. */
const TOKENS = 1_000;

interface Measure {
  readonly name: string;
  readonly ratioMax: number | undefined;
  readonly expected: number;
  /** Sent over and over. */
  readonly requests: readonly Buffer[];
  readonly rounds: Round[];
}

interface Figures {
  readonly yardstick: readonly Round[];
  readonly measures: readonly Measure[];
}

/** Whole requests of the demo partner, which may use client credentials. */
class Requests {
  private readonly port: number;
  private readonly client: { readonly client_id: string; readonly client_secret: string };

  constructor(port: number, dataDir: string) {
    this.port = port;
    const partner = JSON.parse(readFileSync(join(dataDir, "demo-partner.json"), "utf8")) as { clientId: string; clientSecret: string };
    this.client = { client_id: partner.clientId, client_secret: partner.clientSecret };
  }

  form(path: string, fields: Readonly<Record<string, string>>): Buffer {
    const body = new URLSearchParams({ ...this.client, ...fields }).toString();
    const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${this.port}\r\nContent-Type: application/x-www-form-urlencoded`;
    return Buffer.from(`${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`, "latin1");
  }

  /** Answered 403 once all is checked but the scope, or 404 after a look for one row. */
  behindBearer(token: string): Buffer {
    const path = `/v2/account-management/user?user_id=${randomUUID()}`;
    return Buffer.from(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${this.port}\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  }

  async tokens(path: string, fields: Readonly<Record<string, string>>): Promise<string[]> {
    const tokens: string[] = [];
    while (tokens.length < TOKENS) {
      const body = new URLSearchParams({ ...this.client, ...fields });
      const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { method: "POST", body });
      if (response.status !== 200) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
      const answer = (await response.json()) as { access_token?: string; data?: { access_token: string } };
      tokens.push(answer.data?.access_token ?? answer.access_token ?? "");
    }
    return tokens;
  }
}

async function measuresOf(port: number, dataDir: string): Promise<Measure[]> {
  const requests = new Requests(port, dataDir);
  const grant = { grant_type: "client_credentials" };
  progress("asking for tokens");
  const jwts = await requests.tokens("/oauth2/token", grant);
  const opaque = await requests.tokens("/v1/auth/token", {});
  const otherJwts = await requests.tokens("/oauth2/token", { ...grant, scope: "analytics" });
  const otherOpaque = await requests.tokens("/v1/auth/token", { scope: "analytics" });
  const measure = (name: string, ratioMax: number | undefined, all: readonly Buffer[], expected = 200): Measure => ({
    name,
    ratioMax,
    expected,
    requests: all,
    rounds: [],
  });
  const introspect = (tokens: readonly string[]) => tokens.map((token) => requests.form("/oauth2/introspect", { token }));
  const bearer = (tokens: readonly string[]) => tokens.map((token) => requests.behindBearer(token));
  return [
    measure("client credentials, JWT (`POST /oauth2/token`)", 4, [requests.form("/oauth2/token", grant)]),
    measure("client credentials, `sk-` (`POST /v1/auth/token`)", 3, [requests.form("/v1/auth/token", {})]),
    measure("introspection of an `sk-`", 1.7, introspect(opaque)),
    measure("introspection of a JWT", undefined, introspect(jwts)),
    measure("bearer check of a JWT, which lacks the scope", 2, bearer(otherJwts), 403),
    measure("bearer check of an `sk-`, which lacks the scope", 2, bearer(otherOpaque), 403),
    measure("bearer check of a JWT, and a row that is not there", undefined, bearer(jwts), 404),
  ];
}

const repeated = (requests: readonly Buffer[], count: number) =>
  Array.from({ length: count }, (_, n) => requests[n % requests.length] ?? Buffer.alloc(0));

async function bench(options: Options, folder: string, databaseUrl: string | undefined): Promise<Figures> {
  const { requests, rounds, connections } = options.numbers;
  const yardstick = await Contender.yardstick(folder);
  const server = await Contender.exchange("server", root, folder, { cpuProfile: options.cpuProfile, databaseUrl });
  const measures = await measuresOf(server.command.port, server.dataDir);
  const bare = measures[0]?.requests ?? [];
  const load = async (contender: Contender, sent: readonly Buffer[], expected: number): Promise<Round> => {
    const round = await contender.measure(connections, (loader) => loader.closedLoop(sent, expected));
    if (round.failed > 0) throw new Error(`${round.failed} answers were not ${expected}; one of them:\n${round.sample}`);
    return round;
  };
  const all = async (count: number): Promise<void> => {
    yardstick.rounds.push(await load(yardstick, repeated(bare, count * YARDSTICK_TIMES), 200));
    for (const measure of measures) measure.rounds.push(await load(server, repeated(measure.requests, count), measure.expected));
  };
  await all(options.numbers["warm-up"]);
  for (const { rounds: warm } of [yardstick, ...measures]) warm.length = 0;
  for (let n = 0; n < rounds; n++) {
    progress(`round ${n + 1} of ${rounds}`);
    await all(requests);
  }
  await server.stop();
  await yardstick.stop();
  return { yardstick: yardstick.rounds, measures };
}

function renderTables({ yardstick, measures }: Figures): string {
  const row = (name: string, rounds: readonly Round[], ratioMax?: number) => {
    const ratios = rounds.map((round, n) => round.cpuMicrosPerRequest / (yardstick[n]?.cpuMicrosPerRequest ?? Number.NaN));
    const ratio = median(ratios);
    return [
      name,
      median(rounds.map((round) => round.requestsPerSecond)).toFixed(0),
      median(rounds.map((round) => round.cpuMicrosPerRequest)).toFixed(1),
      `${(100 * median(rounds.map((round) => round.busy))).toFixed(0)} %`,
      `${ratio.toFixed(2)} (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
      ratioMax === undefined ? "" : `≤ ${ratioMax}: ${ratio <= ratioMax ? "met" : "MISSED"}`,
    ];
  };
  const rows = [
    ["medians of the rounds", "req/s", "CPU µs/request", "core busy", "÷ yardstick", "target"],
    row("yardstick: the first of these forms to a bare node:http", yardstick),
    ...measures.map(({ name, rounds, ratioMax }) => row(name, rounds, ratioMax)),
  ];
  return `${machine()}\n\n${table(rows)}\n`;
}

/** What the requests around a token cost beside a bare form POST. What is measured and how: README.md. */
await runBench("bench:tokens", NUMBERS, async (options, folder) => {
  const database = options.database === "postgres" ? await postgresDatabase(join(folder, "postgres")) : undefined;
  const figures = await bench(options, folder, database?.environment["DATABASE_URL"]);
  await database?.stop();
  return { text: options.json ? `${JSON.stringify({ options, ...figures }, null, 2)}\n` : renderTables(figures), exitCode: 0 };
});
