import { styleText } from "node:util";
import { type Json, parseObject, Refused, type Session, type StreamEvent } from "./chat-client.ts";
import { printable, printJson, printLines, printTable } from "./output.ts";

/** A piece of an answer's text, or the artifact that stands at its place. */
export type Part = { readonly text: string } | { readonly artifactId: string };

const BLOCK = /\n?```json\s+(\{[^`]{0,300}?\})\s+```[ \t]*\n?/g;
const BEGUN_BLOCK = /\n?(?:`{0,2}|```j?|```js|```jso|```json[^`]{0,300}`{0,2})$/;

/**
 * Takes the references to artifacts out of text that comes in pieces (contract §6: fenced blocks). `held` is what may turn out to be the beginning
 * of one: it goes before the next piece, and is text like any other at the end.
 */
export function splitArtifacts(text: string): { readonly parts: readonly Part[]; readonly held: string } {
  const parts: Part[] = [];
  let at = 0;
  for (const block of text.matchAll(BLOCK)) {
    const { type, artifact_id: artifactId } = parseObject(block[1] ?? "");
    if (type !== "output_artifact" || typeof artifactId !== "string" || !/^[\w-]+$/.test(artifactId)) continue; // an id that is safe in a path
    parts.push({ text: text.slice(at, block.index) }, { artifactId });
    at = block.index + block[0].length;
  }
  const rest = text.slice(at);
  const held = BEGUN_BLOCK.exec(rest)?.[0] ?? "";
  parts.push({ text: rest.slice(0, rest.length - held.length) });
  return { parts: parts.filter((part) => !("text" in part) || part.text !== ""), held };
}

/** Shows the events of one answer. */
export interface Screen {
  show(event: StreamEvent): Promise<void>;
}

/** Each event as one line of JSON, with its thread and its id. */
export function jsonScreen(threadId: string): Screen {
  return { show: async ({ id, data }) => printJson({ thread_id: threadId, id, ...data }) };
}

/** The answer on standard output; what is not a part of it, dimmed, on standard error. */
export function textScreen(session: Session, threadPath: string, isColoured: boolean): Screen {
  let held = "";
  let isLineOpen = false;
  const write = (text: string) => {
    process.stdout.write(shown(text));
    isLineOpen = text === "" ? isLineOpen : !text.endsWith("\n");
  };
  const closeLine = () => write(isLineOpen ? "\n" : "");
  const showText = async (text: string, isLast: boolean) => {
    const split = splitArtifacts(held + text);
    held = isLast ? "" : split.held;
    for (const part of split.parts) {
      if ("text" in part) write(part.text);
      else {
        closeLine();
        await showArtifact(session, `${threadPath}/artifacts/${part.artifactId}`);
      }
    }
    if (isLast) write(split.held);
  };
  return {
    async show({ data }) {
      const { message_work_in_progress: work, message_chunk: chunk, message, task_status: status } = data as Partial<Record<string, Json>>;
      if (work !== undefined) {
        if (process.stdout.isTTY) closeLine(); // both are on one screen
        note(String(work["log"]), isColoured);
      }
      if (chunk !== undefined) await showText(String(chunk["message"]), false);
      if (message !== undefined && message["is_user_message"] !== true) {
        await showText("", true);
        closeLine();
        showCitations(message["citations"]);
      }
      const outcome = status?.["outcome"];
      if (typeof outcome === "string" && outcome !== "answered") note(`(${outcome})`, isColoured);
    },
  };
}

function note(line: string, isColoured: boolean): void {
  process.stderr.write(`${isColoured ? styleText("dim", printable(line)) : printable(line)}\n`);
}

async function showArtifact(session: Session, path: string): Promise<void> {
  try {
    const { json } = await session.call("GET", path);
    printArtifact(json["artifact"] as Json);
  } catch (thrown) {
    if (!(thrown instanceof Refused)) throw thrown;
    note(`(an artifact that cannot be shown: ${thrown.message})`, false); // the text is the agent's, and may name what is not there
  }
}

/** A table as a table, anything else as JSON. */
export function printArtifact(artifact: Json): void {
  const { type, title, columns, rows } = artifact;
  const isTable = type === "table" && isList(columns) && isList(rows) && rows.every(isList) && new Set(columns).size === columns.length;
  printLines("");
  if (isTable) {
    const names = columns.map((name) => printable(String(name)));
    if (typeof title === "string") printLines(printable(title), "");
    printTable(
      names,
      rows.map((row) => Object.fromEntries(names.map((name, index) => [name, row[index]]))),
    );
  } else printLines(shown(JSON.stringify(artifact, null, 2)));
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function showCitations(citations: unknown): void {
  if (!isList(citations) || citations.length === 0) return;
  printLines("");
  for (const [index, { title, url, snippet }] of (citations as Json[]).entries()) {
    const parts = [title, url, snippet].filter((part) => typeof part === "string");
    printLines(`[${index + 1}] ${parts.map((part) => printable(part)).join(" · ")}`);
  }
}

/** Printable as in a table's cell, but for line ends, tabs, and the joiners that emoji and some scripts need. */
function shown(text: string): string {
  return text.replaceAll(/[^\n\t\u200C\u200D]+/g, printable);
}
