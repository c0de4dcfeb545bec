import { EventEmitter, on } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { guardListeners } from "./guarded-signal.ts";

function guardedController() {
  const controller = new AbortController();
  const faults = new Set<string>();
  guardListeners(controller.signal, (error) => void faults.add((error as Error).message));
  return { controller, signal: controller.signal, faults };
}

const fail = (text: string) => () => {
  throw new Error(text);
};

test("what listeners throw, in whatever form they are given, ends nothing: the others are called, and it is told", async () => {
  const { controller, signal, faults } = guardedController();
  const heard: string[] = [];
  signal.addEventListener("abort", fail("a function"));
  signal.addEventListener("abort", { handleEvent: fail("an object") }, { once: true });
  const rejecting: () => unknown = () => Promise.reject(new Error("a promise"));
  signal.addEventListener("abort", rejecting);
  Object.assign(signal, { onabort: fail("onabort") });
  signal.addEventListener("abort", function (this: unknown, event) {
    heard.push(`${this === signal} ${event.type} ${(event.target as AbortSignal).reason}`);
  });
  controller.abort("why");
  await sleep(0);
  expect(faults).toEqual(new Set(["a function", "a promise", "an object", "onabort"]));
  expect(heard).toEqual(["true abort why"]);
});

test("a listener is called once however often it is added, and not once it is taken away", () => {
  const { controller, signal, faults } = guardedController();
  const [kept, removed] = [fail("kept"), fail("removed")];
  for (const listener of [kept, removed]) signal.addEventListener("abort", listener);
  signal.removeEventListener("abort", removed);
  Object.assign(signal, { onabort: removed });
  expect(signal.onabort).toBe(removed);
  Object.assign(signal, { onabort: null });
  expect(signal.onabort).toBeNull();
  let calls = 0;
  const counting = () => void calls++;
  for (const listener of [counting, counting]) signal.addEventListener("abort", listener);
  controller.abort();
  expect([...faults, calls]).toEqual(["kept", 1]);
});

test("Node's own takers of a signal, and signals made out of it, work as ever", async () => {
  const { controller, signal, faults } = guardedController();
  const derived = AbortSignal.any([signal]);
  const waits = [sleep(60_000, undefined, { signal }), on(new EventEmitter(), "never", { signal }).next()];
  controller.abort("why");
  expect((await Promise.allSettled(waits)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect([signal.aborted, derived.aborted, derived.reason, faults.size]).toEqual([true, true, "why", 0]);
  expect(() => signal.throwIfAborted()).toThrow();
});
