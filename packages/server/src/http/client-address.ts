import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";

/** More hops than any chain of proxies has: a header of thousands of trusted addresses must not cost a comparison each. */
const HOPS_MAX = 32;
const MAPPED_PREFIX = "::ffff:";
/** Judging one takes some microseconds, and most requests come from the same few. */
const JUDGED_MAX = 1_024;

/** Finds who sent a request. Absent where no proxy is trusted: the peer is the client, whatever it says. */
export type ClientAddress = (peer: string, forwardedFor: string | undefined) => string;

/** Why an entry of CAMBIST_TRUSTED_PROXIES is none; undefined: it is an address, or a network such as 10.0.0.0/8. */
export function proxyFault(entry: string): string | undefined {
  const [address = "", prefix, ...more] = entry.split("/");
  const bits = isIPv4(address) ? 32 : 128;
  if (more.length > 0 || isIP(address) === 0 || address.includes("%")) return "is not an IP address or a network such as 10.0.0.0/8";
  if (prefix === undefined) return undefined;
  if (plain(address) !== address) return "is a network of IPv4 in the notation of IPv6; write it as 10.0.0.0/8";
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > bits) return `has a prefix that is not a number from 0 to ${bits}`;
  return Number(prefix) === 0 ? "trusts every address, and so would take whatever a client says of itself" : undefined;
}

/**
 * By `X-Forwarded-For`, and only as far as it can be believed: each proxy adds the address that it was called from at the right, so the
 * first one from the right that is no trusted proxy is the client's. What stands to the left of it, the client has made up.
 *
 * `proxies` are addresses and networks that {@link proxyFault} has nothing against. An entry may have a port; what is no address ends the
 * search at the proxy that reported it. Several headers count as one, in their order. `onUnlisted`: a peer that is not listed forwards, told once.
 */
export function clientAddress(proxies: readonly string[], onUnlisted: () => void = () => undefined): ClientAddress {
  const isTrusted = remembered(trustIn(proxies));
  let isSaid = false;
  return (peer, forwardedFor) => {
    let address = plain(peer);
    if (forwardedFor === undefined) return address;
    if (!isTrusted(address)) {
      if (!isSaid) onUnlisted();
      isSaid = true;
      return address;
    }
    const hops = forwardedFor.split(",").slice(-HOPS_MAX);
    while (hops.length > 0 && isTrusted(address)) {
      const before = withoutPort((hops.pop() ?? "").trim());
      if (isIP(before) === 0 || before.includes("%")) break;
      address = plain(before);
    }
    return address;
  };
}

function remembered(judge: (address: string) => boolean): (address: string) => boolean {
  const judged = new Map<string, boolean>();
  return (address) => {
    const known = judged.get(address);
    if (known !== undefined) return known;
    const verdict = judge(address);
    if (judged.size >= JUDGED_MAX) judged.clear();
    judged.set(address, verdict);
    return verdict;
  };
}

function trustIn(proxies: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const entry of proxies) {
    const [address = "", prefix] = entry.split("/");
    const family = isIPv4(address) ? "ipv4" : "ipv6";
    if (prefix === undefined) list.addAddress(plain(address), isIPv4(plain(address)) ? "ipv4" : family);
    else list.addSubnet(address, Number(prefix), family);
  }
  return (address) => isIP(address) !== 0 && list.check(address, isIPv4(address) ? "ipv4" : "ipv6");
}

/** `192.0.2.1:4711`, `[2001:db8::1]:4711` and `[2001:db8::1]`; an IPv6 address without brackets has no port. */
function withoutPort(hop: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(hop)?.[1];
  if (bracketed !== undefined) return isIPv6(bracketed) ? bracketed : "";
  return /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
}

/** An IPv4 address that came in over an IPv6 socket, as itself: it is one client, however it is written. */
function plain(address: string): string {
  const rest = address.slice(MAPPED_PREFIX.length);
  return address.slice(0, MAPPED_PREFIX.length).toLowerCase() === MAPPED_PREFIX && isIPv4(rest) ? rest : address;
}

/** What is counted as one client: an IPv4 address, or the /64 that an IPv6 address is in, since whoever has one has all of them. */
export function addressGroup(address: string): string {
  if (!address.includes(":") || !isIPv6(address)) return address;
  const [head = "", tail] = new URL(`http://[${address.replace(/%.*$/, "")}]/`).hostname.slice(1, -1).split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => "0"), ...after];
  return `${groups.slice(0, 4).join(":")}::/64`;
}
