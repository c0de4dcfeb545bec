import type { PartnerStore } from "../storage/store.ts";
import type { Log } from "../telemetry/log.ts";
import type { Overload } from "./overload.ts";
import type { Answer, Principal } from "./route.ts";

export interface CorsPorts {
  readonly isOriginAllowed: PartnerStore["isOriginAllowed"];
  readonly log: Log;
  readonly overload: Overload;
}

/** Of a request, as far as it matters here; names in lower case, and several of one name joined by commas. */
interface Asking {
  readonly method: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** What a page may send beyond what any page may. */
const HEADERS_ALLOWED = "Authorization, Content-Type, Last-Event-ID, Idempotency-Key";
/** What a page may read of an answer beyond its body and the few headers that any page may. */
const HEADERS_EXPOSED = "Last-Event-ID, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate";
/** How long a browser may go without asking again: an origin that is taken off the list can still send for so long, but read nothing. */
const PREFLIGHT_SECONDS_MAX = 600;
const VARY = { vary: "Origin" };
const VARY_PREFLIGHT = { vary: "Origin, Access-Control-Request-Method, Access-Control-Request-Headers" };

/** Plain http cannot be listened to on the way to oneself. */
const OWN_HOSTS: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

/**
 * Whether this is, character by character, how a browser writes an origin that a partner may list (RFC 6454 §6.2): https, or http of one's own
 * machine. Not `null`, which every sandboxed frame and local file sends, and no pattern.
 */
export function isWebOrigin(text: string): boolean {
  if (text.includes("*") || !URL.canParse(text)) return false;
  const { origin, protocol, hostname } = new URL(text);
  return origin === text && (protocol === "https:" || (protocol === "http:" && OWN_HOSTS.has(hostname)));
}

/** Whether a browser asks if a page may send what it wants to send (Fetch standard, "CORS-preflight request"). */
export function isPreflight({ method, headers }: Asking): boolean {
  return method === "OPTIONS" && headers["origin"] !== undefined && headers["access-control-request-method"] !== undefined;
}

/**
 * The answer to a preflight, which has no token: yes to what any active partner lists; which partner's token it may be used with is decided by the
 * request that follows. To another origin it says nothing, and the browser does not send. Reads one row, writes none.
 */
export async function preflightAnswer(headers: Asking["headers"], methods: readonly string[], ports: CorsPorts): Promise<Answer> {
  const { origin } = headers;
  if (!(await isAllowedBySomebody(origin, ports))) return { status: 204, body: "", headers: VARY_PREFLIGHT };
  const allowed = {
    "access-control-allow-origin": String(origin),
    "access-control-allow-methods": methods.join(", "),
    "access-control-allow-headers": HEADERS_ALLOWED,
    "access-control-max-age": String(PREFLIGHT_SECONDS_MAX),
  };
  return { status: 204, body: "", headers: { ...allowed, ...VARY_PREFLIGHT } };
}

/**
 * By which a browser lets the page read an answer of a route that is for browsers. Where the caller's partner is known, that partner has to list
 * the origin: a page of another one must not read its users' data with a token that leaked to it. Where nobody is known, any active partner: so
 * that a page reads why it was refused. Without credentials: there are no cookies. Never throws.
 */
export async function corsHeaders(
  headers: Asking["headers"],
  caller: Principal | undefined,
  ports: CorsPorts,
): Promise<Record<string, string>> {
  const { origin } = headers;
  if (typeof origin !== "string") return VARY;
  const isKnown = caller !== undefined && "partner" in caller;
  const isAllowed = isKnown ? caller.partner.allowedOrigins.includes(origin) : await isAllowedBySomebody(origin, ports);
  return isAllowed ? { "access-control-allow-origin": origin, "access-control-expose-headers": HEADERS_EXPOSED, ...VARY } : VARY;
}

/**
 * What cannot be listed is not looked for. A look-up counts as a request under way: whoever has no token can ask for many. A store that is away
 * allows nothing, and the answer stays what it is.
 */
async function isAllowedBySomebody(origin: unknown, { isOriginAllowed, log, overload }: CorsPorts): Promise<boolean> {
  if (typeof origin !== "string" || !isWebOrigin(origin)) return false;
  overload.begin();
  try {
    return await isOriginAllowed(origin);
  } catch (error) {
    log.warn("the origin of a page cannot be looked up; it is told nothing", { error });
    return false;
  } finally {
    overload.end();
  }
}
