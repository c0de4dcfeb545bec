import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import type { Command } from "commander";
import { processEnvironment, readDataDir } from "../config.ts";
import { type Json, openSession, parseObject, Refused, serverUrl, type Session } from "./chat-client.ts";
import { jsonScreen, type Screen, textScreen } from "./chat-screen.ts";
import { readDemoPartner } from "./demo-partner.ts";
import { describeFailure, UsageError } from "./failure.ts";
import { printable } from "./output.ts";
import type { DemoSigner } from "./sandbox-token.ts";

const USER_FILE = "chat-user.json";
const EXIT_INTERRUPTED = 130;

interface ChatOptions {
  readonly user?: string;
  readonly message?: string;
  readonly url?: string;
  readonly json?: boolean;
}

/** The threads API (contract §6) in the terminal, as a user of the sandbox's demo partner. */
export function addChatCommand(program: Command): void {
  program
    .command("chat")
    .description("a conversation in the terminal, as a user of the sandbox's demo partner")
    .option("--user <id>", "as this user; else as one that is made for it, the same each time")
    .option("--message <text>", "send this one only; the exit code is 0 where it was answered")
    .option("--url <url>", "the server; unless given, where the sandbox of the data folder is")
    .option("--json", "print each event as one line of JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  cambist chat --message 'What can you do?'\n\nIn the conversation: /file PATH uploads a file, which goes with the next message.",
    )
    .action(chat);
}

async function chat(options: ChatOptions): Promise<void> {
  const env = processEnvironment();
  const dataDir = readDataDir(env);
  const signer = readDemoPartner(dataDir);
  const base = serverUrl(options.url ?? signer.partner.audience);
  const session = options.user === undefined ? await openOwnSession(base, signer, dataDir) : await openSession(base, signer, options.user);
  const { json } = await session.call("POST", "/v2/threads", { thread_name: "cambist chat" });
  const threadId = String(json["thread_id"]);
  const threadPath = `/v2/threads/${threadId}`;
  const isColoured = process.stderr.isTTY && env["NO_COLOR"] === undefined;
  const screen = options.json ? jsonScreen(threadId) : textScreen(session, threadPath, isColoured);
  const outcome = await converse({ session, threadId, threadPath, screen, attached: [] }, options);
  if (options.message !== undefined && outcome !== "answered") process.exitCode = 1;
}

/** The user of the last time, or a new one where there is none or where it is gone. */
async function openOwnSession(base: string, signer: DemoSigner, dataDir: string): Promise<Session> {
  const path = join(dataDir, USER_FILE);
  const { user_id: known } = existsSync(path) ? parseObject(readFileSync(path, "utf8")) : {};
  if (typeof known === "string") {
    try {
      return await openSession(base, signer, known);
    } catch (thrown) {
      if (!(thrown instanceof Refused && thrown.code === "subject_unknown")) throw thrown;
    }
  }
  const userId = await makeUser(await openSession(base, signer, signer.partner.clientId));
  writeFileSync(path, `${JSON.stringify({ user_id: userId })}\n`, { mode: 0o600 });
  return openSession(base, signer, userId);
}

async function makeUser(partner: Session): Promise<string> {
  const home = await partner.call("PUT", "/v2/account-management/organization-and-workspace", {
    org_name: "Demo organization",
    workspace_name: "Demo workspace",
    org_entitlements: [{ billing_feature_id: "demo_chat" }],
  });
  const { workspace_id: workspaceId } = home.json["workspace"] as Json;
  const made = await partner.call("PUT", "/v2/account-management/user", { workspace_id: workspaceId, name: "Ada" });
  return String((made.json["user"] as Json)["user_id"]);
}

interface Conversation {
  readonly session: Session;
  readonly threadId: string;
  readonly threadPath: string;
  readonly screen: Screen;
  /** Ids of files that go with the next message. */
  readonly attached: string[];
}

type Outcome = "answered" | "cancelled" | "failed";

/** Sends a message and shows what comes of it, until its task is over. An interruption cancels the task, whenever it comes. */
async function answerTo(
  message: string,
  { session, threadId, threadPath, screen, attached }: Conversation,
  interrupted: AbortSignal,
): Promise<Outcome> {
  const sent = await session.call("POST", `${threadPath}/messages`, { message, file_ids: attached });
  attached.length = 0;
  const cancel = () => void session.call("DELETE", `${threadPath}/task`).catch((thrown: unknown) => sayFailure(thrown)); // over already, perhaps
  if (interrupted.aborted) cancel();
  else interrupted.addEventListener("abort", cancel);
  for await (const event of session.events(`/v2/threads/stream/${threadId}`, sent.headers.get("last-event-id"))) {
    await screen.show(event);
    const status = event.data["task_status"] as { task_id?: string; outcome?: Outcome } | undefined;
    if (status?.outcome !== undefined && status.task_id === sent.json["task_id"]) return status.outcome;
  }
  throw new Error("the stream of the answer broke, and the server did not take it up again");
}

/**
 * Sends the one message, or what is typed, line by line; `/file PATH` is no message, but a file for the next one. Ctrl-C cancels the answer that comes (a second one ends the program, should that not
 * help), and ends the conversation where none comes. In a terminal a message that fails is not the end.
 */
async function converse(conversation: Conversation, { message, json }: ChatOptions): Promise<Outcome> {
  const isTerminal = json !== true && process.stdin.isTTY && process.stdout.isTTY;
  const output = isTerminal ? { output: process.stdout } : {};
  const lines = message === undefined ? createInterface({ input: process.stdin, terminal: isTerminal, ...output }) : undefined;
  let isOpen = isTerminal;
  lines?.once("close", () => (isOpen = false)); // perhaps while an answer comes
  const prompt = () => isOpen && lines?.prompt();
  let answering: AbortController | undefined;
  let outcome: Outcome = "answered";
  const interrupt = () => {
    if (answering === undefined) lines?.close();
    else if (answering.signal.aborted) process.exit(EXIT_INTERRUPTED);
    else answering.abort();
  };
  process.on("SIGINT", interrupt);
  lines?.on("SIGINT", interrupt); // readline keeps Ctrl-C from being a signal
  prompt();
  for await (const line of lines ?? [message ?? ""]) {
    answering = new AbortController();
    try {
      const [, path] = (lines === undefined ? null : FILE_LINE.exec(line)) ?? [];
      if (path !== undefined) await attach(path, conversation);
      else if (lines === undefined || line.trim() !== "") outcome = await answerTo(line, conversation, answering.signal);
    } catch (thrown) {
      if (!isTerminal) throw thrown;
      sayFailure(thrown);
    }
    answering = undefined;
    prompt();
  }
  return outcome;
}

const FILE_LINE = /^\/file\s+(\S.*?)\s*$/;

/** @throws UsageError where the file cannot be read. */
async function attach(path: string, { session, threadPath, attached }: Conversation): Promise<void> {
  const name = basename(path);
  let content: Uint8Array<ArrayBuffer>;
  try {
    content = readFileSync(path);
  } catch (thrown) {
    throw new UsageError(`the file cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
  attached.push(await session.upload(`${threadPath}/files`, { name, content }));
  process.stderr.write(`(${printable(name)}, ${content.byteLength} bytes, goes with the next message)\n`);
}

function sayFailure(thrown: unknown): void {
  process.stderr.write(`cambist: ${describeFailure(thrown, false).text}\n`);
}
