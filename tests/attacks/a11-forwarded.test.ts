import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createTestPartner,
  exchange,
  type Reply,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { freshForm, postRaw } from "./raw.ts";

/* A11, forged X-Forwarded-For: P11.8. What the server takes for the caller's address stands in the recorded exchange. */

async function recordedAddress(server: TestServer, reply: Reply): Promise<unknown> {
  const rows = await server.database.query("SELECT address FROM exchanges WHERE trace_id = $1", [reply.json["trace_id"] as string]);
  expect(rows).toHaveLength(1);
  return rows[0]?.["address"];
}

/** By header lines as they are given, one after the other. */
async function addressFor(server: TestServer, ...forwardedFor: string[]): Promise<unknown> {
  const partner = await createTestPartner(server);
  const reply = await postRaw(
    server,
    `${freshForm(partner).toString()}&scope=no_such_scope`,
    forwardedFor.map((value) => `X-Forwarded-For: ${value}`),
  );
  expect(reply.status).toBe(400);
  return recordedAddress(server, reply);
}

describe("behind no proxy that is trusted", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer("sqlite", { trustedProxies: ["10.0.0.0/8"], limitsWrongSecrets: true });
  });
  afterAll(() => server.stop());

  test.each([["203.0.113.9"], ["10.0.0.1"], ["127.0.0.1, 10.0.0.1"], ["203.0.113.9", "198.51.100.1"]])(
    "P11.8: X-Forwarded-For %s changes nothing",
    async (...lines) => {
      expect(await addressFor(server, ...lines)).toBe("127.0.0.1");
    },
  );

  test("P11.8 429: whoever guesses secrets has as many tries with a new address in every header as with none", async () => {
    const partner = await createTestPartner(server);
    const wrong = { ...partner, clientSecret: "wrong" };
    const statuses: number[] = [];
    for (let n = 0; n < 20; n++) {
      const headers = { "x-forwarded-for": `203.0.113.${n}`, forwarded: `for=203.0.113.${n}`, "x-real-ip": `203.0.113.${n}` };
      statuses.push((await exchange(wrong, subjectToken(partner), { headers })).status);
    }
    expect(statuses.filter((status) => status === 401).length).toBeLessThanOrEqual(12);
    expect(statuses.at(-1)).toBe(429);
  });

  test("it is said once in the log that somebody forwards and is not listed", async () => {
    await addressFor(server, "203.0.113.9");
    await addressFor(server, "203.0.113.9");
    const lines = server.logLines.filter((line) => line.includes("CAMBIST_TRUSTED_PROXIES"));
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain("203.0.113.9");
  });
});

describe("behind proxies that are trusted", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer("sqlite", { trustedProxies: ["127.0.0.1", "10.0.0.0/8"] });
  });
  afterAll(() => server.stop());

  test.each([
    [["203.0.113.9"], "203.0.113.9"],
    [["127.0.0.1, 203.0.113.9"], "203.0.113.9"],
    [["127.0.0.1", "203.0.113.9, 10.1.1.1"], "203.0.113.9"],
    [["203.0.113.9", "198.51.100.1"], "198.51.100.1"],
    [["203.0.113.9:4711, 10.1.1.1"], "203.0.113.9"],
    [["[2001:db8::9]:4711"], "2001:db8::9"],
    [["203.0.113.9, unknown"], "127.0.0.1"],
    [["' OR 1=1; --"], "127.0.0.1"],
  ] as const)("P11.8: of %j the address that the nearest proxy was called from counts", async (lines, expected) => {
    expect(await addressFor(server, ...lines)).toBe(expected);
  });

  test("P11.8: a header of 8,000 characters is followed no further than its last hops, and one that is no HTTP is a 400", async () => {
    for (const line of ["x".repeat(8_000), ",".repeat(8_000), "203.0.113.9,".repeat(600)])
      expect(await addressFor(server, line)).toBe("127.0.0.1");
    const partner = await createTestPartner(server);
    expect((await postRaw(server, freshForm(partner).toString(), ["X-Forwarded-For: \x00\x1b[31m"])).status).toBe(400);
  });
});
