import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  recordedExchange,
  type Reply,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";

/* A13, quotas: P13.13, and what a partner's limit covers. */

const QUOTA = 120;
const HEADERS = /^"partner";r=(\d+);t=(\d+)$/;

interface Told {
  readonly remaining: number;
  readonly resetSeconds: number;
}

function told(reply: Reply, requestsPerMinute = QUOTA): Told {
  expect(reply.headers.get("ratelimit-policy")).toBe(`"partner";q=${requestsPerMinute};w=60`);
  const [, remaining, resetSeconds] = HEADERS.exec(reply.headers.get("ratelimit") ?? "") ?? [];
  return { remaining: Number(remaining), resetSeconds: Number(resetSeconds) };
}

const setLimits = async (partner: TestPartner, limits: object | null) => {
  const reply = await admin(partner.server, "PATCH", `/partners/${partner.clientId}`, { rate_limits: limits });
  expect(reply.status).toBe(200);
  return reply;
};

/** An organization that there is not: the cheapest answer to an accepted token. */
const ask = (at: TestServer, token: string) => call(at, "GET", `/v2/account-management/organization?org_id=${randomUUID()}`, token);

describe.each(DIALECTS)("a partner's quota on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const pass = (seconds: number) => [server, second].forEach((node) => (node.clock.offsetMs += seconds * 1_000));

  test("P13.13: two nodes that are flooded at once let a minute's quota pass, to a tenth, and say the same of what is left", async () => {
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    await setLimits(partner, { requests_per_minute: QUOTA });
    const startedMs = performance.now();
    const flood = async (at: TestServer) => {
      const replies: Reply[] = [];
      for (let n = 0; n < 6; n++) replies.push(...(await Promise.all(Array.from({ length: 40 }, () => ask(at, token)))));
      return replies;
    };
    const [first, other] = await Promise.all([flood(server), flood(second)]);
    const refilled = ((performance.now() - startedMs) / 60_000) * QUOTA;
    const all = [...first, ...other];
    expect(new Set(all.map(({ status }) => status))).toEqual(new Set([404, 429]));
    const passed = all.filter(({ status }) => status === 404).length;
    expect(passed).toBeGreaterThanOrEqual(QUOTA * 0.9);
    expect(passed).toBeLessThanOrEqual(QUOTA * 1.1 + refilled);
    for (const reply of all.filter(({ status }) => status === 429)) {
      const { remaining, resetSeconds } = told(reply);
      expect(remaining).toBe(0);
      expect(Number(reply.headers.get("retry-after"))).toBeGreaterThanOrEqual(Math.max(1, resetSeconds));
      expect(reply.headers.get("content-type")).toBe("application/problem+json");
    }
    const last = told(first.at(-1)!);
    expect(Math.abs(last.remaining - told(other.at(-1)!).remaining)).toBeLessThanOrEqual(QUOTA * 0.1);
    expect(Math.abs(last.resetSeconds - told(other.at(-1)!).resetSeconds)).toBeLessThanOrEqual(6);
  });

  test("P13.13: whoever waits as long as Retry-After says passes, on either node", async () => {
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    await setLimits(partner, { requests_per_minute: 12, burst: 3 });
    for (let round = 0; round < 4; round++) {
      for (const at of [server, second]) {
        let refused = await ask(at, token);
        for (let n = 0; n < 20 && refused.status !== 429; n++) refused = await ask(at, token);
        expect(refused.status).toBe(429);
        pass(Number(refused.headers.get("retry-after")));
        expect((await ask(at, token)).status).toBe(404);
      }
    }
  });

  test("a node that starts finds what the others have used", async () => {
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    await setLimits(partner, { requests_per_minute: 1, burst: 40 });
    for (let n = 0; n < 50; n++) await ask(server, token);
    const third = await server.startSecondNode();
    third.clock.offsetMs = server.clock.offsetMs;
    try {
      const statuses: number[] = [];
      for (let n = 0; n < 10; n++) statuses.push((await ask(third, token)).status);
      expect(statuses.filter((status) => status === 404).length).toBeLessThanOrEqual(2);
    } finally {
      await third.stop();
    }
  });

  test("one bucket for all that a partner and its users send, and none for what others send in its name", async () => {
    const partner = await createTestPartner(server, { allowed_grants: ["token-exchange", "client_credentials"] });
    const user = await createTestUser(partner);
    const token = await serviceAccountToken(partner);
    pass(61); // what this node used before, too little to be told, is forgotten
    await setLimits(partner, { requests_per_minute: 1, burst: 30 });
    const client = { client_id: partner.clientId, client_secret: partner.clientSecret };
    const post = (path: string, form: Record<string, string>) => send(server, "POST", path, { body: new URLSearchParams(form) });
    const requests: (() => Promise<Reply>)[] = [
      () => exchange(partner, subjectToken(partner, { sub: user.userId })),
      () => exchange(partner, "not.a.token"),
      () => post("/oauth2/token", { ...client, grant_type: "client_credentials" }),
      () => post("/v1/auth/token", client),
      () => post("/oauth2/introspect", { ...client, token }),
      () => post("/oauth2/revoke", { ...client, token: "x" }),
      () => ask(server, token),
      () => call(server, "PUT", "/v2/account-management/user", token, { workspace_id: "x" }),
      () => call(server, "GET", "/v2/account-management/organization", token),
    ];
    const left: number[] = [];
    for (const request of requests) {
      const reply = await request();
      expect(reply.status).not.toBe(429);
      left.push(told(reply, 1).remaining);
    }
    expect(left).toEqual(requests.map((_, n) => (left[0] ?? 0) - n));
    const stranger = await exchange({ ...partner, clientSecret: "wrong" }, subjectToken(partner));
    expect(stranger.status).toBe(401);
    expect(stranger.headers.get("ratelimit")).toBeNull();
    expect((await call(server, "GET", "/v2/account-management/organization", `${token}x`)).headers.get("ratelimit")).toBeNull();
    for (let n = 0; n < 40; n++) await ask(server, token);
    for (const request of requests) expect((await request()).status).toBe(429);
    expect((await exchange({ ...partner, clientSecret: "wrong" }, subjectToken(partner))).status).toBe(401);
    const other = await createTestPartner(server);
    expect((await exchange(other, subjectToken(other))).status).toBe(200);
  });

  test("429: the token endpoint says slow_down, spends nothing and records the refusal; /v1 says it in its envelope", async () => {
    const partner = await createTestPartner(server, { allowed_grants: ["token-exchange", "client_credentials"] });
    const token = await serviceAccountToken(partner);
    await setLimits(partner, { requests_per_minute: 6, burst: 2 });
    for (let n = 0; n < 5; n++) await ask(server, token);
    const subject = subjectToken(partner);
    const refused = await exchange(partner, subject);
    expect(refused.status).toBe(429);
    expect(refused.json).toMatchObject({
      error: "slow_down",
      error_uri: expect.stringMatching(/\/docs\/errors\/rate_limited$/) as unknown,
    });
    await expect
      .poll(() => recordedExchange(server, String(refused.json["trace_id"])), { timeout: 5_000 })
      .toMatchObject({ outcome: "refused", refusal: "rate_limited" });
    const body = new URLSearchParams({ client_id: partner.clientId, client_secret: partner.clientSecret });
    const envelope = await send(server, "POST", "/v1/auth/token", { body });
    expect(envelope.status).toBe(429);
    expect(envelope.json["error"]).toMatchObject({ code: "429001", code_reason: "rate_limit_exceeded" });
    const { remaining, resetSeconds } = told(envelope, 6);
    expect(envelope.headers.get("x-ratelimit-limit")).toBe("6");
    expect(envelope.headers.get("x-ratelimit-remaining")).toBe(String(remaining));
    expect(envelope.headers.get("x-ratelimit-reset")).toBe(String(resetSeconds));
    expect(envelope.headers.get("retry-after")).toBe(String(resetSeconds));
    pass(60);
    expect((await exchange(partner, subject)).status).toBe(200);
    const granted = await send(server, "POST", "/v1/auth/token", { body });
    expect(granted.status).toBe(200);
    expect(granted.headers.get("x-ratelimit-remaining")).toBe(String(told(granted, 6).remaining));
  });

  test("a change of the limits holds from the next request on, on both nodes; null is the server's own", async () => {
    const partner = await createTestPartner(server, { rate_limits: { requests_per_minute: 1, burst: 1 } });
    const shown = await setLimits(partner, { requests_per_minute: 50 });
    expect(shown.json["partner"]).toMatchObject({ rate_limits: { requests_per_minute: 50, burst: 50 } });
    const token = await serviceAccountToken(partner);
    for (const at of [server, second]) told(await ask(at, token), 50);
    expect((await setLimits(partner, null)).json["partner"]).toMatchObject({ rate_limits: null });
    for (const at of [server, second]) told(await ask(at, token), 60_000);
  });

  test("a store that cannot count refuses nobody, and says so once", async () => {
    const partner = await createTestPartner(server, { rate_limits: { requests_per_minute: 6_000, burst: 20 } });
    const token = await serviceAccountToken(partner);
    await server.database.query("ALTER TABLE rate_limit_buckets RENAME TO lost");
    try {
      const before = second.logLines.length;
      const statuses = new Set<number>();
      for (let n = 0; n < 15; n++) {
        statuses.add((await ask(second, token)).status);
        second.clock.offsetMs += 20;
      }
      expect(statuses).toEqual(new Set([404]));
      expect(second.logLines.slice(before).filter((line) => line.includes("rate limits"))).toHaveLength(1);
    } finally {
      await server.database.query("ALTER TABLE lost RENAME TO rate_limit_buckets");
    }
  });
});

describe("limits that are none", () => {
  test("422: each is refused by its field", async () => {
    const server = await startTestServer("sqlite");
    const partner = await createTestPartner(server);
    for (const [limits, field] of [
      [{}, "rate_limits.requests_per_minute"],
      [{ burst: 5 }, "rate_limits.requests_per_minute"],
      [{ requests_per_minute: 0 }, "rate_limits.requests_per_minute"],
      [{ requests_per_minute: 1_000_001 }, "rate_limits.requests_per_minute"],
      [{ requests_per_minute: 1.5 }, "rate_limits.requests_per_minute"],
      [{ requests_per_minute: "60" }, "rate_limits.requests_per_minute"],
      [{ requests_per_minute: 60, burst: 0 }, "rate_limits.burst"],
      [{ requests_per_minute: 60, burst: 100_001 }, "rate_limits.burst"],
      [{ requests_per_minute: 60, burst: null }, "rate_limits.burst"],
      [{ requests_per_minute: 60, per_second: 1 }, "rate_limits"],
      [60, "rate_limits"],
      [[], "rate_limits"],
    ] as const) {
      const reply = await admin(server, "PATCH", `/partners/${partner.clientId}`, { rate_limits: limits });
      expect(reply.status, JSON.stringify(limits)).toBe(422);
      expect((reply.json["errors"] as { field: string }[])[0]?.field, JSON.stringify(limits)).toMatch(new RegExp(`^${field}`));
    }
    await server.stop();
  });
});
