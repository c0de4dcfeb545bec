import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { exchange, subjectToken, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectRecorded } from "./expect-answers.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { atOnce, causesOf, createJwksPartner, type JwksPartner, type JwksSetting, keyReport, startJwksSetting } from "./jwks-setting.ts";

/* A5, kids that nobody has: P5.9–P5.11. In real time, a thousand a second, with figures: tests/process/jwks-flood.fault.ts. */

let setting: JwksSetting;
let server: TestServer;
beforeAll(async () => {
  setting = await startJwksSetting("sqlite");
  server = setting.server;
});
afterAll(() => setting.stop());

const create = (options = {}) => createJwksPartner(setting, options);
const pass = (ms: number) => void (server.clock.offsetMs += ms);
const good = (partner: JwksPartner) => exchange(partner, subjectToken(partner));
/** A token that names a key that nobody has. */
const unknown = (partner: JwksPartner) => exchange(partner, subjectToken(partner, {}, { kid: randomUUID() }));

describe("a flood of kids that nobody has", () => {
  test("P5.9 400: 1 000 of them, and again 31 s later: one fetch each time", async () => {
    const partner = await create();
    expectGranted(await good(partner));
    partner.set.requestsSince();
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 10; i++) {
        const replies = await atOnce(round === 0 ? 100 : 20, () => unknown(partner));
        expect(causesOf(replies)).toEqual(["jwt_kid_unknown"]);
        if (i === 0 && round === 0) await expectRecorded(server, replies);
      }
      expect(partner.set.requestsSince()).toBe(1);
      pass(31_000);
    }
  });

  test("P5.9 400: one that hangs is not asked more often, and A's own good tokens do not wait for it", async () => {
    const partner = await create();
    expectGranted(await good(partner));
    partner.set.requestsSince();
    const release = partner.set.hold();
    const flood = atOnce(200, () => unknown(partner));
    await expect.poll(() => partner.set.requests.length).toBe(2);
    for (const reply of await atOnce(20, () => good(partner))) expectGranted(reply);
    release();
    expect(causesOf(await flood)).toEqual(["jwt_kid_unknown"]);
    expect(partner.set.requestsSince()).toBe(1);
  });

  test("P5.10 200: B is never refused meanwhile, its keys are not evicted, and its host is not asked", async () => {
    const [a, b] = [await create(), await create()];
    for (const partner of [a, b]) expectGranted(await good(partner));
    const before = await keyReport(server, b);
    b.set.requestsSince();
    const flood = atOnce(500, () => unknown(a));
    for (let i = 0; i < 100; i++) expectGranted(await good(b));
    expect(causesOf(await flood)).toEqual(["jwt_kid_unknown"]);
    expect(b.set.requestsSince()).toBe(0);
    expect(await keyReport(server, b)).toEqual(before);
  });

  test("P5.10 200: nor does it use up B's question: a key that B publishes is accepted at once", async () => {
    const [a, b] = [await create(), await create()];
    for (const partner of [a, b]) expectGranted(await good(partner));
    const flood = atOnce(100, () => unknown(a));
    const next = makeTestKey("ES256");
    b.set.publish([b.key, next]);
    expectGranted(await good({ ...b, key: next }));
    expect(causesOf(await flood)).toEqual(["jwt_kid_unknown"]);
  });

  test("P5.9 401: whoever has no credentials of A makes nobody ask, or as seldom, by assertions that anybody can write", async () => {
    const bySecret = await create();
    const byKey = await create({ fields: { token_endpoint_auth_method: "private_key_jwt" } });
    const type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    const assertion = (kid: string) => subjectToken(byKey, {}, { typ: "client-authentication+jwt", kid });
    const asserted = (kid: string) => {
      const form = { client_assertion: assertion(kid), client_assertion_type: type };
      return exchange(byKey, subjectToken(byKey), { auth: "none", form });
    };
    expectGranted(await good(bySecret));
    expectGranted(await asserted(byKey.key.kid));
    expect([bySecret.set.requestsSince(), byKey.set.requestsSince()]).toEqual([1, 1]);
    const replies = await atOnce(100, (i) => (i % 2 === 0 ? unknown({ ...bySecret, clientSecret: "wrong" }) : asserted(randomUUID())));
    expect(causesOf(replies)).toEqual(["client_not_authenticated"]);
    expect(new Set(replies.map(({ json }) => json["error_description"])).size).toBe(1);
    expect([bySecret.set.requestsSince(), byKey.set.requestsSince()]).toEqual([0, 1]);
    expectGranted(await asserted(byKey.key.kid));
  });

  test("P5.11 200: a key that A publishes in the middle of it is accepted within 60 s, at two fetches", async () => {
    const partner = await create();
    expectGranted(await good(partner));
    partner.set.requestsSince();
    expect(causesOf(await atOnce(100, () => unknown(partner)))).toEqual(["jwt_kid_unknown"]);
    const next = makeTestKey("ES256");
    partner.set.publish([partner.key, next]);
    let seconds = 0;
    let reply = await good({ ...partner, key: next });
    for (; reply.status !== 200 && seconds < 60; seconds += 5) {
      pass(5_000);
      const flood = atOnce(50, () => unknown(partner));
      expectGranted(await good(partner));
      reply = await good({ ...partner, key: next });
      expect(causesOf(await flood)).toEqual(["jwt_kid_unknown"]);
    }
    expectGranted(reply);
    expect(seconds).toBeLessThanOrEqual(60);
    expect(partner.set.requestsSince()).toBeLessThanOrEqual(2);
  });

  test("a token without a kid asks nobody", async () => {
    const partner = await create({ beside: [makeTestKey("ES256")] });
    expectGranted(await good(partner));
    partner.set.requestsSince();
    const reply = await exchange(partner, subjectToken(partner, {}, { kid: undefined }));
    await expectRefusal(server, reply, { code: "jwt_kid_missing" });
    expect(partner.set.requestsSince()).toBe(0);
  });
});
