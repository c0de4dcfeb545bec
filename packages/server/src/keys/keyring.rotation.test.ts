import { randomBytes } from "node:crypto";
import { StoreUnavailable } from "@cambist/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { SigningKeyStore } from "../storage/store.ts";
import { type DialectName, DIALECTS } from "../testing/database.ts";
import { NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { type Keyring, openKeyring } from "./keyring.ts";
import { MASTER_KEY_BYTES, MasterKeys } from "./master-key.ts";

const DAY_MS = 86_400_000;
const [OLD, NEW] = [randomBytes(MASTER_KEY_BYTES), randomBytes(MASTER_KEY_BYTES)];

/** A keyring on one of two nodes, each with its own view of the store, and one clock for both. */
interface Node {
  readonly keyring: Keyring;
  readonly events: string[];
  reads: number;
  isAway: boolean;
}

let opened: TestStore;
const nodes: Node[] = [];
let nowMs: number;

/** A store for the tests of a block, without keys at the beginning of each. */
function useStore(dialect: DialectName): void {
  beforeAll(async () => {
    opened = await openTestStore(dialect);
  });
  beforeEach(() => {
    nowMs = NOW;
  });
  afterEach(async () => {
    for (const { keyring } of nodes.splice(0)) await keyring.close();
    await opened.database.query("DELETE FROM signing_keys");
  });
  afterAll(() => opened.close());
}

async function openNode(index: 0 | 1, { masterKeys = [OLD], signingKeyDays = 90 } = {}): Promise<Node> {
  const store = opened.nodes[index].signingKeys;
  const node = { events: [] as string[], reads: 0, isAway: false };
  const watched: SigningKeyStore = {
    ...store,
    list() {
      node.reads += 1;
      return node.isAway ? Promise.reject(new StoreUnavailable("away")) : store.list();
    },
  };
  const note = (event: string) => void node.events.push(event);
  const keyring = await openKeyring({
    store: watched,
    masterKeys: new MasterKeys(masterKeys),
    algorithm: "ES256",
    signingKeyDays,
    nowMs: () => nowMs,
    events: {
      scheduled: () => note("scheduled"),
      switched: ({ former }) => note(former === "drop" ? "dropped" : "switched"),
      readFailed: () => note("failed"),
      notOpened: () => note("not opened"),
    },
  });
  const whole = Object.assign(node, { keyring });
  nodes.push(whole);
  return whole;
}

const sign = ({ keyring }: Node) => ({ kid: keyring.signer().kid, token: keyring.signer().sign('{"alg":"ES256"}', "{}") });

/** As a request with that token would be, on a node. */
async function isTaken({ keyring }: Node, { kid, token }: { kid: string; token: string }): Promise<boolean> {
  await keyring.refreshForKid(kid);
  const dot = token.lastIndexOf(".");
  return keyring.findKey(kid)?.verify(token.slice(0, dot), Buffer.from(token.slice(dot + 1), "base64url")) ?? false;
}

const statesOf = async () => (await opened.nodes[0].signingKeys.list()).map(({ state }) => state);
const kidsOf = ({ keyring }: Node) => keyring.jwks().keys.map(({ kid }) => kid);

describe.each(DIALECTS)("rotation on %s", (dialect) => {
  useStore(dialect);

  test("scheduled: the next key signs on every node from its time on, a day after it was published, and the former one stays good", async () => {
    const [one, two] = [await openNode(0), await openNode(1)];
    const before = sign(one);
    const { switchesAtMs } = await one.keyring.scheduleSwitch();
    expect(switchesAtMs).toBe(NOW + DAY_MS);
    nowMs += 3_600_000;
    expect((await two.keyring.scheduleSwitch()).switchesAtMs).toBe(switchesAtMs);
    nowMs = switchesAtMs - 1;
    expect([sign(one).kid, sign(two).kid]).toEqual([before.kid, before.kid]);
    nowMs = switchesAtMs;
    expect(await statesOf()).toEqual(expect.arrayContaining(["current", "next"])); // no node has written the switch yet
    const [after, other] = [sign(one), sign(two)];
    expect(after.kid).not.toBe(before.kid);
    expect(other.kid).toBe(after.kid);
    for (const node of nodes) for (const token of [before, after, other]) expect(await isTaken(node, token)).toBe(true);
    await expect.poll(statesOf, { timeout: 5_000 }).toHaveLength(3);
    await expect.poll(() => nodes.map((node) => kidsOf(node).length), { timeout: 5_000 }).toEqual([3, 3]);
    expect([sign(one).kid, sign(two).kid]).toEqual([after.kid, after.kid]);
    expect(nodes.flatMap(({ events }) => events).filter((event) => event === "switched")).toHaveLength(1);
    expect(one.events[0]).toBe("scheduled");
    expect(await isTaken(two, before)).toBe(true);
  });

  test("scheduled: a key that has been published for a day waits for a minute's notice only", async () => {
    const one = await openNode(0);
    nowMs += 10 * DAY_MS;
    expect((await one.keyring.scheduleSwitch()).switchesAtMs).toBe(nowMs + 60_000);
  });

  test("now, twice in a row: tokens of every key are taken on every node at once, also where it has not read them yet", async () => {
    const [one, two] = [await openNode(0), await openNode(1)];
    const tokens = [sign(one)];
    for (let round = 0; round < 2; round++) {
      expect(await one.keyring.switchNow("retire")).toHaveLength(3 + round);
      tokens.push(sign(one), sign(two));
      for (const token of tokens) for (const node of nodes) expect(await isTaken(node, token)).toBe(true);
    }
    expect(new Set(tokens.map(({ kid }) => kid)).size).toBe(3);
    expect([one.keyring.generation(), two.keyring.generation()]).toEqual([0, 0]);
  });

  test("emergency: what the dropped key signed is refused at once on this node, within 5 s on the other, and it is published no more", async () => {
    const [one, two] = [await openNode(0), await openNode(1)];
    const retiredBefore = sign(one);
    await one.keyring.switchNow("retire");
    const current = sign(one);
    expect(await isTaken(two, current)).toBe(true);
    const startedMs = performance.now();
    await one.keyring.switchNow("drop");
    for (const token of [current, retiredBefore]) expect(await isTaken(one, token)).toBe(false);
    expect(kidsOf(one)).toHaveLength(2);
    expect(one.keyring.generation()).toBe(1);
    await expect.poll(() => two.keyring.findKey(current.kid), { timeout: 5_000, interval: 20 }).toBeUndefined();
    console.log(`${dialect}: the other node dropped the key after ${Math.round(performance.now() - startedMs)} ms`);
    expect(two.keyring.generation()).toBe(1);
    expect(kidsOf(two)).toEqual(kidsOf(one));
    expect(await isTaken(two, sign(one))).toBe(true);
    expect(await isTaken(one, sign(two))).toBe(true);
  });

  test("now, by 16 callers at once on two nodes: each that is told so has switched, and no other switch was made", async () => {
    const [one, two] = [await openNode(0), await openNode(1)];
    const outcomes = await Promise.all(Array.from({ length: 16 }, (_, n) => (n % 2 === 0 ? one : two).keyring.switchNow("retire")));
    const switched = outcomes.filter((outcome) => outcome !== "outdated");
    expect(switched.length).toBeGreaterThanOrEqual(1);
    expect(switched.length).toBeLessThan(16);
    expect((await statesOf()).filter((state) => state === "retired")).toHaveLength(switched.length);
  });

  test("by itself: scheduled a day ahead, switched on the day, and never where that is by hand only", async () => {
    await openNode(0);
    nowMs += 89 * DAY_MS;
    await openNode(1, { signingKeyDays: 0 });
    expect((await opened.nodes[0].signingKeys.list()).map(({ signsFromMs }) => signsFromMs)).toEqual([undefined, undefined]);
    const two = await openNode(1);
    expect((await opened.nodes[0].signingKeys.list()).find(({ state }) => state === "next")?.signsFromMs).toBe(NOW + 90 * DAY_MS);
    const before = sign(two).kid;
    nowMs += 5 * DAY_MS; // nobody was there when its time came
    const late = await openNode(1);
    expect(late.events).toEqual(["switched"]);
    expect(sign(late).kid).not.toBe(before);
    expect(await isTaken(late, { kid: before, token: "a.b.c" })).toBe(false);
    expect(kidsOf(late)).toContain(before);
    nowMs += DAY_MS + 300_000;
    const later = await openNode(0);
    expect(kidsOf(later)).not.toContain(before);
  });
});

describe("between two reads", () => {
  useStore("sqlite");

  test("an unknown kid is looked for once in a second for all that ask, and one that cannot be ours never", async () => {
    const { keyring, ...node } = await openNode(0);
    const reads = () => nodes[0]?.reads ?? 0;
    const before = reads();
    expect(
      await Promise.all(
        ["", "x", "__proto__", "a".repeat(42), "a".repeat(44), `${"a".repeat(42)}.`].map((kid) => keyring.refreshForKid(kid)),
      ),
    ).toEqual(Array.from({ length: 6 }, () => false));
    expect(reads()).toBe(before);
    const startedMs = performance.now();
    const ask = () => Promise.all(Array.from({ length: 100 }, (_, n) => keyring.refreshForKid(String(n).padStart(43, "k"))));
    expect(new Set([...(await ask()), ...(await ask())])).toEqual(new Set([false]));
    const tookMs = performance.now() - startedMs;
    expect(tookMs).toBeGreaterThanOrEqual(990);
    expect(reads() - before, "two, and the regular ones, each second").toBeLessThanOrEqual(2 + Math.floor(tookMs / 990));
    expect(node.events).toEqual([]);
  });

  test("who asks while a read is under way gets a later one, which has what was switched meanwhile", async () => {
    const [one, two] = [await openNode(0), await openNode(1)];
    const asked = two.keyring.refreshForKid("k".repeat(43));
    await one.keyring.switchNow("retire");
    await one.keyring.switchNow("retire");
    const token = sign(one);
    expect(await isTaken(two, token)).toBe(true);
    expect(await asked).toBe(false);
  });

  test("a store that is away leaves the last keys in use, is told of once, and an unknown kid is then not refused but unavailable", async () => {
    const one = await openNode(0);
    const token = sign(one);
    one.isAway = true;
    await expect(one.keyring.refreshForKid("k".repeat(43))).rejects.toThrow(StoreUnavailable);
    await expect.poll(() => one.events, { timeout: 5_000 }).toEqual(["failed"]);
    const reads = one.reads;
    await expect.poll(() => one.reads, { timeout: 5_000 }).toBeGreaterThan(reads);
    expect(one.events).toEqual(["failed"]);
    expect(await isTaken(one, token)).toBe(true);
    expect(sign(one).kid).toBe(token.kid);
    one.isAway = false;
    await opened.nodes[1].signingKeys.list();
    expect(await one.keyring.refreshForKid("l".repeat(43))).toBe(false);
  });

  test("after close nothing is read", async () => {
    const one = await openNode(0);
    await one.keyring.close();
    const reads = one.reads;
    await one.keyring.close();
    expect(one.reads).toBe(reads);
  });
});

describe("a node that does not have the newest master key", () => {
  useStore("sqlite");

  test("goes on with the keys that it has opened, then signs by the former key as long as that is good, and says what is wrong", async () => {
    const behind = await openNode(0);
    const ahead = await openNode(1, { masterKeys: [NEW, OLD] });
    const first = sign(behind);
    await ahead.keyring.switchNow("retire");
    expect(await isTaken(behind, sign(ahead))).toBe(true);
    const second = sign(behind); // by the next key, which it had opened
    await ahead.keyring.switchNow("retire");
    const third = sign(ahead);
    expect(await isTaken(behind, third)).toBe(true);
    expect(behind.events).toContain("not opened");
    expect([first.kid, second.kid]).toContain(sign(behind).kid);
    for (const token of [first, second, third, sign(behind)]) for (const node of nodes) expect(await isTaken(node, token)).toBe(true);
    await ahead.keyring.switchNow("drop");
    await expect.poll(() => behind.keyring.findKey(third.kid), { timeout: 5_000 }).toBeUndefined();
    expect(await isTaken(behind, sign(ahead))).toBe(true);
    expect(() => behind.keyring.signer()).toThrow(StoreUnavailable);
  });
});
