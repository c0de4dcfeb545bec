import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreFiles } from "../../packages/server/src/storage/store-file.ts";
import { createTestDatabase } from "../../packages/server/src/testing/database.ts";
import { runCliHere } from "./cli-here.ts";
import { type DemoClient, readDemoClient } from "./demo-partner.ts";
import { freePort, makeDataDir, runCli, type ServerProcess, startServer } from "./spawn.ts";

const dataDir = makeDataDir();
const store = join(dataDir.path, "cambist.db");
const file = (name: string) => join(dataDir.path, name);
let port: number;
let env: Record<string, string>;
let server: ServerProcess;
let client: DemoClient;

beforeAll(async () => {
  port = await freePort();
  env = { CAMBIST_DATA_DIR: dataDir.path, PORT: String(port) };
  server = await start();
  client = readDemoClient(dataDir.path);
});
afterAll(async () => {
  server.signal("SIGKILL");
  await server.exited;
  dataDir.remove();
});

const start = () => startServer("sandbox", port, { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" });
const cli = (...args: string[]) => runCliHere(args, env);

async function stop(): Promise<void> {
  server.signal("SIGTERM");
  await server.exited;
}

async function rows(path: string, sql: string): Promise<Record<string, unknown>[]> {
  const files = await StoreFiles.open();
  try {
    files.attach(path, "store");
    return files.rows(sql);
  } finally {
    files.close();
  }
}

const exchange = (token = client.sign(client.clientId)) => client.exchange(server.url, token);

async function createOrganization(accessToken: unknown): Promise<number> {
  const response = await fetch(`${server.url}/v2/account-management/organization-and-workspace`, {
    method: "PUT",
    headers: { authorization: `Bearer ${String(accessToken)}`, "content-type": "application/json" },
    body: "{}",
  });
  return response.status;
}

describe("backup of a running server", () => {
  test("under load: each is one moment, in which what was granted is spent", async () => {
    let [isLoaded, answered] = [true, 0];
    const callers = Array.from({ length: 8 }, async () => {
      for (; isLoaded; answered++) await exchange();
    });
    for (const name of ["first.db", "second.db"]) {
      const before = answered;
      await expect.poll(() => answered).toBeGreaterThan(before + 10);
      const { code, stdout } = await runCli(["backup", file(name), "--json"], env);
      expect(code).toBe(0);
      const bytes = statSync(file(name)).size;
      expect(JSON.parse(stdout)).toMatchObject({
        store,
        file: file(name),
        bytes,
        migrations: expect.arrayContaining(["0002-partner-jwks"]),
      });
      expect(statSync(file(name)).mode & 0o777).toBe(0o600);
    }
    isLoaded = false;
    await Promise.all(callers);
    for (const name of ["first.db", "second.db"]) {
      const [counts] = await rows(
        file(name),
        "SELECT (SELECT count(*) FROM store.exchanges WHERE outcome = 'granted') AS granted, (SELECT count(*) FROM store.spent_tokens) AS spent",
      );
      expect(counts?.["granted"]).toBe(counts?.["spent"]);
      expect(counts?.["granted"]).toBeGreaterThan(10);
    }
    expect(readdirSync(dataDir.path).filter((name) => name.includes("partial"))).toEqual([]);
  });

  test("in words; a file that is there is not written over; a folder that is not there is said", async () => {
    writeFileSync(file("mine"), "mine");
    const [human, taken, nowhere] = await Promise.all([
      cli("backup", file("third.db")),
      cli("backup", file("mine")),
      cli("backup", file("absent/x.db")),
    ]);
    expect(human).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringMatching(/third\.db holds .*cambist\.db as of [^]*master key/),
    });
    expect(taken).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("is not written over") });
    expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining("cannot be made (ENOENT") });
    expect(statSync(file("mine")).size).toBe(4);
  });
});

describe("restore", () => {
  test("refuses a file that is no store, and a store that a server uses", async () => {
    const [garbage, running, both] = await Promise.all([
      cli("restore", file("mine")),
      cli("restore", file("first.db")),
      cli("restore", file("first.db"), "--mark"),
    ]);
    expect(garbage).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("is not a Cambist store, nor a backup of one") });
    expect(running).toMatchObject({
      code: 1,
      stdout: "",
      stderr: `cambist: ${store} is open in another process; stop the server that uses it first.\n`,
    });
    expect((await cli("restore", "--mark")).stderr).toBe(running.stderr);
    expect(both).toMatchObject({ code: 2, stderr: "cambist: give exactly one of FILE and --mark\n" });
    expect((await exchange()).status).toBe(200);
  });

  test("does not revive what was spent, withdrawn or issued; new tokens pass", async () => {
    const other = JSON.parse((await cli("partner", "create", "--name", "Other", "--jwks-file", await demoKeys(), "--json")).stdout) as {
      partner: { client_id: string };
      client_secret: string;
    };
    expect((await cli("backup", file("before.db"))).code).toBe(0);

    const spent = client.sign(client.clientId);
    const unspent = client.sign(client.clientId);
    const granted = await exchange(spent);
    expect(granted.status).toBe(200);
    expect(await createOrganization(granted.json["access_token"])).toBe(201);
    await cli("partner", "disable", other.partner.client_id);
    await stop();
    const { code, stdout } = await runCli(["restore", file("before.db"), "--json"], env);
    expect(code).toBe(0);
    const answer = JSON.parse(stdout) as Record<string, string>;
    expect(answer).toMatchObject({
      store,
      replaced: expect.stringMatching(/cambist\.db\.replaced-/),
      carried_over: { disabled: { partners: 1 } },
    });
    server = await start();

    for (const token of [spent, unspent]) {
      const refused = await exchange(token);
      expect(refused).toMatchObject({ status: 400, json: { error_uri: expect.stringContaining("token_before_restore") } });
    }
    expect(await createOrganization(granted.json["access_token"])).toBe(401);
    const show = await cli("partner", "show", other.partner.client_id, "--json");
    expect(JSON.parse(show.stdout)).toMatchObject({ partner: { status: "disabled" } });
    expect(await exchange()).toMatchObject({ status: 400, json: { error_uri: expect.stringContaining("token_before_restore") } });

    await stop(); // instead of a minute's wait, the moment of the restore is moved a minute back
    await rows(store, "UPDATE store.store_state SET value = value - 61000 WHERE name = 'restored_at' RETURNING value");
    server = await start();
    const fresh = await exchange();
    expect(fresh.status).toBe(200);
    expect(await createOrganization(fresh.json["access_token"])).toBe(201);
    const [replaced] = await rows(answer["replaced"] ?? "", "SELECT count(*) AS n FROM store.exchanges WHERE outcome = 'granted'");
    expect(replaced?.["n"]).toBeGreaterThan(10);
  });

  test("in words; into an empty folder it says what is not carried over; a store can be marked alone", async () => {
    await stop();
    const empty = makeDataDir();
    const into = { CAMBIST_DATA_DIR: empty.path };
    const [human, alone] = await Promise.all([cli("restore", file("before.db")), runCliHere(["restore", file("before.db")], into)]);
    expect(human).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringMatching(/is restored\. No token[^]*is kept: [^]*Carried over from it: /),
    });
    expect(alone).toMatchObject({ code: 0, stdout: expect.stringContaining("There was no store to compare it with") });
    const marked = await runCliHere(["restore", "--mark", "--json"], into);
    expect(JSON.parse(marked.stdout)).toMatchObject({ store: join(empty.path, "cambist.db"), restored_at: expect.any(String) });
    empty.remove();
    server = await start();
  });

  async function demoKeys(): Promise<string> {
    const show = JSON.parse((await cli("partner", "show", client.clientId, "--json")).stdout) as { partner: { jwks: unknown } };
    writeFileSync(file("jwks.json"), JSON.stringify(show.partner.jwks));
    return file("jwks.json");
  }
});

describe("migrate", () => {
  test("the embedded store, in words and in JSON; where there is none, none is made", async () => {
    const empty = makeDataDir();
    const [human, answer, check, none] = await Promise.all([
      cli("migrate"),
      cli("migrate", "--json"),
      cli("migrate", "--check", "--json"),
      runCliHere(["migrate"], { CAMBIST_DATA_DIR: empty.path }),
    ]);
    expect(human).toMatchObject({ code: 0, stderr: "", stdout: `The schema of ${store} is up to date.\n` });
    expect(JSON.parse(answer.stdout)).toEqual({ store, migrations: [] });
    expect(JSON.parse(check.stdout)).toEqual({ store, pending: [] });
    expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("There is no store at") });
    expect(readdirSync(empty.path)).toEqual([]);
    empty.remove();
  });

  test("PostgreSQL: pending, done; backup and restore leave it to its own tools, but for the mark", async () => {
    const database = await createTestDatabase("postgres");
    const postgres = { DATABASE_URL: "postgresUrl" in database.location ? database.location.postgresUrl : "" };
    const run = (...args: string[]) => runCliHere(args, { ...env, ...postgres });
    expect(await run("migrate", "--check")).toMatchObject({
      code: 1,
      stderr: "",
      stdout: expect.stringContaining("Pending in the database of DATABASE_URL: 0001-first, 0002-"),
    });
    expect(await database.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")).toEqual([]);
    expect(await runCli(["migrate"], { ...env, ...postgres })).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("Done in the database of DATABASE_URL: 0001-first, 0002-"),
    });
    const [backup, restore, mark] = await Promise.all([
      run("backup", file("pg.db")),
      run("restore", file("first.db")),
      run("restore", "--mark"),
    ]);
    expect(backup).toMatchObject({ code: 1, stderr: expect.stringContaining("pg_dump") });
    expect(restore).toMatchObject({ code: 1, stderr: expect.stringContaining("pg_restore") });
    expect(mark).toMatchObject({ code: 0, stdout: expect.stringContaining("marked as restored") });
    const [row] = await database.query("SELECT value FROM store_state WHERE name = 'restored_at'");
    expect(Math.abs(Number(row?.["value"]) - Date.now())).toBeLessThan(20_000);
    await database.drop();
    const away = await run("migrate");
    expect(away).toMatchObject({ code: 1, stderr: expect.stringMatching(/^cambist: /) });
    expect(away.stderr).not.toContain("password@");
  });
});
