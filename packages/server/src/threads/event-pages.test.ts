import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import type { EventPosition } from "../storage/thread-store.ts";
import { EventPages } from "./event-pages.ts";

/** A store that takes its time, and knows how often it was asked, and how often at once. */
function slowStore() {
  const seen = { asked: [] as number[], reading: 0, readingMax: 0 };
  const readEvents = async ({ partnerId, threadId, lastEventId }: EventPosition) => {
    seen.asked.push(lastEventId);
    seen.readingMax = Math.max(seen.readingMax, ++seen.reading);
    await turn();
    seen.reading--;
    if (lastEventId === 13) throw new Error("away");
    return [{ partnerId, threadId, firstId: lastEventId + 1, events: [["message_chunk", { message: "x", final_chunk: false }] as const] }];
  };
  return { seen, pages: new EventPages({ readEvents }) };
}

const at = (lastEventId: number, threadId = "thread") => ({ partnerId: "partner", threadId, lastEventId });

test("readers that are behind by the same at the same moment share a page and its bytes; later ones get another", async () => {
  const { seen, pages } = slowStore();
  const shared = await Promise.all(Array.from({ length: 200 }, () => pages.read(at(4), 9)));
  expect(seen.asked).toEqual([4]);
  expect(new Set(shared.map(([batch]) => batch?.bytes)).size).toBe(1);
  expect(shared[0]).toMatchObject([{ lastId: 5 }]);
  expect(String(Buffer.from(shared[0]?.[0]?.bytes ?? []))).toMatch(/^id: 5\nevent: message_chunk\ndata: \{.*\}\n\n$/);
  await Promise.all([pages.read(at(4), 9), pages.read(at(4), 10), pages.read(at(5), 9), pages.read(at(4, "other"), 9)]);
  expect(seen.asked).toEqual([4, 4, 4, 5, 4]);
});

test("a few are read at once, in order; one that fails is its own readers' and makes room like any other", async () => {
  const { seen, pages } = slowStore();
  const settled = await Promise.allSettled(Array.from({ length: 40 }, (_, position) => pages.read(at(position), 99)));
  expect(seen.asked).toEqual(Array.from({ length: 40 }, (_, position) => position));
  expect([seen.reading, seen.readingMax]).toEqual([0, 8]);
  expect(settled.map(({ status }) => status)).toEqual(Array.from({ length: 40 }, (_, n) => (n === 13 ? "rejected" : "fulfilled")));
});
