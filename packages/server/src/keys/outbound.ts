import { lookup as systemLookup, Resolver } from "node:dns/promises";
import * as http from "node:http";
import * as https from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { isPublicAddress } from "./public-address.ts";

const ANSWER_MS_MAX = 5_000;
const DNS_MS_MAX = 1_500;
const BODY_BYTES_MAX = 256 * 1024;
const HEADER_BYTES_MAX = 16 * 1024;
const URL_CHARACTERS_MAX = 2_000;

/** A closed list: it labels a metric. The sentence names no address, so that nobody maps a network through it. */
export interface OutboundFault {
  readonly code:
    | "not_allowed"
    | "not_public"
    | "unresolved"
    | "unreachable"
    | "tls"
    | "timeout"
    | "status"
    | "redirect"
    | "too_large"
    | "encoded";
  readonly sentence: string;
}

export type OutboundResult<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fault: OutboundFault };

export interface OutboundAnswer {
  readonly body: Uint8Array;
  readonly headers: http.IncomingHttpHeaders;
}

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

export interface OutboundOptions {
  /** `host:port` as URLs have them: these may be plain http, and private. */
  readonly allowHosts: ReadonlySet<string>;
  /** Every address of a host name. */
  readonly resolve?: (hostname: string) => Promise<readonly ResolvedAddress[]>;
  /** Certificates to trust instead of Node's own, PEM. */
  readonly ca?: string;
}

/**
 * The only way out of the server: a GET to a URL that somebody else chose (RFC 8725bis §3.10). https and the public internet only,
 * unless the operator has listed the host; the address is judged when the connection is made, so that a name cannot change its mind;
 * no redirect, no proxy, no cookie, nothing that says who asks; within 5 s and 256 KB, never decompressed.
 */
export class Outbound {
  private readonly options: OutboundOptions;
  // agents of our own: the global ones may have been given a proxy by the environment; and a resumed session has no certificate to check
  private readonly agents = { "http:": new http.Agent(), "https:": new https.Agent({ maxCachedSessions: 0 }) };

  constructor(options: OutboundOptions) {
    this.options = options;
  }

  /** What can be said of a URL without a look at the network. Gives its normal form. */
  parseUrl(text: string): OutboundResult<URL> {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if ((url?.href ?? text).length > URL_CHARACTERS_MAX) return refuse("not_allowed", `is over ${URL_CHARACTERS_MAX} characters`);
    if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) return refuse("not_allowed", "is not an https URL");
    if (url.username !== "" || url.password !== "") return refuse("not_allowed", "must not hold a user or a password");
    if (url.hash !== "" || text.includes("#")) return refuse("not_allowed", "must not have a fragment");
    if (url.hostname.endsWith(".")) return refuse("not_allowed", "must not have a host name that ends in a dot");
    if (this.isListed(url)) return { ok: true, value: url };
    if (url.protocol !== "https:") return refuse("not_allowed", `is not an https URL${LISTED}`);
    if (url.port !== "") return refuse("not_allowed", `must be on port 443${LISTED}`);
    const literal = addressLiteral(url);
    if (literal !== undefined && !isPublicAddress(literal)) return refuse("not_public", `is at an address that is not public${LISTED}`);
    return { ok: true, value: url };
  }

  /** Whether the host can be connected to now; nothing is sent to it. */
  async checkHost(url: URL): Promise<OutboundFault | undefined> {
    if (this.isListed(url) || addressLiteral(url) !== undefined) return undefined;
    const addresses = await this.resolveWithin(AbortSignal.timeout(ANSWER_MS_MAX), url.hostname, false).catch(() => []);
    return judge(addresses, false);
  }

  /** Never throws. */
  async get(url: URL): Promise<OutboundResult<OutboundAnswer>> {
    const allowed = this.parseUrl(url.href);
    if (!allowed.ok) return refuse(allowed.fault.code, `it ${allowed.fault.sentence}`); // the operator's list was another one before
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    try {
      return await this.request(url, signal);
    } catch (thrown) {
      return { ok: false, fault: faultOf(thrown, signal.aborted) };
    }
  }

  /** A listed host may be in this machine's own tables. For others a name server is asked, which does not hold up a thread when it is slow. */
  private resolve(hostname: string, isListed: boolean): Promise<readonly ResolvedAddress[]> {
    if (this.options.resolve !== undefined) return this.options.resolve(hostname);
    return isListed ? systemLookup(hostname, { all: true }) : askNameServer(hostname);
  }

  private isListed(url: URL): boolean {
    const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
    return this.options.allowHosts.has(`${url.hostname}:${port}`);
  }

  /** @throws when it takes longer: whoever asks for a registration waits no longer than for a fetch. */
  private resolveWithin(signal: AbortSignal, hostname: string, isListed: boolean): Promise<readonly ResolvedAddress[]> {
    return Promise.race([this.resolve(hostname, isListed).catch(() => []), aborted(signal)]);
  }

  private async request(url: URL, signal: AbortSignal): Promise<OutboundResult<OutboundAnswer>> {
    const lookup = lookupOf(await this.addressesOf(url, signal));
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const { request } = url.protocol === "https:" ? https : http;
      const sent = request(url, {
        agent: this.agents[url.protocol as "http:"],
        lookup,
        headers: { accept: "application/jwk-set+json, application/json", "accept-encoding": "identity", "user-agent": "cambist" },
        maxHeaderSize: HEADER_BYTES_MAX,
        rejectUnauthorized: true, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
        ...(this.options.ca === undefined ? {} : { ca: this.options.ca }),
        signal,
      });
      sent.once("response", resolve);
      sent.on("error", reject);
      // a switch of protocols is neither a response nor an error
      sent.once("upgrade", (_response, socket) => {
        socket.destroy();
        reject(new Refused({ code: "status", sentence: "it answered 101" }));
      });
      sent.once("close", () => reject(new Refused({ code: "unreachable", sentence: "it closed the connection without an answer" })));
      sent.end();
    });
    try {
      return await readAnswer(response);
    } finally {
      response.destroy();
    }
  }

  /** Where the connection may go: what was judged here is what is connected to. */
  private async addressesOf(url: URL, signal: AbortSignal): Promise<readonly ResolvedAddress[]> {
    const literal = addressLiteral(url);
    if (literal !== undefined) return [{ address: literal, family: isIP(literal) }]; // parseUrl has judged it
    const isListed = this.isListed(url);
    const addresses = await this.resolveWithin(signal, url.hostname, isListed);
    const fault = judge(addresses, isListed);
    if (fault !== undefined) throw new Refused(fault);
    return addresses;
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}

function lookupOf(addresses: readonly ResolvedAddress[]): LookupFunction {
  return (_hostname, options, callback) => {
    const [first] = addresses;
    if (options.all === true) callback(null, [...addresses]);
    else callback(null, first?.address ?? "", first?.family);
  };
}

const LISTED = "; the operator can allow the host by CAMBIST_JWKS_ALLOW_HOSTS";
const UNRESOLVED: OutboundFault = { code: "unresolved", sentence: "its host name does not resolve" };

async function askNameServer(hostname: string): Promise<readonly ResolvedAddress[]> {
  const resolver = new Resolver({ timeout: DNS_MS_MAX, tries: 2 });
  // a host of one family has no record of the other
  const [four, six] = await Promise.all([resolver.resolve4(hostname).catch(() => []), resolver.resolve6(hostname).catch(() => [])]);
  return [...four.map((address) => ({ address, family: 4 })), ...six.map((address) => ({ address, family: 6 }))];
}

/** One address that is not public among public ones is enough: which of them is taken is the network's choice, or an attacker's. */
function judge(addresses: readonly ResolvedAddress[], isListed: boolean): OutboundFault | undefined {
  if (addresses.length === 0) return UNRESOLVED;
  if (isListed || addresses.every(({ address }) => isPublicAddress(address))) return undefined;
  return { code: "not_public", sentence: "its host name resolves to an address that is not public" };
}

function addressLiteral(url: URL): string | undefined {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return isIP(host) === 0 ? undefined : host;
}

async function readAnswer(response: http.IncomingMessage): Promise<OutboundResult<OutboundAnswer>> {
  const { statusCode = 0, headers } = response;
  if (statusCode >= 300 && statusCode < 400) return refuse("redirect", `it redirects (${statusCode})`);
  if (statusCode !== 200) return refuse("status", `it answered ${statusCode}`);
  const encoding = headers["content-encoding"] ?? "identity";
  if (encoding !== "identity") return refuse("encoded", "its answer is compressed, which was not asked for");
  if (Number(headers["content-length"] ?? 0) > BODY_BYTES_MAX) return TOO_LARGE;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return TOO_LARGE;
    chunks.push(chunk);
  }
  return { ok: true, value: { body: Buffer.concat(chunks), headers } };
}

const TOO_LARGE = refuse("too_large", `its answer is over ${BODY_BYTES_MAX / 1024} KB`);

class Refused extends Error {
  readonly fault: OutboundFault;
  constructor(fault: OutboundFault) {
    super(fault.sentence);
    this.fault = fault;
  }
}

/** `isAborted`: an answer that is cut off in its middle reads like a lost connection (ECONNRESET). */
function faultOf(thrown: unknown, isAborted: boolean): OutboundFault {
  if (thrown instanceof Refused) return thrown.fault;
  if (isAborted) return { code: "timeout", sentence: `it did not answer within ${ANSWER_MS_MAX / 1000} s` };
  const { code } = thrown as { readonly code?: unknown };
  const cause = typeof code === "string" ? code : "";
  if (/CERT|^ERR_(?:TLS|SSL)|^EPROTO$|^UNABLE_TO/.test(cause)) return { code: "tls", sentence: `TLS with it failed (${cause})` };
  return { code: "unreachable", sentence: `the connection to it failed${cause === "" ? "" : ` (${cause})`}` };
}

function refuse(code: OutboundFault["code"], sentence: string): { readonly ok: false; readonly fault: OutboundFault } {
  return { ok: false, fault: { code, sentence } };
}
