import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { CALLERS, NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { answer, chunks, claimOf, createOwner, createThread, outputOf, requireTask, sendMessage, WAITING_MAX } from "../testing/threads.ts";
import type { Store } from "./store.ts";
import type { Message, MessageRange, ThreadOwner } from "./thread-store.ts";

const WHOLE = { startMs: undefined, endMs: undefined, startIndex: 0, limit: 1_000 };

/** Of what happens to a thread, at a clock that also goes back: `say` sends a message, or where too many wait has the first one answered. */
const STEPS = fc.array(fc.record({ act: fc.constantFrom("say", "say", "answer"), clockStepMs: fc.integer({ min: -30, max: 40 }) }), {
  minLength: 1,
  maxLength: 40,
});
const maybe = (arbitrary: fc.Arbitrary<number>) => fc.option(arbitrary, { nil: undefined });
/** About the times of the messages, with bounds that lie on one, between two and outside. */
const RANGES = fc.array(
  fc.record({
    startMs: maybe(fc.integer({ min: -100, max: 700 })),
    endMs: maybe(fc.integer({ min: -100, max: 700 })),
    startIndex: fc.integer({ min: 0, max: 45 }),
    limit: fc.integer({ min: 1, max: 45 }),
  }),
  { minLength: 25, maxLength: 25 },
);

function pageOf(messages: readonly Message[], { startMs = -Infinity, endMs = Infinity, startIndex, limit }: MessageRange) {
  const within = messages.filter(({ sentAtMs }) => sentAtMs >= startMs && sentAtMs <= endMs);
  const end = Math.max(0, within.length - startIndex);
  return { messages: within.slice(Math.max(0, end - limit), end), totalCount: within.length };
}

describe.each(DIALECTS)("messages in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let owner: ThreadOwner;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
    owner = await createOwner(opened);
  });
  afterAll(() => opened.close());

  async function answerFirst(threadId: string, nowMs: number): Promise<Message> {
    const end = answer(`answer at ${nowMs}`, { citations: [{ url: "https://example.com" }] });
    const task = await requireTask(store, threadId, NOW + 10_000);
    const [batch] = (await store.tasks.finish(outputOf(task), end, nowMs)) ?? [];
    const { messageId, message, citations } = end;
    return { messageId, message, citations, isUserMessage: false, sentAtMs: Number(batch?.events[0]?.[1]) };
  }

  test("any range of them is what filter and slice make of all: oldest first, counted from the newest, and the total", async () => {
    const property = fc.asyncProperty(STEPS, RANGES, async (steps, ranges) => {
      const threadId = await createThread(store, owner);
      const model: Message[] = [];
      let clockMs = NOW;
      let waiting = 0;
      for (const { act, clockStepMs } of steps) {
        clockMs += clockStepMs;
        const sentAtMs = Math.max(clockMs, model.at(-1)?.sentAtMs ?? 0);
        if (waiting === WAITING_MAX || (act === "answer" && waiting > 0)) {
          const said = await answerFirst(threadId, clockMs);
          expect(said.sentAtMs).toBe(sentAtMs);
          model.push(said);
          waiting--;
        } else {
          const message = `question ${model.length}`;
          const { messageId } = await sendMessage(store, owner, threadId, message, clockMs);
          model.push({ messageId, message, citations: [], isUserMessage: true, sentAtMs });
          waiting++;
        }
      }
      const at = (ms: number | undefined) => (ms === undefined ? undefined : NOW + ms);
      const asked = ranges.map((range) => ({ ...range, startMs: at(range.startMs), endMs: at(range.endMs) }));
      for (const range of [WHOLE, ...asked]) {
        expect(await store.threads.listMessages(owner, threadId, range), JSON.stringify(range)).toEqual(pageOf(model, range));
      }
    });
    await fc.assert(property, { seed: 20_261_122, numRuns: 12 });
  });

  const TEXTS: readonly (readonly [string, string])[] = [
    ["nothing", ""],
    ["NUL and other control characters", "a\u0000b\u0001\u001b[31m\u007f\u0085"],
    ["line ends of every kind", "a\rb\nc\r\nd\u2028e"],
    ["lone surrogates", "\ud800 and \udc00\ud83d"],
    ["characters of four bytes", "🧵👩‍👩‍👧𝔘"],
    ["what reads like JSON or an escape", '"},{"a":"\\u0000\\\\u0000\\x00%00'],
    ["letters that could be composed", "e\u0301 \u00e9 \ufeff"],
    ["100,000 characters", "x\u0000é🧵 ".repeat(16_667).slice(0, 100_000)],
  ];
  test.each(TEXTS)(
    "comes back as it was, also as the question, an answer, its citation, an event and an artifact: %s",
    async (_name, text) => {
      const threadId = await createThread(store, owner);
      await sendMessage(store, owner, threadId, text);
      const task = await requireTask(store, threadId);
      expect(await store.tasks.findQuestion(task, 10)).toEqual({ message: text, files: [], history: [] });
      const artifacts = [{ artifactId: "a1", artifact: { [text]: text } }];
      await store.tasks.append([outputOf(task, { events: chunks(text), artifacts, log: text })], { nowMs: NOW, untilMs: NOW + 1 });
      expect(await store.threads.findProgress(owner, threadId)).toEqual({ log: text, state: "running" });
      await store.tasks.finish(outputOf(task, { firstId: 2 }), answer(text, { citations: [{ title: text }] }), NOW);
      const page = await store.threads.listMessages(owner, threadId, WHOLE);
      expect(page?.messages.map(({ message }) => message)).toEqual([text, text]);
      expect(page?.messages[1]?.citations).toEqual([{ title: text }]);
      expect(await store.threads.findArtifact(owner, threadId, "a1")).toEqual({ [text]: text });
      const after = { partnerId: owner.partnerId, threadId, lastEventId: 0 };
      expect((await store.threads.readEvents(after, 10))[0]?.events).toEqual(chunks(text));
      expect((await store.threads.readNewEvents([after]))[0]?.events).toEqual(chunks(text));
    },
  );

  test("of 16 sent at once, each has a position of its own without a gap, and all are there", async () => {
    const threadId = await createThread(store, owner);
    const ids = new Set<string>();
    const sent = await opened.race((node, caller) => {
      const [messageId, taskId] = [randomUUID(), randomUUID()];
      ids.add(messageId);
      return node.threads.send(owner, threadId, { messageId, taskId, message: "x" }, { nowMs: NOW + caller, waitingMax: CALLERS });
    });
    expect(sent).toEqual(Array.from({ length: CALLERS }, () => ({ lastEventId: 0 })));
    const rows = await opened.database.query("SELECT position, message_id FROM thread_messages WHERE thread_id = $1 ORDER BY position", [
      threadId,
    ]);
    expect(rows.map((row) => Number(row["position"]))).toEqual(Array.from({ length: CALLERS }, (_, position) => position));
    expect(new Set(rows.map((row) => row["message_id"]))).toEqual(ids);
    const times = (await store.threads.listMessages(owner, threadId, WHOLE))?.messages.map(({ sentAtMs }) => sentAtMs) ?? [];
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  test("of 16 sent at once where five may wait, five wait; one that is too many leaves no trace", async () => {
    const threadId = await createThread(store, owner);
    const send = (node: Store, nowMs: number) =>
      node.threads.send(
        owner,
        threadId,
        { messageId: randomUUID(), taskId: randomUUID(), message: "x" },
        { nowMs, waitingMax: WAITING_MAX },
      );
    const outcomes = await opened.race((node) => send(node, NOW));
    expect(outcomes.filter((outcome) => outcome === "too_many_waiting")).toHaveLength(CALLERS - WAITING_MAX);
    const state = () =>
      Promise.all([
        opened.database.query("SELECT * FROM threads WHERE thread_id = $1", [threadId]),
        opened.database.query("SELECT * FROM thread_messages WHERE thread_id = $1 ORDER BY position", [threadId]),
        opened.database.query("SELECT * FROM thread_tasks WHERE thread_id = $1 ORDER BY position", [threadId]),
      ]);
    const before = await state();
    expect(before.map((rows) => rows.length)).toEqual([1, WAITING_MAX, WAITING_MAX]);
    expect(await send(store, NOW + 5_000)).toBe("too_many_waiting");
    const beside = await createThread(store, owner); // writes that share the commit of the one that is undone
    await Promise.all([sendMessage(store, owner, beside), send(store, NOW + 5_000), sendMessage(store, owner, beside)]);
    expect(await store.threads.listMessages(owner, beside, WHOLE)).toMatchObject({ totalCount: 2 });
    expect(await state()).toEqual(before);
  });

  test("a message is told which events were before it", async () => {
    const threadId = await createThread(store, owner);
    expect(await sendMessage(store, owner, threadId)).toMatchObject({ lastEventId: 0 });
    const task = await requireTask(store, threadId);
    await store.tasks.append([outputOf(task, { events: chunks("a", "b", "c") })], { nowMs: NOW, untilMs: NOW + 1 });
    expect(await sendMessage(store, owner, threadId)).toMatchObject({ lastEventId: 3 });
    await store.tasks.finish(outputOf(task, { firstId: 4, events: chunks("d") }), answer(), NOW);
    expect(await sendMessage(store, owner, threadId)).toMatchObject({ lastEventId: 6 });
    expect(await requireTask(store, threadId)).toMatchObject({ eventsAfter: 6 });
  });

  test("an agent is given what was said before, not the messages that wait, and of that the latest", async () => {
    const threadId = await createThread(store, owner);
    for (const message of ["1", "2", "3"]) await sendMessage(store, owner, threadId, message);
    const texts = async (countMax: number) => {
      const task = await requireTask(store, threadId);
      const question = await store.tasks.findQuestion(task, countMax);
      await store.tasks.release(task);
      return [question?.message, ...(question?.history ?? []).map(({ message }) => message)];
    };
    expect(await texts(10)).toEqual(["1"]);
    await answerWith(threadId, "to 1");
    expect(await texts(10)).toEqual(["2", "1", "to 1"]);
    await sendMessage(store, owner, threadId, "4");
    await answerWith(threadId, "to 2");
    expect(await texts(10)).toEqual(["3", "1", "2", "to 1", "to 2"]);
    expect(await texts(3)).toEqual(["3", "2", "to 1", "to 2"]);
    const task = await requireTask(store, threadId);
    await store.threads.delete(owner, threadId);
    expect(await store.tasks.findQuestion(task, 10)).toBeUndefined();
    expect(await claimOf(store, threadId)).toBeUndefined();
  });

  /** Of an agent, one after the other, behind the store's back: as many as would wait too long otherwise. */
  async function fillThread(threadId: string, texts: readonly string[]): Promise<void> {
    for (const [position, text] of texts.entries()) {
      await opened.database.query(
        `INSERT INTO thread_messages (partner_id, thread_id, position, message_id, task_id, is_user_message, message, citations, sent_at)
          VALUES ($1, $2, $3, $4, 't', 0, $5, '[]', $6)`,
        [owner.partnerId, threadId, position, `m${position}`, JSON.stringify(text), NOW + position],
      );
    }
    await opened.database.query("UPDATE threads SET message_count = $1 WHERE thread_id = $2", [texts.length, threadId]);
  }

  test("a page of long messages has fewer, one at least: the newest of those asked for; by the number that came, all are read", async () => {
    const threadId = await createThread(store, owner);
    const long = "\u0001".repeat(100_000); // 600,002 bytes as it is stored
    await fillThread(threadId, [...Array<string>(5).fill(long), "short", long.repeat(4), "last", ...Array<string>(5).fill(long)]);
    const pages: number[] = [];
    const ids: string[] = [];
    while (ids.length < 13) {
      const page = await store.threads.listMessages(owner, threadId, { ...WHOLE, startIndex: ids.length, limit: 200 });
      expect(page?.totalCount).toBe(13);
      pages.push(page?.messages.length ?? 0);
      ids.unshift(...(page?.messages.map(({ messageId }) => messageId) ?? []));
      if (page?.messages.length === 0) break;
    }
    expect(ids).toEqual(Array.from({ length: 13 }, (_, n) => `m${n}`));
    expect(pages).toEqual([4, 3, 5, 1]);
    const some = await store.threads.listMessages(owner, threadId, { startMs: NOW, endMs: NOW + 4, startIndex: 1, limit: 2 });
    expect(some?.messages.map(({ messageId }) => messageId)).toEqual(["m2", "m3"]);
  });

  test("an agent is given whole what is asked, and of long messages before it the latest, 200,000 characters at least", async () => {
    const threadId = await createThread(store, owner);
    for (const [character, count] of [
      ["x", 24],
      ["\u0001", 5],
    ] as const) {
      const long = character.repeat(50_000);
      await opened.database.query("DELETE FROM thread_messages WHERE thread_id = $1", [threadId]);
      await fillThread(threadId, [...Array<string>(30).fill(long), "latest"]);
      await sendMessage(store, owner, threadId, long + long, NOW + 100);
      const task = await requireTask(store, threadId);
      const question = await store.tasks.findQuestion(task, 100);
      expect(question?.message).toBe(long + long);
      const history = question?.history.map(({ message }) => message) ?? [];
      expect(history.length).toBeGreaterThanOrEqual(count);
      expect(history.length).toBeLessThanOrEqual(count + 1);
      expect(history.at(-1)).toBe("latest");
      expect(history.join("").length).toBeGreaterThanOrEqual(200_000);
      await store.tasks.finish(outputOf(task), answer(), NOW + 200);
    }
  });

  const answerWith = async (threadId: string, message: string) =>
    store.tasks.finish(outputOf(await requireTask(store, threadId)), answer(message), NOW);
});
