import { Problem } from "../http/problem.ts";
import type { ThreadOwner } from "../storage/thread-store.ts";

/** One user of a partner may have a quarter of its streams, so that no user shuts out the others; and some in any case: a page or two on a few devices. */
const SHARE_OF_A_USER = 1 / 4;
const OF_A_USER_IN_ANY_CASE = 10;

/** How many streams are open on this node, by partner and by user. */
export class StreamRoom {
  private readonly counts = new Map<string, number>();

  /** @param streamsMax of the partner. @throws Problem 429 where the partner, or the user, has as many open as it may. */
  require(owner: ThreadOwner, streamsMax: number): void {
    const full = this.findFull(owner, streamsMax);
    if (full === undefined) return;
    const detail = `${full}, which is as many as it may; close some, or try again.`;
    throw new Problem(429, detail, { headers: { "retry-after": "5" } });
  }

  has(owner: ThreadOwner, streamsMax: number): boolean {
    return this.findFull(owner, streamsMax) === undefined;
  }

  change({ partnerId, userId }: ThreadOwner, by: 1 | -1): void {
    for (const key of [partnerId, `${partnerId}/${userId}`]) {
      const count = (this.counts.get(key) ?? 0) + by;
      if (count === 0) this.counts.delete(key);
      else this.counts.set(key, count);
    }
  }

  private findFull({ partnerId, userId }: ThreadOwner, streamsMax: number): string | undefined {
    if ((this.counts.get(partnerId) ?? 0) >= streamsMax) return `The partner has ${streamsMax} streams open on this node`;
    const userMax = Math.max(OF_A_USER_IN_ANY_CASE, Math.ceil(streamsMax * SHARE_OF_A_USER));
    const isFull = (this.counts.get(`${partnerId}/${userId}`) ?? 0) >= userMax;
    return isFull ? `The user has ${userMax} of the partner's ${streamsMax} streams open on this node` : undefined;
  }
}
