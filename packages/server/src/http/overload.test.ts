import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Overload } from "./overload.ts";

/** An event loop of the test's own: time passes when it says so. */
function loop(sheds = true) {
  const clock = { nowMs: 1_000 };
  let turns: (() => void)[] = [];
  const overload = new Overload({ nowMs: () => clock.nowMs, nextTurn: (callback) => void turns.push(callback), sheds });
  return {
    overload,
    clock,
    /** Requests that arrive in one turn, each of which is worked on for `eachMs`. Gives how many are taken on, and counts those worked on. */
    arrive: (count: number, eachMs = 0) => {
      const seen = { taken: 0, worked: 0 };
      const work = () => {
        seen.worked++;
        clock.nowMs += eachMs;
      };
      for (let i = 0; i < count; i++) if (overload.takeOn(work)) seen.taken++;
      return seen;
    },
    /** The next turn, with all that follows from it. Gives whether there was anything to do. */
    turn: () =>
      new Promise<boolean>((resolve) => {
        setImmediate(() => {
          const due = turns;
          turns = [];
          for (const callback of due) callback();
          setImmediate(() => resolve(due.length > 0));
        });
      }),
  };
}

describe("the line of those that have arrived", () => {
  test("is worked off in the next turn where it is short", async () => {
    const { arrive, turn } = loop();
    const seen = arrive(50, 0.1);
    expect(seen).toEqual({ taken: 50, worked: 0 });
    expect(await turn()).toBe(true);
    expect(seen.worked).toBe(50);
    expect(await turn()).toBe(false);
  });

  test("is worked off for 10 ms at a time, and what arrives in between is heard", async () => {
    const { arrive, turn } = loop();
    const first = arrive(60, 1);
    await turn();
    expect(first.worked).toBe(10);
    const second = arrive(10, 1);
    expect(second.taken).toBe(10);
    for (let n = 0; n < 5; n++) await turn();
    expect([first.worked, second.worked]).toEqual([60, 0]);
    await turn();
    expect(second.worked).toBe(10);
    expect(await turn()).toBe(false);
  });

  test("is worked off for as long as it took to read what had come, where that was longer: a flood does not take all of the time", async () => {
    const { arrive, clock, turn } = loop();
    const seen = arrive(60, 1);
    for (const worked of [30, 60]) {
      clock.nowMs += 30; // while others are read, and turned away
      await turn();
      expect(seen.worked).toBe(worked);
    }
  });

  test("goes on by one request a turn where each takes longer than that", async () => {
    const { arrive, turn } = loop();
    const seen = arrive(3, 50);
    for (const worked of [1, 2, 3]) {
      await turn();
      expect(seen.worked).toBe(worked);
    }
  });

  test("goes on only when what a request has begun is done as far as it can be", async () => {
    const { overload, turn } = loop();
    const order: string[] = [];
    const work = (name: string) => async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => process.nextTick(resolve));
      for (let n = 0; n < 20; n++) await Promise.resolve();
      order.push(`${name} is done`);
    };
    for (const name of ["a", "b"]) overload.takeOn(() => void work(name)());
    await turn();
    expect(order).toEqual(["a begins", "a is done", "b begins", "b is done"]);
  });

  test("takes 64 requests however slow they are: so many connections are never turned away", () => {
    const { arrive } = loop();
    expect(arrive(70, 50).taken).toBe(64);
  });

  test("lets in again as it is worked off", async () => {
    const { arrive, turn } = loop();
    arrive(64, 1);
    expect(arrive(1).taken).toBe(0);
    await turn();
    expect(arrive(64).taken).toBe(10);
  });

  test("holds as many as are answered in 60 ms", () => {
    const { arrive, clock, overload } = loop();
    for (let i = 0; i < 400; i++) {
      overload.begin();
      overload.end();
    }
    clock.nowMs += 100; // 4,000 in a second
    expect(arrive(1_000).taken).toBe(240);
  });

  test("turns nobody away where that is not wanted", () => {
    expect(loop(false).arrive(1_000, 10).taken).toBe(1_000);
  });
});

describe("requests under way", () => {
  const begin = (overload: Overload, count: number) => {
    for (let i = 0; i < count; i++) overload.begin();
  };

  test("may be 256, those in the line among them, whatever the rate of answers", async () => {
    const { overload, arrive, turn } = loop();
    begin(overload, 250);
    expect(arrive(10).taken).toBe(6);
    overload.end();
    expect(arrive(10).taken).toBe(1);
    await turn();
    expect(arrive(10).taken).toBe(7); // what left the line has not begun here
  });

  test("may be as many as are answered in 60 ms", () => {
    const { overload, clock, arrive } = loop();
    for (let i = 0; i < 1_000; i++) {
      overload.begin();
      overload.end();
    }
    clock.nowMs += 100; // 10,000 in a second
    begin(overload, 590);
    expect(arrive(100).taken).toBe(10);
  });

  test("are fewer again when answers take longer", () => {
    const { overload, clock, arrive } = loop();
    for (let i = 0; i < 1_000; i++) {
      overload.begin();
      overload.end();
    }
    clock.nowMs += 100;
    begin(overload, 250);
    expect(arrive(1).taken).toBe(1);
    clock.nowMs += 100; // and none in this
    expect(arrive(100).taken).toBe(5);
  });

  test("do not count while they wait for somebody else", async () => {
    const { overload, arrive } = loop();
    begin(overload, 256);
    let fetched = (_keys: string) => {};
    const keys = overload.aside(
      new Promise<string>((resolve) => {
        fetched = resolve;
      }),
    );
    expect(arrive(1).taken).toBe(1);
    fetched("keys");
    await expect(keys).resolves.toBe("keys");
    expect(arrive(1).taken).toBe(0);
  });

  test("count again after a wait that failed", async () => {
    const { overload, arrive } = loop();
    begin(overload, 256);
    await expect(overload.aside(Promise.reject(new Error("gone")))).rejects.toThrow("gone");
    expect(arrive(1).taken).toBe(0);
  });

  test("count where there is nothing to wait for", () => {
    const { overload, arrive } = loop();
    begin(overload, 256);
    expect(overload.aside("keys")).toBe("keys");
    expect(arrive(1).taken).toBe(0);
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
