import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../house/import-graph.ts";
import { freePort, makeDataDir, startServer } from "./spawn.ts";

/** A guide whose blocks are pasted into one bash session, from top to bottom, as a reader would. */

const run = promisify(execFile);

const GUIDE_URL = "URL=http://localhost:8080\n";

export interface Block {
  readonly language: string;
  readonly text: string;
}

export interface Call {
  /** Method and path. */
  readonly operation: string;
  readonly status: number;
  readonly body: string;
}

export interface Walk {
  readonly calls: readonly Call[];
  /** What the reader saw. */
  readonly printed: string;
  /** Of the sandbox. */
  readonly url: string;
  stop(): Promise<void>;
}

export class Guide {
  readonly text: string;
  readonly blocks: readonly Block[];
  readonly scripts: readonly Block[];

  /** @param name of the file, in `docs`. */
  constructor(name: string) {
    this.text = readFileSync(join(root, "docs", name), "utf8");
    this.blocks = [...this.text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({ language, text }));
    this.scripts = this.blocks.filter(({ language }) => language === "sh");
  }

  /** Against a sandbox of its own. @throws where the guide does not name the server exactly once, or the session fails. */
  async walk(): Promise<Walk> {
    if (this.text.split(GUIDE_URL).length !== 2) throw new Error("the guide does not name the server once");
    const dataDir = makeDataDir();
    const calls: Call[] = [];
    const server = await startServer("sandbox", await freePort(), { CAMBIST_DATA_DIR: dataDir.path });
    const proxy = recordingProxy(server.url, calls);
    const stop = async () => {
      proxy.closeAllConnections();
      proxy.close();
      server.signal("SIGTERM");
      await server.exited;
      dataDir.remove();
    };
    try {
      await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
      const session = this.scripts.map(({ text }) => text).join("\n");
      const here = session.replace(GUIDE_URL, `URL=http://127.0.0.1:${(proxy.address() as AddressInfo).port}\n`);
      const { PATH = "", HOME = "" } = process.env;
      const { stdout } = await run("bash", ["-c", here], { cwd: root, env: { PATH, HOME, CAMBIST_DATA_DIR: dataDir.path } });
      return { calls, printed: stdout, url: server.url, stop };
    } catch (thrown) {
      await stop();
      throw thrown;
    }
  }

  /** What the guide shows below its blocks, an answer for each call. @throws where a block with calls has none, or too few. */
  shownAnswers(): unknown[] {
    return this.blocks.flatMap((block, index) => {
      const count = statusesOf(block).length;
      if (block.language !== "sh" || count === 0) return [];
      const answers = this.blocks[index + 1];
      const shown = answers?.language === "json" ? documentsOf(answers) : [];
      if (shown.length !== count) throw new Error(`${shown.length} answers are shown below a block of ${count} calls:\n${block.text}`);
      return shown;
    });
  }
}

/** `# 201` behind a call is what the guide says of its answer. */
export function statusesOf({ text }: Block): number[] {
  return [...text.matchAll(/ {2}# (\d{3})\b/g)].map(([, status]) => Number(status));
}

/** Each document begins in the first column, and goes on in lines that do not. */
function documentsOf({ text }: Block): unknown[] {
  return text.split(/\n(?=\{)/).map((document) => JSON.parse(document) as unknown);
}

/** What the reader saw of each answer: its status and its body. */
export function seenAnswers({ printed }: Walk): string[] {
  return printed.split("\n").flatMap((line) => (/^HTTP\/1\.1 (\d{3})|^(\{.*)/.exec(line)?.slice(1) ?? []).filter(Boolean));
}

/** `real`, with `…` wherever the guide has it for a text or a number. */
export function asShown(real: unknown, shown: unknown): unknown {
  if (shown === "…") return typeof real === "number" || (typeof real === "string" && real !== "") ? shown : real;
  if (typeof real !== "object" || real === null || typeof shown !== "object" || shown === null) return real;
  if (Array.isArray(real)) return real.map((item, index) => asShown(item, (shown as unknown[])[index]));
  const members = Object.entries(real).map(([name, value]) => [name, asShown(value, (shown as Record<string, unknown>)[name])]);
  return Object.fromEntries(members);
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
