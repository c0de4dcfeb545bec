import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newClientId } from "../ids.ts";
import { DIALECTS } from "../testing/database.ts";
import { CALLERS, NOW, openTestStore, type TestStore } from "../testing/store.ts";

const LIMITS = { requestsPerMinute: 600, burst: 100 };

describe.each(DIALECTS)("the buckets of rate limits on %s", (dialect) => {
  let opened: TestStore;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
  });
  afterAll(() => opened.close());

  const charge = (partnerId: string, used: number, nowMs = NOW, node: 0 | 1 = 0) =>
    opened.nodes[node].rateLimits.charge(partnerId, used, LIMITS, nowMs);

  test("one that is not there is full; it fills evenly, with fractions, up to the burst", async () => {
    const partner = newClientId();
    expect(await charge(partner, 30)).toBe(70);
    expect(await charge(partner, 0, NOW + 25, 1)).toBeCloseTo(70.25);
    expect(await charge(partner, 0, NOW + 50)).toBeCloseTo(70.5);
    expect(await charge(partner, 1, NOW + 60_000, 1)).toBe(99);
  });

  test("what nodes used too much is owed, one burst at most", async () => {
    const partner = newClientId();
    expect(await charge(partner, 90)).toBe(10);
    expect(await charge(partner, 60, NOW, 1)).toBe(-50);
    expect(await charge(partner, 5, NOW + 1_000)).toBe(-45);
    expect(await charge(partner, 1_000_000, NOW + 1_000)).toBe(-100);
    expect(await charge(partner, 0, NOW + 20_000)).toBeCloseTo(90);
  });

  test("a node whose clock is behind fills nothing, and has nothing filled twice", async () => {
    const partner = newClientId();
    expect(await charge(partner, 100)).toBe(0);
    expect(await charge(partner, 10, NOW - 5_000, 1)).toBe(-10);
    expect(await charge(partner, 0, NOW + 1_000)).toBeCloseTo(0);
  });

  test("a node whose clock is an hour ahead stops no refill: from the next charge by a right one on, it fills as ever", async () => {
    const partner = newClientId();
    expect(await charge(partner, 1, NOW + 3_600_000, 1)).toBe(99);
    expect(await charge(partner, 99, NOW)).toBe(0);
    let level = 0;
    for (let n = 1; n <= 30; n++) level = await charge(partner, 4, NOW + n * 1_000);
    expect(level).toBe(96); // 10 a second come in, 4 go out
  });

  test("of many nodes that charge at once, each is counted", async () => {
    const partner = newClientId();
    const left = await opened.race((node) => node.rateLimits.charge(partner, 2, LIMITS, NOW));
    expect(left.toSorted((one, other) => other - one)).toEqual(Array.from({ length: CALLERS }, (_, n) => 98 - 2 * n));
  });

  test("slow rates lose nothing to rounding", async () => {
    const partner = newClientId();
    const slow = { requestsPerMinute: 1, burst: 10 };
    await opened.nodes[0].rateLimits.charge(partner, 10, slow, NOW);
    let level = 0;
    for (let n = 1; n <= 60; n++) level = await opened.nodes[0].rateLimits.charge(partner, 0, slow, NOW + n * 1_000);
    expect(level).toBeCloseTo(1);
  });

  test("new limits hold for what was there before", async () => {
    const partner = newClientId();
    expect(await charge(partner, 10)).toBe(90);
    expect(await opened.nodes[1].rateLimits.charge(partner, 1, { requestsPerMinute: 60, burst: 5 }, NOW)).toBe(4);
  });

  test("the largest limits and times fit", async () => {
    const partner = newClientId();
    const large = { requestsPerMinute: 1_000_000, burst: 100_000 };
    expect(await opened.nodes[0].rateLimits.charge(partner, 100_000, large, NOW)).toBe(0);
    expect(await opened.nodes[0].rateLimits.charge(partner, 1, large, NOW * 100)).toBe(99_999);
  });
});
