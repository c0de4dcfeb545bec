import { BlockList, isIPv4, isIPv6 } from "node:net";

/** What of IPv4 is not the public internet: IANA's special-purpose registry (RFC 6890), multicast, reserved, and a cloud's own services. */
const NOT_PUBLIC_IPV4 = blockList("ipv4", [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "168.63.129.16/32", // Azure's host, in a public range
  "169.254.0.0/16", // link-local, and the metadata services of the clouds
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
]);

/** RFC 4291 §2.4: global unicast. Whatever is outside of it is not. */
const GLOBAL_UNICAST_IPV6 = blockList("ipv6", ["2000::/3"]);

/** Inside of it, and not the public internet: IETF protocol assignments with Teredo, documentation. */
const NOT_PUBLIC_IPV6 = blockList("ipv6", ["2001::/23", "2001:db8::/32", "3fff::/20"]);

/** Where an IPv4 address is carried inside, and at which of the eight groups it begins: that address is the one that is reached. */
const EMBEDDING_IPV6 = [
  { prefix: blockList("ipv6", ["::ffff:0:0/96"]), group: 6 }, // IPv4-mapped, RFC 4291 §2.5.5.2
  { prefix: blockList("ipv6", ["64:ff9b::/96"]), group: 6 }, // NAT64, RFC 6052 §2.1
  { prefix: blockList("ipv6", ["2002::/16"]), group: 1 }, // 6to4, RFC 3056 §2
];

/** Whether an IP address, in any of its spellings, is one of the public internet. What is no address is not. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !NOT_PUBLIC_IPV4.check(address, "ipv4");
  if (!isIPv6(address) || address.includes("%")) return false; // with a zone it is an address of this machine's own links
  const embedding = EMBEDDING_IPV6.find(({ prefix }) => prefix.check(address, "ipv6"));
  if (embedding !== undefined) return isPublicAddress(embeddedIpv4(address, embedding.group));
  return GLOBAL_UNICAST_IPV6.check(address, "ipv6") && !NOT_PUBLIC_IPV6.check(address, "ipv6");
}

function embeddedIpv4(address: string, group: number): string {
  const groups = groupsOf(address);
  const bytes = [groups[group] ?? 0, groups[group + 1] ?? 0].flatMap((pair) => [pair >> 8, pair & 255]);
  return bytes.join(".");
}

/** The eight 16-bit groups. The URL parser brings each spelling to one: hexadecimal, with at most one `::`. */
function groupsOf(address: string): number[] {
  const [head = "", tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split("::");
  if (tail === undefined) return parseGroups(head);
  const [before, after] = [parseGroups(head), parseGroups(tail)];
  return [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
}

function parseGroups(part: string): number[] {
  return part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
}

function blockList(family: "ipv4" | "ipv6", subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [network = "", bits] = subnet.split("/");
    list.addSubnet(network, Number(bits), family);
  }
  return list;
}
