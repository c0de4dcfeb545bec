import type { Dialect } from "../dialect.ts";
import type { RateLimitStore } from "../store.ts";

const MINUTE_MS = 60_000;

export function rateLimitStore(dialect: Dialect): RateLimitStore {
  return {
    charge: (partnerId, used, { requestsPerMinute, burst }, nowMs) =>
      dialect.chargeBucket({ partnerId, burst, used, nowMs, perMs: requestsPerMinute / MINUTE_MS }),
  };
}
