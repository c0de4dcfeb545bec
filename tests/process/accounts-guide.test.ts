import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "../house/import-graph.ts";
import { freePort, makeDataDir, type ServerProcess, startServer } from "./spawn.ts";

const run = promisify(execFile);

const GUIDE = readFileSync(join(root, "docs/accounts.md"), "utf8");
const GUIDE_URL = "URL=http://localhost:8080\n";

/** Contract §5: its table, and DELETE on the same paths. */
const OPERATIONS = [
  ...["organization", "workspace", "user"].flatMap((kind) => ["GET", "PUT", "PATCH", "DELETE"].map((method) => `${method} /${kind}`)),
  "PUT /organization-and-workspace",
  "POST /entities",
].map((operation) => operation.replace(" /", " /v2/account-management/"));

interface Block {
  readonly language: string;
  readonly text: string;
}

const blocks: readonly Block[] = [...GUIDE.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({
  language,
  text,
}));
const scripts = blocks.filter(({ language }) => language === "sh");

/** `# 201` behind a call is what the guide says of its answer. */
const statuses = ({ text }: Block) => [...text.matchAll(/ {2}# (\d{3})\b/g)].map(([, status]) => Number(status));

/** Each document begins in the first column, and goes on in lines that do not. */
const documents = ({ text }: Block) => text.split(/\n(?=\{)/).map((document) => JSON.parse(document) as unknown);

interface Call {
  readonly operation: string;
  readonly status: number;
  readonly body: string;
}

/** Hands on what comes, and writes down what was asked and answered; not what the operator does. */
function recordingProxy(target: string, calls: Call[]): Server {
  return createServer((incoming, outgoing) => {
    const { method = "", url = "", headers } = incoming;
    const forwarded = request(`${target}${url}`, { method, headers }, (answer) => {
      const { statusCode: status = 0 } = answer;
      let body = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
      answer.on("end", () => {
        if (!url.startsWith("/admin/")) calls.push({ operation: `${method} ${url.split("?")[0]}`, status, body });
        outgoing.writeHead(status, answer.headers).end(body);
      });
    });
    incoming.pipe(forwarded);
  });
}

/** `real`, with `…` wherever the guide has it for a text. */
function asShown(real: unknown, shown: unknown): unknown {
  if (shown === "…") return typeof real === "string" && real !== "" ? shown : real;
  if (typeof real !== "object" || real === null || typeof shown !== "object" || shown === null) return real;
  if (Array.isArray(real)) return real.map((item, index) => asShown(item, (shown as unknown[])[index]));
  const members = Object.entries(real).map(([name, value]) => [name, asShown(value, (shown as Record<string, unknown>)[name])]);
  return Object.fromEntries(members);
}

const HOUR_MS = 3_600_000;
const WALK_MS = 20_000;

/** Users that exchanges make are counted by the hour: a walk across its end would make one more. */
async function awaitRoomInThisHour(): Promise<void> {
  const left = HOUR_MS - (Date.now() % HOUR_MS);
  if (left < WALK_MS) await sleep(left);
}

describe("docs/accounts.md, walked from top to bottom in one bash session", () => {
  const dataDir = makeDataDir();
  const calls: Call[] = [];
  let server: ServerProcess;
  let proxy: Server;
  let printed: string;
  beforeAll(async () => {
    server = await startServer("sandbox", await freePort(), { CAMBIST_DATA_DIR: dataDir.path });
    proxy = recordingProxy(server.url, calls);
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const session = scripts.map(({ text }) => text).join("\n");
    const here = session.replace(GUIDE_URL, `URL=http://127.0.0.1:${(proxy.address() as AddressInfo).port}\n`);
    const { PATH = "", HOME = "" } = process.env;
    await awaitRoomInThisHour();
    const walked = await run("bash", ["-c", here], { cwd: root, env: { PATH, HOME, CAMBIST_DATA_DIR: dataDir.path } });
    printed = walked.stdout;
  });
  afterAll(async () => {
    proxy.closeAllConnections();
    proxy.close();
    server.signal("SIGTERM");
    await server.exited;
    dataDir.remove();
  });

  test("each call is answered with the status that stands beside it", () => {
    expect(GUIDE.split(GUIDE_URL)).toHaveLength(2);
    expect(calls.map(({ status, operation }) => `${operation} ${status}`)).toEqual(
      scripts.flatMap(statuses).map((status, index) => `${calls[index]?.operation} ${status}`),
    );
  });

  test("the reader sees each status and answer", () => {
    const seen = printed.split("\n").flatMap((line) => /^HTTP\/1\.1 (\d{3})|^(\{.*)/.exec(line)?.slice(1) ?? []);
    expect(seen.filter(Boolean)).toEqual(calls.flatMap(({ status, body }) => [String(status), body]));
  });

  test("each answer is the one that is shown below its block", () => {
    const shown = blocks.flatMap((block, index) => {
      if (block.language !== "sh" || statuses(block).length === 0) return [];
      const answers = blocks[index + 1] ?? { language: "nothing", text: "{}" };
      expect(answers.language, block.text).toBe("json");
      expect(documents(answers), block.text).toHaveLength(statuses(block).length);
      return documents(answers);
    });
    expect(calls.length).toBeGreaterThan(OPERATIONS.length);
    expect(calls.map(({ body }, index) => asShown(JSON.parse(body), shown[index]))).toEqual(shown);
  });

  test("every operation on accounts is called, as the contract and the server's own description list them", async () => {
    const called = new Set(calls.map(({ operation }) => operation));
    expect(OPERATIONS.filter((operation) => !called.has(operation))).toEqual([]);
    const description = (await (await fetch(`${server.url}/openapi.json`)).json()) as {
      readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly tags: readonly string[] }>>>>;
    };
    const described = Object.entries(description.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { tags }]) => (tags.includes("accounts") ? [`${method.toUpperCase()} ${path}`] : [])),
    );
    expect(described.toSorted()).toEqual(OPERATIONS.toSorted());
  });

  test("no account is left behind", async () => {
    const { access_token: token } = JSON.parse(calls[0]?.body ?? "{}") as { readonly access_token: string };
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const left = await fetch(`${server.url}/v2/account-management/entities`, { method: "POST", headers, body: "{}" });
    expect(await left.json()).toMatchObject({ success: true, organizations: [], workspaces: [], users: [] });
  });
});
