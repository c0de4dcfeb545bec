import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  exchange,
  ISSUER,
  send,
  serviceAccountToken,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectNothingSecret } from "./expect-refusal.ts";
import { createJwksPartner, type JwksSetting, keyReport, refreshKeys, startJwksSetting } from "./jwks-setting.ts";

/* A5, what an operator can see of partners' keys: the report, the refresh, metrics and log lines. */

const MINUTE_MS = 60_000;
const ABSENT = "prt_00000000000000000000000000000000";

describe.each(DIALECTS)("the health of fetched keys on %s", (dialect) => {
  let setting: JwksSetting;
  let server: TestServer;
  beforeAll(async () => {
    setting = await startJwksSetting(dialect);
    server = setting.server;
  });
  afterAll(() => setting.stop());

  /** A counter of the metrics, 0 where it was never counted. */
  async function counted(name: string): Promise<number> {
    const { text } = await send(server, "GET", "/metrics");
    return Number(new RegExp(`^${name.replaceAll(/[{}]/g, "\\$&")} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
  }
  const fetches = (outcome: string) => counted(`cambist_jwks_fetches_total{outcome="${outcome}"}`);
  const lines = (text: string, clientId: string) => server.logLines.filter((line) => line.includes(text) && line.includes(clientId));
  const withinSeconds = (text: string | null | undefined, ms: number) => Math.abs(Date.parse(text ?? "") - ms) < 5_000;

  test("the report: last fetch, last failure and why, each key used or refused and why, when it first and last appeared", async () => {
    const [first, second, third] = [makeTestKey("ES256"), makeTestKey("RS256"), makeTestKey("EdDSA")];
    const bad = { kty: "oct", k: "AA", kid: "shared-secret" };
    const partner = await createJwksPartner(setting, { key: first, beside: [bad], headers: { "cache-control": "max-age=120" } });
    expect(await keyReport(server, partner)).toEqual({
      client_id: partner.clientId,
      source: "jwks_uri",
      jwks_uri: partner.set.url,
      failing: false,
      last_fetch_at: null,
      fresh_until: null,
      last_failure_at: null,
      last_failure: null,
      keys: [],
    });
    const startMs = server.deps.nowMs();
    expectGranted(await exchange(partner, subjectToken(partner)));
    const times = (from: number, to: number) => ({
      first_seen_at: expect.toSatisfy((text: string) => withinSeconds(text, from)),
      last_seen_at: expect.toSatisfy((text: string) => withinSeconds(text, to)),
    });
    const used = (key: TestKey, from: number, to: number) => ({
      kid: key.kid,
      algorithm: key.algorithm,
      thumbprint: expect.stringMatching(/^[\w-]{43}$/),
      state: "used",
      reason: null,
      ...times(from, to),
    });
    const refused = (from: number, to: number) => ({
      kid: "shared-secret",
      algorithm: null,
      thumbprint: null,
      state: "refused",
      reason: expect.stringMatching(/^This is a symmetric key/),
      ...times(from, to),
    });
    expect((await keyReport(server, partner)).keys).toEqual([used(first, startMs, startMs), refused(startMs, startMs)]);

    server.clock.offsetMs += 10 * MINUTE_MS;
    const secondMs = startMs + 10 * MINUTE_MS;
    partner.set.publish([first, second, bad], { "cache-control": "max-age=120" });
    const refreshed = (await refreshKeys(server, partner)).json;
    expect(refreshed).toEqual(await keyReport(server, partner));
    expect(refreshed["keys"]).toEqual([used(first, startMs, secondMs), used(second, secondMs, secondMs), refused(startMs, secondMs)]);
    expect(Date.parse(refreshed["fresh_until"] as string) - Date.parse(refreshed["last_fetch_at"] as string)).toBe(120_000);

    server.clock.offsetMs += 10 * MINUTE_MS;
    const thirdMs = secondMs + 10 * MINUTE_MS;
    partner.set.publish([second, third]);
    expect((await refreshKeys(server, partner)).json["keys"]).toEqual([
      used(second, secondMs, thirdMs),
      used(third, thirdMs, thirdMs),
      { ...used(first, startMs, secondMs), state: "gone" },
    ]);

    server.clock.offsetMs += 10 * MINUTE_MS;
    const failedMs = thirdMs + 10 * MINUTE_MS;
    partner.set.fail("500");
    const failed = (await refreshKeys(server, partner)).json;
    expect(failed).toMatchObject({
      failing: true,
      last_fetch_at: expect.toSatisfy((text: string) => withinSeconds(text, thirdMs)),
      last_failure_at: expect.toSatisfy((text: string) => withinSeconds(text, failedMs)),
      last_failure: "it answered 500",
    });
    expect((failed["keys"] as unknown[]).slice(0, 2)).toEqual([used(second, secondMs, thirdMs), used(third, thirdMs, thirdMs)]);

    partner.set.publish([third]);
    const recovered = (await refreshKeys(server, partner)).json;
    expect(recovered).toMatchObject({ failing: false, last_failure: "it answered 500" }); // what it was is still to be seen
    expect((recovered["keys"] as { state: string }[]).map(({ state }) => state)).toEqual(["used", "gone", "gone"]);
  });

  test("the thumbprint is that of RFC 7638, and a key that comes back is the one that it was", async () => {
    const jwk = {
      kty: "RSA",
      n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
      e: "AQAB",
      alg: "RS256",
      kid: "2011-04-29",
    };
    const partner = await createJwksPartner(setting, { beside: [jwk] });
    const shown = async () =>
      (await refreshKeys(server, partner)).json["keys"] as { kid: string; thumbprint: string; state: string; first_seen_at: string }[];
    const before = (await shown()).find(({ kid }) => kid === jwk.kid);
    expect(before?.thumbprint).toBe("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    partner.set.publish([partner.key]);
    server.clock.offsetMs += MINUTE_MS;
    expect((await shown()).map(({ state }) => state)).toEqual(["used", "gone"]);
    partner.set.publish([partner.key, jwk]);
    server.clock.offsetMs += MINUTE_MS;
    expect((await shown()).find(({ kid }) => kid === jwk.kid)).toMatchObject({ state: "used", first_seen_at: before?.first_seen_at });
  });

  test("404 for a partner that is not there, 401 for whoever is not the operator; 200 for keys that were registered", async () => {
    const partner = await createJwksPartner(setting);
    const registered = await createTestPartner(server);
    const token = await serviceAccountToken(registered);
    for (const [method, path] of [
      ["GET", "keys"],
      ["POST", "keys/refresh"],
    ] as const) {
      for (const id of [ABSENT, "x", "%00"]) expect((await admin(server, method, `/partners/${id}/${path}`)).status).toBe(404);
      for (const { clientId } of [partner, registered]) {
        expect((await call(server, method, `/admin/v1/partners/${clientId}/${path}`, token)).status).toBe(401);
        expect((await send(server, method, `/admin/v1/partners/${clientId}/${path}`)).status).toBe(401);
      }
      const reply = await admin(server, method, `/partners/${registered.clientId}/${path}`);
      expect(reply).toMatchObject({ status: 200, json: { source: "jwks", keys: [{ state: "used" }] } });
      expect(reply.headers.get("cache-control")).toBe("no-store");
    }
    expect(partner.set.requestsSince()).toBe(0); // none of these made the server ask
  });

  test("a metric and a log line when keys vanish without overlap; none when they rotate with it, or when the host fails", async () => {
    const [first, second, third, fourth] = ["1", "2", "3", "4"].map((kid) => makeTestKey("ES256", kid)) as [
      TestKey,
      TestKey,
      TestKey,
      TestKey,
    ];
    const partner = await createJwksPartner(setting, { key: first, beside: [second] });
    const vanished = () => counted("cambist_jwks_keys_vanished_total");
    const before = await vanished();
    const turn = async (keys: readonly TestKey[]) => {
      partner.set.publish(keys);
      return refreshKeys(server, partner);
    };
    await turn([first, second]);
    await turn([second, third]); // the first has gone, and the second was there before
    partner.set.fail("500");
    await refreshKeys(server, partner);
    await turn([third]);
    expect(await vanished()).toBe(before);
    expect(lines("vanished", partner.clientId)).toEqual([]);
    await turn([fourth]);
    expect(await vanished()).toBe(before + 1);
    const found = lines("vanished", partner.clientId).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(found).toMatchObject([{ level: "warn", msg: "partner keys vanished without overlap", client_id: partner.clientId, kids: "3" }]);
    await turn([fourth]);
    expect(await vanished()).toBe(before + 1);
    await turn([makeTestKey("ES256", "4")]); // another key under the old name is not the old key
    expect(await vanished()).toBe(before + 2);
    await turn([]);
    expect(await vanished()).toBe(before + 3);
  });

  test("fetches are counted by outcome, a closed list, and a failure is logged with what it was", async () => {
    const partner = await createJwksPartner(setting);
    const [fetchedBefore, statusBefore, redirectBefore] = [await fetches("fetched"), await fetches("status"), await fetches("redirect")];
    await refreshKeys(server, partner);
    partner.set.fail("500");
    await refreshKeys(server, partner);
    partner.set.fail("redirect");
    await refreshKeys(server, partner);
    expect([await fetches("fetched"), await fetches("status"), await fetches("redirect")]).toEqual([
      fetchedBefore + 1,
      statusBefore + 1,
      redirectBefore + 1,
    ]);
    const logged = lines("cannot be fetched", partner.clientId).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(logged).toMatchObject([
      { level: "warn", outcome: "status", failure: "it answered 500" },
      { level: "warn", outcome: "redirect", failure: "it redirects (302)" },
    ]);
    const { text } = await send(server, "GET", "/metrics");
    const outcomes = [...text.matchAll(/^cambist_jwks_fetches_total\{outcome="([^"]*)"\}/gm)].map(([, outcome]) => outcome);
    const known =
      "fetched not_allowed not_public unresolved unreachable tls timeout status redirect too_large encoded not_json not_a_jwks no_usable_key".split(
        " ",
      );
    expect(outcomes.filter((outcome) => !known.includes(outcome ?? ""))).toEqual([]);
    expect(text).not.toContain(partner.clientId);
  });

  test("what stands in the URL, or comes from the host, is in no log line, no metric and no answer of the token endpoint", async () => {
    const [inPath, inQuery, fromHost] = [randomBytes(12).toString("hex"), randomBytes(12).toString("hex"), randomBytes(12).toString("hex")];
    const base = setting.host.publish([]).url;
    const key = makeTestKey("ES256");
    const url = `${base}/${inPath}?api_key=${inQuery}`; // where there is nothing: 404
    const partner = await createTestPartner(server, { jwks: undefined, jwks_uri: url }, key);
    const answers = [await exchange(partner, subjectToken(partner))];
    expect(answers[0]).toMatchObject({ status: 503, json: { error_uri: `${ISSUER}/docs/errors/partner_keys_unavailable` } });
    const hostile = await createJwksPartner(setting, { key });
    for (const body of [fromHost, `{"keys":[{"kty":"${fromHost}"}]}`, `{"keys":[],"${fromHost}":1}`, `{"${fromHost}":1,"${fromHost}":2}`]) {
      hostile.set.answer = (response) => void response.writeHead(200, { "x-secret": fromHost }).end(body);
      await refreshKeys(server, hostile);
      answers.push(await exchange(hostile, subjectToken(hostile)));
    }
    hostile.set.answer = (response) => void response.writeHead(500, fromHost).end(fromHost);
    await refreshKeys(server, hostile);
    answers.push(await exchange(hostile, subjectToken(hostile)));
    await admin(server, "PATCH", `/partners/${partner.clientId}`, { jwks_uri: `${url}2` });
    const { text: metrics } = await send(server, "GET", "/metrics");
    for (const text of [...server.logLines, metrics, ...answers.map((answer) => answer.text)]) {
      for (const secret of [inPath, inQuery]) expect(text).not.toContain(secret);
      expect(text).not.toContain(new URL(base).pathname);
    }
    // but for the type of a key, cut and printable, which is why it is refused
    for (const text of [...server.logLines, metrics])
      expect(text.replace(/The key type '\w{1,40}' is not supported/, "")).not.toContain(fromHost);
    expectNothingSecret(...server.logLines);
    for (const line of server.logLines) expect(line).toMatch(/^\{[^\r\n]*\}\n$/);
  });

  test("a kid from outside is cut and escaped in the log", async () => {
    const kid = `\u202e"}\\ ${"x".repeat(240)}`;
    const beside = Array.from({ length: 9 }, (_, i) => makeTestKey("ES256", kid + i));
    const partner = await createJwksPartner(setting, { key: makeTestKey("ES256", kid), beside });
    await refreshKeys(server, partner);
    partner.set.publish([makeTestKey("ES256")]);
    await refreshKeys(server, partner);
    const [line = ""] = lines("vanished", partner.clientId);
    expect(line.length).toBeLessThan(1_000);
    expect((JSON.parse(line) as { kids: string }).kids).toMatch(/^\u202e"\}\\ x+…?/);
  });
});
