import { execFile } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeJwt } from "../../packages/server/src/testing/jwt.ts";
import { root } from "../house/import-graph.ts";
import { runCliHere } from "./cli-here.ts";
import { freePort, makeDataDir, runCli, type ServerProcess, startServer } from "./spawn.ts";

const run = promisify(execFile);

describe("the sandbox, as a newcomer meets it", () => {
  const dataDir = makeDataDir();
  let port: number;
  let server: ServerProcess;
  beforeAll(async () => {
    port = await freePort();
    server = await startServer("sandbox", port, { CAMBIST_DATA_DIR: dataDir.path });
  });
  afterAll(async () => {
    server.signal("SIGTERM");
    await server.exited;
    dataDir.remove();
  });

  test("the printed lines, pasted one by one into a shell, lead to a user's token", async () => {
    await expect.poll(() => server.output()).toContain("# The operator's view");
    const lines = server
      .output()
      .split("\n")
      .filter((line) => /^(?:[A-Z_]+=|npx cambist )/.test(line));
    expect(lines.length).toBeGreaterThanOrEqual(8);
    const isChat = (line: string) => line.includes("npx cambist chat ");
    const { stdout } = await run("bash", ["-c", lines.filter((line) => !isChat(line)).join("\n")], { cwd: root });
    const answers = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, Record<string, string> & string>);
    expect(answers).toHaveLength(lines.filter((line) => /curl |partner show/.test(line)).length);
    const [own, home, created, forUser, bySecret, opaque] = answers;
    expect(own).toMatchObject({ token_type: "Bearer", scope: "account-management analytics" });
    expect(home).toMatchObject({ success: true });
    const { header, payload } = decodeJwt(forUser?.["access_token"] ?? "");
    expect(header).toMatchObject({ typ: "at+jwt", alg: "ES256" });
    expect(payload).toMatchObject({
      sub: created?.["user"]?.["user_id"],
      workspace_id: home?.["workspace"]?.["workspace_id"],
      scope: "thread",
      aud: `http://localhost:${port}/v2`,
    });
    expect(bySecret).toMatchObject({ token_type: "Bearer", scope: "account-management analytics" });
    expect(opaque?.["data"]).toMatchObject({ access_token: expect.stringMatching(/^sk-[0-9a-f]{32}$/) as unknown });
    expect(answers.at(-1)?.["partner"]).toMatchObject({ name: "Demo partner" });
  });

  test("the printed conversation, pasted too, shows an answer", async () => {
    const [line = ""] = server.output().match(/^.*npx cambist chat .*$/m) ?? [];
    const { stdout } = await run("bash", ["-c", line], { cwd: root });
    expect(stdout).toContain("You wrote “What can you do?”.");
  });

  test("what it made for itself is readable by its owner only", () => {
    expect(statSync(dataDir.path).mode & 0o777).toBe(0o700);
    for (const name of ["cambist.db", "cambist.db-wal", "master-key", "operator-token", "demo-partner.json", "demo-partner-key.pem"]) {
      expect(statSync(join(dataDir.path, name)).mode & 0o777, name).toBe(0o600);
    }
  });

  test("starts again in the same folder with the same partner, also on another port", async () => {
    const before = /client_id=(prt_\w+)/.exec(server.output())?.[1];
    server.signal("SIGTERM");
    expect(await server.exited).toBe(0);
    port = await freePort();
    server = await startServer("sandbox", port, { CAMBIST_DATA_DIR: dataDir.path });
    await expect.poll(() => server.output()).toContain("# The operator's view");
    expect(/client_id=(prt_\w+)/.exec(server.output())?.[1]).toBe(before);
    const token = await runCli(["sandbox-token", "--user", "someone"], { CAMBIST_DATA_DIR: dataDir.path });
    expect(decodeJwt(token.output).payload).toMatchObject({ sub: "someone", aud: `http://localhost:${port}` });
  });

  test("no secret that it made is in what it logs", async () => {
    const secrets = /client_secret=(\S+)/.exec(server.output())?.[1] ?? "";
    const logged = server
      .output()
      .split("\n")
      .filter((line) => line.startsWith("{"));
    expect(logged.length).toBeGreaterThan(0);
    expect(logged.filter((line) => line.includes(secrets))).toEqual([]);
  });
});

describe("the command line says what is wrong", () => {
  test("serve refuses to start on a bad configuration, and lists every problem at once", async () => {
    const { code, output } = await runCli(["serve"], {
      PORT: "x",
      CAMBIST_OPERATOR_TOKEN: "short",
      DATABASE_URL: "mysql://x",
      CAMBIST_PUBLIC_URL: "http://x.example",
    });
    expect(code).toBe(1);
    for (const name of [
      "PORT",
      "CAMBIST_MASTER_KEY is missing",
      "CAMBIST_OPERATOR_TOKEN",
      "DATABASE_URL",
      "CAMBIST_PUBLIC_URL must be https",
    ])
      expect(output).toContain(name);
    expect(output).not.toContain("short\n");
    expect(output).not.toContain("    at ");
  });

  test("a master key that is not the store's is refused, and no key is made in its place", async () => {
    const dataDir = makeDataDir();
    const env = { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" };
    const server = await startServer("sandbox", await freePort(), env);
    server.signal("SIGTERM");
    await server.exited;
    const other = await runCli(["sandbox"], {
      ...env,
      PORT: String(await freePort()),
      CAMBIST_MASTER_KEY: Buffer.from("0123456789abcdef0123456789abcdef").toString("base64"),
    });
    expect(other).toMatchObject({ code: 1, output: expect.stringContaining("CAMBIST_MASTER_KEY does not open the stored signing key") });
    await run("rm", [join(dataDir.path, "master-key")]);
    const without = await runCli(["sandbox"], { ...env, PORT: String(await freePort()) });
    expect(without).toMatchObject({ code: 1, output: expect.stringContaining("master-key is missing") });
    expect(existsSync(join(dataDir.path, "master-key"))).toBe(false);
    dataDir.remove();
  });

  test("a secret file that others can read is refused", async () => {
    const dataDir = makeDataDir();
    await run("sh", ["-c", `umask 022; head -c 32 /dev/urandom | base64 > '${dataDir.path}/master-key'`]);
    const refused = await runCli(["sandbox"], { CAMBIST_DATA_DIR: dataDir.path, PORT: String(await freePort()) });
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining("chmod 600") });
    dataDir.remove();
  });

  test("a port in use is named, with a way out", async () => {
    const [first, second] = [makeDataDir(), makeDataDir()];
    const port = await freePort();
    const server = await startServer("sandbox", port, { CAMBIST_DATA_DIR: first.path });
    const refused = await runCli(["sandbox"], { CAMBIST_DATA_DIR: second.path, PORT: String(port) });
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining(`PORT=${port + 1}`) });
    server.signal("SIGTERM");
    await server.exited;
    for (const dataDir of [first, second]) dataDir.remove();
  });

  test("sandbox-token without a subject, or before a sandbox, says what to do", async () => {
    const dataDir = makeDataDir();
    expect(await runCliHere(["sandbox-token"], { CAMBIST_DATA_DIR: dataDir.path })).toMatchObject({
      code: 2,
      output: expect.stringContaining("--service-account"),
    });
    expect(await runCliHere(["sandbox-token", "--service-account"], { CAMBIST_DATA_DIR: dataDir.path })).toMatchObject({
      code: 1,
      output: expect.stringContaining("npm start"),
    });
    dataDir.remove();
  });

  test("an unknown command exits 2, and --help shows an example", async () => {
    expect((await runCli(["nonsense"])).code).toBe(2);
    expect(await runCli(["serve", "--help"])).toMatchObject({ code: 0, output: expect.stringContaining("Example:") });
  });
});
