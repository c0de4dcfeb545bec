import { afterAll, beforeAll, describe, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectRegistered, expectUnprocessable, registrar, type Registrar } from "./jwks-registrar.ts";

/* A5, a `jwks_uri` with an address in place of a name: P5.2, every spelling. Nothing here leaves the machine. */

let server: TestServer;
let operator: Registrar;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  operator = await registrar(server);
});
afterAll(() => server.stop());

const SPELLINGS_OF_LOOPBACK = [
  "127.0.0.1",
  "127.0.0.1.",
  "127.1",
  "127.0.1",
  "2130706433",
  "017700000001",
  "0x7f000001",
  "0x7f.1",
  "0177.0.0.1",
  "0x7F.0x0.0x0.0x1",
  "127.0x0.00.01",
  "１２７.０.０.１",
  "127。0。0。1",
  "①②⑦.0.0.1",
  "%31%32%37.0.0.1",
  "127.0.0.1%2e",
  "[::1]",
  "[0:0:0:0:0:0:0:1]",
  "[0000:0000:0000:0000:0000:0000:0000:0001]",
  "[::ffff:127.0.0.1]",
  "[::ffff:7f00:1]",
  "[::FFFF:7F00:0001]",
  "[0:0:0:0:0:ffff:127.0.0.1]",
  "[::127.0.0.1]",
  "[::ffff:0:127.0.0.1]",
  "[64:ff9b::127.0.0.1]",
  "[64:ff9b::7f00:1]",
  "[64:ff9b:1::7f00:1]",
  "[2002:7f00:1::]",
  "[2002:7f00:0001::1]",
];

const NOT_PUBLIC = [
  ["this network", "0.0.0.0"],
  ["this network, short", "0"],
  ["this network's last", "0.255.255.255"],
  ["private", "10.0.0.1"],
  ["private, 172.16/12", "172.16.0.1"],
  ["private, 172.16/12's last", "172.31.255.255"],
  ["private, 192.168/16", "192.168.1.1"],
  ["shared, 100.64/10", "100.64.0.1"],
  ["shared, 100.64/10's last", "100.127.255.255"],
  ["loopback's last", "127.255.255.255"],
  ["link-local: the metadata of most clouds", "169.254.169.254"],
  ["the same in decimal", "2852039166"],
  ["the same mapped", "[::ffff:169.254.169.254]"],
  ["the same by NAT64", "[64:ff9b::a9fe:a9fe]"],
  ["the same by 6to4", "[2002:a9fe:a9fe::]"],
  ["Azure's host", "168.63.129.16"],
  ["Azure's host mapped", "[::ffff:a83f:8110]"],
  ["Alibaba's metadata", "100.100.100.200"],
  ["Oracle's metadata", "192.0.0.192"],
  ["documentation 1", "192.0.2.1"],
  ["documentation 2", "198.51.100.1"],
  ["documentation 3", "203.0.113.1"],
  ["benchmarks", "198.18.0.1"],
  ["benchmarks' last", "198.19.255.255"],
  ["6to4 anycast", "192.88.99.1"],
  ["multicast", "224.0.0.1"],
  ["multicast's last", "239.255.255.255"],
  ["reserved", "240.0.0.1"],
  ["broadcast", "255.255.255.255"],
  ["unspecified", "[::]"],
  ["link-local", "[fe80::1]"],
  ["site-local", "[fec0::1]"],
  ["unique local", "[fd00::1]"],
  ["unique local, fc00", "[fc00::1]"],
  ["AWS's metadata over IPv6", "[fd00:ec2::254]"],
  ["multicast, IPv6", "[ff02::1]"],
  ["Teredo", "[2001:0:7f00:1::]"],
  ["Teredo to loopback", "[2001::ffff:80ff:fffe]"],
  ["ORCHIDv2", "[2001:20::1]"],
  ["documentation, IPv6", "[2001:db8::1]"],
  ["documentation, 3fff::/20", "[3fff::1]"],
  ["discard", "[100::1]"],
  ["segment routing", "[5f00::1]"],
  ["a private address by NAT64", "[64:ff9b::10.0.0.1]"],
  ["a private address by 6to4", "[2002:a00:1::]"],
] as const;

describe("an address in place of a name", () => {
  test.each(SPELLINGS_OF_LOOPBACK)("P5.2 422: loopback, spelled %s", async (host) => {
    await expectUnprocessable(operator, `https://${host}/jwks.json`, /not public/);
  });

  test.each(NOT_PUBLIC)("P5.2 422: %s (%s)", async (_what, host) => {
    await expectUnprocessable(operator, `https://${host}/jwks.json`, /not public/);
  });

  test.each(["[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1", "::1", "[127.0.0.1]", "256.0.0.1", "127.0.0.0.1", "0x7g.1", "[::ffff:127.1]"])(
    "P5.2 422: %s is no host at all",
    async (host) => {
      await expectUnprocessable(operator, `https://${host}/jwks.json`, /not an https URL/);
    },
  );

  test.each([
    ["1.1.1.1", "1.1.1.1"],
    ["9.255.255.255", "9.255.255.255"],
    ["11.0.0.0", "11.0.0.0"],
    ["100.63.255.255", "100.63.255.255"],
    ["100.128.0.0", "100.128.0.0"],
    ["126.255.255.255", "126.255.255.255"],
    ["128.0.0.1", "128.0.0.1"],
    ["168.63.129.17", "168.63.129.17"],
    ["169.253.0.1", "169.253.0.1"],
    ["172.15.255.255", "172.15.255.255"],
    ["172.32.0.1", "172.32.0.1"],
    ["192.167.0.1", "192.167.0.1"],
    ["198.20.0.1", "198.20.0.1"],
    ["223.255.255.255", "223.255.255.255"],
    ["134744072", "8.8.8.8"],
    ["[2606:4700:4700::1111]", "[2606:4700:4700::1111]"],
    ["[2a00:1450:4001:0:0:0:0:1]", "[2a00:1450:4001::1]"],
    ["[::ffff:8.8.8.8]", "[::ffff:808:808]"],
    ["[64:ff9b::8.8.8.8]", "[64:ff9b::808:808]"],
    ["[2002:808:808::1]", "[2002:808:808::1]"],
  ])("P5.2 201: %s is public", async (host, normalForm) => {
    await expectRegistered(operator, `https://${host}/p52`, `https://${normalForm}/p52`);
  });
});
