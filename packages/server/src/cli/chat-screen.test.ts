import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Json, Refused, type Session } from "./chat-client.ts";
import { jsonScreen, printArtifact, splitArtifacts, textScreen } from "./chat-screen.ts";

let out = "";
let err = "";
beforeEach(() => {
  out = "";
  err = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => ((err += String(text)), true));
});
afterEach(() => {
  vi.restoreAllMocks();
});

const block = (id: string) => `\`\`\`json\n{"type":"output_artifact","artifact_id":"${id}"}\n\`\`\`\n`;
const TEXT = `Look:\n${block("a-1")}and \`code\`, and\n\`\`\`json\n{"a":1}\n\`\`\`\nat last ${block("b_2")}`;

/** The parts of text that comes in pieces, neighbouring text put together. */
function inPieces(pieces: readonly string[]): unknown[] {
  let held = "";
  const shown: string[] = [];
  for (const piece of pieces) {
    const split = splitArtifacts(held + piece);
    held = split.held;
    for (const part of split.parts) {
      if ("text" in part && typeof shown.at(-1) === "string" && !shown.at(-1)?.startsWith("#")) shown.push(`${shown.pop()}${part.text}`);
      else shown.push("text" in part ? part.text : `#${part.artifactId}`);
    }
  }
  return held === "" ? shown : [...shown, held];
}

describe("references to artifacts in an answer", () => {
  const parts = ["Look:", "#a-1", 'and `code`, and\n```json\n{"a":1}\n```\nat last ', "#b_2"];

  test("are taken out of the text, which stays as it was", () => {
    expect(inPieces([TEXT])).toEqual(parts);
  });

  test("wherever the text is cut", () => {
    const lines = (found: unknown[]) => found.filter((part) => part !== "\n"); // the line end behind a block may come by itself
    for (let at = 1; at < TEXT.length; at += 1) {
      expect(lines(inPieces([TEXT.slice(0, at), TEXT.slice(at)])).map((part) => String(part).trimStart())).toEqual(parts);
    }
    expect(inPieces(TEXT.split("")).join("").replaceAll(/\s/g, "")).toBe(parts.join("").replaceAll(/\s/g, ""));
  });

  test("are text where they are not complete, or name what is no id", () => {
    for (const text of [
      '```json\n{"type":"output_artifact"}\n```\n',
      '```json\n{"type":"output_artifact","artifact_id":"../../partners"}\n```\n',
      '```json\n{"type":"output_artifact","artifact_id":7}\n```\n',
      '```json\n{"type":\n```\n',
      `\`\`\`json\n${"x".repeat(400)}`,
      "a `` b ```js c",
    ]) {
      expect(inPieces([text]).join("")).toBe(text);
      expect(inPieces(text.split("")).join("")).toBe(text);
    }
  });

  test("hold back no more than may become one", () => {
    expect(splitArtifacts("no fence here")).toEqual({ parts: [{ text: "no fence here" }], held: "" });
    expect(splitArtifacts("```ts\nlet a")).toEqual({ parts: [{ text: "```ts\nlet a" }], held: "" });
    expect(splitArtifacts("x ```json\n{")).toEqual({ parts: [{ text: "x " }], held: "```json\n{" });
  });
});

describe("an artifact", () => {
  test("is a table where it is one", () => {
    printArtifact({
      type: "table",
      title: "Words",
      columns: ["Word", "Characters"],
      rows: [
        ["Hello", 5],
        ["you", null],
      ],
    });
    expect(out).toBe("\nWords\n\nWORD   CHARACTERS\nHello  5\nyou    -\n");
  });

  test.each([
    { type: "chart", points: [1] },
    { type: "table", columns: ["A", "A"], rows: [] },
    { type: "table", columns: ["A"], rows: [1] },
    { type: "table" },
  ])("is JSON where it is not: %j", (artifact) => {
    printArtifact(artifact);
    expect(JSON.parse(out)).toEqual(artifact);
  });

  test("moves no cursor and turns no reading direction", () => {
    printArtifact({ type: "table", title: "\u001b[2J", columns: ["\u001b[1m", "b"], rows: [["\u202Eabc", "\u009b1m\n"]] });
    printArtifact({ type: "\u202E", text: "\u009b31m" });
    expect(out).not.toMatch(/[\u001b\u009b\u202e]/);
  });
});

describe("an answer on the screen", () => {
  const session = (answer: () => Json): Session => ({
    call: async (method, path) => ({ json: { artifact: { asked: `${method} ${path}`, ...answer() } }, headers: new Headers() }),
    upload: () => Promise.reject(new Error("not asked for")),
    events: () => {
      throw new Error("not asked for");
    },
  });
  const events: Json[] = [
    { message_work_in_progress: { log: "Reading \u001b[1m" } },
    { message_chunk: { message: "Hello ", final_chunk: false } },
    { message_chunk: { message: `\u001b[31m😀 👨‍👩‍👧\tyou\n\`\`\`json`, final_chunk: false } },
    { message_chunk: { message: block("a-1").slice("```json".length), final_chunk: false } },
    { message_chunk: { message: "There.", final_chunk: true } },
    { message: { message: "the whole", is_user_message: false, citations: [{ title: "T\n", url: null, snippet: "S" }] } },
    { task_status: { task_id: "1", status: "Complete", outcome: "cancelled" } },
  ];

  test("is the text as it comes, artifacts at their place, then what it cites; what it does beside that is on standard error", async () => {
    const screen = textScreen(
      session(() => ({ is: "it" })),
      "/v2/threads/t",
      false,
    );
    for (const data of events) await screen.show({ id: "1", data });
    expect(out).toBe(
      'Hello \uFFFD[31m😀 👨‍👩‍👧\tyou\n\n{\n  "asked": "GET /v2/threads/t/artifacts/a-1",\n  "is": "it"\n}\nThere.\n\n[1] T\uFFFD · S\n',
    );
    expect(err).toBe("Reading \uFFFD[1m\n(cancelled)\n");
  });

  test("goes on where an artifact is not there: the answer's text may name any", async () => {
    const missing = session(() => {
      throw new Refused(404, "the server answered 404: not there", undefined);
    });
    const screen = textScreen(missing, "/v2/threads/t", false);
    for (const data of events) await screen.show({ id: "1", data });
    expect(out).toContain("you\nThere.\n");
    expect(err).toContain("404: not there");
  });

  test("ends with what looked like the beginning of a reference", async () => {
    const screen = textScreen(
      session(() => ({})),
      "/v2/threads/t",
      false,
    );
    await screen.show({ id: "1", data: { message_chunk: { message: "code: ```json" } } });
    expect(out).toBe("code: ");
    await screen.show({ id: "2", data: { message: { is_user_message: false, citations: [] } } });
    expect(out).toBe("code: ```json\n");
  });

  test("is one line for each event with --json", async () => {
    const screen = jsonScreen("t");
    for (const [index, data] of events.entries()) await screen.show({ id: String(index), data });
    const lines = out.trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(
      events.map((data, index) => ({ thread_id: "t", id: String(index), ...data })),
    );
  });
});
