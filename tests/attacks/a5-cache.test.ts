import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { exchange, subjectToken, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import {
  atOnce,
  causesOf,
  createJwksPartner,
  type JwksPartner,
  type JwksSetting,
  keyReport,
  refreshKeys,
  startJwksSetting,
} from "./jwks-setting.ts";

/*
 * A5, what is kept of a fetched set and for how long, on one node: P5.7, P5.8, P5.12, P5.22. Several nodes: a5-nodes.test.ts. Floods:
 * a5-flood.test.ts. Hours go by on the server's clock.
 */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let setting: JwksSetting;
let server: TestServer;
beforeAll(async () => {
  setting = await startJwksSetting("sqlite");
  server = setting.server;
});
afterAll(() => setting.stop());

const create = (options: Parameters<typeof createJwksPartner>[1] = {}) => createJwksPartner(setting, options);
const pass = (ms: number) => void (server.clock.offsetMs += ms);
const good = (partner: JwksPartner) => exchange(partner, subjectToken(partner));
/** A token that names a key that nobody has. */
const unknown = (partner: JwksPartner) => exchange(partner, subjectToken(partner, {}, { kid: randomUUID() }));

describe("how long a set is fresh", () => {
  test.each([
    ["max-age=31536000", { "cache-control": "max-age=31536000" }, 600],
    ["max-age=99999999999999999999", { "cache-control": "public, max-age=99999999999999999999" }, 600],
    ["max-age=601", { "cache-control": "max-age=601" }, 600],
    ["max-age=120", { "cache-control": "max-age=120" }, 120],
    ["max-age=120 of which 50 are over", { "cache-control": "max-age=120", age: "50" }, 70],
    ["max-age=0", { "cache-control": "max-age=0" }, 60],
    ["max-age=59", { "cache-control": "max-age=59" }, 60],
    ["max-age=-1", { "cache-control": "max-age=-1" }, 300],
    ["no-store", { "cache-control": "no-store" }, 60],
    ["no-cache beside a max-age", { "cache-control": "max-age=31536000, no-cache" }, 60],
    ["no-store beside a max-age", { "cache-control": "max-age=31536000, no-store" }, 60],
    ["Expires in a year", { expires: "Thu, 31 Dec 2099 23:59:59 GMT" }, 600],
    ["Expires 0", { expires: "0" }, 60],
    ["garbage", { "cache-control": "\u00ff;;,=,max-age=x" }, 300],
    ["nothing", {}, 300],
  ])("P5.22: %s", async (_what, headers, seconds) => {
    const partner = await create({ headers });
    expectGranted(await good(partner));
    const { last_fetch_at: from, fresh_until: until } = await keyReport(server, partner);
    expect(Date.parse(until ?? "") - Date.parse(from ?? "")).toBe(seconds * 1000);
    pass(seconds * 750); // before the last fifth, in which it is fetched anew in the background
    expectGranted(await good(partner));
    expect(partner.set.requestsSince()).toBe(1);
    pass(seconds * 250);
    expectGranted(await good(partner));
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("P5.12: a key that is removed from the set is refused after ten minutes at most, whatever the headers said", async () => {
    const next = makeTestKey("ES256");
    const headers = { "cache-control": "public, max-age=31536000, immutable, stale-while-revalidate=31536000, stale-if-error=31536000" };
    const partner = await create({ beside: [next], headers });
    expectGranted(await good(partner));
    partner.set.publish([next], headers);
    pass(9 * MINUTE_MS - 90_000);
    expectGranted(await good(partner));
    pass(MINUTE_MS + 91_000);
    await expectRefusal(server, await good(partner), { code: "jwt_kid_unknown" });
    expectGranted(await good({ ...partner, key: next }));
  });

  test("P5.12: at once after the operator has asked for a refresh, also while an older fetch is under way", async () => {
    const next = makeTestKey("ES256");
    const partner = await create({ beside: [next] });
    expectGranted(await good(partner));
    const release = partner.set.hold([partner.key, next]);
    pass(10 * MINUTE_MS);
    const waiting = good(partner);
    await expect.poll(() => partner.set.requests.length).toBe(2);
    const refreshed = refreshKeys(server, partner);
    partner.set.publish([next]);
    release();
    expectGranted(await waiting);
    expect((await refreshed).json).toMatchObject({
      keys: [
        { kid: next.kid, state: "used" },
        { kid: partner.key.kid, state: "gone" },
      ],
    });
    await expectRefusal(server, await good(partner), { code: "jwt_kid_unknown" });
    expectGranted(await good({ ...partner, key: next }));
  });
});

describe("a host that fails", () => {
  test("P5.7 200, 503: the last good keys serve for 24 hours from their fetch, and not a minute more", async () => {
    const partner = await create();
    expectGranted(await good(partner));
    partner.set.fail("500");
    for (let hour = 0; hour < 23; hour++) {
      pass(HOUR_MS);
      expectGranted(await good(partner));
    }
    pass(HOUR_MS - MINUTE_MS);
    expectGranted(await good(partner));
    pass(2 * MINUTE_MS);
    const reply = await good(partner);
    await expectRefusal(server, reply, { status: 503, error: "temporarily_unavailable", code: "partner_keys_unavailable" });
    expect(reply.headers.get("retry-after")).toMatch(/^[1-9]\d?$/);
    partner.set.publish([partner.key]);
    pass(MINUTE_MS);
    expectGranted(await good(partner));
  });

  test("P5.7: after its first failure nobody waits for it, and it is asked every 30 s, not at every request", async () => {
    const partner = await create();
    expectGranted(await good(partner));
    partner.set.fail("500");
    pass(11 * MINUTE_MS);
    expectGranted(await good(partner));
    partner.set.requestsSince();
    const release = partner.set.hold();
    pass(31_000);
    for (const reply of await atOnce(50, () => good(partner))) expectGranted(reply); // all of them while the host is silent
    expect(partner.set.requestsSince()).toBe(1);
    release();
    await expect.poll(async () => (await keyReport(server, partner)).failing).toBe(false);
    expectGranted(await good(partner));
    expect(partner.set.requestsSince()).toBe(0);
  });

  test("P5.8 503: while there is nothing, it is asked once in 30 s, and Retry-After says when next", async () => {
    const partner = await create();
    partner.set.fail("500");
    const replies = await atOnce(50, (i) => (i % 2 === 0 ? good(partner) : unknown(partner)));
    expect(causesOf(replies)).toEqual(["partner_keys_unavailable"]);
    expect(partner.set.requestsSince()).toBe(1);
    pass(10_000);
    const retryAfter = Number((await good(partner)).headers.get("retry-after"));
    expect(retryAfter).toBeGreaterThan(15);
    expect(retryAfter).toBeLessThanOrEqual(20);
    expect(partner.set.requestsSince()).toBe(0);
    partner.set.publish([partner.key]);
    pass(retryAfter * 1000);
    expectGranted(await good(partner));
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("200: the operator's refresh does not wait for that", async () => {
    const partner = await create();
    partner.set.fail("500");
    expect((await good(partner)).status).toBe(503);
    partner.set.publish([partner.key]);
    expect((await refreshKeys(server, partner)).json).toMatchObject({ failing: false });
    expectGranted(await good(partner));
  });
});

describe("one fetch for all", () => {
  test("200 exchanges at once on a cold cache: one fetch, all granted", async () => {
    const partner = await create();
    const release = partner.set.hold();
    const replies = atOnce(200, () => good(partner));
    await expect.poll(() => partner.set.requests.length).toBe(1);
    setTimeout(() => release(), 300);
    for (const reply of await replies) expectGranted(reply);
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("200 exchanges at once by a key that was published just now: one fetch, all granted", async () => {
    const partner = await create();
    expectGranted(await good(partner));
    partner.set.requestsSince();
    const next = makeTestKey("ES256");
    const release = partner.set.hold([partner.key, next]);
    const replies = atOnce(200, () => good({ ...partner, key: next }));
    await expect.poll(() => partner.set.requests.length).toBe(2);
    for (const reply of await atOnce(20, () => good(partner))) expectGranted(reply); // the keys that are known do not wait for it
    release();
    for (const reply of await replies) expectGranted(reply);
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("an unknown kid on a cold cache is one fetch, not two", async () => {
    for (let round = 0; round < 10; round++) {
      const partner = await create();
      await expectRefusal(server, await unknown(partner), { code: "jwt_kid_unknown" });
      expect(partner.set.requestsSince()).toBe(1);
    }
  });
});
