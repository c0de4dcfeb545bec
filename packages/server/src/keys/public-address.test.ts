import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isPublicAddress } from "./public-address.ts";

describe("an address of the public internet", () => {
  test.each([
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00:1450:4001:800::200e",
    "::ffff:8.8.8.8",
    "::ffff:808:808",
    "64:ff9b::8.8.8.8",
    "2002:0808:0808::1",
  ])("%s", (address) => expect(isPublicAddress(address)).toBe(true));
});

describe("not one of the public internet", () => {
  test.each([
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200", // metadata at Alibaba
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16", // Azure's host
    "169.254.169.254", // metadata nearly everywhere
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192", // metadata at Oracle
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1", // IPv4-compatible, deprecated
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "0:0:0:0:0:ffff:7f00:0001",
    "::ffff:0:127.0.0.1", // IPv4-translated, RFC 2765
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1", // Teredo
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254", // metadata at AWS
    "fe80::1",
    "fe80::1%eth0",
    "2001:4860:4860::8888%eth0",
    "fec0::1",
    "ff02::1",
  ])("%s", (address) => expect(isPublicAddress(address)).toBe(false));

  test.each(["", "localhost", "1.1.1", "1.1.1.1.1", "0x7f.1", "01.1.1.1", "1.1.1.1:443", "[2606:4700::1111]", "12345::", "::g"])(
    "%j, which is no address",
    (text) => expect(isPublicAddress(text)).toBe(false),
  );
});

test("an IPv4 address is judged alike by itself and inside every form that carries it", () => {
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
      const high = ((a << 8) | b).toString(16);
      const low = ((c << 8) | d).toString(16);
      const judged = [
        `::ffff:${address}`,
        `::ffff:${high}:${low}`,
        `64:ff9b::${address}`,
        `2002:${high}:${low}::1`,
        `2002:${high}:${low}:1:2:3:4:5`,
      ];
      expect(judged.map(isPublicAddress)).toEqual(judged.map(() => isPublicAddress(address)));
    }),
    { numRuns: 2000 },
  );
});

test("an IPv6 address is judged alike in each of its spellings", () => {
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      const normal = new URL(`http://[${address}]/`).hostname.slice(1, -1);
      expect(isPublicAddress(address)).toBe(isPublicAddress(normal));
      expect(isPublicAddress(address.toUpperCase())).toBe(isPublicAddress(normal));
    }),
    { numRuns: 2000 },
  );
});
