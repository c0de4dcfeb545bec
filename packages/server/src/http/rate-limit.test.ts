import { describe, expect, test } from "vitest";
import { type Bucket, envelopeRateLimitHeaders, hasOne, rateLimitHeaders, refill, secondsToNext, standing } from "./rate-limit.ts";

const LIMITS = { requestsPerMinute: 60, burst: 5 };
const bucket = (level: number): Bucket => ({ level, atMs: 0 });

function refilled(level: number, nowMs: number): number {
  const filled = bucket(level);
  refill(filled, LIMITS, nowMs);
  return filled.level;
}

describe("a token bucket", () => {
  test("fills evenly, up to its burst and no further", () => {
    expect(refilled(0, 1_500)).toBeCloseTo(1.5);
    expect(refilled(4, 60_000)).toBe(5);
    expect(refilled(-3, 1_000)).toBeCloseTo(-2);
    expect(refilled(3, -10_000)).toBe(3);
  });

  test("a clock that went back stops it no longer than until the clock goes on", () => {
    const one = bucket(0);
    refill(one, LIMITS, -3_600_000);
    refill(one, LIMITS, -3_599_000);
    expect(one.level).toBeCloseTo(1);
  });

  test.each([
    [0, 1],
    [0.5, 1],
    [-2, 3],
    [1, 1],
    [4.2, 1],
  ])("at %f, the next one is there in %i s, and then it is", (level, seconds) => {
    const waited = bucket(level);
    expect(secondsToNext(waited, LIMITS)).toBe(seconds);
    refill(waited, LIMITS, seconds * 1_000);
    expect(hasOne(waited)).toBe(true);
  });

  test("whoever waits as long as it says passes, at every rate", () => {
    for (const requestsPerMinute of [1, 7, 59, 60, 61, 600, 1_000_000]) {
      const limits = { requestsPerMinute, burst: 3 };
      for (const level of [0, 0.1, 0.999, -1, -2.5]) {
        const waited = bucket(level);
        refill(waited, limits, secondsToNext(waited, limits) * 1_000);
        expect(hasOne(waited), `${requestsPerMinute} ${level}`).toBe(true);
      }
    }
  });
});

describe("the headers", () => {
  const admitted = standing("partner", bucket(3.7), LIMITS, true);
  const refused = standing("partner", bucket(-2), LIMITS, false);

  test("say policy, remaining and reset, and a refusal when to come again", () => {
    expect(rateLimitHeaders(admitted)).toEqual({ "ratelimit-policy": '"partner";q=60;w=60', ratelimit: '"partner";r=3;t=1' });
    expect(rateLimitHeaders(refused)).toEqual({
      "ratelimit-policy": '"partner";q=60;w=60',
      ratelimit: '"partner";r=0;t=3',
      "retry-after": "3",
    });
  });

  test("of the envelope's endpoints say the same twice", () => {
    expect(envelopeRateLimitHeaders(refused)).toEqual({
      ...rateLimitHeaders(refused),
      "x-ratelimit-limit": "60",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": "3",
    });
  });
});
