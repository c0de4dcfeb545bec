import { StoreUnavailable } from "@cambist/protocol";
import { describe, expect, test } from "vitest";
import { GroupCommit } from "./group-commit.ts";

describe("the group commit", () => {
  test("jobs of one turn share one transaction, in order, and get their own verdicts", async () => {
    const batches: number[][] = [];
    const group = new GroupCommit<number, string>((jobs) => {
      batches.push([...jobs]);
      return Promise.resolve(jobs.map((job) => `v${job}`));
    }, 256);
    expect(await Promise.all([1, 2, 3].map((job) => group.submit(job)))).toEqual(["v1", "v2", "v3"]);
    expect(batches).toEqual([[1, 2, 3]]);
  });

  test("jobs that come while a commit is under way wait for the next one", async () => {
    const batches: number[] = [];
    let release: (() => void) | undefined;
    const group = new GroupCommit<number, number>(async (jobs) => {
      batches.push(jobs.length);
      if (batches.length === 1) await new Promise<void>((resolve) => (release = resolve));
      return [...jobs];
    }, 256);
    const first = group.submit(0);
    await expect.poll(() => release).toBeDefined();
    const rest = Array.from({ length: 300 }, (_, job) => group.submit(job));
    release?.();
    await Promise.all([first, ...rest]);
    expect(batches).toEqual([1, 256, 44]);
  });

  test("a failed transaction fails all of its jobs and none of the next", async () => {
    let fail = true;
    const group = new GroupCommit<number, number>((jobs) => (fail ? Promise.reject(new Error("disk")) : Promise.resolve([...jobs])), 256);
    const results = await Promise.allSettled([group.submit(1), group.submit(2)]);
    expect(results.map((result) => result.status)).toEqual(["rejected", "rejected"]);
    fail = false;
    expect(await group.submit(3)).toBe(3);
  });

  test("a store that is away fails those that wait as well, and not those that come later", async () => {
    let away = true;
    let refuse: ((reason: Error) => void) | undefined;
    const group = new GroupCommit<number, number>(
      (jobs) => (away ? new Promise((_, reject) => (refuse = reject)) : Promise.resolve([...jobs])),
      256,
    );
    const first = group.submit(1);
    await expect.poll(() => refuse).toBeDefined();
    const waiting = Array.from({ length: 600 }, (_, job) => group.submit(job));
    refuse?.(new StoreUnavailable("away"));
    const results = await Promise.allSettled([first, ...waiting]);
    expect(results.filter((result) => result.status === "rejected")).toHaveLength(601);
    away = false;
    expect(await group.submit(2)).toBe(2);
  });

  test("too many waiting jobs are turned away as unavailable", async () => {
    let release: (() => void) | undefined;
    const group = new GroupCommit<number, number>(async (jobs) => {
      await new Promise<void>((resolve) => (release = resolve));
      return [...jobs];
    }, 256);
    const first = group.submit(0);
    await expect.poll(() => release).toBeDefined();
    const waiting = Array.from({ length: 4096 }, (_, job) => group.submit(job));
    await expect(group.submit(1)).rejects.toThrow(StoreUnavailable);
    const drain = setInterval(() => release?.(), 1);
    await Promise.all([first, ...waiting]);
    clearInterval(drain);
  });
});
