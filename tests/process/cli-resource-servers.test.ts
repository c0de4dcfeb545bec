import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCliHere } from "./cli-here.ts";
import { readDemoClient } from "./demo-partner.ts";
import { freePort, makeDataDir, runCli, type ServerProcess, startServer } from "./spawn.ts";

const SECRET = /cambist_secret_[A-Za-z0-9_-]{43}/;

/** A running sandbox; commands run in its data folder. */
const dataDir = makeDataDir();
const file = (name: string) => join(dataDir.path, name);
let server: ServerProcess;
let env: Record<string, string>;

beforeAll(async () => {
  const port = await freePort();
  env = { CAMBIST_DATA_DIR: dataDir.path, PORT: String(port) };
  server = await startServer("sandbox", port, env);
});
afterAll(async () => {
  server.signal("SIGKILL");
  await server.exited;
  dataDir.remove();
});

const cli = (...args: string[]) => runCliHere(args, env);

// oxlint-disable-next-line typescript/no-explicit-any -- tests look into every shape
async function json(...args: string[]): Promise<Record<string, any>> {
  const { code, stdout, stderr } = await cli(...args, "--json");
  expect({ code, stderr }, args.join(" ")).toEqual({ code: 0, stderr: "" });
  expect(stdout.trim().split("\n")).toHaveLength(1);
  return JSON.parse(stdout) as Record<string, unknown>;
}

let made = 0;
async function makeApi(): Promise<string> {
  const answer = await json("resource-server", "create", "--name", "Files", "--audience", `https://files-${++made}.example`);
  return (answer["resource_server"] as { resource_server_id: string }).resource_server_id;
}

describe("resource-server", () => {
  test("P11.11 create: the secret is shown once, or put into a new file of mode 0600; the log has none", async () => {
    const create = ["resource-server", "create", "--name", "Files", "--audience"];
    const human = await runCli([...create, "https://human.example"], env);
    expect(human).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/resource_server_id +rs_[^]*not shown again/) });
    const [secret = ""] = SECRET.exec(human.stdout) ?? [];
    expect(human.stdout.split(secret)).toHaveLength(2);
    expect(server.output()).not.toContain(secret);
    const answer = await json(...create, "urn:example:filed", "--secret-file", file("rs.secret"));
    expect(answer).toMatchObject({ secret_file: file("rs.secret"), resource_server: { audience: "urn:example:filed", secrets: [{}] } });
    expect(answer).not.toHaveProperty("client_secret");
    expect(statSync(file("rs.secret")).mode & 0o777).toBe(0o600);
    expect(readFileSync(file("rs.secret"), "utf8").trim()).toMatch(SECRET);
    const refused = await cli(...create, "not a URI", "--secret-file", file("unused"));
    expect(refused).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^cambist: audience: is not an absolute URI/) });
    expect(existsSync(file("unused"))).toBe(false);
  });

  test("list, show, update and remove, in words and in JSON", async () => {
    const id = await makeApi();
    const [list, listed, shown, answer] = await Promise.all([
      cli("resource-server", "list"),
      json("resource-server", "list"),
      cli("resource-server", "show", id),
      json("resource-server", "show", id),
    ]);
    expect(list.stdout).toMatch(new RegExp(`^RESOURCE_SERVER_ID +NAME +AUDIENCE\n(.*\n)*${id} +Files +https://files-`));
    expect(listed["resource_servers"]).toContainEqual(expect.objectContaining({ resource_server_id: id }));
    expect(shown.stdout).toMatch(/name +Files\n[^]*\nSECRET_ID +CREATED_AT +LAST_USED_AT\nsec_/);
    expect(answer["resource_server"]).toMatchObject({ resource_server_id: id, name: "Files" });
    const renamed = await cli("resource-server", "update", id, "--name", "Archive");
    expect(renamed).toMatchObject({ code: 0, stdout: expect.stringMatching(/name +Archive\n/) });
    const moved = await json("resource-server", "update", id, "--audience", "https://moved.example");
    expect(moved["resource_server"]).toMatchObject({ name: "Archive", audience: "https://moved.example" });
    expect(await cli("resource-server", "update", id)).toMatchObject({ code: 2, stderr: expect.stringContaining("nothing to change") });
    expect((await cli("resource-server", "remove", id)).stdout).toBe(`${id} is removed.\n`);
    expect(await cli("resource-server", "show", id)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: "cambist: There is no such resource server.\n",
    });
  });

  test("P11.11 secret: add and remove; the last one stays, and a secret given for its id is not sent, nor said again", async () => {
    const id = await makeApi();
    const added = await json("resource-server", "secret", "add", id);
    expect(added).toMatchObject({ secret_id: expect.stringMatching(/^sec_/), client_secret: expect.stringMatching(SECRET) });
    expect(await json("resource-server", "secret", "remove", id, String(added["secret_id"]))).toEqual({ success: true });
    const { resource_server: api } = await json("resource-server", "show", id);
    const [{ secret_id: last }] = (api as { secrets: [{ secret_id: string }] }).secrets;
    const refused = await cli("resource-server", "secret", "remove", id, last, "--force");
    expect(refused).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("only secret") });
    const secret = `cambist_secret_${"a".repeat(43)}`;
    const wrong = await cli("resource-server", "secret", "remove", id, secret);
    expect(wrong).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("`cambist resource-server show`") });
    expect(wrong.stderr + server.output()).not.toContain(secret);
  });
});

describe("scope", () => {
  test("create, list and remove, in words and in JSON, whatever is in its name", async () => {
    const id = await makeApi();
    const create = (name: string, ...more: string[]) => ["scope", "create", name, "--principal", "user", "--resource-server", id, ...more];
    const name = "https://files.example/100%?a=b#c";
    expect(await cli(...create(name, "--description", "Reads files"))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("Reads files"),
    });
    expect(await json(...create("files:read"))).toMatchObject({ scope: { name: "files:read", principal: "user", description: "" } });
    const [list, listed] = await Promise.all([cli("scope", "list"), json("scope", "list")]);
    expect(list.stdout).toMatch(
      /^NAME +PRINCIPAL +AUDIENCE +DESCRIPTION\nthread +user +http:\/\/localhost:\d+\/v2 +\S[^]*\nfiles:read +user/,
    );
    expect((listed["scopes"] as { name: string }[]).map((scope) => scope.name)).toEqual(
      expect.arrayContaining(["analytics", name, "files:read"]),
    );
    const { clientId } = readDemoClient(dataDir.path);
    await json("partner", "update", clientId, "--allowed-scopes", `account-management,${name}`);
    expect(await cli("scope", "remove", name)).toMatchObject({ code: 1, stderr: expect.stringContaining("allowed to a partner") });
    await json("partner", "update", clientId, "--allowed-scopes", "account-management");
    expect((await cli("scope", "remove", name)).stdout).toBe(`${name} is removed.\n`);
    expect(await json("scope", "remove", "files:read")).toEqual({ success: true });
    const unknown = await cli("partner", "update", clientId, "--allowed-scopes", "files:read");
    expect(unknown).toMatchObject({ code: 1, stderr: "cambist: allowed_scopes.0: there is no scope files:read\n" });
  });
});

describe("revoke", () => {
  test("ends the tokens of a partner, and of one of its keys, in words and in JSON", async () => {
    const demo = readDemoClient(dataDir.path);
    const issue = async () => String((await demo.exchange(server.url, demo.sign(demo.clientId))).json["access_token"]);
    const isTaken = async (token: string) => {
      const path = "/v2/account-management/organization?org_id=00000000-0000-4000-8000-000000000000";
      return (await fetch(server.url + path, { headers: { authorization: `Bearer ${token}` } })).status === 404;
    };
    const first = await issue();
    expect(await isTaken(first)).toBe(true);
    const human = await cli("revoke", "--client", demo.clientId, "--kid", "demo-partner");
    expect(human).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringMatching(/^kind +partner_key\nclient_id +prt_[^]*\ncut_off_at +\d{4}-/),
    });
    expect(await isTaken(first)).toBe(false);
    const next = await issue();
    expect(await isTaken(next)).toBe(true);
    expect(await json("revoke", "--client", demo.clientId)).toMatchObject({ revocation: { kind: "partner", client_id: demo.clientId } });
    expect(await isTaken(next)).toBe(false);
  });

  test("a jti that begins with a hyphen", async () => {
    const jti = `-${"a".repeat(21)}`;
    expect(await json("revoke", "--jti", jti)).toMatchObject({ revocation: { kind: "token", jti } });
  });

  test.each([[[]], [["--user", "a", "--org", "b"]], [["--kid", "k"]], [["--user", "a", "--kid", "k"]]])(
    "%j is no command",
    async (args: string[]) => {
      expect(await cli("revoke", ...args)).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("exactly one of --jti") });
    },
  );

  test("P11.11: a token given for its jti is not sent, nor said again; what there is not is refused", async () => {
    for (const token of [`sk-${"0".repeat(32)}`, "eyJhbGciOi.eyJpc3MiOi.c2ln"]) {
      const refused = await cli("revoke", "--jti", token);
      expect(refused).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("your shell's history") });
      expect(refused.stderr + server.output()).not.toContain(token);
    }
    for (const option of ["--user", "--workspace", "--org", "--client"]) {
      const refused = await cli("revoke", option, "6f1c9f0e-3c4b-4a52-8a0d-0e5b8a0f3d11");
      expect(refused).toMatchObject({
        code: 1,
        stdout: "",
        stderr: "cambist: There is no such user, workspace, organization or partner.\n",
      });
    }
  });
});
