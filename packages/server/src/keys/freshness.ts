import type { OutboundAnswer } from "./outbound.ts";

const FRESH_SECONDS_MIN = 60;
const FRESH_SECONDS_MAX = 600;
const FRESH_SECONDS_DEFAULT = 300;

/**
 * For how long a fetched key set is taken as it is, milliseconds: what its cache headers say (RFC 9111 §4.2.1), between one minute and
 * ten. A partner cannot have us ask at every request, nor keep a key alive that it has withdrawn.
 */
export function freshForMs(headers: OutboundAnswer["headers"]): number {
  const seconds = statedSeconds(headers) ?? FRESH_SECONDS_DEFAULT;
  return Math.min(Math.max(seconds, FRESH_SECONDS_MIN), FRESH_SECONDS_MAX) * 1000;
}

function statedSeconds(headers: OutboundAnswer["headers"]): number | undefined {
  const directives = (headers["cache-control"] ?? "").toLowerCase().split(",");
  const named = directives.map((directive) => directive.trim());
  if (named.includes("no-store") || named.some((directive) => /^no-cache(?:=|$)/.test(directive))) return 0;
  const maxAge = named.map((directive) => /^max-age="?(\d+)"?$/.exec(directive)?.[1]).find((value) => value !== undefined);
  if (maxAge !== undefined) return Number(maxAge) - wholeNumber(headers.age);
  if (headers.expires === undefined) return undefined;
  const seconds = (Date.parse(headers.expires) - Date.parse(headers.date ?? "")) / 1000;
  return Number.isNaN(seconds) ? 0 : seconds; // RFC 9111 §5.3: an invalid date is one in the past
}

function wholeNumber(text: string | undefined): number {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : 0;
}
