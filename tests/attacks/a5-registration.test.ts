import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { admin, createTestPartner, exchange, subjectToken } from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { expectRegistered, expectUnprocessable, registrar, type Registrar } from "./jwks-registrar.ts";
import { createJwksPartner, type JwksSetting, startJwksSetting } from "./jwks-setting.ts";

/*
 * A5, which `jwks_uri` may be registered: P5.1, P5.3–P5.5. Addresses in place of names (P5.2): a5-addresses.test.ts. One URL or issuer for
 * two partners (P5.21): a5-one-tenant.test.ts. Nothing here leaves the machine.
 */

const KEY = makeTestKey("ES256");
const PUBLIC = "93.184.215.14";

let setting: JwksSetting;
let operator: Registrar;
beforeAll(async () => {
  setting = await startJwksSetting("sqlite");
  operator = await registrar(setting.server);
});
afterAll(() => setting.stop());

describe("the form of the URL", () => {
  test.each([
    "http://partner.example/jwks.json",
    "http://93.184.215.14/jwks.json",
    "ftp://partner.example/jwks.json",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    'data:application/json,{"keys":[]}',
    "gopher://127.0.0.1:6379/_INFO",
    "ws://partner.example/",
    "blob:https://partner.example/x",
    "javascript:alert(1)",
    "unix:/run/docker.sock",
    "//partner.example/jwks.json",
    "/jwks.json",
    "partner.example/jwks.json",
    "https://",
    "https:///",
    "",
    " ",
  ])("P5.1 422: %j is not an https URL", async (jwksUri) => {
    setting.names.set("partner.example", [PUBLIC]);
    await expectUnprocessable(operator, jwksUri, /^is not an https URL/);
  });

  test.each([null, 1, true, {}, [], ["https://partner.example/jwks.json"]])("P5.1 422: %j is no text", async (jwksUri) => {
    for (const reply of [await operator.register(jwksUri), await operator.change(jwksUri)]) {
      expect(reply).toMatchObject({ status: 422, json: { errors: [{ field: "jwks_uri" }] } });
    }
  });

  test.each([
    ["a user", "https://user@partner.example/jwks.json", /user or a password/],
    ["a password", "https://user:secret@partner.example/jwks.json", /user or a password/],
    ["a password alone", "https://:secret@partner.example/jwks.json", /user or a password/],
    ["a host that looks like a user", "https://partner.example@10.0.0.1/jwks.json", /user or a password/],
    ["a backslash before one", "https://10.0.0.1\\@partner.example/jwks.json", /not public/],
    ["a fragment", "https://partner.example/jwks.json#x", /fragment/],
    ["an empty fragment", "https://partner.example/jwks.json#", /fragment/],
    ["port 6379", "https://partner.example:6379/jwks.json", /port 443/],
    ["port 80", "https://partner.example:80/jwks.json", /port 443/],
    ["port 8443", "https://partner.example:8443/jwks.json", /port 443/],
    ["port 0", "https://partner.example:0/jwks.json", /port 443/],
    ["port 65536", "https://partner.example:65536/jwks.json", /not an https URL/],
    ["a host name that ends in a dot, a second name for one host", "https://partner.example./jwks.json", /ends in a dot/],
    ["the same with port 443", "https://localhost.:443/jwks.json", /ends in a dot/],
    ["3 000 characters", `https://partner.example/${"x".repeat(3_000)}`, /over 2000 characters/],
  ])("P5.5 422: %s", async (_what, jwksUri, why) => {
    setting.names.set("partner.example", [PUBLIC]);
    await expectUnprocessable(operator, jwksUri, why);
  });

  test("P5.5 422: as much for a listed host; another port of it, or another name for it, is not listed", async () => {
    const { authority } = setting.host;
    const port = Number(authority.split(":")[1]);
    await expectUnprocessable(operator, `http://user@${authority}/jwks.json`, /user or a password/);
    await expectUnprocessable(operator, `http://${authority}/jwks.json#x`, /fragment/);
    await expectUnprocessable(operator, `http://127.0.0.1:${port === 65535 ? 1 : port + 1}/jwks.json`, /not an https URL/);
    await expectUnprocessable(operator, `http://localhost:${port}/jwks.json`, /not an https URL/);
    await expectUnprocessable(operator, `https://127.0.0.2:${port}/jwks.json`, /port 443/);
    await expectUnprocessable(operator, "https://127.0.0.1/jwks.json", /not public/);
  });

  test("P5.5 201: the longest URL, a query, and port 443 in so many words", async () => {
    setting.names.set("keys.example", [PUBLIC]);
    const longest = `https://keys.example/${"x".repeat(2_000 - "https://keys.example/".length)}`;
    await expectRegistered(operator, longest);
    await expectUnprocessable(operator, `${longest}x`, /over 2000 characters/);
    await expectRegistered(operator, "https://keys.example/jwks?tenant=1");
    await expectRegistered(operator, "https://keys.example:443/jwks", "https://keys.example/jwks");
  });
});

describe("a name", () => {
  test.each([
    ["localhost", "127.0.0.1"],
    ["LOCALHOST", "127.0.0.1"],
    ["anything.localhost", "127.0.0.1"],
    ["metadata.google.internal", "169.254.169.254"],
    ["inside.partner.example", "10.1.2.3"],
    ["six.partner.example", "fd00::1"],
    ["mapped.partner.example", "::ffff:10.1.2.3"],
    ["nat64.partner.example", "64:ff9b::a01:203"],
    ["zone.partner.example", "fe80::1%eth0"],
    ["zero.partner.example", "0.0.0.0"],
    ["nothing.partner.example", "no address"],
  ])("P5.3 422: %s resolves to %s", async (name, address) => {
    setting.names.set(name.toLowerCase(), [address]);
    await expectUnprocessable(operator, `https://${name}/jwks.json`, /resolves to an address that is not public/);
  });

  test("P5.3 422: a name that does not resolve, or whose name server fails", async () => {
    await expectUnprocessable(operator, "https://absent.partner.example/jwks.json", /does not resolve/);
    setting.names.set("failing.partner.example", "fails");
    await expectUnprocessable(operator, "https://failing.partner.example/jwks.json", /does not resolve/);
  });

  test.each([
    ["private last", [PUBLIC, "10.0.0.1"]],
    ["private first", ["10.0.0.1", PUBLIC]],
    ["private IPv6 beside public IPv4", [PUBLIC, "fd00::1"]],
    ["private IPv4 beside public IPv6", ["2606:4700:4700::1111", "192.168.0.1"]],
    ["one among many", [...Array.from({ length: 20 }, (_, i) => `93.184.215.${i + 1}`), "127.0.0.1"]],
  ])("P5.4 422: public and private addresses in one answer, %s", async (_what, addresses) => {
    setting.names.set("mixed.partner.example", addresses);
    await expectUnprocessable(operator, "https://mixed.partner.example/jwks.json", /not public/);
  });

  test("P5.3 P5.4 201: public addresses only, of both families", async () => {
    setting.names.set("public.partner.example", [PUBLIC, "2606:4700:4700::1111"]);
    await expectRegistered(operator, "https://public.partner.example/jwks.json");
  });

  test.each([
    ["a private address", ["127.0.0.1"], "not_public"],
    ["a public and a private one", [PUBLIC, "127.0.0.1"], "not_public"],
    ["a private one in IPv6 clothes", ["::ffff:127.0.0.1"], "not_public"],
    ["nothing", [], "unresolved"],
  ])("P5.3 P5.4 503: a name that changes its mind after registration, to %s, is not connected to", async (what, addresses, outcome) => {
    const { server, names } = setting;
    const name = `rebinding-${addresses.length}-${what.length}.example`;
    names.set(name, [PUBLIC]);
    const fields = { jwks: undefined, jwks_uri: `https://${name}/jwks.json` };
    const partner = await createTestPartner(server, fields, KEY);
    names.set(name, addresses);
    const reply = await exchange(partner, subjectToken(partner));
    await expectRefusal(server, reply, { status: 503, error: "temporarily_unavailable", code: "partner_keys_unavailable" });
    expect(reply.json["error_description"]).toMatch(outcome === "not_public" ? /an address that is not public/ : /does not resolve/);
    const refreshed = await admin(server, "POST", `/partners/${partner.clientId}/keys/refresh`);
    expect(refreshed.json).toMatchObject({ failing: true, keys: [] });
    expect(server.logLines.filter((line) => line.includes(partner.clientId) && line.includes(`"outcome":"${outcome}"`)).length).toBe(2);
  });

  test("P5.3 200: a listed host may be private", async () => {
    const partner = await createJwksPartner(setting);
    expectGranted(await exchange(partner, subjectToken(partner)));
  });
});
