import { describe, expect, test } from "vitest";
import { WrongSecrets } from "./wrong-secrets.ts";

const CLIENT = `prt_${"1".repeat(32)}`;
const HERE = "192.0.2.1";

function start() {
  const clock = { nowMs: 1_800_000_000_000 };
  const usedUp: string[] = [];
  const onUsedUp = (clientId: string, address: string) => void usedUp.push(`${clientId} ${address}`);
  const wrong = new WrongSecrets({ nowMs: () => clock.nowMs, onUsedUp });
  const exhaust = (clientId: string, address: string) => {
    for (let n = 0; n < 10; n++) {
      expect(wrong.check(clientId, address)).toBeUndefined();
      wrong.note(clientId, address);
    }
  };
  return { clock, wrong, exhaust, usedUp };
}

describe("wrong secrets", () => {
  test("ten pass at once, then one in six seconds, as it says", () => {
    const { clock, wrong, exhaust, usedUp } = start();
    exhaust(CLIENT, HERE);
    expect(usedUp).toEqual([`${CLIENT} ${HERE}`]);
    expect(wrong.check(CLIENT, HERE)).toBe(6);
    clock.nowMs += 5_999;
    expect(wrong.check(CLIENT, HERE)).toBe(1);
    clock.nowMs += 1;
    expect(wrong.check(CLIENT, HERE)).toBeUndefined();
    wrong.note(CLIENT, HERE);
    expect(wrong.check(CLIENT, HERE)).toBe(6);
  });

  test("60 in 60 s are at most 20 tries", () => {
    const { clock, wrong } = start();
    let tries = 0;
    for (let second = 0; second < 60; second++, clock.nowMs += 1_000) {
      if (wrong.check(CLIENT, HERE) !== undefined) continue;
      tries += 1;
      wrong.note(CLIENT, HERE);
    }
    expect(tries).toBeGreaterThanOrEqual(10);
    expect(tries).toBeLessThanOrEqual(20);
  });

  test("refuse neither another address of the client nor another client of the address", () => {
    const { wrong, exhaust } = start();
    exhaust(CLIENT, HERE);
    expect(wrong.check(CLIENT, "192.0.2.2")).toBeUndefined();
    expect(wrong.check(`prt_${"2".repeat(32)}`, HERE)).toBeUndefined();
  });

  test("count all addresses of one /64 as one, and not those of the next", () => {
    const { wrong } = start();
    for (let n = 0; n < 10; n++) wrong.note(CLIENT, `2001:db8:1:2::${n}`);
    expect(wrong.check(CLIENT, "2001:db8:1:2:ffff::1")).toBe(6);
    expect(wrong.check(CLIENT, "2001:db8:1:3::1")).toBeUndefined();
  });

  test("are forgotten, the oldest first, once there are 50,000 pairs", () => {
    const { wrong, exhaust } = start();
    exhaust(CLIENT, HERE);
    exhaust("old", HERE);
    for (let n = 0; n < 49_998; n++) wrong.note(`name ${n}`, HERE);
    expect(wrong.check("old", HERE)).toBe(6);
    wrong.note(CLIENT, HERE);
    wrong.note("one more", HERE);
    expect(wrong.check("old", HERE)).toBeUndefined();
    expect(wrong.check(CLIENT, HERE)).toBeGreaterThan(6);
  });
});
