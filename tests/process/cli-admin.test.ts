import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { runCliHere } from "./cli-here.ts";
import { readDemoClient } from "./demo-partner.ts";
import { freePort, makeDataDir, runCli, type ServerProcess, startServer } from "./spawn.ts";

const key = makeTestKey("ES256", "key-1");
const SECRET = /cambist_secret_[A-Za-z0-9_-]{43}/;

/** A running sandbox, and a partner's key URL; commands run in its data folder. */
const dataDir = makeDataDir();
const file = (name: string) => join(dataDir.path, name);
let server: ServerProcess;
let keyHost: Server;
let keysUrl: string;
let keysStatus = 200;
let env: Record<string, string>;

beforeAll(async () => {
  keyHost = createServer((_request, response) => {
    response.writeHead(keysStatus, { "content-type": "application/json" }).end(JSON.stringify({ keys: [key.publicJwk] }));
  });
  await new Promise<void>((resolve) => keyHost.listen(0, "127.0.0.1", resolve));
  const host = `localhost:${(keyHost.address() as AddressInfo).port}`;
  keysUrl = `http://${host}/jwks.json`;
  const port = await freePort();
  env = { CAMBIST_DATA_DIR: dataDir.path, PORT: String(port) };
  server = await startServer("sandbox", port, { ...env, CAMBIST_JWKS_ALLOW_HOSTS: host, CAMBIST_LOG_LEVEL: "debug" });
  writeFileSync(file("jwks.json"), JSON.stringify({ keys: [key.publicJwk] }));
});
afterAll(async () => {
  server.signal("SIGKILL");
  await server.exited;
  keyHost.closeAllConnections();
  keyHost.close();
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

async function makePartner(...options: string[]): Promise<string> {
  const keys = options.includes("--jwks-uri") ? [] : ["--jwks-file", file("jwks.json")];
  return (await json("partner", "create", "--name", "Made", ...keys, ...options))["partner"].client_id as string;
}

describe("partner create", () => {
  test("P11.11: shows the secret once, and it is neither in the log nor in the store", async () => {
    const human = await runCli(["partner", "create", "--name", "Human", "--jwks-file", file("jwks.json")], env);
    const answer = await json("partner", "create", "--name", "Json", "--jwks-file", file("jwks.json"));
    expect(human).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("not shown again") });
    expect(answer).toMatchObject({ partner: { name: "Json" }, token_endpoint: expect.stringContaining("/oauth2/token") });
    for (const shown of [human.stdout, JSON.stringify(answer)]) {
      const [secret = ""] = SECRET.exec(shown) ?? [];
      expect(shown.split(secret)).toHaveLength(2);
      expect(server.output()).not.toContain(secret);
      for (const name of readdirSync(dataDir.path)) expect(readFileSync(file(name), "latin1"), name).not.toContain(secret);
    }
  });

  test("P11.11: puts the secret into a new file of mode 0600 instead, and it works", async () => {
    const answer = await json("partner", "create", "--name", "Filed", "--jwks-file", file("jwks.json"), "--secret-file", file("secret"));
    expect(answer).toMatchObject({ secret_file: file("secret"), partner: { name: "Filed" } });
    expect(answer).not.toHaveProperty("client_secret");
    expect(statSync(file("secret")).mode & 0o777).toBe(0o600);
    const secret = readFileSync(file("secret"), "utf8");
    expect(secret.trim()).toMatch(SECRET);
    const human = await cli("partner", "secret", "add", answer["partner"].client_id as string, "--secret-file", file("second"));
    expect(human.stdout).toContain(`The secret is in ${file("second")}`);
    expect(human.stdout).not.toMatch(SECRET);
    expect(readFileSync(file("second"), "utf8").trim()).toMatch(SECRET);
  });

  test("makes nothing on the server where the secret's file is there already, and no file where the server refuses", async () => {
    writeFileSync(file("taken"), "mine");
    const before = await json("partner", "list");
    const taken = await cli("partner", "create", "--name", "x", "--jwks-file", file("jwks.json"), "--secret-file", file("taken"));
    expect(taken).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("is not written over; nothing was made") });
    expect(readFileSync(file("taken"), "utf8")).toBe("mine");
    const create = ["partner", "create", "--name", "x", "--jwks-file", file("jwks.json")];
    const refused = await cli(...create, "--replay", "sometimes", "--secret-file", file("unused"));
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/^cambist: replay: /) });
    expect(existsSync(file("unused"))).toBe(false);
    expect(await json("partner", "list")).toEqual(before);
  });

  test("sets every field, with keys from standard input, and names every field that the server refuses", async () => {
    const options = [
      "--issuer",
      "https://all.example",
      "--audience",
      "a",
      "--subject-namespace",
      "external_user_id",
      "--replay",
      "reusable",
    ];
    options.push("--auth-method", "private_key_jwt", "--allowed-scopes", "thread, analytics", "--allowed-grants", "token-exchange");
    options.push("--allowed-algorithms", "ES256", "--assertion-lifetime-seconds-max", "600", "--clock-skew-seconds", "0");
    options.push(
      "--access-token-lifetime-seconds",
      "900",
      "--provisioning-hourly-max",
      "5",
      "--billing-features",
      "reports, search",
      "--json",
    );
    const made = await runCli(
      ["partner", "create", "--name", "All", "--jwks-file", "-", ...options],
      env,
      readFileSync(file("jwks.json"), "utf8"),
    );
    expect(JSON.parse(made.stdout)).toMatchObject({
      client_secret: null,
      partner: {
        issuer: "https://all.example",
        audience: "a",
        subject_namespace: "external_user_id",
        replay: "reusable",
        token_endpoint_auth_method: "private_key_jwt",
        allowed_scopes: ["thread", "analytics"],
        allowed_grants: ["token-exchange"],
        allowed_algorithms: ["ES256"],
        assertion_lifetime_seconds_max: 600,
        clock_skew_seconds: 0,
        access_token_lifetime_seconds: 900,
        provisioning_hourly_max: 5,
        billing_features: ["reports", "search"],
      },
    });
    const [taken, two] = await Promise.all([
      cli("partner", "create", "--name", "x", "--jwks-file", file("jwks.json"), "--issuer", "https://all.example"),
      cli("partner", "create", "--name", "x", "--jwks-file", file("jwks.json"), "--clock-skew-seconds", "9000", "--replay", "no"),
    ]);
    expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining("issuer belongs to another partner") });
    expect(two).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/ {2}- replay: .*\n {2}- clock_skew_seconds: |clock_skew_seconds: .*\n {2}- replay: /s),
    });
  });

  test("does not send a private key, nor a file that is no key set", async () => {
    const { d } = key.privateKey.export({ format: "jwk" });
    writeFileSync(file("private.json"), JSON.stringify({ keys: [{ ...key.publicJwk, d }] }));
    writeFileSync(file("garbage.json"), "{");
    const [leaking, garbage, missing] = await Promise.all(
      ["private.json", "garbage.json", "absent.json"].map((name) => cli("partner", "create", "--name", "x", "--jwks-file", file(name))),
    );
    expect(leaking).toMatchObject({ code: 1, stderr: expect.stringContaining("was not sent") });
    expect(leaking?.stderr).toContain("keys.0 (key-1): The key shows its private part");
    expect(leaking?.output).not.toContain(d);
    expect(garbage).toMatchObject({ code: 1, stderr: expect.stringContaining("is not JSON") });
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("ENOENT") });
  });
});

describe("partner list, show, update, disable", () => {
  test("in words and in JSON", async () => {
    const id = await makePartner();
    const [list, show, listed, shown] = await Promise.all([
      cli("partner", "list"),
      cli("partner", "show", id),
      json("partner", "list"),
      json("partner", "show", id),
    ]);
    expect(list).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^CLIENT_ID +STATUS +NAME +ISSUER\n/) });
    expect(list.stdout).toContain(id);
    expect(listed["partners"]).toContainEqual(expect.objectContaining({ client_id: id, status: "active" }));
    expect(show.stdout).toMatch(/^client_id +prt_/);
    expect(show.stdout).toMatch(/keys +key-1 ES256\n/);
    expect(show.stdout).toMatch(/SECRET_ID +CREATED_AT +LAST_USED_AT\nsec_/);
    expect(shown["partner"]).toMatchObject({ client_id: id, secrets: [{ last_used_at: null }] });

    const updated = await cli("partner", "update", id, "--name", "Other", "--allowed-scopes", "thread");
    expect(updated).toMatchObject({ code: 0, stdout: expect.stringMatching(/name +Other\n[^]*allowed_scopes +thread\n/) });
    expect((await cli("partner", "disable", id)).stdout).toMatch(/status +disabled\n/);
    expect((await json("partner", "disable", id))["partner"]).toMatchObject({ status: "disabled", name: "Other" });
    expect((await json("partner", "update", id, "--status", "active"))["partner"]).toMatchObject({ status: "active" });
  });

  test("a partner that is not there, and a change without one", async () => {
    const [absent, odd, nothing] = await Promise.all([
      cli("partner", "show", `prt_${"0".repeat(32)}`),
      cli("partner", "disable", "../secrets"),
      cli("partner", "update", "prt_1", "--json"),
    ]);
    for (const result of [absent, odd])
      expect(result).toMatchObject({ code: 1, stdout: "", stderr: "cambist: There is no such partner.\n" });
    expect(nothing).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("nothing to change") });
  });
});

describe("partner update of the settings of accounts", () => {
  const update = (id: string, ...options: string[]) => json("partner", "update", id, ...options);

  test("users that exchanges make: with a home workspace of the partner, and off again", async () => {
    const demo = readDemoClient(dataDir.path);
    const { json: token } = await demo.exchange(server.url, demo.sign(demo.clientId));
    const made = await fetch(`${server.url}/v2/account-management/organization-and-workspace`, {
      method: "PUT",
      headers: { authorization: `Bearer ${String(token["access_token"])}`, "content-type": "application/json" },
      body: "{}",
    });
    const { workspace } = (await made.json()) as { readonly workspace: { readonly workspace_id: string } };
    const home = ["--home-workspace-id", workspace.workspace_id];
    const create = ["--subject-namespace", "external_user_id", "--provisioning", "create"];
    expect(await update(demo.clientId, ...create, ...home, "--provisioning-hourly-max", "7")).toMatchObject({
      partner: { provisioning: "create", home_workspace_id: workspace.workspace_id, provisioning_hourly_max: 7 },
    });
    expect(await update(demo.clientId, "--provisioning", "off", "--subject-namespace", "user_id")).toMatchObject({
      partner: { provisioning: "off", provisioning_hourly_max: 7 },
    });
    const foreign = await cli("partner", "update", await makePartner(), ...create, ...home);
    expect(foreign).toMatchObject({ code: 1, stderr: expect.stringContaining("home_workspace_id: is not a workspace of this partner") });
  });

  test("billing features: a list, none by accident, and any again", async () => {
    const id = await makePartner("--billing-features", "reports");
    expect(await update(id, "--billing-features", "search,export")).toMatchObject({ partner: { billing_features: ["search", "export"] } });
    const [empty, both] = await Promise.all([
      cli("partner", "update", id, "--billing-features", " , "),
      cli("partner", "update", id, "--billing-features", "reports", "--any-billing-feature"),
    ]);
    for (const refused of [empty, both])
      expect(refused).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("--any-billing-feature") });
    expect(await json("partner", "show", id)).toMatchObject({ partner: { billing_features: ["search", "export"] } });
    expect(await update(id, "--any-billing-feature")).toMatchObject({ partner: { billing_features: null } });
  });
});

describe("partner secret", () => {
  test("add and remove, in words and in JSON; one that is in use only by force", async () => {
    const id = await makePartner();
    const added = await json("partner", "secret", "add", id);
    expect(added).toMatchObject({ secret_id: expect.stringMatching(/^sec_/), client_secret: expect.stringMatching(SECRET) });
    const third = await cli("partner", "secret", "add", id);
    expect(third).toMatchObject({ code: 1, stderr: "cambist: The partner has 2 secrets; remove one first.\n" });
    expect(await json("partner", "secret", "remove", id, String(added["secret_id"]))).toEqual({ success: true });
    const human = await cli("partner", "secret", "add", id);
    expect(human.stdout).toMatch(/client_secret +cambist_secret_[^]*not shown again/);
    const [secretId = ""] = /sec_\w+/.exec(human.stdout) ?? [];
    const [secret = ""] = SECRET.exec(human.stdout) ?? [];
    const form = { grant_type: "x", client_id: id, client_secret: secret };
    await fetch(`${server.url}/oauth2/token`, { method: "POST", body: new URLSearchParams(form) });
    const used = await cli("partner", "secret", "remove", id, secretId);
    expect(used).toMatchObject({ code: 1, stderr: expect.stringContaining("used within the last 24 hours") });
    expect((await cli("partner", "secret", "remove", id, secretId, "--force")).stdout).toBe(`${secretId} is removed.\n`);
  });

  test("P11.11: a secret given for its id is not sent, nor said again", async () => {
    const secret = `cambist_secret_${"a".repeat(43)}`;
    const lines = server.output().length;
    const refused = await cli("partner", "secret", "remove", `prt_${"0".repeat(32)}`, secret);
    expect(refused).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("your shell's history") });
    expect(refused.stderr + server.output().slice(lines)).not.toContain(secret);
    expect((await cli("partner", "list", secret)).output).not.toContain(secret);
  });
});

describe("keys", () => {
  test("our own, in words and in JSON", async () => {
    const [human, answer] = await Promise.all([cli("keys"), json("keys")]);
    expect(human.stdout).toMatch(/^KID +ALGORITHM +STATE +SIGNS +CREATED_AT +SIGNS_FROM +DROPS_AT\n/);
    expect(human.stdout).toMatch(/ES256 +current +yes /);
    expect(human.stdout).toMatch(/\nID +NEWEST +LISTED +SIGNING_KEYS +SECRETS +TOKENS\n\S+ +yes +yes +2 /);
    expect(answer["keys"]).toHaveLength(2);
    expect(answer["master_keys"]).toMatchObject([{ newest: true, listed: true, signing_keys: 2 }]);
  });

  test("rotate: scheduled, then at once, then in an emergency; in words and in JSON, and what was dropped is gone", async () => {
    const before = await json("keys");
    const [scheduled, again] = [await json("keys", "rotate"), await cli("keys", "rotate")];
    expect(again.stdout).toContain(`The next key signs from ${scheduled["switches_at"] as string} on.`);
    const switched = await json("keys", "rotate", "--now");
    expect(switched["keys"]).toMatchObject([{ state: "retired" }, { state: "current", signs: true }, { state: "next" }]);
    const human = await cli("keys", "rotate", "--emergency");
    expect(human).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/current +yes[^]*The keys are switched\.\n$/) });
    const kids = (answer: Record<string, unknown>) => (answer["keys"] as { kid: string }[]).map(({ kid }) => kid);
    const after = kids(await json("keys"));
    expect(after).toHaveLength(2);
    for (const kid of kids(before)) expect(after).not.toContain(kid);
  });

  test("rotate: now and emergency at once is no command", async () => {
    const before = await json("keys");
    expect(await cli("keys", "rotate", "--now", "--emergency")).toMatchObject({ code: 2, stdout: "" });
    expect(await cli("keys", "spin")).toMatchObject({ code: 2, stdout: "" });
    expect(await json("keys")).toEqual(before);
  });

  test("a partner's: what was fetched, and exit code 1 where a refresh fails", async () => {
    const [byUrl, registered] = await Promise.all([makePartner("--jwks-uri", keysUrl), makePartner()]);
    const [none, fetched, own] = await Promise.all([
      cli("partner", "keys", byUrl),
      json("partner", "keys", byUrl, "--refresh"),
      cli("partner", "keys", registered),
    ]);
    expect(none).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^client_id +prt_/) });
    expect(fetched).toMatchObject({ failing: false, jwks_uri: keysUrl, keys: [{ kid: "key-1", state: "used" }] });
    expect(own.stdout).toMatch(/KID +ALGORITHM +STATE +REASON\nkey-1 +ES256 +used +-\n/);
    keysStatus = 500;
    const [failing, failingJson] = [
      await cli("partner", "keys", byUrl, "--refresh"),
      await cli("partner", "keys", byUrl, "--refresh", "--json"),
    ];
    keysStatus = 200;
    expect(failing).toMatchObject({ code: 1, stderr: "", stdout: expect.stringMatching(/failing +yes\n[^]*key-1 +ES256 +used/) });
    expect(failingJson.code).toBe(1);
    expect(JSON.parse(failingJson.stdout)).toMatchObject({ failing: true });
    expect((await cli("partner", "keys", byUrl)).code).toBe(0);
  });
});

describe("the way to the server", () => {
  const list = (more: Record<string, string>, ...args: string[]) => runCliHere(["partner", "list", ...args], { ...env, ...more });

  test("a server that is away, a wrong operator token, none, and a file that others can read", async () => {
    const folder = makeDataDir();
    const [away, wrong, none] = await Promise.all([
      list({}, "--url", `http://127.0.0.1:${await freePort()}`),
      list({ CAMBIST_OPERATOR_TOKEN: "wrong-0123456789abcdef0123456789abcdef" }),
      list({ CAMBIST_DATA_DIR: folder.path }),
    ]);
    expect(away).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/nothing listens at http:\/\/127.0.0.1:\d+; is the server running/),
    });
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining("does not take the operator token of CAMBIST_OPERATOR_TOKEN") });
    expect(wrong.stderr).not.toContain("wrong-0123");
    expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("CAMBIST_OPERATOR_TOKEN is missing") });
    chmodSync(file("operator-token"), 0o644);
    const open = await list({});
    chmodSync(file("operator-token"), 0o600);
    expect(open).toMatchObject({ code: 1, stderr: expect.stringContaining("can be read by others; close it: chmod 600") });
    folder.remove();
  });
});
