import { describe, expect, test } from "vitest";
import { addressGroup, clientAddress, proxyFault } from "./client-address.ts";

const find = clientAddress(["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48", "::1"]);

describe("the client's address", () => {
  test.each([
    ["a peer that is no proxy is the client, whatever it says", "198.51.100.1", "203.0.113.9", "198.51.100.1"],
    ["a proxy that forwards for nobody is the client", "10.0.0.1", undefined, "10.0.0.1"],
    ["a proxy says who called it", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["what the client made up stands to the left of it", "10.0.0.1", "127.0.0.1, 10.0.0.9, 203.0.113.9", "203.0.113.9"],
    ["a chain of proxies is followed to its end", "10.0.0.1", "203.0.113.9,192.0.2.7, 10.2.0.1", "203.0.113.9"],
    ["a chain of nothing but proxies ends at the first of them", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"],
    ["a port is not part of it", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
    ["IPv6, with brackets and port", "10.0.0.1", "[2001:db8:2::9]:4711", "2001:db8:2::9"],
    ["IPv6, bare", "::1", "2001:db8:2::9", "2001:db8:2::9"],
    ["IPv6 proxies in another spelling", "2001:DB8:1:0:0:0:0:1", "203.0.113.9", "203.0.113.9"],
    ["IPv4 over an IPv6 socket is IPv4", "::ffff:10.0.0.1", "::FFFF:203.0.113.9", "203.0.113.9"],
    ["a peer over an IPv6 socket, too", "::ffff:198.51.100.1", "203.0.113.9", "198.51.100.1"],
    ["garbage ends the search at the proxy that reported it", "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"],
    ["garbage further left does not count", "10.0.0.1", "unknown, 203.0.113.9", "203.0.113.9"],
    ["an empty entry", "10.0.0.1", "203.0.113.9, ", "10.0.0.1"],
    ["an empty header", "10.0.0.1", "", "10.0.0.1"],
    ["a zone", "10.0.0.1", "fe80::1%eth0", "10.0.0.1"],
    ["brackets around IPv4", "10.0.0.1", "[203.0.113.9]", "10.0.0.1"],
    ["markup and line ends", "10.0.0.1", '"><script>\r\n', "10.0.0.1"],
    ["a peer that is gone", "", "203.0.113.9", ""],
  ])("%s", (_what, peer, forwardedFor, expected) => {
    expect(find(peer, forwardedFor)).toBe(expected);
  });

  test("with no proxy in the list, the header is not looked at", () => {
    const told: string[] = [];
    const findWithout = clientAddress([], () => void told.push("unlisted"));
    for (let n = 0; n < 3; n++) expect(findWithout("10.0.0.1", "203.0.113.9")).toBe("10.0.0.1");
    expect(told).toEqual(["unlisted"]);
  });

  test("a header of thousands of trusted addresses is followed a few hops, not to its end", () => {
    expect(find("10.0.0.1", `203.0.113.9${",10.0.0.2".repeat(5_000)}`)).toBe("10.0.0.2");
  });
});

describe("an entry of the list", () => {
  test.each(["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "192.0.2.1/32", "::ffff:10.0.0.1"])("%s is one", (entry) => {
    expect(proxyFault(entry)).toBeUndefined();
  });

  test.each(["", "x", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "fe80::1%1", "0.0.0.0/0", "::/0"])(
    "'%s' is none",
    (entry) => {
      expect(proxyFault(entry)).toMatch(/^(?:is|has|trusts) /);
    },
  );
});

describe("what is counted as one client", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::1", "2001:db8:1:2::/64"],
    ["2001:0DB8:0001:0002:0000::", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["", ""],
  ])("%s is of %s", (address, group) => {
    expect(addressGroup(address)).toBe(group);
  });
});
