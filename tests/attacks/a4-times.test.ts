import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import { signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";

/*
 * A4, exp, iat and nbf: P4.2–P4.10, with margins that a slow machine does not eat up; the edges themselves are tested where time stands
 * still, in packages/protocol/src/jwt/claims.test.ts.
 */

let server: TestServer;
/** The defaults: skew 30 s, lifetime 3600 s. */
let partner: TestPartner;
/** Skew 0 s, lifetime 300 s. */
let strict: TestPartner;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  strict = await createTestPartner(server, { clock_skew_seconds: 0, assertion_lifetime_seconds_max: 300 });
});
afterAll(() => server.stop());

/** Claims from seconds relative to now. */
function times(relative: Record<string, number>): Record<string, number> {
  const now = server.nowSeconds();
  return Object.fromEntries(Object.entries(relative).map(([claim, seconds]) => [claim, now + seconds]));
}

/** Gives back the description. */
async function expectRefused(by: TestPartner, changes: Record<string, unknown>, code: RefusalCode): Promise<string> {
  const reply = await exchange(by, subjectToken(by, changes));
  await expectRefusal(server, reply, { code });
  return reply.json["error_description"] as string;
}

async function expectTaken(by: TestPartner, changes: Record<string, unknown>): Promise<void> {
  expectGranted(await exchange(by, subjectToken(by, changes)));
}

describe("exp", () => {
  test("P4.2: exp in the past is refused beyond the skew and taken within it", async () => {
    expect(await expectRefused(partner, times({ iat: -300, exp: -32 }), "token_expired")).toMatch(/^exp is 3[2-9] s in the past/);
    await expectTaken(partner, times({ iat: -300, exp: -20 }));
    const wide = await createTestPartner(server, { clock_skew_seconds: 60 });
    await expectTaken(wide, times({ iat: -300, exp: -50 }));
    await expectRefused(wide, times({ iat: -300, exp: -62 }), "token_expired");
  });

  test("P4.2: a token that was good expires as the clock goes on", async () => {
    const token = subjectToken(partner, times({ exp: 100 }));
    try {
      server.clock.offsetMs = 140_000;
      const late = await exchange(partner, token);
      expect(late.json["error_uri"]).toMatch(/\/token_expired$/);
      server.clock.offsetMs = 120_000;
      expectGranted(await exchange(partner, token));
    } finally {
      server.clock.offsetMs = 0;
    }
  });

  test("P4.3 400: with skew 0 a token whose exp is now has expired", async () => {
    await expectRefused(strict, times({ iat: -100, exp: 0 }), "token_expired");
    await expectTaken(strict, times({ iat: -100, exp: 5 }));
  });

  test.each(["1893456000", "", null, true, false, [1893456000], {}, "Infinity", "1893456000.0", "2030-01-01T00:00:00Z"])(
    "P4.4 400: exp, iat or nbf of %j is refused, never taken for absent",
    async (value) => {
      for (const claim of ["exp", "iat", "nbf"]) {
        expect(await expectRefused(partner, { [claim]: value }, "claim_malformed")).toContain(claim);
      }
    },
  );

  test.each(["-1", "-1e10", "-0.5"])("P4.4 400: exp, iat or nbf of %s, before 1970, is refused", async (value) => {
    for (const claim of ["exp", "iat", "nbf"]) await expectRefused(partner, { [claim]: Number(value) }, "claim_malformed");
  });

  test.each(["1e400", "-1e400", "NaN", "Infinity", "0x7fffffff", "01893456000", "+1893456000", "1893456000."])(
    "P4.4 400: exp of %s is no JSON number",
    async (value) => {
      const { exp: _, ...claims } = subjectClaims(partner);
      const payload = `{"exp":${value},${JSON.stringify(claims).slice(1)}`;
      const reply = await exchange(partner, signJwt({ alg: "RS256", kid: partner.key.kid }, payload, partner.key));
      await expectRefusal(server, reply, { code: "jwt_not_json" });
    },
  );

  test.each([
    ["1e21", 1e21],
    ["2^53+2", 2 ** 53 + 2],
    ["the year 9999", 253_402_300_799],
    ["the largest double", Number.MAX_VALUE],
  ])("P4.5 400: exp of %s is over the lifetime", async (_, exp) => {
    await expectRefused(partner, { exp }, "token_lifetime_too_long");
  });

  test("P4.6 400: exp in milliseconds is refused with a word on the unit", async () => {
    const description = await expectRefused(partner, { exp: (server.nowSeconds() + 300) * 1000 }, "token_lifetime_too_long");
    expect(description).toMatch(/too far.*milliseconds/);
  });

  test("P4.6 400: all times in milliseconds are refused with a word on the unit", async () => {
    const now = server.nowSeconds() * 1000;
    const description = await expectRefused(partner, { iat: now, exp: now + 300_000 }, "token_lifetime_too_long");
    expect(description).toMatch(/too far/);
    expect(await expectRefused(partner, { iat: now, exp: now + 3_000 }, "token_not_yet_valid")).toMatch(/is it seconds/);
  });

  test("P4.7 200: times may have a fraction", async () => {
    await expectTaken(partner, times({ exp: 60.5 }));
    await expectTaken(partner, times({ exp: 60.5, iat: -0.25, nbf: -0.75 }));
    const { exp: _, ...claims } = subjectClaims(partner);
    const payload = `{"exp":${(server.nowSeconds() + 60) / 1e9}e9,${JSON.stringify(claims).slice(1)}`;
    expectGranted(await exchange(partner, signJwt({ alg: "RS256" }, payload, partner.key)));
  });

  test("P4.8: exp - iat at the partner's cap is taken, a second more is refused", async () => {
    await expectTaken(strict, times({ iat: -10, exp: 290 }));
    expect(await expectRefused(strict, times({ iat: -10, exp: 291 }), "token_lifetime_too_long")).toContain("301 s");
    expect(await expectRefused(strict, times({ iat: -10, exp: 290.001 }), "token_lifetime_too_long")).toContain("301 s");
    await expectTaken(partner, times({ iat: -10, exp: 3590 }));
    await expectRefused(partner, times({ iat: -10, exp: 3591 }), "token_lifetime_too_long");
  });

  test("P4.8 400: an old iat does not buy a far exp, nor a far iat a long life", async () => {
    await expectRefused(partner, times({ iat: -36_000, exp: 300 }), "token_lifetime_too_long");
    await expectRefused(partner, { iat: 0 }, "token_lifetime_too_long");
    await expectRefused(partner, times({ iat: 36_000, exp: 36_300 }), "token_not_yet_valid");
  });
});

describe("nbf and iat", () => {
  test.each(["iat", "nbf"])("P4.9: %s 10 s ahead is taken, 61 s ahead is refused", async (claim) => {
    await expectTaken(partner, times({ [claim]: 10 }));
    expect(await expectRefused(partner, times({ [claim]: 61 }), "token_not_yet_valid")).toMatch(
      new RegExp(`^${claim} is (?:5\\d|6[01]) s in the future`),
    );
    await expectRefused(strict, times({ [claim]: 10 }), "token_not_yet_valid");
    await expectTaken(strict, times({ [claim]: -1, exp: 200 }));
  });

  test("P4.10 400: exp at or before iat, or nbf, contradicts itself", async () => {
    for (const exp of [-1, 0]) {
      await expectRefused(partner, times({ iat: 0, exp }), "token_times_contradict");
      await expectRefused(partner, times({ iat: -100, nbf: 0, exp }), "token_times_contradict");
    }
    await expectRefused(partner, times({ nbf: 301, exp: 300 }), "token_times_contradict");
    await expectRefused(partner, { nbf: Number.MAX_VALUE }, "token_times_contradict");
  });
});
