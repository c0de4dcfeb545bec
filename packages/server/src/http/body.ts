import { Problem } from "./problem.ts";

/** What of Node's request is needed. */
interface Incoming {
  readonly headers: { readonly "content-length"?: string | undefined };
  readonly destroyed: boolean;
  on(event: "data", listener: (chunk: Buffer) => void): unknown;
  on(event: "end" | "error" | "close", listener: () => void): unknown;
  off(event: "data", listener: (chunk: Buffer) => void): unknown;
  resume(): unknown;
}

/** What is still to come of a body that nobody wants is taken where it is no longer than this, so that the connection can go on. */
const REST_BYTES_MAX = 64 * 1024;

/**
 * Whether what nobody has read of a body may be long: then its connection has to end with the answer, or whoever is refused, and needs no token for that,
 * could send without end.
 */
export function hasLongRest({ complete, headers }: Pick<Incoming, "headers"> & { readonly complete: boolean }): boolean {
  return !complete && !(Number(headers["content-length"]) <= REST_BYTES_MAX);
}

export class BodyTooLarge extends Problem {
  constructor() {
    super(413, "The body is too large.");
  }
}

/**
 * All of a body that nobody has begun to read. What is over `bytesMax` is refused before it is read where its length is told, else at that point; the rest
 * of it is thrown away as it comes, until the connection ends ({@link hasLongRest}). Takes no longer than a request may take.
 * @throws BodyTooLarge; Problem 400 where the sender goes away.
 */
export function readBody(request: Incoming, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    if (Number(request.headers["content-length"] ?? 0) > bytesMax) return reject(new BodyTooLarge());
    const chunks: Buffer[] = [];
    let bytes = 0;
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes <= bytesMax) return;
      request.off("data", take);
      request.resume();
      chunks.length = 0;
      reject(new BodyTooLarge());
    };
    let isWhole = false;
    const breakOff = () => {
      if (!isWhole) reject(new Problem(400, "The body broke off.")); // read by nobody
    };
    if (request.destroyed) return breakOff(); // while the caller was looked up: it says nothing more, and would be waited for without end
    request.on("error", breakOff);
    request.on("close", breakOff);
    request.on("end", () => {
      isWhole = true;
      const [only] = chunks;
      resolve(only !== undefined && chunks.length === 1 ? only : Buffer.concat(chunks.splice(0)));
    });
    request.on("data", take);
  });
}
