import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  admin,
  createTestPartner,
  exchange,
  type Reply,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";

/* A1, guessed secrets: P1.22. The tests stand in for a trusted proxy, and so come from any address. Counted in memory: one database will do. */

const GRANTS = { allowed_grants: ["token-exchange", "client_credentials"] };
const HERE = "203.0.113.1";

describe("wrong secrets", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer("sqlite", { trustedProxies: ["127.0.0.1"], limitsWrongSecrets: true });
  });
  afterAll(() => server.stop());

  const tryAt = (address: string, partner: TestPartner, clientSecret = "wrong", at = server): Promise<Reply> =>
    exchange({ ...partner, clientSecret }, subjectToken(partner), { headers: { "x-forwarded-for": address }, at });

  async function exhaust(address: string, partner: TestPartner): Promise<void> {
    for (let n = 0; n < 10; n++) expect((await tryAt(address, partner)).status).toBe(401);
  }

  test("P1.22 429: of 60 in 60 s from one address, twenty at most are looked at, and the rest is told when to come again", async () => {
    const partner = await createTestPartner(server);
    const replies: Reply[] = [];
    for (let second = 0; second < 60; second++, server.clock.offsetMs += 1_000) replies.push(await tryAt(HERE, partner));
    const looked = replies.filter(({ status }) => status === 401).length;
    expect(looked).toBeGreaterThanOrEqual(10);
    expect(looked).toBeLessThanOrEqual(20);
    const limited = replies.filter(({ status }) => status === 429);
    expect(limited).toHaveLength(60 - looked);
    for (const reply of limited) {
      expect(reply.json).toMatchObject({
        error: "slow_down",
        error_uri: expect.stringMatching(/\/docs\/errors\/wrong_secrets_too_many$/) as unknown,
      });
      const retryAfter = Number(reply.headers.get("retry-after"));
      expect(retryAfter).toBeGreaterThanOrEqual(1);
      expect(retryAfter).toBeLessThanOrEqual(6);
    }
  });

  test("P1.22 200: the partner is served from another address, and after Retry-After from this one; until then not even with the right secret", async () => {
    const partner = await createTestPartner(server);
    await exhaust(HERE, partner);
    const refused = await tryAt(HERE, partner, partner.clientSecret);
    expect(refused.status).toBe(429);
    for (const address of ["203.0.113.2", "2001:db8::1", "127.0.0.1"]) {
      expect((await tryAt(address, partner, partner.clientSecret)).status, address).toBe(200);
    }
    const other = await createTestPartner(server);
    expect((await tryAt(HERE, other, other.clientSecret)).status).toBe(200);
    server.clock.offsetMs += Number(refused.headers.get("retry-after")) * 1_000;
    expect((await tryAt(HERE, partner, partner.clientSecret)).status).toBe(200);
  });

  test("P1.22 429: a hundred at once are no more tries than ten one after the other", async () => {
    const partner = await createTestPartner(server);
    const statuses = (await Promise.all(Array.from({ length: 100 }, () => tryAt(HERE, partner)))).map(({ status }) => status);
    expect(statuses.filter((status) => status === 401)).toHaveLength(10);
    expect(statuses.filter((status) => status === 429)).toHaveLength(90);
  });

  test("right secrets are not counted", async () => {
    const partner = await createTestPartner(server);
    for (let n = 0; n < 30; n++) expect((await tryAt(HERE, partner, partner.clientSecret)).status).toBe(200);
    await exhaust(HERE, partner);
  });

  test("429: the addresses of one IPv6 /64 are one, and those of another are not", async () => {
    const partner = await createTestPartner(server);
    for (let n = 0; n < 10; n++) expect((await tryAt(`2001:db8:0:1::${n}`, partner)).status).toBe(401);
    expect((await tryAt("2001:db8:0:1:ffff::", partner)).status).toBe(429);
    expect((await tryAt("2001:db8:0:2::1", partner, partner.clientSecret)).status).toBe(200);
  });

  test("429: a client that there is not, and one that is disabled or authenticates otherwise, read like one with a wrong secret", async () => {
    const partner = await createTestPartner(server);
    const disabled = await createTestPartner(server);
    await admin(server, "PATCH", `/partners/${disabled.clientId}`, { status: "disabled" });
    const byKeys = await createTestPartner(server, { token_endpoint_auth_method: "private_key_jwt" });
    const unknown = { ...partner, clientId: `prt_${"0".repeat(32)}` };
    const texts = new Set<string>();
    for (const each of [partner, disabled, byKeys, unknown, { ...partner, clientId: "nobody" }]) {
      await exhaust(HERE, each);
      const reply = await tryAt(HERE, each);
      expect(reply.status).toBe(429);
      texts.add(reply.text.replace(/"trace_id":"[0-9a-f]{32}"/, ""));
    }
    expect(texts.size).toBe(1);
  });

  test("429: the endpoints that take the secret share the count, and each answers in its own form", async () => {
    const partner = await createTestPartner(server, GRANTS);
    const post = (path: string, secret: string, more: Record<string, string> = {}) =>
      send(server, "POST", path, {
        headers: { "x-forwarded-for": HERE },
        body: new URLSearchParams({ client_id: partner.clientId, client_secret: secret, ...more }),
      });
    const endpoints = ["/v1/auth/token", "/oauth2/introspect", "/oauth2/revoke", "/oauth2/token"];
    for (let n = 0; n < 10; n++) expect((await post(endpoints[n % 4] ?? "", "wrong", { token: "x" })).status).toBe(401);
    for (const path of endpoints) {
      const reply = await post(path, partner.clientSecret, { token: "x" });
      expect(reply.status, path).toBe(429);
      expect(Number(reply.headers.get("retry-after")), path).toBeGreaterThanOrEqual(1);
      if (path.startsWith("/oauth2")) expect(reply.json["error"]).toBe("slow_down");
      else {
        expect(reply.json).toEqual({ error: expect.objectContaining({ code: "429001", code_reason: "rate_limit_exceeded" }) as unknown });
        expect(reply.headers.get("x-ratelimit-limit")).toBe("10");
        expect(reply.headers.get("x-ratelimit-remaining")).toBe("0");
        expect(reply.headers.get("x-ratelimit-reset")).toBe(reply.headers.get("retry-after"));
      }
    }
  });

  test("a flood is on record, writes no more log lines than it has tries, and neither holds a secret", async () => {
    const partner = await createTestPartner(server);
    const linesBefore = server.logLines.length;
    for (let n = 0; n < 40; n++) await tryAt(HERE, partner, `wrong-secret-${n}`);
    const recorded = () => server.database.query("SELECT * FROM exchanges WHERE client_id = $1", [partner.clientId]);
    await expect.poll(async () => (await recorded()).length, { timeout: 5_000 }).toBe(40); // what is turned away is written together
    const rows = await recorded();
    expect(new Set(rows.map((row) => row["refusal"]))).toEqual(new Set(["client_not_authenticated", "wrong_secrets_too_many"]));
    const lines = server.logLines.slice(linesBefore);
    expect(lines.filter((line) => line.includes("wrong secrets") && line.includes(partner.clientId)).length).toBeGreaterThanOrEqual(1);
    expect(lines.filter((line) => !line.includes('"debug"')).length).toBeLessThanOrEqual(16);
    expect(JSON.stringify([rows, lines])).not.toContain("wrong-secret-");
  });
});
