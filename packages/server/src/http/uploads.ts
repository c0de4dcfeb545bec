import { Problem } from "./problem.ts";
import type { Principal } from "./route.ts";

/** A file is in memory as a whole until it is stored, up to three times over: no more of them at once on this node. */
const UNDER_WAY_MAX = 16;
/** Of one partner, so that its users cannot keep all others out. */
const OF_PARTNER_MAX = 8;
const RETRY_SECONDS = 2;

/** How many bodies that may be large are under way. Each has a caller who is known: nobody else is listened to for so long. */
export class Uploads {
  private readonly ofPartners = new Map<string, number>();
  private count = 0;

  /** Gives what is to be called when it is over, however that comes; once. @throws Problem 503 */
  begin(caller: Principal): () => void {
    const partnerId = "partner" in caller ? caller.partner.clientId : "";
    const own = this.ofPartners.get(partnerId) ?? 0;
    if (this.count >= UNDER_WAY_MAX || own >= OF_PARTNER_MAX) {
      const headers = { "retry-after": String(RETRY_SECONDS) };
      throw new Problem(503, "Too many uploads are under way here; try again.", { headers });
    }
    this.count++;
    this.ofPartners.set(partnerId, own + 1);
    return () => {
      this.count--;
      const left = (this.ofPartners.get(partnerId) ?? 1) - 1;
      if (left > 0) this.ofPartners.set(partnerId, left);
      else this.ofPartners.delete(partnerId);
    };
  }
}
