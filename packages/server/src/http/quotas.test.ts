import { describe, expect, test } from "vitest";
import type { RateLimits } from "../storage/store.ts";
import { Quotas } from "./quotas.ts";
import { type Bucket, refill } from "./rate-limit.ts";

const PARTNER = `prt_${"1".repeat(32)}`;
const START_MS = 1_800_000_000_000;

/** A store in memory, as the two databases count. `hold` keeps its answers back until `release`. */
function start() {
  const clock = { nowMs: START_MS };
  const buckets = new Map<string, Bucket>();
  const store = {
    charges: [] as number[],
    failure: undefined as Error | undefined,
    held: undefined as Promise<void> | undefined,
    async charge(partnerId: string, used: number, limits: RateLimits, nowMs: number): Promise<number> {
      this.charges.push(used);
      await this.held;
      if (this.failure !== undefined) throw this.failure;
      const bucket = buckets.get(partnerId) ?? { level: limits.burst, atMs: nowMs };
      refill(bucket, limits, nowMs);
      bucket.level = Math.max(-limits.burst, bucket.level - used);
      buckets.set(partnerId, bucket);
      return bucket.level;
    },
  };
  const away: unknown[] = [];
  const open = () => new Quotas({ store, nowMs: () => clock.nowMs, onAway: (error) => void away.push(error) });
  return { clock, store, away, open };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function admitted(nodes: readonly Quotas[], limits: RateLimits, requests: number): Promise<number> {
  const take = async (node: Quotas | undefined) => node?.take(PARTNER, limits);
  const standings = await Promise.all(Array.from({ length: requests }, (_, n) => take(nodes[n % nodes.length])));
  return standings.filter((standing) => standing?.isAdmitted).length;
}

describe("a partner's quota", () => {
  const LIMITS = { requestsPerMinute: 600, burst: 600 };

  test("on one node, exactly the burst passes at once, and then what the rate gives", async () => {
    const { clock, open } = start();
    const node = open();
    expect(await admitted([node], LIMITS, 2_000)).toBe(600);
    clock.nowMs += 1_000;
    expect(await admitted([node], LIMITS, 2_000)).toBe(10);
    clock.nowMs += 600_000;
    expect(await admitted([node], LIMITS, 2_000)).toBe(600);
  });

  test.each([2, 3])(
    "on %i nodes at once, each lets at most a twentieth pass too much, and over ten minutes they keep to the rate",
    async (count) => {
      const { clock, open } = start();
      const nodes = Array.from({ length: count }, open);
      let total = await admitted(nodes, LIMITS, 2_000 * count);
      expect(total).toBeGreaterThanOrEqual(600);
      expect(total).toBeLessThanOrEqual(600 + 30 * count);
      for (let second = 0; second < 600; second++) {
        clock.nowMs += 1_000;
        total += await admitted(nodes, LIMITS, 40 * count);
      }
      expect(Math.abs(total - 6_600)).toBeLessThanOrEqual(60);
    },
  );

  test("a node that others have left nothing lets at most a fortieth pass before it knows", async () => {
    const { open } = start();
    const [first, second] = [open(), open()];
    await admitted([first], LIMITS, 2_000);
    expect(await admitted([second], LIMITS, 2_000)).toBeLessThanOrEqual(30);
  });

  test("once it is used up, the store is not asked", async () => {
    const { store, open } = start();
    const node = open();
    await admitted([node], LIMITS, 700);
    const asked = store.charges.length;
    expect(asked).toBeLessThanOrEqual(41);
    expect(await admitted([node], LIMITS, 10_000)).toBe(0);
    expect(store.charges).toHaveLength(asked);
  });

  test("who uses little of it costs the store nothing, for hours", async () => {
    const { clock, store, open } = start();
    const node = open();
    for (let minute = 0; minute < 300; minute++) {
      for (let n = 0; n < 14; n++, clock.nowMs += 4_000) expect(await node.take(PARTNER, LIMITS)).toMatchObject({ isAdmitted: true });
      clock.nowMs += 6_000;
    }
    expect(store.charges).toEqual([]);
  });

  test("a request that passes does not wait for the store; only one that would go too far ahead of it does", async () => {
    const { store, open } = start();
    const release = hold(store);
    const node = open();
    const answers = Array.from({ length: 31 }, () => node.take(PARTNER, LIMITS));
    expect(answers.map((answer) => answer instanceof Promise)).toEqual([...Array.from({ length: 30 }, () => false), true]);
    release();
    expect(await answers[30]).toMatchObject({ isAdmitted: true, remaining: 569 });
  });

  test("a store that is away refuses nobody: the node goes on with a bucket of its own, says so once, and counts again later", async () => {
    const { clock, store, away, open } = start();
    store.failure = new Error("away");
    const node = open();
    expect(await admitted([node], LIMITS, 2_000)).toBe(600);
    for (let second = 0; second < 5; second++) {
      clock.nowMs += 1_000;
      expect(await admitted([node], LIMITS, 100)).toBe(10);
    }
    await turn();
    expect(away).toEqual([store.failure]);
    expect(store.charges.length).toBeLessThanOrEqual(6);
    store.failure = undefined;
    clock.nowMs += 61_000;
    expect(await admitted([node], LIMITS, 2_000)).toBe(600);
    expect(store.charges.length).toBeGreaterThan(10);
    await turn();
    store.failure = new Error("away again");
    clock.nowMs += 60_000;
    await admitted([node], LIMITS, 100);
    await turn();
    expect(away).toHaveLength(2);
  });

  test("a store that hangs holds a request up for a quarter of a second at most", async () => {
    const { store, away, open } = start();
    const release = hold(store);
    const node = open();
    const startedMs = performance.now();
    expect(await admitted([node], LIMITS, 200)).toBe(200);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    expect(away).toHaveLength(1);
    release();
    await turn();
  });

  test("a small quota is counted request by request, and by a node that comes later as well", async () => {
    const { open } = start();
    const small = { requestsPerMinute: 6, burst: 3 };
    const nodes = [open(), open()];
    const total = await admitted(nodes, small, 20);
    expect(total).toBeGreaterThanOrEqual(3);
    expect(total).toBeLessThanOrEqual(5);
  });

  test("new limits hold from the next request on", async () => {
    const { clock, open } = start();
    const node = open();
    await admitted([node], LIMITS, 700);
    clock.nowMs += 1_000;
    expect(await admitted([node], { requestsPerMinute: 6_000, burst: 600 }, 700)).toBe(100);
    clock.nowMs += 60_000;
    expect(await admitted([node], { requestsPerMinute: 6, burst: 2 }, 700)).toBe(2);
  });

  test("partners do not share one", async () => {
    const { open } = start();
    const node = open();
    await admitted([node], LIMITS, 700);
    expect(await node.take("prt_other", LIMITS)).toMatchObject({ isAdmitted: true, remaining: 599 });
  });
});

function hold(store: { held: Promise<void> | undefined }): () => void {
  let release = (): void => undefined;
  store.held = new Promise((resolve) => (release = resolve));
  return () => {
    store.held = undefined;
    release();
  };
}
