import { setTimeout as sleep } from "node:timers/promises";
import { createTestDatabase, type DialectName } from "../../packages/server/src/testing/database.ts";
import { readDemoClient } from "./demo-partner.ts";
import { freePort, makeDataDir, startServer } from "./spawn.ts";

const IN_FLIGHT = 16;
/** Before the kill, in each round. */
const GRANTED_MIN = 3;
const FIRST_GRANTS_MS_MAX = 10_000;

export interface KillReport {
  readonly granted: number;
  /** Subject tokens that were answered 200 before the kill and again after it: must be none. */
  readonly acceptedAgain: number;
  /** Granted answers whose exchange is not on record: must be none. */
  readonly unrecorded: number;
}

/** Exchanges under load, kill -9 at a random moment, start again, and try every granted subject token once more. */
export async function killAndReplay(dialect: DialectName, rounds: number): Promise<KillReport> {
  const dataDir = makeDataDir();
  const database = dialect === "postgres" ? await createTestDatabase("postgres") : undefined;
  const port = await freePort();
  const env: Record<string, string> = { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" };
  if (database && "postgresUrl" in database.location) env["DATABASE_URL"] = database.location.postgresUrl;
  const report = { granted: 0, acceptedAgain: 0, unrecorded: 0 };
  let server = await startServer("sandbox", port, env);
  try {
    for (let round = 0; round < rounds; round++) {
      const client = readDemoClient(dataDir.path);
      const granted: { token: string; tokenId: string }[] = [];
      let killed = false;
      const callers = Array.from({ length: IN_FLIGHT }, async () => {
        while (!killed) {
          const token = client.sign(client.clientId);
          const answer = await client.exchange(server.url, token).catch(() => undefined); // cut off by the kill
          if (answer?.status === 200) granted.push({ token, tokenId: tokenId(answer.json) });
        }
      });
      // a slow machine takes its time over the first ones, and a kill before them would prove nothing
      for (let waited = 0; granted.length < GRANTED_MIN && waited < FIRST_GRANTS_MS_MAX; waited += 10) await sleep(10);
      await sleep(Math.random() * 250);
      server.signal("SIGKILL");
      await server.exited;
      killed = true;
      await Promise.all(callers);
      server = await startServer("sandbox", port, env);
      report.granted += granted.length;
      for (const { token } of granted) if ((await client.exchange(server.url, token)).status === 200) report.acceptedAgain++;
      report.unrecorded += await countUnrecorded(
        granted.map((grant) => grant.tokenId),
        dataDir.path,
        database,
      );
    }
  } finally {
    server.signal("SIGKILL");
    await server.exited;
    await database?.drop();
    dataDir.remove();
  }
  return report;
}

function tokenId(answer: Record<string, unknown>): string {
  const payload = String(answer["access_token"]).split(".")[1] ?? "";
  return (JSON.parse(Buffer.from(payload, "base64url").toString()) as { jti: string }).jti;
}

async function countUnrecorded(
  tokenIds: readonly string[],
  dataDir: string,
  database: Awaited<ReturnType<typeof createTestDatabase>> | undefined,
): Promise<number> {
  const rows = database
    ? await database.query("SELECT token_id FROM exchanges WHERE outcome = 'granted'")
    : await sqliteRows(`${dataDir}/cambist.db`, "SELECT token_id FROM exchanges WHERE outcome = 'granted'");
  const recorded = new Set(rows.map((row) => row["token_id"]));
  return tokenIds.filter((id) => !recorded.has(id)).length;
}

async function sqliteRows(path: string, sql: string): Promise<Record<string, unknown>[]> {
  const { openSqlite } = await import("../../packages/server/src/storage/dialects/sqlite-driver.ts");
  const sqlite = await openSqlite(path);
  try {
    return sqlite.prepare(sql).all() as Record<string, unknown>[];
  } finally {
    sqlite.close();
  }
}
