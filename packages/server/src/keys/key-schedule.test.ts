import { describe, expect, test } from "vitest";
import type { ListedSigningKey } from "../storage/store.ts";
import { dueWork, RETIRED_KEPT_MS } from "./key-schedule.ts";

const DAY_MS = 86_400_000;
const NOW = 1_800_000_000_000;

const key = (kid: string, state: ListedSigningKey["state"], times: Partial<ListedSigningKey> = {}): ListedSigningKey => ({
  kid,
  algorithm: "ES256",
  state,
  publicJwk: { kid },
  sealedPrivateKey: new Uint8Array(4),
  sealingKeyId: "m",
  createdAtMs: NOW,
  signsFromMs: undefined,
  dropAfterMs: undefined,
  ...times,
});
const current = key("k1", "current");
const next = key("k2", "next");
const due = (keys: readonly ListedSigningKey[], nowMs: number, signingKeyDays = 90) => dueWork(keys, "ES256", { nowMs, signingKeyDays });

describe("a switch by itself", () => {
  test("is scheduled a day ahead of the current key's last day, for that day, and no earlier", () => {
    expect(due([current, next], NOW + 89 * DAY_MS - 1)).toEqual([]);
    expect(due([current, next], NOW + 89 * DAY_MS)).toEqual([{ kind: "schedule", notBeforeMs: NOW + 90 * DAY_MS }]);
    expect(due([{ ...current, signsFromMs: NOW + DAY_MS }, next], NOW + 89 * DAY_MS)).toEqual([]);
  });

  test("is scheduled for the next minute where no node ran on that day", () => {
    expect(due([current, next], NOW + 200 * DAY_MS)).toEqual([{ kind: "schedule", notBeforeMs: NOW + 200 * DAY_MS + 60_000 }]);
  });

  test("is scheduled once, and never where keys are rotated by hand only", () => {
    expect(due([current, { ...next, signsFromMs: NOW + 300 * DAY_MS }], NOW + 200 * DAY_MS)).toEqual([]);
    expect(due([current, next], NOW + 1000 * DAY_MS, 0)).toEqual([]);
  });

  test("is made when its time has come, also where keys are rotated by hand only", () => {
    const scheduled = { ...next, signsFromMs: NOW + DAY_MS };
    for (const days of [0, 90]) {
      expect(due([current, scheduled], NOW + DAY_MS - 1, days)).toEqual([]);
      expect(due([current, scheduled], NOW + DAY_MS, days)).toEqual([{ kind: "switch", from: "k1" }]);
    }
  });

  test("is none of another algorithm's keys", () => {
    const others = [current, next].map((other) => ({ ...other, algorithm: "RS256", signsFromMs: NOW }));
    expect(due([...others, current, next], NOW + DAY_MS)).toEqual([]);
    expect(due(others, NOW + 1000 * DAY_MS)).toEqual([]);
  });
});

test("a retired key is dropped when its time is over, of any algorithm", () => {
  const retired = key("k0", "retired", { algorithm: "RS256", dropAfterMs: NOW + RETIRED_KEPT_MS });
  expect(due([retired, current, next], NOW + RETIRED_KEPT_MS - 1)).toEqual([]);
  expect(due([retired, current, next], NOW + RETIRED_KEPT_MS)).toEqual([{ kind: "drop" }]);
  expect(due([{ ...retired, dropAfterMs: undefined }], NOW + 1000 * DAY_MS)).toEqual([]);
});

test("a retired key is kept for the longest life of a token and the cache of the key set", () => {
  expect(RETIRED_KEPT_MS).toBe(DAY_MS + 300_000);
});
