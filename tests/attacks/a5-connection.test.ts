import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeSelfSigned, type TestCertificate } from "../../packages/server/src/testing/certificates.ts";
import { answerOf, jwksOf } from "../../packages/server/src/testing/jwks-host.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  exchange,
  send,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import {
  createJwksPartner,
  expectUnavailable,
  type JwksPartner,
  type JwksSetting,
  keyReport,
  refreshKeys,
  startJwksSetting,
  TLS_HOST,
} from "./jwks-setting.ts";

/* A5, the connection to a JWKS host: how long it may take (P5.6), its certificate (P5.23), and what the host is told (P5.24). */

const MINUTE_MS = 60_000;
/** 5 s, and what a busy machine adds; two waits in a row, for the name and the answer or for another try, are 10 s. */
const GIVEN_UP_MS_MAX = 9_000;
const KEY = makeTestKey("ES256");

let setting: JwksSetting;
let server: TestServer;
beforeAll(async () => {
  setting = await startJwksSetting("sqlite");
  server = setting.server;
});
afterAll(() => setting.stop());

/** Over http from the one host, over https from the other. */
const createTlsPartner = () => createJwksPartner({ server, host: setting.tlsHost }, { key: KEY });

describe("a JWKS host that takes its time", () => {
  /** Accepts, and says nothing: no TLS handshake either. */
  const silent = createServer((socket) => void socket.on("error", () => undefined)).listen(0, "127.0.0.1");
  let slow: TestServer;
  let silentUrl: string;
  let silentSetting: JwksSetting;
  beforeAll(async () => {
    silentSetting = await startJwksSetting("sqlite", [`localhost:${(silent.address() as { port: number }).port}`]);
    slow = silentSetting.server;
    silentUrl = `https://localhost:${(silent.address() as { port: number }).port}/jwks.json`;
  });
  afterAll(async () => {
    await silentSetting.stop();
    silent.close();
  });

  test("P5.6 P5.7 503: one that hangs, drips, says nothing or whose name server hangs is given up after 5 s; B is served all the while", async () => {
    const b = await createJwksPartner(silentSetting);
    expectGranted(await exchange(b, subjectToken(b)));
    const create = () => createJwksPartner(silentSetting);
    const idle = await create();
    expectGranted(await exchange(idle, subjectToken(idle)));
    slow.clock.offsetMs += 11 * MINUTE_MS;
    idle.set.fail("hang");
    expectGranted(await exchange(b, subjectToken(b)));
    const byUrl = (jwks_uri: string) => createTestPartner(slow, { jwks: undefined, jwks_uri }, KEY);
    const [hanging, dripping] = [await create(), await create()];
    hanging.set.fail("hang");
    dripping.set.fail("drip");
    silentSetting.names.set("slow.example", ["93.184.215.14"]);
    const partners: TestPartner[] = [hanging, dripping, await byUrl(silentUrl), await byUrl("https://slow.example/jwks.json")];
    silentSetting.names.set("slow.example", "hangs");
    const started = performance.now();
    const registration = admin(slow, "POST", "/partners", { name: "x", jwks_uri: "https://slow.example/2" });
    const oneOfIdle = exchange(idle, subjectToken(idle)).then((reply) => ({ reply, ms: performance.now() - started }));
    let ended = 0;
    const pending = partners.map(async (partner) => {
      const replies = await Promise.all(Array.from({ length: 5 }, () => exchange(partner, subjectToken(partner))));
      ended++;
      return { replies, ms: performance.now() - started };
    });
    let servedMeanwhile = 0;
    for (; ended === 0 && servedMeanwhile < 100; servedMeanwhile++) expectGranted(await exchange(b, subjectToken(b)));
    expect(servedMeanwhile, "long before the first of them is given up").toBeGreaterThan(20);
    const others = await Promise.all(pending);
    for (const { replies, ms } of others) {
      expect(ms).toBeGreaterThan(4_900);
      expect(ms).toBeLessThan(GIVEN_UP_MS_MAX);
      for (const reply of replies) {
        expect(reply).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
        expect(reply.json["error_description"]).toMatch(/did not answer within 5 s|its host name does not resolve/);
        expect(Number(reply.headers.get("retry-after"))).toBeGreaterThan(20);
      }
    }
    for (const { set } of [hanging, dripping]) expect(set.requestsSince()).toBe(1);
    // P5.7: a set that ran out while nobody asked is the one thing that is waited for, once; then the last good keys serve
    const { reply, ms } = await oneOfIdle;
    expectGranted(reply);
    expect(ms).toBeLessThan(GIVEN_UP_MS_MAX);
    expectGranted(await exchange(idle, subjectToken(idle)));
    expect(await registration).toMatchObject({
      status: 422,
      json: { errors: [{ field: "jwks_uri", message: "its host name does not resolve" }] },
    });
    expect(performance.now() - started).toBeLessThan(GIVEN_UP_MS_MAX);
    const { text } = await send(slow, "GET", "/metrics");
    const failed = [...text.matchAll(/^cambist_jwks_fetches_total\{outcome="(?:timeout|unresolved)"\} (\d+)$/gm)];
    expect(failed.reduce((sum, [, count]) => sum + Number(count), 0)).toBe(5);
  });
});

describe("the certificate of a JWKS host", () => {
  const bad: readonly [string, () => TestCertificate, RegExp][] = [
    ["an expired", () => setting.authority.issue({ host: TLS_HOST, notAfter: new Date(Date.now() - 60_000) }), /CERT_HAS_EXPIRED/],
    ["a future", () => setting.authority.issue({ host: TLS_HOST, notBefore: new Date(Date.now() + 60_000) }), /CERT_NOT_YET_VALID/],
    ["a self-signed", () => makeSelfSigned({ host: TLS_HOST }), /SELF_SIGNED|UNABLE_TO_VERIFY/],
    ["another name's", () => setting.authority.issue({ host: "other.example" }), /ALTNAME_INVALID/],
  ];

  test.each(bad)("P5.23: %s certificate is refused: 503, or the last good keys", async (_what, certificate, why) => {
    const [warm, cold] = [await createTlsPartner(), await createTlsPartner()];
    expectGranted(await exchange(warm, subjectToken(warm)));
    setting.tlsHost.useCertificate(certificate());
    try {
      await expectUnavailable(server, await exchange(cold, subjectToken(cold)), why);
      server.clock.offsetMs += 11 * MINUTE_MS;
      expectGranted(await exchange(warm, subjectToken(warm)));
      expect(await keyReport(server, warm)).toMatchObject({ failing: true, last_failure: expect.stringMatching(why) });
      expect([warm.set.requestsSince(), cold.set.requestsSince()]).toEqual([1, 0]); // no request was made over such a connection
    } finally {
      setting.tlsHost.useCertificate(setting.authority.issue({ host: TLS_HOST }));
    }
    server.clock.offsetMs += MINUTE_MS;
    expectGranted(await exchange(cold, subjectToken(cold)));
  });
});

describe("what the host is told", () => {
  test.each(["http", "https"])("P5.24: over %s, no cookie, no credentials, no id: the same few headers each time", async (scheme) => {
    const partner: JwksPartner = scheme === "http" ? await createJwksPartner(setting) : await createTlsPartner();
    partner.set.answer = answerOf(jwksOf([partner.key]), {
      "set-cookie": ["id=1; Path=/; Max-Age=999999", "s=2"],
      etag: '"v1"',
      "last-modified": "Sat, 01 Jan 2022 00:00:00 GMT",
      "www-authenticate": 'Basic realm="x"',
      "alt-svc": 'h3=":443"',
    });
    const token = subjectToken(partner);
    expectGranted(await exchange(partner, token, { headers: { cookie: "a=b", "x-request-id": "1", traceparent: "00-1-1-01" } }));
    await exchange(partner, subjectToken(partner, {}, { kid: "unknown" }));
    await refreshKeys(server, partner);
    server.clock.offsetMs += 11 * MINUTE_MS;
    expectGranted(await exchange(partner, subjectToken(partner)));
    const { requests, url } = partner.set;
    expect(requests.length).toBe(4);
    for (const { method, path, headers, rawHeaders } of requests) {
      expect({ method, path }).toEqual({ method: "GET", path: new URL(url).pathname });
      expect(headers).toEqual({
        accept: "application/jwk-set+json, application/json",
        "accept-encoding": "identity",
        connection: "close",
        host: new URL(url).host,
        "user-agent": "cambist",
      });
      expect(rawHeaders.length).toBe(10); // none twice
    }
  });
});
