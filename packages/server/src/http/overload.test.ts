import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Overload } from "./overload.ts";

/** An event loop of the test's own: time passes when it says so. */
function loop(sheds = true) {
  const clock = { nowMs: 1_000 };
  let ends: (() => void)[] = [];
  const overload = new Overload({ nowMs: () => clock.nowMs, afterTurn: (callback) => void ends.push(callback), sheds });
  return {
    overload,
    clock,
    endTurn: () => {
      for (const end of ends) end();
      ends = [];
    },
    /** Requests that arrive in one turn, each of which is worked on for `eachMs`. Gives how many are taken. */
    arrive: (count: number, eachMs: number): number => {
      let taken = 0;
      for (let i = 0; i < count; i++) {
        if (overload.isOver()) continue;
        taken++;
        clock.nowMs += eachMs;
      }
      return taken;
    },
  };
}

describe("a turn of the event loop", () => {
  test("takes all that arrives while it is short", () => {
    expect(loop().arrive(10_000, 0.001)).toBe(10_000);
  });

  test("takes what 15 ms are enough for, and turns the rest away", () => {
    const { arrive } = loop();
    expect(arrive(1_000, 0.1)).toBe(150);
  });

  test("takes 64 requests however slow they are: so many connections are never turned away", () => {
    const { arrive } = loop();
    expect(arrive(64, 50)).toBe(64);
    expect(arrive(10, 50)).toBe(0);
  });

  test("begins anew after its end, and lets in again at once", () => {
    const { arrive, endTurn } = loop();
    arrive(1_000, 1);
    expect(arrive(1, 1)).toBe(0);
    endTurn();
    expect(arrive(64, 1)).toBe(64);
  });

  test("counts from its first request: a wait for something to do is no load", () => {
    const { arrive, clock, endTurn } = loop();
    arrive(1, 0);
    endTurn();
    clock.nowMs += 60_000;
    expect(arrive(200, 0.01)).toBe(200);
  });

  test("turns nobody away where that is not wanted", () => {
    expect(loop(false).arrive(1_000, 10)).toBe(1_000);
  });
});

describe("requests under way", () => {
  const begin = (overload: Overload, count: number) => {
    for (let i = 0; i < count; i++) overload.begin();
  };

  test("may be 256, whatever the rate of answers", () => {
    const { overload } = loop();
    begin(overload, 255);
    expect(overload.isOver()).toBe(false);
    overload.begin();
    expect(overload.isOver()).toBe(true);
    overload.end();
    expect(overload.isOver()).toBe(false);
  });

  test("may be as many as are answered in 60 ms", () => {
    const { overload, clock, endTurn } = loop();
    for (let i = 0; i < 1_000; i++) {
      overload.begin();
      overload.end();
    }
    clock.nowMs += 100; // 10,000 in a second
    endTurn();
    begin(overload, 599);
    expect(overload.isOver()).toBe(false);
    overload.begin();
    expect(overload.isOver()).toBe(true);
  });

  test("are fewer again when answers take longer", () => {
    const { overload, clock, endTurn } = loop();
    for (let i = 0; i < 1_000; i++) {
      overload.begin();
      overload.end();
    }
    clock.nowMs += 100;
    overload.isOver();
    endTurn();
    clock.nowMs += 100; // and none in this
    begin(overload, 256);
    expect(overload.isOver()).toBe(true);
  });

  test("do not count while they wait for somebody else", async () => {
    const { overload } = loop();
    begin(overload, 256);
    let fetched = (_keys: string) => {};
    const keys = overload.aside(
      new Promise<string>((resolve) => {
        fetched = resolve;
      }),
    );
    expect(overload.isOver()).toBe(false);
    fetched("keys");
    await expect(keys).resolves.toBe("keys");
    expect(overload.isOver()).toBe(true);
  });

  test("count again after a wait that failed", async () => {
    const { overload } = loop();
    begin(overload, 256);
    await expect(overload.aside(Promise.reject(new Error("gone")))).rejects.toThrow("gone");
    expect(overload.isOver()).toBe(true);
  });

  test("count where there is nothing to wait for", () => {
    const { overload } = loop();
    begin(overload, 256);
    expect(overload.aside("keys")).toBe("keys");
    expect(overload.isOver()).toBe(true);
  });
});

describe("a loop that stood still", () => {
  /** Watched, with a clock that goes with the timers. */
  function watched() {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const clock = { aheadMs: 0 };
    const overload = new Overload({ nowMs: () => Date.now() + clock.aheadMs });
    onTestFinished(overload.watch());
    return { overload, clock };
  }

  test("says so for a second after it goes on", () => {
    const { overload, clock } = watched();
    vi.advanceTimersByTime(5_000);
    expect(overload.hasStalled()).toBe(false);
    clock.aheadMs += 2_000; // and no timer in all that time
    vi.advanceTimersByTime(100);
    expect(overload.hasStalled()).toBe(true);
    vi.advanceTimersByTime(950);
    expect(overload.hasStalled()).toBe(true);
    vi.advanceTimersByTime(100);
    expect(overload.hasStalled()).toBe(false);
  });

  test("says nothing of a pause of less than a second", () => {
    const { overload, clock } = watched();
    clock.aheadMs += 800;
    vi.advanceTimersByTime(100);
    expect(overload.hasStalled()).toBe(false);
  });
});
