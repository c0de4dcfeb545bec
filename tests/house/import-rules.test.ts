import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findCycle, importsOf, type Module, readModules, root } from "./import-graph.ts";

const modules = readModules(["packages"]);
const product = modules.filter((module) => !/\.test\.ts$|\/testing\//.test(module.path));

const P = "packages/protocol/src/";
const S = "packages/server/src/";
const within = (path: string, ...folders: string[]) => folders.some((folder) => path.startsWith(folder));
const isOurs = (name: string) => name.startsWith("packages/");
const BUILT_IN = new Set([...builtinModules, "sqlite"]);
const STORE_INTERFACES = ["store", "account-store", "thread-store", "token-store"].map((name) => `${S}storage/${name}.ts`);

/** Each rule of the house: whom it binds, what they may not import, and why. */
const RULES: readonly { name: string; why: string; binds(path: string): boolean; forbids(name: string, path: string): boolean }[] = [
  {
    name: "protocol imports nothing but its own files",
    why: "it is pure: no I/O, clock, randomness, process or framework",
    binds: (path) => within(path, P),
    forbids: (name) => !within(name, P),
  },
  {
    name: "a grant imports grant.ts and helpers below it, no other grant and not the endpoint",
    why: "a new grant is its own file and a line in the registry",
    binds: (path) => within(path, `${P}grants/`) && !path.endsWith("registry.ts"),
    forbids: (name) => (within(name, `${P}grants/`) && name !== `${P}grants/grant.ts`) || name === `${P}token-endpoint.ts`,
  },
  {
    name: "resources import what lies below them, never one another",
    why: "accounts, admin, oauth, docs and threads can each be read alone",
    binds: (path) => within(path, `${S}accounts/`, `${S}admin/`, `${S}oauth/`, `${S}docs/`, `${S}threads/`),
    forbids: (name, path) => {
      if (!isOurs(name)) return false;
      const own = path.slice(0, path.indexOf("/", S.length) + 1);
      const below = [own, `${S}http/`, `${S}keys/`, `${S}telemetry/`, `${S}ids.ts`, ...STORE_INTERFACES];
      return !within(name, ...below) && !(own === `${S}threads/` && name === `${S}agents/agent.ts`);
    },
  },
  {
    name: "threads ask whatever agent they are given, and reach no key",
    why: "what users write is their partner's, and which agent answers is the operator's choice, made in deps.ts",
    binds: (path) => within(path, `${S}threads/`),
    forbids: (name) => within(name, `${S}keys/`) || (within(name, `${S}agents/`) && name !== `${S}agents/agent.ts`),
  },
  {
    name: "an agent is chosen in deps.ts alone",
    why: "it can be replaced in one place",
    binds: (path) => path !== `${S}deps.ts` && !within(path, `${S}agents/`),
    forbids: (name) => within(name, `${S}agents/`) && name !== `${S}agents/agent.ts`,
  },
  {
    name: "of storage, only its interfaces are known outside deps.ts, cli and storage",
    why: "everything above the store is the same code on every database",
    binds: (path) => !within(path, `${S}storage/`, `${S}cli/`) && path !== `${S}deps.ts`,
    forbids: (name) => within(name, `${S}storage/`) && !STORE_INTERFACES.includes(name),
  },
  {
    name: "storage imports itself, Kysely, the drivers and the protocol",
    why: "the store knows nothing of who asks",
    binds: (path) => within(path, `${S}storage/`),
    forbids: (name) =>
      !within(name, `${S}storage/`, "node:") && !["kysely", "pg", "@photostructure/sqlite", "@cambist/protocol"].includes(name),
  },
  {
    name: "telemetry and keys import nothing above them",
    why: "they are used by all",
    binds: (path) => within(path, `${S}telemetry/`, `${S}keys/`),
    forbids: (name, path) =>
      isOurs(name) &&
      !within(name, path.slice(0, path.lastIndexOf("/") + 1)) &&
      !(path.includes("/keys/") && name === `${S}storage/store.ts`),
  },
  {
    name: "http imports no resource",
    why: "nothing below calls up",
    binds: (path) => within(path, `${S}http/`),
    forbids: (name) => isOurs(name) && !within(name, `${S}http/`, `${S}telemetry/`, `${S}ids.ts`, ...STORE_INTERFACES),
  },
  {
    name: "an agent imports the agents' own files and timers",
    why: "what answers users knows nothing of the server, and reaches neither its store nor its keys",
    binds: (path) => within(path, `${S}agents/`),
    forbids: (name) => !within(name, `${S}agents/`) && name !== "node:timers/promises",
  },
  {
    name: "the router's library only in http/router.ts",
    why: "it can be replaced in one file",
    binds: (path) => path !== `${S}http/router.ts`,
    forbids: (name) => name === "find-my-way",
  },
  {
    name: "the logger and the metrics library only in telemetry",
    why: "what is logged is decided in one place",
    binds: (path) => !within(path, `${S}telemetry/`),
    forbids: (name) => ["pino", "prom-client"].includes(name),
  },
  {
    name: "SQL drivers only in storage",
    why: "SQL stands in one place",
    binds: (path) => !within(path, `${S}storage/`),
    forbids: (name) => ["kysely", "pg", "@photostructure/sqlite", "node:sqlite"].includes(name),
  },
  {
    name: "outbound connections only in keys/outbound.ts",
    why: "what a partner can make the server fetch is guarded in one place",
    binds: (path) => path !== `${S}keys/outbound.ts`,
    forbids: (name, path) =>
      ["undici", "node:http", "node:https", "node:http2", "node:net", "node:tls", "node:dgram", "node:dns", "node:dns/promises"].includes(
        name,
      ) &&
      !(name === "node:net" && [`${S}keys/public-address.ts`, `${S}http/client-address.ts`].includes(path)) && // read addresses, open nothing
      !(
        name === "node:http" &&
        [`${S}http/problem.ts`, `${S}http/router.ts`, `${S}http/guarded-server.ts`, `${S}http/send-answer.ts`].includes(path)
      ), // names of status codes, and the server itself
  },
  {
    name: "another package only through its entry",
    why: "what is not exported can be changed",
    binds: () => true,
    forbids: (name, path) => (isOurs(name) && name.split("/")[1] !== path.split("/")[1]) || /^@cambist\/[^/]+\//.test(name),
  },
];

function violations(rule: (typeof RULES)[number], among: readonly Module[]): string[] {
  return among
    .filter((module) => rule.binds(module.path))
    .flatMap((module) => module.imports.filter((name) => rule.forbids(name, module.path)).map((name) => `${module.path} → ${name}`));
}

describe("the house rules on imports", () => {
  test("the checker reads every module of the tree", () => {
    const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "packages"], {
      cwd: root,
      encoding: "utf8",
    })
      .split("\n")
      .filter((path) => /\.(?:ts|tsx|js|mjs)$/.test(path));
    expect(modules.map((module) => module.path).toSorted()).toEqual(listed.toSorted());
    expect(modules.length).toBeGreaterThan(70);
  });

  test("the checker sees imports in each of their forms", () => {
    const source = `import a, {\n  type B,\n} from "./a.ts";\nimport type { C } from "c";\nexport { d } from './d.ts';\nimport "e";\nawait import("f");\nexport * from "g";`;
    expect(importsOf(source)).toEqual(["./a.ts", "c", "./d.ts", "e", "g", "f"]);
  });

  test.each(RULES)("$name, for $why", (rule) => {
    expect(product.some((module) => rule.binds(module.path))).toBe(true);
    expect(violations(rule, product)).toEqual([]);
  });

  test("each rule refuses what it forbids", () => {
    const bad: readonly Module[] = [
      { path: `${P}scope.ts`, imports: ["node:crypto"] },
      { path: `${P}grants/token-exchange.ts`, imports: [`${P}grants/registry.ts`] },
      { path: `${S}accounts/users.ts`, imports: [`${S}admin/partners.ts`] },
      { path: `${S}oauth/token.ts`, imports: [`${S}storage/kysely-store.ts`] },
      { path: `${S}storage/schema.ts`, imports: ["find-my-way"] },
      { path: `${S}keys/keyring.ts`, imports: [`${S}oauth/token.ts`] },
      { path: `${S}agents/demo.ts`, imports: [`${S}storage/store.ts`] },
      { path: `${S}threads/stream.ts`, imports: [`${S}agents/demo.ts`, `${S}keys/keyring.ts`] },
      { path: `${S}http/route.ts`, imports: [`${S}oauth/token.ts`, "kysely", "pino", "node:https", `${P}scope.ts`] },
    ];
    for (const rule of RULES) expect(violations(rule, bad), rule.name).not.toEqual([]);
  });

  test("no cycle, types included", () => {
    expect(findCycle(product)).toBeUndefined();
    expect(
      findCycle([
        { path: "a", imports: ["b"] },
        { path: "b", imports: ["a"] },
      ]),
    ).toEqual(["a", "b", "a"]);
  });

  test("no orphan: every module is reached from an entry", () => {
    const reached = new Set<string>();
    const byPath = new Map(product.map((module) => [module.path, module]));
    const visit = (path: string): void => {
      if (reached.has(path)) return;
      reached.add(path);
      for (const next of byPath.get(path)?.imports ?? []) if (byPath.has(next)) visit(next);
    };
    for (const entry of [`${P}index.ts`, `${S}cli/main.ts`, "packages/server/bin/cambist.js"]) visit(entry);
    expect(product.map((module) => module.path).filter((path) => !reached.has(path))).toEqual([]);
  });

  test("no undeclared package", () => {
    for (const folder of ["protocol", "server"]) {
      const manifest = JSON.parse(readFileSync(join(root, "packages", folder, "package.json"), "utf8")) as Record<
        string,
        Record<string, string>
      >;
      const declared = new Set(Object.keys({ ...manifest["dependencies"], ...manifest["optionalDependencies"] }));
      const used = product
        .filter((module) => module.path.startsWith(`packages/${folder}/src`))
        .flatMap((module) => module.imports)
        .filter((name) => !isOurs(name) && !BUILT_IN.has(name.replace(/^node:/, "")));
      expect([...new Set(used)].filter((name) => !declared.has(name)).toSorted()).toEqual([]);
    }
  });
});

describe("the house rules on names", () => {
  const sources = product
    .filter((module) => module.path.includes("/src/"))
    .map((module) => ({ path: module.path, text: readFileSync(join(root, module.path), "utf8") }));

  test("process.env only in config.ts", () => {
    expect(sources.filter(({ text }) => text.includes("process.env")).map(({ path }) => path)).toEqual([`${S}config.ts`]);
  });

  test("a key pair is generated in one place, which knows the trap of Node's generator", () => {
    const everywhere = readModules(["packages", "tests", "bench"]).map(({ path }) => ({
      path,
      text: readFileSync(join(root, path), "utf8"),
    }));
    const users = everywhere.filter(({ path, text }) => text.includes("generateKeyPair") && path !== "tests/house/import-rules.test.ts");
    expect(users.map(({ path }) => path).toSorted()).toEqual([`${P}testing/key-pair.ts`, `${S}keys/key-pair.ts`]);
  });

  test("Node's own fetch only in the command line's clients of the admin API and of the sandbox", () => {
    const callers = sources.filter(({ text }) => /(?<![.\w])fetch\(/.test(text));
    expect(callers.map(({ path }) => path)).toEqual([`${S}cli/admin-client.ts`, `${S}cli/chat-client.ts`]);
  });

  test("the protocol package knows neither clock, randomness nor process", () => {
    const impure = /\bDate\.now|new Date\(\)|Math\.random|\bprocess\.|\bBuffer\b|\bcrypto\.|setTimeout|setInterval|console\./;
    const code = (text: string) => text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    expect(sources.filter(({ path, text }) => path.startsWith(P) && impure.test(code(text))).map(({ path }) => path)).toEqual([]);
  });
});
