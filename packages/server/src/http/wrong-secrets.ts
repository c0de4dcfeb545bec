import type { RateLimits } from "../storage/store.ts";
import { addressGroup } from "./client-address.ts";
import { type Bucket, hasOne, refill, secondsToNext, type Standing } from "./rate-limit.ts";

/** Enough for whoever mistypes, or rolls a new secret out to a hundred machines behind one address; too few to guess by. */
const WRONG_SECRETS: RateLimits = { requestsPerMinute: 10, burst: 10 };
const PAIRS_MAX = 50_000;
/** Of a client id, which is as long as ours are or not one of ours. */
const NAME_CHARACTERS_MAX = 64;

export interface WrongSecretsPorts {
  readonly nowMs: () => number;
  /** In place of {@link WRONG_SECRETS}. */
  readonly limits?: RateLimits | undefined;
  /** A pair has used up its tries for now. The client id is as it was named: it may be a secret, in the wrong field. */
  readonly onUsedUp: (clientId: string, address: string) => void;
}

/**
 * Wrong secrets, counted for each pair of a client id as it was named and an address, on this node. A pair that has used up its tries is
 * refused before its secret is compared, be it the right one: guessing on gains nothing, and the client goes on from every other address.
 *
 * A client that there is not is counted like one that there is, or the difference would tell. The oldest pairs are forgotten beyond 50,000:
 * who makes room by that many other names has fewer tries than by waiting.
 */
export class WrongSecrets {
  private readonly ports: WrongSecretsPorts;
  private readonly limits: RateLimits;
  private readonly buckets = new Map<string, Bucket>();

  constructor(ports: WrongSecretsPorts) {
    this.ports = ports;
    this.limits = ports.limits ?? WRONG_SECRETS;
  }

  /** In how many seconds the pair may try again; undefined: now. */
  check(clientId: string, address: string): number | undefined {
    const bucket = this.buckets.size === 0 ? undefined : this.buckets.get(pairOf(clientId, address));
    if (bucket === undefined) return undefined;
    refill(bucket, this.limits, this.ports.nowMs());
    return hasOne(bucket) ? undefined : secondsToNext(bucket, this.limits);
  }

  /** Counts a wrong secret. Call it in the same turn of the event loop as {@link check}, or many at once pass it together. */
  note(clientId: string, address: string): void {
    const pair = pairOf(clientId, address);
    const nowMs = this.ports.nowMs();
    const bucket = this.buckets.get(pair) ?? { level: this.limits.burst, atMs: nowMs };
    refill(bucket, this.limits, nowMs);
    bucket.level -= 1;
    this.buckets.delete(pair); // to the end: the map is in the order of the latest wrong secret
    if (this.buckets.size >= PAIRS_MAX) this.buckets.delete(this.buckets.keys().next().value as string);
    this.buckets.set(pair, bucket);
    if (!hasOne(bucket)) this.ports.onUsedUp(clientId, address);
  }
}

/** How a pair stands that {@link WrongSecrets.check} has turned away. */
export function wrongSecretsStanding(retryAfterSeconds: number): Standing {
  return { policy: "wrong-secrets", isAdmitted: false, limits: WRONG_SECRETS, remaining: 0, resetSeconds: retryAfterSeconds };
}

function pairOf(clientId: string, address: string): string {
  return `${addressGroup(address)} ${clientId.slice(0, NAME_CHARACTERS_MAX)}`;
}
