import { Buffer } from "node:buffer";

/**
 * A token as a lenient reader has it: the decoders of the platform (atob, TextDecoder, JSON.parse), which jose uses. The explanations look at
 * this and never at a parser of ours, so that a fault of ours cannot vouch for itself.
 */
export interface LenientPart {
  readonly segment: string;
  readonly bytes: Uint8Array | undefined;
  /** Without a byte order mark, as TextDecoder gives it. */
  readonly text: string | undefined;
  /** Undefined where it is no JSON object. */
  readonly members: Readonly<Record<string, unknown>> | undefined;
}

export interface LenientToken {
  readonly header: LenientPart;
  readonly payload: LenientPart;
  readonly signature: LenientPart;
}

export function readLeniently(token: string): LenientToken {
  const [header = "", payload = "", signature = ""] = token.split(".");
  return { header: readPart(header), payload: readPart(payload), signature: readPart(signature) };
}

function readPart(segment: string): LenientPart {
  const bytes = attempt(() => Buffer.from(atob(segment.replaceAll("-", "+").replaceAll("_", "/")), "latin1"));
  const text = bytes && attempt(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  const value = text === undefined ? undefined : attempt(() => JSON.parse(text) as unknown);
  const members = typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  return { segment, bytes, text, members };
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** What JSON.parse takes without a word. */
export interface Forgiven {
  readonly repeatedNames: readonly string[];
  readonly depth: number;
  readonly infinite: boolean;
  readonly loneSurrogate: boolean;
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s"{}[\],:]+/gs;

/** `text` is JSON by JSON.parse, so that its tokens can be told apart by a pattern. */
export function forgivenBy(text: string): Forgiven {
  const repeatedNames: string[] = [];
  const open: (Set<string> | undefined)[] = []; // the names of each open object, undefined for an array
  let [depth, infinite, loneSurrogate] = [0, false, false];
  const tokens = text.match(TOKEN) ?? [];
  for (const [i, token] of tokens.entries()) {
    if (token === "{" || token === "[") {
      open.push(token === "{" ? new Set() : undefined);
      depth = Math.max(depth, open.length);
    } else if (token === "}" || token === "]") open.pop();
    else if (token.startsWith('"')) {
      const value = JSON.parse(token) as string;
      loneSurrogate ||= !value.isWellFormed();
      const names = open.at(-1);
      if (tokens[i + 1] !== ":" || names === undefined) continue;
      if (names.has(value)) repeatedNames.push(value);
      names.add(value);
    } else if (/^-?[0-9]/.test(token)) infinite ||= !Number.isFinite(Number(token));
  }
  return { repeatedNames, depth, infinite, loneSurrogate };
}
