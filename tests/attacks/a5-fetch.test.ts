import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { answerOf, JWKS_FAULTS, jwksOf, type JwksFault } from "../../packages/server/src/testing/jwks-host.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { exchange, subjectToken, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { createJwksPartner, expectUnavailable, type JwksSetting, keyReport, refreshKeys, startJwksSetting } from "./jwks-setting.ts";

/*
 * A5, what a JWKS host may answer: P5.7, P5.8, and the limits of size. Time, TLS and what the host is told: a5-connection.test.ts. What is
 * kept, and for how long: a5-cache.test.ts. The same faults on the real process, in real time: tests/process/jwks-matrix.fault.ts.
 */

const MINUTE_MS = 60_000;

let setting: JwksSetting;
let server: TestServer;
beforeAll(async () => {
  setting = await startJwksSetting("sqlite");
  server = setting.server;
});
afterAll(() => setting.stop());

/** The faults that end at once; those that take their 5 s are tested together below. */
const WHY: Partial<Record<JwksFault, RegExp>> = {
  "500": /it answered 500/,
  HTML: /its answer is not JSON/,
  "empty set": /no usable key: it is empty/,
  "50 MB": /over 256 KB/,
  "50 MB in chunks": /over 256 KB/,
  "gzip bomb": /compressed/,
  redirect: /redirects \(302\)/,
};
const QUICK = Object.entries(WHY) as [JwksFault, RegExp][];

describe("a JWKS host that fails", () => {
  test("P5.8: each fault that there is, is tested", () => {
    expect([...Object.keys(WHY), "hang", "drip"].toSorted()).toEqual([...JWKS_FAULTS].toSorted());
  });

  test.each(QUICK)("P5.8 503: %s, and nothing cached; 200 after the cooldown, once it is well again", async (fault, why) => {
    const partner = await createJwksPartner(setting);
    partner.set.fail(fault);
    await expectUnavailable(server, await exchange(partner, subjectToken(partner)), why);
    await expectUnavailable(server, await exchange(partner, subjectToken(partner)), why); // within the cooldown: no second fetch
    expect(partner.set.requestsSince()).toBe(1);
    expect(await keyReport(server, partner)).toMatchObject({
      failing: true,
      last_fetch_at: null,
      last_failure: expect.stringMatching(why),
    });
    partner.set.publish([partner.key]);
    server.clock.offsetMs += 31_000;
    expectGranted(await exchange(partner, subjectToken(partner)));
    expect(await keyReport(server, partner)).toMatchObject({ failing: false, keys: [{ kid: partner.key.kid, state: "used" }] });
  });

  test.each(QUICK)("P5.7 200: %s while keys are cached, on the last good ones, and the report says why", async (fault, why) => {
    const partner = await createJwksPartner(setting);
    expectGranted(await exchange(partner, subjectToken(partner)));
    partner.set.fail(fault, [makeTestKey("ES256")]);
    server.clock.offsetMs += 11 * MINUTE_MS;
    for (let i = 0; i < 3; i++) expectGranted(await exchange(partner, subjectToken(partner)));
    expect(partner.set.requestsSince()).toBe(2);
    expect(await keyReport(server, partner)).toMatchObject({
      failing: true,
      last_failure: expect.stringMatching(why),
      keys: [{ kid: partner.key.kid, state: "used" }],
    });
    const unknown = await exchange(partner, subjectToken(partner, {}, { kid: "new" }));
    await expectRefusal(server, unknown, { code: "jwt_kid_unknown" });
    expect(unknown.json["error_description"]).toMatch(/last good ones/);
    expect(unknown.json["error_description"]).toMatch(why);
  });

  test("P5.7 P5.8: a refused connection, warm 200 and cold 503", async () => {
    const [warm, cold] = [await createJwksPartner(setting), await createJwksPartner(setting)];
    expectGranted(await exchange(warm, subjectToken(warm)));
    await setting.host.refuse();
    try {
      server.clock.offsetMs += 11 * MINUTE_MS;
      expectGranted(await exchange(warm, subjectToken(warm)));
      await expectUnavailable(server, await exchange(cold, subjectToken(cold)), /the connection to it failed \(ECONNREFUSED\)/);
    } finally {
      await setting.host.listen();
    }
  });

  test.each([301, 302, 303, 304, 307, 308])("P5.8 503: a redirect (%i) to a good set is not followed", async (status) => {
    const partner = await createJwksPartner(setting);
    const good = setting.host.publish([partner.key]);
    partner.set.answer = answerOf(jwksOf([partner.key]), { location: good.url }, status);
    await expectUnavailable(server, await exchange(partner, subjectToken(partner)), new RegExp(`redirects \\(${status}\\)`));
    expect(good.requestsSince()).toBe(0);
  });

  test.each([201, 203, 206, 400, 401, 403, 404, 410, 429, 503])(
    "P5.8 503: the status %i is no answer, whatever its body",
    async (status) => {
      const partner = await createJwksPartner(setting);
      partner.set.answer = answerOf(jwksOf([partner.key]), {}, status);
      await expectUnavailable(server, await exchange(partner, subjectToken(partner)), new RegExp(`it answered ${status}`));
    },
  );

  test.each([
    ["a second name", '{"keys":[],"keys":[KEY]}', /not JSON/],
    ["something after it", '{"keys":[KEY]}{}', /not JSON/],
    ["a byte order mark", '\uFEFF{"keys":[KEY]}', /not JSON/],
    ["a number that is not finite", '{"x":1e400,"keys":[KEY]}', /not JSON/],
    ["a nesting of 33", `{"x":${"[".repeat(33)}${"]".repeat(33)},"keys":[KEY]}`, /not JSON/],
    ["a bare array", "[KEY]", /not a JWK set/],
    ["one key for the array", '{"keys":KEY}', /not a JWK set/],
    ["keys in the prototype", '{"__proto__":{"keys":[KEY]}}', /not a JWK set/],
    ["null", "null", /not a JWK set/],
    ["nothing", "", /not JSON/],
  ])("P5.8 503: %s in the answer", async (_what, body, why) => {
    const partner = await createJwksPartner(setting);
    partner.set.answer = answerOf(body.replace("KEY", JSON.stringify(partner.key.publicJwk)));
    await expectUnavailable(server, await exchange(partner, subjectToken(partner)), why);
  });

  test("a set of 256 KB is taken, and not a byte more; of 50 MB no more than a few are read", async () => {
    const partner = await createJwksPartner(setting);
    const body = (bytes: number) => jwksOf([partner.key]).padEnd(bytes, " ");
    partner.set.answer = answerOf(body(256 * 1024));
    expectGranted(await exchange(partner, subjectToken(partner)));
    for (const headers of [{}, { "transfer-encoding": "chunked" }]) {
      partner.set.answer = answerOf(body(256 * 1024 + 1), headers);
      expect((await refreshKeys(server, partner)).json["last_failure"]).toMatch(/over 256 KB/);
    }
    partner.set.fail("50 MB in chunks");
    expect((await refreshKeys(server, partner)).json["last_failure"]).toMatch(/over 256 KB/);
    expect(partner.set.requests.at(-1)?.bytesSent()).toBeLessThan(10 * 1024 * 1024); // what the sockets of both sides hold
  });

  test("answer headers of more than 16 KB are not read", async () => {
    const partner = await createJwksPartner(setting);
    partner.set.answer = answerOf(jwksOf([partner.key]), { "x-padding": "x".repeat(17_000) });
    await expectUnavailable(server, await exchange(partner, subjectToken(partner)), /the connection to it failed/);
  });
});
