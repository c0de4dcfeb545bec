import { randomBytes } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import { createApp } from "../packages/server/src/app.ts";
import { openDeps } from "../packages/server/src/deps.ts";
import { openLog } from "../packages/server/src/telemetry/log.ts";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  exchange,
  type Reply,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../packages/server/src/testing/server.ts";

/* Keys that change under running servers: no request fails by it, but for those that an emergency means. */

const ABSENT = "/v2/account-management/organization?org_id=00000000-0000-4000-8000-000000000000";

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

async function startTwoNodes(): Promise<readonly [TestServer, TestServer]> {
  const first = await startTestServer("postgres");
  stops.push(() => first.stop());
  const second = await first.startSecondNode();
  stops.push(() => second.stop());
  return [first, second];
}

/** 404: the token was taken, and there is no such organization. */
const use = (node: Pick<TestServer, "url">, token: string) => call(node, "GET", ABSENT, token);
const exchangeAt = (partner: TestPartner, at: Pick<TestServer, "url">) => exchange(partner, subjectToken(partner), { at });
const tokenOf = (reply: Reply) => String(reply.json["access_token"]);
const kidOf = (reply: Reply) => String(decodeJwt(tokenOf(reply)).header["kid"]);
const rotate = (node: TestServer, body: object) => admin(node, "POST", "/keys/rotate", body);

describe("two nodes on one database", () => {
  test("now on one: what it signs is taken by the other at once, and the other signs so within 5 s; tokens of before stay good", async () => {
    const nodes = await startTwoNodes();
    const [one, two] = nodes;
    const partner = await createTestPartner(one);
    const before = await serviceAccountToken(partner);
    for (let round = 0; round < 2; round++) {
      const startedMs = performance.now();
      expect((await rotate(one, { now: true })).status).toBe(200);
      const reply = await exchangeAt(partner, one);
      expect((await use(two, tokenOf(reply))).status).toBe(404);
      await expect.poll(async () => kidOf(await exchangeAt(partner, two)), { timeout: 5_000, interval: 20 }).toBe(kidOf(reply));
      console.log(`now: the other node signs with the new key after ${Math.round(performance.now() - startedMs)} ms`);
    }
    for (const node of nodes) expect((await use(node, before)).status).toBe(404);
  });

  test("emergency on one: what the dropped key signed is refused there at once and by the other within 5 s, though both had taken it", async () => {
    const [one, two] = await startTwoNodes();
    const partner = await createTestPartner(one);
    const leaked = await serviceAccountToken(partner);
    for (const node of [one, two]) expect((await use(node, leaked)).status).toBe(404);
    const startedMs = performance.now();
    expect((await rotate(one, { emergency: true })).status).toBe(200);
    expect((await use(one, leaked)).status).toBe(401);
    await expect.poll(async () => (await use(two, leaked)).status, { timeout: 5_000, interval: 20 }).toBe(401);
    console.log(`emergency: the other node refuses it after ${Math.round(performance.now() - startedMs)} ms`);
    for (const [issuer, api] of [
      [one, two],
      [two, one],
    ] as const) {
      expect((await use(api, tokenOf(await exchangeAt(partner, issuer)))).status).toBe(404);
    }
  });

  test(
    "under load: no exchange and no API call fails while the keys are switched, by hand on either node and on schedule",
    { timeout: 60_000 },
    async () => {
      const [one, two] = await startTwoNodes();
      const partner = await createTestPartner(one);
      const load = await startLoad(partner, [one, two]);
      try {
        for (const node of [one, two, one, two]) {
          expect((await rotate(node, { now: true })).status).toBe(200);
          await load.goOn(30);
        }
        await one.database.query("UPDATE signing_keys SET created_at = created_at - 86400000 WHERE state = 'next'");
        const scheduled = await rotate(two, {});
        expect(scheduled.status).toBe(202);
        const waitMs = Date.parse(scheduled.json["switches_at"] as string) - Date.now();
        for (const { clock } of [one, two]) clock.offsetMs = waitMs - 200; // so that it comes while requests are under way
        const next = (scheduled.json["keys"] as { kid: string; state: string }[]).find(({ state }) => state === "next")?.kid ?? "";
        await expect.poll(() => load.kids.has(next), { timeout: 20_000, interval: 5 }).toBe(true);
        await load.goOn(60);
      } finally {
        await load.stop();
      }
      expect(load.failures).toEqual([]);
      expect(load.kids.size).toBeGreaterThanOrEqual(5);
      console.log(`under load: ${load.count()} requests, ${load.kids.size} keys, none failed`);
    },
  );
});

/** Exchanges at one node and calls at the other, with the new token and with one from the beginning, until it is stopped. */
async function startLoad(partner: TestPartner, nodes: readonly [TestServer, TestServer]) {
  const failures: string[] = [];
  const kids = new Set<string>();
  let isOver = false;
  let requests = 0;
  const oldest = await serviceAccountToken(partner);
  async function work(worker: number): Promise<void> {
    const [issuer, api] = worker % 2 === 0 ? nodes : [nodes[1], nodes[0]];
    while (!isOver) {
      const exchanged = await exchangeAt(partner, issuer);
      if (exchanged.status !== 200) failures.push(exchanged.text);
      else kids.add(kidOf(exchanged));
      for (const token of [tokenOf(exchanged), oldest]) {
        const used = await use(api, token);
        if (used.status !== 404) failures.push(used.text);
      }
      requests += 3;
    }
  }
  const workers = Promise.all(Array.from({ length: 6 }, (_, worker) => work(worker)));
  return {
    failures,
    kids,
    count: () => requests,
    goOn(count: number) {
      const until = requests + count;
      return expect.poll(() => requests, { timeout: 20_000, interval: 5 }).toBeGreaterThan(until);
    },
    stop() {
      isOver = true;
      return workers;
    },
  };
}

describe("the master key", () => {
  /** Another start on the same database, with other master keys. */
  async function startWith(server: TestServer, masterKeys: readonly Uint8Array[]): Promise<{ readonly url: string }> {
    const deps = await openDeps({ ...server.deps.config, masterKeys }, { log: openLog("silent") });
    const app = createApp(deps);
    const port = await app.start();
    stops.push(() => app.stop());
    return { url: `http://127.0.0.1:${port}` };
  }

  const masterKeysOf = async (node: Pick<TestServer, "url">) =>
    ((await admin(node, "GET", "/keys")).json["master_keys"] as Record<string, unknown>[]).map(
      ({ newest, listed, signing_keys: signingKeys, secrets }) => ({ newest, listed, signingKeys, secrets }),
    );

  test("old → old,new → new,old → new, node by node: each step serves with the one before it, tokens and secrets stay good", async () => {
    const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
    const server = await startTestServer("postgres", { masterKeys: [oldKey] });
    stops.push(() => server.stop());
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);

    const prepared = await startWith(server, [oldKey, newKey]);
    expect(await masterKeysOf(prepared)).toEqual([
      { newest: true, listed: true, signingKeys: 2, secrets: 1 },
      { newest: false, listed: true, signingKeys: 0, secrets: 0 },
    ]);
    expect((await exchangeAt(partner, prepared)).status).toBe(200);
    expect((await rotate(server, { now: true })).status).toBe(200);
    expect((await exchangeAt(partner, server)).status).toBe(200);

    const rotated = await startWith(server, [newKey, oldKey]);
    expect(await masterKeysOf(rotated)).toEqual([
      { newest: true, listed: true, signingKeys: 2, secrets: 0 },
      { newest: false, listed: true, signingKeys: 0, secrets: 1 },
    ]);
    expect((await exchangeAt(partner, rotated)).status).toBe(200);
    await expect
      .poll(() => masterKeysOf(rotated), { timeout: 5_000, interval: 20 })
      .toEqual([
        { newest: true, listed: true, signingKeys: 2, secrets: 1 },
        { newest: false, listed: true, signingKeys: 0, secrets: 0 },
      ]);
    expect((await exchangeAt(partner, prepared)).status).toBe(200);
    expect((await rotate(server, { now: true })).status).toBe(200); // a node that is behind goes on with what it has opened

    const done = await startWith(server, [newKey]).catch((error: unknown) => error);
    expect(done).toBeInstanceOf(Error); // for that switch was made by the node that is behind, under the old master key
    const last = await startWith(server, [newKey, oldKey]);
    expect((await exchangeAt(partner, last)).status).toBe(200);
    await expect
      .poll(async () => (await masterKeysOf(last))[1], { timeout: 5_000, interval: 20 })
      .toMatchObject({ signingKeys: 0, secrets: 0 });
    const after = await startWith(server, [newKey]);
    const reply = await exchangeAt(partner, after);
    expect(reply.status).toBe(200);
    for (const node of [prepared, rotated, after])
      for (const each of [token, tokenOf(reply)]) expect((await use(node, each)).status).toBe(404);
  });

  test("what hangs on a master key that is not in the list is shown as such, and its secrets are refused", async () => {
    const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
    const server = await startTestServer("postgres", { masterKeys: [oldKey] });
    stops.push(() => server.stop());
    const partner = await createTestPartner(server);
    await startWith(server, [newKey, oldKey]);
    const tooSoon = await startWith(server, [newKey]);
    expect(await masterKeysOf(tooSoon)).toEqual([
      { newest: true, listed: true, signingKeys: 2, secrets: 0 },
      { newest: false, listed: false, signingKeys: 0, secrets: 1 },
    ]);
    expect((await exchangeAt(partner, tooSoon)).status).toBe(401);
  });
});
