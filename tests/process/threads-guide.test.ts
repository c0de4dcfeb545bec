import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "../house/import-graph.ts";
import { asShown, type Block, Guide, statusesOf } from "./guide.ts";
import { freePort, makeDataDir, type ServerProcess, startServer } from "./spawn.ts";

const guide = new Guide("threads.md");
const GUIDE_URL = "URL=http://localhost:8080\n";
const MARK = "=== the next block ===";
/** On a busy machine each `npx` takes seconds. */
const WALK_MS_MAX = 120_000;

const dataDir = makeDataDir();
let server: ServerProcess;
beforeAll(async () => {
  server = await startServer("sandbox", await freePort(), { CAMBIST_DATA_DIR: dataDir.path });
});
afterAll(async () => {
  server.signal("SIGTERM");
  await server.exited;
  dataDir.remove();
});

/** Pastes them into one bash session; gives what each has printed. */
async function paste(scripts: readonly string[]): Promise<readonly string[]> {
  const { PATH = "", HOME = "" } = process.env;
  const session = scripts.join(`\necho '${MARK}'\n`).replace(GUIDE_URL, `URL=${server.url}\n`);
  const child = spawn("bash", ["-c", session], { cwd: root, env: { PATH, HOME, CAMBIST_DATA_DIR: dataDir.path } });
  return (await printedBy(child)).split(`${MARK}\n`);
}

/** @throws where it fails. What it has left in the background is not waited for: a curl notices only at the next event that nobody reads it. */
async function printedBy(child: ChildProcessWithoutNullStreams): Promise<string> {
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child.stdout, "end");
  const [code] = (await once(child, "exit")) as [number | null];
  await ended;
  if (code !== 0) throw new Error(`exit code ${code}:\n${stderr}`);
  return stdout;
}

const blockBelow = (block: Block): Block | undefined => guide.blocks[guide.blocks.indexOf(block) + 1];
const linesOf = (printed: string, pattern: RegExp) => [...printed.matchAll(pattern)].map(([, text = ""]) => text);

/** `…` is any text, and on a line of its own any lines. */
function patternOf({ text }: Block): RegExp {
  const escaped = text.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll(/^…$/gm, "[^]*").replaceAll("…", ".+?")}$`);
}

describe("docs/threads.md, walked from top to bottom in one bash session", () => {
  let printed: readonly string[];
  beforeAll(async () => {
    expect(guide.text.split(GUIDE_URL)).toHaveLength(2);
    printed = await paste(guide.scripts.map(({ text }) => text));
  }, WALK_MS_MAX);

  test("each call is answered with the status that stands beside it", () => {
    expect(printed.map((text) => linesOf(text, /^HTTP\/1\.1 (\d{3})/gm).map(Number))).toEqual(guide.scripts.map(statusesOf));
  });

  test("each answer is the one that is shown below its block", () => {
    const shown = guide.shownAnswers();
    const answers = linesOf(printed.join(""), /^(\{.*)/gm);
    expect(answers.length).toBeGreaterThan(20);
    expect(answers.map((answer, index) => asShown(JSON.parse(answer), shown[index]))).toEqual(shown);
  });

  test("each stream brings what is shown below its block", () => {
    const streams = guide.scripts.flatMap((block, index) => (/^events /m.test(block.text) ? [{ block, text: printed[index] ?? "" }] : []));
    expect(streams.length).toBeGreaterThan(4);
    for (const { block, text } of streams) {
      const shown = blockBelow(block);
      expect(shown?.language, block.text).toBe("text");
      expect(text.trim()).toMatch(patternOf(shown as Block));
    }
  });

  test("a page of a listed origin may read its answer, and no other page", () => {
    expect(linesOf(printed.join(""), /^access-control-allow-origin: (.*)/gm)).toEqual(["http://localhost:3000"]);
  });

  test("every operation on threads is called, and each reason for which a stream ends is in its table", async () => {
    const described = (await (await fetch(`${server.url}/openapi.json`)).json()) as {
      readonly paths: Readonly<Record<string, Readonly<Record<string, OperationDocs>>>>;
    };
    const operations = Object.values(described.paths)
      .flatMap((methods) => Object.values(methods))
      .filter(({ tags }) => tags.includes("threads"));
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    const called = new Set(linesOf(metrics, /_seconds_count\{operation="(\w+)",status="200"\}/g));
    expect(operations.length).toBeGreaterThan(9);
    expect(operations.map(({ operationId }) => operationId).filter((id) => !called.has(id))).toEqual([]);
    const { description = "" } = operations.find(({ operationId }) => operationId === "streamThreadEvents") ?? {};
    const reasons = linesOf(/`stream_end`.*?\./.exec(description)?.[0] ?? "", /`(\w+_\w+)`/g).filter((word) => word !== "stream_end");
    const [, section = ""] = guide.text.split("## When a stream ends");
    expect(linesOf(section.split("\n## ")[0] ?? "", /^\| `(\w+_\w+)` \|/gm)).toEqual(reasons);
  });
});

interface OperationDocs {
  readonly operationId: string;
  readonly description?: string;
  readonly tags: readonly string[];
}

describe("the programs of docs/threads.md", () => {
  const folder = mkdtempSync(join(tmpdir(), "cambist-guide-"));
  let token: string;
  let threadId: string;
  beforeAll(async () => {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    const untilThread = guide.scripts.slice(0, guide.scripts.findIndex(({ text }) => text.includes("THREAD_ID=")) + 1);
    const printed = await paste([...untilThread.map(({ text }) => text), 'echo "$TOKEN $THREAD_ID"']);
    [token = "", threadId = ""] = printed.at(-1)?.trim().split(" ") ?? [];
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** The guide's program in this language, used by a few lines of a test's. */
  function run(language: string, use: string, url: string): ChildProcessWithoutNullStreams {
    const programs = guide.blocks.filter((block) => block.language === language);
    expect(programs).toHaveLength(1);
    writeFileSync(join(folder, `guide.m${language}`), programs[0]?.text ?? "");
    writeFileSync(join(folder, `use.m${language}`), use);
    const args = ["--import", "tsx", join(folder, `use.m${language}`)];
    return spawn(process.execPath, args, { cwd: root, env: { ...process.env, GUIDE_THREAD: JSON.stringify({ url, threadId, token }) } });
  }

  test("the one for a page reads every event once, also where the connection breaks, until the thread is deleted", async () => {
    const { proxy, askedFor } = await startBreakingProxy(server.url);
    const child = run(
      "js",
      `import { followThread } from "./guide.mjs";
      const { url, threadId, token } = JSON.parse(process.env.GUIDE_THREAD);
      const onEvent = (kind, data) => console.log(JSON.stringify({ kind, data }));
      await followThread({ url, threadId, lastEventId: "0", getToken: async () => token, onEvent });`,
      `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    );
    child.stdout.on("data", (text: Buffer) => {
      if (!text.includes('"Complete"')) return;
      const authorization = `Bearer ${token}`;
      void fetch(`${server.url}/v2/threads/${threadId}`, { method: "DELETE", headers: { authorization } });
    });
    const printed = await printedBy(child);
    proxy.close();
    const lines = printed.trim().split("\n");
    const events = lines.map((line) => JSON.parse(line) as SeenEvent);
    expect(askedFor).toEqual(["0", expect.stringMatching(/^[1-9]\d*$/)]);
    const text = events.map(({ kind, data }) => (kind === "message_chunk" ? data.message : "")).join("");
    expect(text).toContain("You wrote “Hello, who are you?”.");
    expect(events.filter(({ kind }) => kind === "message").map(({ data }) => data.message)).toEqual([text]);
    expect(events.filter(({ kind }) => kind === "task_status")).toHaveLength(1);
  });

  test("the one for a server gives the text of an answer", async () => {
    const authorization = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const body = JSON.stringify({ thread_name: "Of a program" });
    const created = await fetch(`${server.url}/v2/threads`, { method: "POST", headers: authorization, body });
    ({ thread_id: threadId } = (await created.json()) as { thread_id: string });
    const use = `import { ask } from "./guide.mjs";
      const { url, threadId, token } = JSON.parse(process.env.GUIDE_THREAD ?? "") as Record<string, string>;
      for await (const text of ask(url, threadId, token, "What is this?")) process.stdout.write(text);`;
    expect(await printedBy(run("ts", use, server.url))).toContain("You wrote “What is this?”. I see 0 earlier messages of this thread");
  });
});

interface SeenEvent {
  readonly kind: string;
  readonly data: { readonly message?: string };
}

/** Hands on what comes as it comes, and breaks the first connection in the middle of its first chunk. */
async function startBreakingProxy(target: string): Promise<{ readonly proxy: Server; readonly askedFor: string[] }> {
  const askedFor: string[] = [];
  const proxy = createServer((incoming, outgoing) => {
    const isFirst = askedFor.push(String(incoming.headers["last-event-id"])) === 1;
    const forwarded = request(`${target}${incoming.url}`, { headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.on("data", (bytes: Buffer) => {
        const cutAt = isFirst ? bytes.indexOf("final_chunk") : -1;
        if (cutAt < 0) return void outgoing.write(bytes);
        answer.removeAllListeners("data");
        outgoing.write(bytes.subarray(0, cutAt), () => outgoing.destroy());
      });
      answer.on("end", () => outgoing.end());
    });
    outgoing.on("close", () => forwarded.destroy());
    forwarded.end();
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return { proxy, askedFor };
}
