import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { admin, exchange, send, subjectToken, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { createJwksPartner, type JwksPartner, type JwksSetting, keyReport, refreshKeys, startJwksSetting } from "./jwks-setting.ts";

/* A5, fetched keys of several nodes on one store, and of a node that starts again: P5.7, P5.12, P5.22. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

describe.each(DIALECTS)("fetched keys of two nodes on %s", (dialect) => {
  let setting: JwksSetting;
  let server: TestServer;
  let second: TestServer;
  beforeAll(async () => {
    setting = await startJwksSetting(dialect);
    server = setting.server;
    second = await server.startSecondNode();
  });
  afterAll(async () => {
    await second.stop();
    await setting.stop();
  });

  const nodes = () => [server, second];
  const pass = (ms: number) => nodes().forEach((node) => (node.clock.offsetMs += ms));
  const ask = (partner: JwksPartner, at: TestServer, key = partner.key) => exchange(partner, subjectToken({ ...partner, key }), { at });
  const expectUnknown = async (partner: JwksPartner, at: TestServer, key = partner.key) =>
    expectRefusal(at, await ask(partner, at, key), { code: "jwt_kid_unknown" });
  test("P5.7 200: a node that has never asked, and one that has just started, serve what another fetched while the host is down", async () => {
    const partner = await createJwksPartner(setting);
    expectGranted(await ask(partner, server));
    partner.set.fail("500");
    partner.set.requestsSince();
    expectGranted(await ask(partner, second));
    const started = await server.startSecondNode();
    started.clock.offsetMs = server.clock.offsetMs;
    try {
      expectGranted(await ask(partner, started));
      expect(partner.set.requestsSince()).toBe(0);
      for (const node of [...nodes(), started]) node.clock.offsetMs += 23 * HOUR_MS;
      for (const at of [started, second, server]) expectGranted(await ask(partner, at));
      for (const node of [...nodes(), started]) node.clock.offsetMs += HOUR_MS;
      for (const at of [started, second, server]) expect((await ask(partner, at)).status).toBe(503);
    } finally {
      await started.stop();
    }
  });

  test("P5.22: what is fresh on one node is fresh on the other; when it no longer is, one fetch serves both", async () => {
    const partner = await createJwksPartner(setting, { headers: { "cache-control": "max-age=120" } });
    for (const at of nodes()) expectGranted(await ask(partner, at));
    pass(90_000);
    for (const at of nodes()) expectGranted(await ask(partner, at));
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("P5.12: a key that a refresh on one node finds gone is refused on the other at its next request, whichever clock is ahead", async () => {
    for (const aheadMs of [0, 4_000, -4_000]) {
      const next = makeTestKey("ES256");
      const partner = await createJwksPartner(setting, { beside: [next] });
      second.clock.offsetMs = server.clock.offsetMs + aheadMs;
      try {
        for (const at of nodes()) expectGranted(await ask(partner, at));
        expect((await refreshKeys(second, partner)).json).toMatchObject({ failing: false }); // the second node has fetched itself
        for (const at of nodes()) expectGranted(await ask(partner, at));
        partner.set.publish([next]);
        expect((await refreshKeys(server, partner)).json).toMatchObject({
          keys: [
            { kid: next.kid, state: "used" },
            { kid: partner.key.kid, state: "gone" },
          ],
        });
        for (const at of [second, server]) {
          await expectUnknown(partner, at);
          expectGranted(await ask(partner, at, next));
        }
      } finally {
        second.clock.offsetMs = server.clock.offsetMs;
      }
    }
  });

  test("P5.12: nor does a slow answer from before the refresh bring it back", async () => {
    const next = makeTestKey("ES256");
    const partner = await createJwksPartner(setting, { beside: [next] });
    for (const at of nodes()) expectGranted(await ask(partner, at));
    const release = partner.set.hold([partner.key, next]);
    const slow = exchange(partner, subjectToken(partner, {}, { kid: "unknown" }), { at: second });
    await expect.poll(() => partner.set.requests.length).toBe(2);
    partner.set.publish([next]);
    expect((await refreshKeys(server, partner)).status).toBe(200);
    await expectUnknown(partner, server);
    release();
    await expectRefusal(second, await slow, { code: "jwt_kid_unknown" });
    for (const at of [second, server]) {
      await expectUnknown(partner, at);
      expectGranted(await ask(partner, at, next));
    }
  });

  test("P5.12: an empty set takes no key away by itself; by the operator's refresh it takes all of them, on both nodes, for good", async () => {
    const partner = await createJwksPartner(setting);
    for (const at of nodes()) expectGranted(await ask(partner, at));
    partner.set.publish([]);
    pass(11 * MINUTE_MS);
    for (const at of nodes()) expectGranted(await ask(partner, at));
    expect((await refreshKeys(server, partner)).json).toMatchObject({ failing: false, keys: [{ kid: partner.key.kid, state: "gone" }] });
    for (let turn = 0; turn < 3; turn++) {
      for (const at of [second, server]) await expectRefusal(at, await ask(partner, at), { code: "partner_keys_missing" });
      pass(11 * MINUTE_MS);
    }
    partner.set.publish([partner.key]);
    pass(MINUTE_MS);
    for (const at of nodes()) expectGranted(await ask(partner, at));
  });

  test("200: a key that one node learned of is known to the other, without a fetch", async () => {
    const partner = await createJwksPartner(setting);
    for (const at of nodes()) expectGranted(await ask(partner, at));
    const next = makeTestKey("ES256");
    partner.set.publish([partner.key, next]);
    partner.set.requestsSince();
    for (const at of nodes()) expectGranted(await ask(partner, at, next));
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("200: 100 exchanges at once on two cold nodes: one fetch for each node at most, all granted", async () => {
    const partner = await createJwksPartner(setting);
    const release = partner.set.hold();
    const replies = Array.from({ length: 100 }, (_, i) => ask(partner, i % 2 === 0 ? server : second));
    await expect.poll(() => partner.set.requests.length).toBe(2);
    release();
    for (const reply of await Promise.all(replies)) expectGranted(reply);
    expect(partner.set.requestsSince()).toBe(2);
  });

  test("200: a fetch that fails on one node takes nothing from the other, nor from the store", async () => {
    const partner = await createJwksPartner(setting);
    expectGranted(await ask(partner, server));
    partner.set.fail("500");
    expect((await refreshKeys(second, partner)).json).toMatchObject({ failing: true, keys: [{ kid: partner.key.kid, state: "used" }] });
    for (const at of nodes()) expectGranted(await ask(partner, at));
    expect(await keyReport(server, partner)).toEqual(await keyReport(second, partner));
  });

  test("an answer that comes after the partner's URL was changed is not taken for the new URL's", async () => {
    const partner = await createJwksPartner(setting);
    const next = makeTestKey("ES256");
    const release = partner.set.hold();
    const slow = ask(partner, server);
    await expect.poll(() => partner.set.requests.length).toBe(1);
    const changed = setting.host.publish([next]);
    expect((await admin(second, "PATCH", `/partners/${partner.clientId}`, { jwks_uri: changed.url })).status).toBe(200);
    expectGranted(await ask(partner, second, next));
    changed.fail("500");
    release();
    expect((await slow).status).not.toBe(200);
    for (const at of nodes()) {
      expectGranted(await ask(partner, at, next));
      await expectUnknown(partner, at);
    }
  });

  test("503: what was fetched from a URL does not serve once the URL is another one that fails, on any node", async () => {
    const partner = await createJwksPartner(setting);
    for (const at of nodes()) expectGranted(await ask(partner, at));
    const changed = setting.host.publish([partner.key]);
    changed.fail("500");
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { jwks_uri: changed.url })).status).toBe(200);
    expect(await keyReport(second, partner)).toMatchObject({ last_fetch_at: null, keys: [] });
    const started = await server.startSecondNode();
    started.clock.offsetMs = server.clock.offsetMs;
    try {
      for (const at of [...nodes(), started]) {
        const expected = { status: 503, error: "temporarily_unavailable", code: "partner_keys_unavailable" } as const;
        await expectRefusal(at, await ask(partner, at), expected);
      }
    } finally {
      await started.stop();
    }
  });

  test("keys that vanish are counted and logged once, by the node that saw it", async () => {
    const counted = async () => {
      const texts = await Promise.all(nodes().map(async (node) => (await send(node, "GET", "/metrics")).text));
      return texts.map((text) => Number(/^cambist_jwks_keys_vanished_total (\d+)$/m.exec(text)?.[1]));
    };
    const partner = await createJwksPartner(setting);
    for (const at of nodes()) expectGranted(await ask(partner, at));
    const before = await counted();
    const next = makeTestKey("ES256");
    partner.set.publish([next]);
    for (const at of [second, server]) expectGranted(await ask(partner, at, next));
    const after = await counted();
    expect(after).toEqual([before[0], (before[1] ?? 0) + 1]);
    const lines = nodes().map(
      (node) => node.logLines.filter((line) => line.includes("vanished") && line.includes(partner.clientId)).length,
    );
    expect(lines).toEqual([0, 1]);
  });
});
