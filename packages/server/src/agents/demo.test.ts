import { describe, expect, test } from "vitest";
import type { AgentEvent, AttachedFile, Question } from "./agent.ts";
import { demoAgent } from "./demo.ts";

const QUESTION: Question = {
  taskId: "task",
  threadId: "thread",
  partnerId: "prt_0",
  user: { userId: "user", workspaceId: "workspace", orgId: "organization" },
  entitlements: ["premium", "beta"],
  message: "What can you do?",
  files: [],
  history: [],
};

function fileOf(name: string, content: Uint8Array, size = content.byteLength): AttachedFile {
  return { fileId: name, name, mediaType: "application/pdf", size, read: async () => content };
}

/** What it says; its pauses take no time, and are written down. */
async function told(more: Partial<Question> = {}) {
  const sleeps: number[] = [];
  const agent = demoAgent(async (ms) => sleeps.push(ms));
  const events: AgentEvent[] = [];
  let thrown: unknown;
  try {
    for await (const event of agent.answer({ ...QUESTION, ...more }, new AbortController().signal)) events.push(event);
  } catch (error) {
    thrown = error;
  }
  const chunks = events.flatMap((event) => (event.kind === "chunk" ? [event.text] : []));
  return { events, chunks, text: chunks.join(""), thrown, sleeps };
}

describe("the demo agent", () => {
  test("logs, streams an answer in chunks 20 ms apart, shows a table and cites", async () => {
    const { events, chunks, text, thrown, sleeps } = await told();
    expect(thrown).toBeUndefined();
    expect(events.filter(({ kind }) => kind === "log").length).toBeGreaterThanOrEqual(2);
    expect(chunks.length).toBeGreaterThan(5);
    expect(sleeps).toEqual(chunks.map(() => 20));
    expect(text).toMatch(/^You wrote “What can you do\?”\. I see /);
    expect(events.slice(-2)).toEqual([
      {
        kind: "artifact",
        artifact: {
          type: "table",
          title: "The words of the message",
          columns: ["Word", "Characters"],
          rows: [
            ["What", 4],
            ["can", 3],
            ["you", 3],
            ["do?", 3],
          ],
        },
      },
      { kind: "citation", citation: expect.objectContaining({ url: expect.stringContaining("example.com") as unknown }) as unknown },
    ]);
  });

  test("says the same to the same question", async () => {
    expect((await told()).events).toEqual((await told()).events);
  });

  test("shows that it was told of the thread and of the user's entitlements", async () => {
    const said = { by: "user", message: "Hello" } as const;
    expect((await told({ history: [said, said] })).text).toContain("2 earlier messages");
    expect((await told({ history: [said] })).text).toContain("1 earlier message of");
    expect((await told()).text).toContain("your entitlements: premium, beta.");
    expect((await told({ entitlements: [] })).text).toContain("no entitlements of yours.");
    expect((await told({ entitlements: Array.from({ length: 12 }, (_, index) => `f${index}`) })).text).toContain("f9 and 2 more.");
  });

  test("reads the files that came with the message, and names them in its answer and its log", async () => {
    const report = fileOf("report.pdf", new Uint8Array(1234));
    const { events, text } = await told({ files: [report] });
    expect(text).toContain("It came with 1 file: report.pdf, 1234 bytes.");
    expect(events).toContainEqual({ kind: "log", line: "Reading report.pdf, 1234 bytes: all of it is here." });
    const more = await told({ files: [report, fileOf("x".repeat(255), new Uint8Array(1), 2)] });
    expect(more.text).toContain(`It came with 2 files: report.pdf, 1234 bytes; ${"x".repeat(40)}, 2 bytes.`);
    expect(more.events).toContainEqual({ kind: "log", line: expect.stringMatching(/: it has 1 bytes\.$/) as string });
    const gone = { ...report, read: () => Promise.reject(new Error("gone")) };
    expect((await told({ files: [gone] })).thrown).toEqual(new Error("gone"));
  });

  test.each(["a slow answer, please", "SLOW a b c", "so (slow)"])("repeats %j word by word, ten words a second", async (message) => {
    const { chunks, text, sleeps } = await told({ message });
    expect(text).toBe(message);
    expect(chunks).toHaveLength(message.split(" ").length);
    expect(sleeps).toEqual(chunks.map(() => 100));
  });

  test.each(["slower", "snowslow", "slowé", "failure", "unfail", "fail_1"])("takes %j for a word like any other", async (message) => {
    const { text, thrown } = await told({ message });
    expect(thrown).toBeUndefined();
    expect(text).toContain(`You wrote “${message}”.`);
  });

  test("a message of 600 words with slow streams for a minute", async () => {
    const { sleeps } = await told({ message: `slow${" word".repeat(599)}` });
    expect(sleeps.reduce((sum, ms) => sum + ms, 0)).toBe(60_000);
  });

  test.each(["Fail!", "slow and fail then and there"])("breaks off where the message is %j, after a few chunks", async (message) => {
    const { chunks, thrown } = await told({ message });
    expect(chunks).toHaveLength(3);
    expect(thrown).toEqual(new Error("the demo agent fails where a message has the word fail"));
  });

  test.each(["", "  \n\t "])("answers a message without words: %j", async (message) => {
    const { events, text, thrown } = await told({ message });
    expect(thrown).toBeUndefined();
    expect(text).toMatch(/^Your message has no words\. /);
    expect(events.find(({ kind }) => kind === "artifact")).toMatchObject({ artifact: { rows: [] } });
  });

  test.each([
    ["of one word", "x".repeat(1_000_000)],
    ["of many words", "word ".repeat(200_000)],
    ["to be repeated", `slow ${"word ".repeat(200_000)}`],
    ["with long entitlements", "Hello"],
  ])("is bounded on a very long message %s", async (name, message) => {
    const entitlements = Array.from({ length: 1000 }, (_, index) => `${index}${"e".repeat(1000)}`);
    const { events, text } = await told({ message, entitlements: name.includes("entitlements") ? entitlements : [] });
    expect(text.length).toBeLessThanOrEqual(20_000);
    expect(JSON.stringify(events.filter(({ kind }) => kind !== "chunk")).length).toBeLessThan(4_000);
  });

  test("cuts no character in two", async () => {
    for (const lead of ["", "x"]) {
      const { events, text } = await told({ message: lead + "😀".repeat(10_001) });
      expect(text).toMatch(/^You wrote “x?(?:😀){39,40}…”/);
      expect(JSON.stringify(events)).not.toMatch(/\\ud[89a-f]/i);
    }
    expect((await told({ message: `slow \uD83D` })).text.isWellFormed()).toBe(true);
  });

  test("stops at once when it is told to, in the middle of a pause", async () => {
    const controller = new AbortController();
    const answer = demoAgent().answer({ ...QUESTION, message: "slow a b c d e" }, controller.signal);
    const events = answer[Symbol.asyncIterator]();
    while ((await events.next()).value?.kind !== "chunk");
    const next = events.next();
    controller.abort();
    await expect(next).rejects.toThrow("aborted");
    expect(await events.next()).toEqual({ done: true, value: undefined });
  });
});
