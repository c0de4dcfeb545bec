import type { RateLimits } from "../storage/store.ts";

/** Token buckets as arithmetic: no clock, no I/O. A bucket holds at most `burst`, refills evenly, and each request takes one. */

/** Of a partner whose `rate_limits` is null: more than almost any of them sends, and less than would crowd out the others of a node. */
export const RATE_LIMITS_DEFAULT: RateLimits = { requestsPerMinute: 60_000, burst: 10_000 };

const MINUTE_MS = 60_000;
/** Sums of fractions end just below the whole number that they stand for. */
const ROUNDING = 1e-6;

/** `level` may be below zero: what was used beyond what was there is paid back first. Times are milliseconds since 1970. */
export interface Bucket {
  level: number;
  atMs: number;
}

/** Brings the bucket up to now, in place. A clock that went back gives nothing and takes nothing. */
export function refill(bucket: Bucket, { requestsPerMinute, burst }: RateLimits, nowMs: number): void {
  const elapsedMs = Math.max(0, nowMs - bucket.atMs);
  bucket.level = Math.min(burst, bucket.level + (elapsedMs * requestsPerMinute) / MINUTE_MS);
  bucket.atMs = nowMs;
}

export function hasOne({ level }: Bucket): boolean {
  return level >= 1 - ROUNDING;
}

/** Whole seconds, at least 1, until the bucket holds one more than it holds now; where it holds none, until a request passes. */
export function secondsToNext({ level }: Bucket, { requestsPerMinute }: RateLimits): number {
  const wanted = Math.max(1, Math.floor(level + ROUNDING) + 1);
  return Math.max(1, Math.ceil(((wanted - level - ROUNDING) * 60) / requestsPerMinute));
}

/** How a caller stands after a request: whether it passes, how many more would, and in how many seconds there will be one more. */
export interface Standing {
  readonly policy: "partner" | "wrong-secrets";
  readonly isAdmitted: boolean;
  readonly limits: RateLimits;
  readonly remaining: number;
  readonly resetSeconds: number;
}

export function standing(policy: Standing["policy"], bucket: Bucket, limits: RateLimits, isAdmitted: boolean): Standing {
  const remaining = Math.max(0, Math.floor(bucket.level + ROUNDING));
  return { policy, isAdmitted, limits, remaining, resetSeconds: secondsToNext(bucket, limits) };
}

/**
 * The headers of draft-ietf-httpapi-ratelimit-headers-11: the policy, and in `RateLimit` how many more requests pass within `t` seconds. A
 * refusal also says `Retry-After`, never earlier than `t`.
 */
export function rateLimitHeaders({ policy, isAdmitted, limits, remaining, resetSeconds }: Standing): Record<string, string> {
  const headers: Record<string, string> = {
    "ratelimit-policy": `"${policy}";q=${limits.requestsPerMinute};w=60`,
    ratelimit: `"${policy}";r=${remaining};t=${resetSeconds}`,
  };
  if (!isAdmitted) headers["retry-after"] = String(resetSeconds);
  return headers;
}

/** The same in the older form, which clients of `/v1` read (contract §3). `X-RateLimit-Reset` is in seconds from now, like `t`. */
export function envelopeRateLimitHeaders(given: Standing): Record<string, string> {
  return {
    ...rateLimitHeaders(given),
    "x-ratelimit-limit": String(given.limits.requestsPerMinute),
    "x-ratelimit-remaining": String(given.remaining),
    "x-ratelimit-reset": String(given.resetSeconds),
  };
}
