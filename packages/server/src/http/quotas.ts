import type { Partner, RateLimits, RateLimitStore } from "../storage/store.ts";
import { type Bucket, hasOne, RATE_LIMITS_DEFAULT, refill, type Standing, standing } from "./rate-limit.ts";

const PARTNERS_MAX = 10_000;
/** Of the burst: what a node uses before it tells the store, and at most once more while it tells. Two nodes stay within a tenth. */
const UNTOLD_SHARE = 1 / 40;
/** Or as much as comes in this time: a small burst beside a high rate would make the store count every request. */
const UNTOLD_MS = 100;
/** A node that uses less than its share in this time never asks the store. */
const CALM_MS = 60_000;
/** So long does a request wait at most for a store that is slow to count. */
const CHARGE_MS_MAX = 250;
/** A store that did not answer is not asked again before. */
const AWAY_MS = 1_000;
const MINUTE_MS = 60_000;

export interface QuotaPorts {
  readonly store: RateLimitStore;
  readonly nowMs: () => number;
  /** The store does not count: once for each time that it goes away. */
  readonly onAway: (error: unknown) => void;
}

/** What this node knows of a partner's bucket, with its own use taken off, and what of that use the store has not been told. */
interface Share {
  readonly bucket: Bucket;
  untold: number;
  untoldSinceMs: number;
  telling: Promise<void> | undefined;
}

/**
 * A partner's quota, over all nodes: its bucket is in the store. A node lets requests pass by what it last read there, in memory, and tells the
 * store of them afterwards, so many at a time. What several nodes let pass too much between two such reports is charged all the same: the bucket
 * goes below zero, and all of them refuse until it is paid back. Without the store, each node goes on with a bucket of its own.
 */
export class Quotas {
  private readonly ports: QuotaPorts;
  private readonly shares = new Map<string, Share>();
  private awayUntilMs = 0;
  private isAway = false;

  constructor(ports: QuotaPorts) {
    this.ports = ports;
  }

  /**
   * For a request whose caller has proved to be this partner, or one of its users: takes it off the quota, once however often it is asked, and
   * keeps with the request how the partner stands.
   */
  async admit({ clientId, rateLimits }: Pick<Partner, "clientId" | "rateLimits">, request: { standing?: Standing }): Promise<Standing> {
    return (request.standing ??= await this.take(clientId, rateLimits ?? RATE_LIMITS_DEFAULT));
  }

  /**
   * Takes one request off the partner's quota, or none where nothing is left. Waits only for a store that is counting already: where this node would
   * get too far ahead of it, or is about to refuse and should say rightly until when. Never throws.
   */
  take(partnerId: string, limits: RateLimits): Standing | Promise<Standing> {
    const nowMs = this.ports.nowMs();
    const share = this.shareOf(partnerId, limits, nowMs);
    refill(share.bucket, limits, nowMs);
    const untoldMax = untoldMaxOf(limits);
    const passes = hasOne(share.bucket);
    if (share.telling !== undefined && (share.untold >= untoldMax || !passes))
      return share.telling.then(() => this.take(partnerId, limits));
    if (!passes) return standing("partner", share.bucket, limits, false);
    share.bucket.level -= 1;
    if (nowMs - share.untoldSinceMs > CALM_MS) share.untold = 0;
    if (share.untold === 0) share.untoldSinceMs = nowMs;
    share.untold += 1;
    if (share.untold >= untoldMax && share.telling === undefined && nowMs >= this.awayUntilMs) {
      share.telling = this.tell(partnerId, share, limits, nowMs);
    }
    return standing("partner", share.bucket, limits, true);
  }

  private shareOf(partnerId: string, { burst }: RateLimits, nowMs: number): Share {
    const known = this.shares.get(partnerId);
    if (known !== undefined) return known;
    if (this.shares.size >= PARTNERS_MAX) this.shares.delete(this.shares.keys().next().value as string);
    const share = { bucket: { level: burst, atMs: nowMs }, untold: 0, untoldSinceMs: nowMs, telling: undefined };
    this.shares.set(partnerId, share);
    return share;
  }

  /** What is used while the store counts is told next time. What it could not be told is forgotten: this node has counted it. */
  private async tell(partnerId: string, share: Share, limits: RateLimits, nowMs: number): Promise<void> {
    const used = share.untold;
    share.untold = 0;
    try {
      const level = await within(CHARGE_MS_MAX, () => this.ports.store.charge(partnerId, used, limits, nowMs));
      share.bucket.level = level - share.untold;
      share.bucket.atMs = nowMs;
      this.isAway = false;
    } catch (thrown) {
      this.awayUntilMs = this.ports.nowMs() + AWAY_MS;
      if (!this.isAway) this.ports.onAway(thrown);
      this.isAway = true;
    } finally {
      share.telling = undefined;
    }
  }
}

function untoldMaxOf({ requestsPerMinute, burst }: RateLimits): number {
  return Math.max(1, burst * UNTOLD_SHARE, Math.min(burst / 4, (requestsPerMinute * UNTOLD_MS) / MINUTE_MS));
}

/** @throws Error after `ms`; what comes later is not looked at. */
async function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`the store did not count within ${ms} ms`)), ms);
    timer.unref();
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}
