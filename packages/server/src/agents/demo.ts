import { setTimeout as sleep } from "node:timers/promises";
import type { Agent, AgentEvent, AttachedFile, Question } from "./agent.ts";

const CHUNK_MS = 20;
const SLOW_CHUNK_MS = 100;
const CHUNK_WORDS = 4;
const FAIL_AFTER_CHUNKS = 3;
const ANSWER_CHARACTERS_MAX = 20_000;
const QUOTE_CHARACTERS_MAX = 80;
const ROWS_MAX = 20;
const CELL_CHARACTERS_MAX = 40;
const ENTITLEMENTS_MAX = 10;

/**
 * The agent that is built in: without network, and the same events for the same question. It says what it was asked, with which files, and what it was
 * told of the user, so that a newcomer sees that all of it arrives. A message with the word `slow` is repeated word by word, ten words a second; one with the
 * word `fail` makes it throw after three chunks.
 */
export function demoAgent(pause: Pause = sleepMs): Agent {
  return { answer: (question, signal) => answer(question, (ms) => pause(ms, signal)) };
}

/** Waits so long; throws at once when the signal is aborted. */
type Pause = (ms: number, signal: AbortSignal) => Promise<unknown>;

function sleepMs(ms: number, signal: AbortSignal): Promise<unknown> {
  return sleep(ms, undefined, { signal });
}

async function* answer(question: Question, pause: (ms: number) => Promise<unknown>): AsyncGenerator<AgentEvent> {
  const { history, message, files } = question;
  const words = beginning(message, ANSWER_CHARACTERS_MAX).match(/\S+/g) ?? [];
  yield { kind: "log", line: `Reading the message: ${counted(words.length, "word")}.` };
  yield { kind: "log", line: `Looking back: ${counted(history.length, "earlier message")} in this thread.` };
  for (const file of files) yield { kind: "log", line: `Reading ${shown(file)}: ${await lengthOf(file)}.` };
  const isSlow = hasWord(message, "slow");
  const chunks = isSlow ? inGroups(words, 1) : inGroups(replyTo(question, words).split(" "), CHUNK_WORDS);
  const isFailing = hasWord(message, "fail");
  for (const text of isFailing ? chunks.slice(0, FAIL_AFTER_CHUNKS) : chunks) {
    await pause(isSlow ? SLOW_CHUNK_MS : CHUNK_MS);
    yield { kind: "chunk", text };
  }
  if (isFailing) throw new Error("the demo agent fails where a message has the word fail");
  yield { kind: "log", line: "Measuring the words." };
  yield { kind: "artifact", artifact: tableOf(words) };
  yield {
    kind: "citation",
    citation: {
      title: "About the demo agent",
      url: "https://example.com/demo-agent",
      snippet: "The demo agent answers from what it is given, without a network.",
    },
  };
}

/** What the store has of it, which is what an agent would work on. */
async function lengthOf(file: AttachedFile): Promise<string> {
  const content = await file.read();
  return content.byteLength === file.size ? "all of it is here" : `it has ${content.byteLength} bytes`;
}

function shown({ name, size }: AttachedFile): string {
  return `${beginning(name, CELL_CHARACTERS_MAX)}, ${counted(size, "byte")}`;
}

function replyTo({ history, entitlements, files }: Question, words: readonly string[]): string {
  const said = words.join(" ");
  const quote = beginning(said, QUOTE_CHARACTERS_MAX);
  const told = entitlements.slice(0, ENTITLEMENTS_MAX).map((id) => beginning(id, CELL_CHARACTERS_MAX));
  const more = entitlements.length - told.length;
  return [
    words.length === 0 ? "Your message has no words." : `You wrote “${quote}${quote.length < said.length ? "…" : ""}”.`,
    ...(files.length === 0 ? [] : [`It came with ${counted(files.length, "file")}: ${files.map(shown).join("; ")}.`]),
    `I see ${counted(history.length, "earlier message")} of this thread, and`,
    told.length === 0 ? "no entitlements of yours." : `your entitlements: ${told.join(", ")}${more > 0 ? ` and ${more} more` : ""}.`,
    "I am the demo agent and know nothing else: write “slow” and I take my time over your words, write “fail” and I break off.",
    "Here is how long your words are.",
  ].join(" ");
}

function tableOf(words: readonly string[]): Readonly<Record<string, unknown>> {
  const rows = words.slice(0, ROWS_MAX).map((word) => [beginning(word, CELL_CHARACTERS_MAX), Array.from(word).length]);
  return { type: "table", title: "The words of the message", columns: ["Word", "Characters"], rows };
}

/** At most so many UTF-16 units of it, and never half of a surrogate pair. */
function beginning(text: string, charactersMax: number): string {
  return text
    .slice(0, charactersMax)
    .replace(/[\uD800-\uDBFF]$/, "")
    .toWellFormed();
}

/** The words in chunks, which give the text again when they are put together. */
function inGroups(words: readonly string[], size: number): string[] {
  const groups: string[] = [];
  for (let at = 0; at < words.length; at += size) groups.push((at === 0 ? "" : " ") + words.slice(at, at + size).join(" "));
  return groups;
}

/** As a whole word, in any case. */
function hasWord(text: string, word: string): boolean {
  return new RegExp(String.raw`(?<![\p{L}\p{N}_])${word}(?![\p{L}\p{N}_])`, "iu").test(text);
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
