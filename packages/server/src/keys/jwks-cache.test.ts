import type { PartnerKeySet } from "@cambist/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import type { FetchedJwks, PartnerJwksStore } from "../storage/store.ts";
import { makeTestKey } from "../testing/jwt.ts";
import { JwksCache, type JwksOwner } from "./jwks-cache.ts";
import { Outbound, type OutboundResult, type OutboundAnswer } from "./outbound.ts";

/** The decisions of the cache, with a partner's host, a store and a clock that do what the test says. */

const PUBLIC_JWKS = new Map(["a", "b", "c"].map((kid) => [kid, makeTestKey("ES256", kid).publicJwk]));
const HOUR_MS = 3_600_000;

let nowMs: number;
/** The kids that the host publishes, or nothing where it fails. */
let published: readonly string[] | undefined;
let headers: Record<string, string>;
/** Answers wait for this. */
let gate: Promise<void>;
let fetches: number;
let stored: FetchedJwks | undefined;
let storeFails: boolean;
let vanished: (readonly string[])[];
let owner: JwksOwner;
let cache: JwksCache;

class ScriptedHost extends Outbound {
  override async get(): Promise<OutboundResult<OutboundAnswer>> {
    fetches += 1;
    const kids = published; // as it was when the request came
    await gate;
    if (kids === undefined) return { ok: false, fault: { code: "status", sentence: "it answered 500" } };
    return { ok: true, value: { body: Buffer.from(JSON.stringify({ keys: kids.map((kid) => PUBLIC_JWKS.get(kid)) })), headers } };
  }
}

const store: PartnerJwksStore = {
  find: () => Promise.resolve(stored),
  async update(_clientId, jwksUri, change) {
    await Promise.resolve();
    if (storeFails) throw new Error("away");
    if (jwksUri !== owner.jwksUri) return "outdated";
    stored = change(stored);
    return "updated";
  },
};

function newCache(): JwksCache {
  const events = {
    fetched: () => undefined,
    vanished: (_: string, kids: readonly string[]) => void vanished.push(kids),
    notStored: () => undefined,
  };
  return new JwksCache({ store, outbound: new ScriptedHost({ allowHosts: new Set() }), nowMs: () => nowMs, events });
}

beforeEach(() => {
  nowMs = 1_800_000_000_000;
  published = ["a"];
  headers = { "cache-control": "max-age=100" };
  gate = Promise.resolve();
  fetches = 0;
  stored = undefined;
  storeFails = false;
  vanished = [];
  owner = { clientId: "prt_1", version: 1, jwksUri: "https://partner.example/jwks" };
  cache = newCache();
});

const kidsOf = (found: PartnerKeySet) => (found.ok ? found.value.keys.map(({ kid }) => kid) : found.fault);
const find = async (kid?: string) => kidsOf(await cache.find(owner, kid));
/** Lets a background fetch end. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

function closedGate(): () => void {
  let open: () => void = () => undefined;
  gate = new Promise((resolve) => {
    open = resolve;
  });
  return open;
}

describe("a set that is fresh", () => {
  test("serves without a wait and without a fetch, until its time is over", async () => {
    expect(await find("a")).toEqual(["a"]);
    nowMs += 70_000;
    expect(cache.find(owner, "a")).not.toBeInstanceOf(Promise);
    expect(fetches).toBe(1);
    nowMs += 31_000;
    published = ["a", "b"];
    expect(await find("b")).toEqual(["a", "b"]);
    expect(fetches).toBe(2);
  });

  test("is fetched anew in the background in the last fifth of its time, once, and nobody waits", async () => {
    await find("a");
    nowMs += 81_000;
    published = ["a", "b"];
    const open = closedGate();
    for (let i = 0; i < 50; i++) expect(cache.find(owner, "a")).not.toBeInstanceOf(Promise);
    open();
    await settle();
    expect(fetches).toBe(2);
    expect(kidsOf(cache.find(owner, "b") as PartnerKeySet)).toEqual(["a", "b"]);
  });

  test("is not asked for again and again in that time by a host that fails", async () => {
    await find("a");
    nowMs += 81_000;
    published = undefined;
    for (let i = 0; i < 50; i++) {
      await find("a");
      await settle();
    }
    expect(fetches).toBe(2);
  });

  test("200 that come at once when there is none share one fetch", async () => {
    const open = closedGate();
    const all = Array.from({ length: 200 }, () => find("a"));
    await settle();
    open();
    expect(new Set((await Promise.all(all)).map(String))).toEqual(new Set(["a"]));
    expect(fetches).toBe(1);
  });
});

describe("an unknown kid", () => {
  test("asks the partner again, and has the new key", async () => {
    await find("a");
    nowMs += 1000;
    published = ["a", "b"];
    expect(await find("b")).toEqual(["a", "b"]);
    expect(fetches).toBe(2);
  });

  test("asks once in 30 s, whatever the kids, and all wait for the one answer", async () => {
    await find("a");
    for (let second = 0; second < 60; second++) {
      nowMs += 1000;
      await Promise.all(Array.from({ length: 20 }, (_, i) => find(`random-${second}-${i}`)));
    }
    expect(fetches).toBe(1 + 2);
  });

  test("that several tokens have, which waited for one fetch, is found by all of them", async () => {
    await find("a");
    nowMs += 81_000;
    const open = closedGate();
    await find("a"); // the background fetch leaves, with the old set
    published = ["a", "b"];
    const all = Array.from({ length: 20 }, () => find("b"));
    await settle();
    gate = Promise.resolve();
    open();
    expect(new Set((await Promise.all(all)).map(String))).toEqual(new Set(["a,b"]));
    expect(fetches).toBe(3);
  });

  test.each([
    ["fresh", 1000],
    ["nearly stale", 81_000],
    ["stale", 101_000],
    ["long stale", 10 * HOUR_MS],
  ])("asks at most three times in any minute of a host that fails, from a %s set", async (_what, ageMs) => {
    await find("a");
    nowMs += ageMs;
    published = undefined;
    const before = fetches;
    for (let second = 0; second < 60; second++) {
      await Promise.all(Array.from({ length: 20 }, (_, i) => find(i === 0 ? "a" : `random-${second}-${i}`)));
      await settle();
      nowMs += 1000;
    }
    expect(fetches - before).toBeLessThanOrEqual(3);
  });

  test("does not ask where the set was fetched for this very request", async () => {
    expect(await find("x")).toEqual(["a"]);
    expect(fetches).toBe(1);
  });

  test("asks again where a fetch was under way that began before the key was there", async () => {
    await find("a");
    nowMs += 81_000;
    const open = closedGate();
    await find("a"); // the background fetch leaves
    nowMs += 1;
    published = ["a", "b"];
    const found = find("b");
    await settle();
    gate = Promise.resolve();
    open();
    expect(await found).toEqual(["a", "b"]);
    expect(fetches).toBe(3);
  });

  test("is told why the set is not the newest", async () => {
    await find("a");
    nowMs += 1000;
    published = undefined;
    expect(await cache.find(owner, "b")).toMatchObject({ ok: true, value: { fetchFailure: "it answered 500" } });
  });
});

describe("a host that fails", () => {
  test("the last good set serves for 24 hours, without a wait after the first, and is asked for every 30 s", async () => {
    await find("a");
    published = undefined;
    nowMs += 101_000;
    expect(await find("a")).toEqual(["a"]);
    expect(fetches).toBe(2);
    for (let i = 0; i < 20; i++) {
      const open = closedGate(); // and now it hangs
      nowMs += 15_000;
      expect(await find("a")).toEqual(["a"]);
      open();
      await settle();
    }
    expect(fetches).toBe(2 + 10);
    nowMs += 24 * HOUR_MS - 101_000 - 300_000 - 1000;
    expect(await find("a")).toEqual(["a"]);
    await settle();
    nowMs += 1000;
    expect(await find("a")).toEqual({ code: "partner_keys_unavailable", failure: "it answered 500", retryAfterSeconds: 29 });
  });

  test("long ago, and is well again, is waited for: what it withdrew since is not taken once more", async () => {
    await find("a");
    published = undefined;
    nowMs += 101_000;
    await find("a");
    published = ["b"];
    nowMs += 20 * HOUR_MS;
    expect(await find("a")).toEqual(["b"]);
  });

  test("with nothing cached says so, when to come again, and does not ask before", async () => {
    published = undefined;
    expect(await find("a")).toEqual({ code: "partner_keys_unavailable", failure: "it answered 500", retryAfterSeconds: 30 });
    nowMs += 29_000;
    published = ["a"];
    expect(await find("a")).toEqual({ code: "partner_keys_unavailable", failure: "it answered 500", retryAfterSeconds: 1 });
    expect(fetches).toBe(1);
    nowMs += 1000;
    expect(await find("a")).toEqual(["a"]);
  });

  test("that publishes an empty set withdraws nothing", async () => {
    await find("a");
    nowMs += 101_000;
    published = [];
    expect(await find("a")).toEqual(["a"]);
    expect(vanished).toEqual([]);
  });
});

describe("the store", () => {
  test("gives a new node the last good set while the host is down", async () => {
    await find("a");
    published = undefined;
    nowMs += HOUR_MS;
    cache = newCache();
    expect(await find("a")).toEqual(["a"]);
  });

  test("is read again where the partner's record has moved, as another node's fetch moves it", async () => {
    await find("a");
    const other = newCache();
    nowMs += 1000;
    published = ["b"];
    await other.refresh(owner);
    owner = { ...owner, version: 2 };
    expect(await find("b")).toEqual(["b"]);
    expect(kidsOf(await cache.find(owner, "a"))).toEqual(["b"]);
    expect(fetches).toBe(3); // the last one for the unknown kid a
  });

  test("that is away takes no key from us", async () => {
    storeFails = true;
    expect(await find("a")).toEqual(["a"]);
    expect(cache.find(owner, "a")).not.toBeInstanceOf(Promise);
  });

  test("holds nothing of a URL that is no longer the partner's", async () => {
    await find("a");
    stored = undefined;
    owner = { ...owner, version: 2, jwksUri: "https://partner.example/other" };
    published = undefined;
    expect(await find("a")).toMatchObject({ code: "partner_keys_unavailable" });
  });
});

describe("a clock that is set back", () => {
  test("by an hour makes no key live longer, and holds no question off", async () => {
    await find("a");
    await find("x");
    published = ["b"];
    nowMs -= HOUR_MS;
    expect(await find("a")).toEqual(["b"]);
    published = ["b", "c"];
    nowMs += 31_000;
    expect(await find("c")).toEqual(["b", "c"]);
  });

  test("after a failure holds nobody off either", async () => {
    published = undefined;
    await find("a");
    nowMs -= HOUR_MS;
    published = ["a"];
    expect(await find("a")).toEqual(["a"]);
  });
});

describe("a request of before", () => {
  test("does not bring back what the store had then", async () => {
    await find("a");
    const older = owner;
    published = ["b"];
    await newCache().refresh(owner);
    owner = { ...owner, version: 2 };
    expect(await find("b")).toEqual(["b"]);
    stored = undefined; // whatever an old read would give
    expect(kidsOf(await cache.find(older, "b"))).toEqual(["b"]);
  });
});

describe("refresh", () => {
  test("takes an empty set at its word", async () => {
    await find("a");
    published = [];
    await cache.refresh(owner);
    expect(await find()).toEqual([]);
    expect(vanished).toEqual([["a"]]);
  });

  test("of another node is not undone by an answer that was under way before it", async () => {
    await find("a");
    nowMs += 81_000;
    const open = closedGate();
    await find("a"); // asks, and waits
    gate = Promise.resolve();
    nowMs += 1;
    published = ["b"];
    await newCache().refresh(owner);
    nowMs += 1;
    open();
    await settle();
    expect(await find("b")).toEqual(["b"]);
  });

  test("fetches now, and what is gone is gone at once", async () => {
    await find("a");
    published = ["b"];
    await cache.refresh(owner);
    expect(await find("b")).toEqual(["b"]);
    expect(fetches).toBe(2);
    expect(vanished).toEqual([["a"]]);
  });

  test("does not take the answer of a fetch that was under way before it", async () => {
    await find("a");
    nowMs += 81_000;
    const open = closedGate();
    await find("a");
    published = ["b"];
    const refreshed = cache.refresh(owner);
    gate = Promise.resolve();
    open();
    await refreshed;
    expect(await find("b")).toEqual(["b"]);
    expect(fetches).toBe(3);
  });

  test("is not held off by the pause after a failure", async () => {
    published = undefined;
    await find("a");
    published = ["a"];
    await cache.refresh(owner);
    expect(await find("a")).toEqual(["a"]);
  });
});
