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

/** What of Node's request is needed. */
interface Incoming {
  readonly headers: { readonly "content-length"?: string | undefined };
  readonly destroyed: boolean;
  on(event: "data", listener: (chunk: Buffer) => void): unknown;
  on(event: "end" | "error" | "close", listener: () => void): unknown;
  off(event: "data", listener: (chunk: Buffer) => void): unknown;
  resume(): unknown;
}

/**
 * All of a body that nobody has begun to read. What is over `bytesMax` is refused before it is read where its length is told, else at that point; the rest
 * of it is thrown away as it comes, so that its sender reads the answer. Takes no longer than a request may take.
 * @throws Problem 413; 400 where the sender goes away.
 */
export function readBody(request: Incoming, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const tooLarge = () => reject(new Problem(413, "The body is too large."));
    if (Number(request.headers["content-length"] ?? 0) > bytesMax) return tooLarge();
    const chunks: Buffer[] = [];
    let bytes = 0;
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes <= bytesMax) return;
      request.off("data", take);
      request.resume();
      chunks.length = 0;
      tooLarge();
    };
    const breakOff = () => reject(new Problem(400, "The body broke off.")); // read by nobody
    if (request.destroyed) return breakOff(); // while the caller was looked up: it says nothing more, and would be waited for without end
    request.on("error", breakOff);
    request.on("close", breakOff);
    request.on("end", () => resolve(Buffer.concat(chunks.splice(0))));
    request.on("data", take);
  });
}
