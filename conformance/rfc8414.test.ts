/** RFC 8414, OAuth 2.0 Authorization Server Metadata. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "../packages/server/src/config.ts";
import { createTestPartner, send, sendRaw, startTestServer } from "../packages/server/src/testing/server.ts";
import { parseRawReply } from "../tests/attacks/raw.ts";
import { privateKeyJwt } from "./assertions.ts";
import { introspect, obtainByCredentials, partnerCaller, revoke } from "./callers.ts";
import { discover, keyFor, obtainToken, openSetting, type Setting } from "./client.ts";

const PATH = "/.well-known/oauth-authorization-server";
const GRANT_TYPES = ["urn:ietf:params:oauth:grant-type:token-exchange", "client_credentials"];
const ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA"] as const;
const METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

let setting: Setting;
let metadata: Record<string, unknown>;
beforeAll(async () => {
  setting = await openSetting();
  metadata = (await send(setting.server, "GET", PATH)).json;
});
afterAll(() => setting.server.stop());

const list = (name: string) => metadata[name] as string[];

test("§2: issuer is REQUIRED, an https URL without query and fragment", () => {
  const issuer = metadata["issuer"] as string;
  expect(new URL(issuer).protocol).toBe("https:");
  expect(issuer).not.toMatch(/[?#]/);
});

test("§2: authorization_endpoint is REQUIRED only where a grant uses it, and none does", () => {
  expect(metadata).not.toHaveProperty("authorization_endpoint");
  expect(list("grant_types_supported")).toEqual(GRANT_TYPES);
});

test("§2: token_endpoint is REQUIRED, and tokens are issued there", async () => {
  expect(metadata["token_endpoint"]).toBe(`${setting.as.issuer}/oauth2/token`);
  expect(await obtainToken(setting.partner)).toHaveProperty("access_token");
});

test("§2: jwks_uri MUST be an https URL, and the signing keys are behind it", async () => {
  const uri = new URL(metadata["jwks_uri"] as string);
  expect(uri.protocol).toBe("https:");
  const { json } = await send(setting.server, "GET", uri.pathname);
  expect((json["keys"] as { use: string }[]).map(({ use }) => use)).toEqual(["sig", "sig"]);
});

test("§2: scopes_supported is RECOMMENDED, and each one exists", async () => {
  expect(list("scopes_supported")).toEqual(["thread", "account-management", "analytics"]);
  for (const scope of ["account-management", "analytics"]) {
    expect(await obtainToken(setting.partner, { parameters: { scope } })).toMatchObject({ scope });
  }
});

test("§2: response_types_supported is REQUIRED, a JSON array", () => {
  expect(metadata["response_types_supported"]).toEqual([]);
});

test("§2: grant_types_supported is there, for its default would name grants that are not offered", () => {
  expect(metadata["grant_types_supported"]).toEqual(GRANT_TYPES);
});

test("§2: token_endpoint_auth_methods_supported lists the methods that there are", () => {
  expect(metadata["token_endpoint_auth_methods_supported"]).toEqual(METHODS);
});

test("§2: token_endpoint_auth_signing_alg_values_supported MUST be there with private_key_jwt", () => {
  expect(list("token_endpoint_auth_methods_supported")).toContain("private_key_jwt");
  expect(list("token_endpoint_auth_signing_alg_values_supported").length).toBeGreaterThan(0);
});

test("§2: RS256 SHOULD be among the signing algorithms of client authentication", () => {
  expect(list("token_endpoint_auth_signing_alg_values_supported")).toContain("RS256");
});

test("§2: none MUST NOT be among them", () => {
  const algorithms = list("token_endpoint_auth_signing_alg_values_supported");
  expect(algorithms.filter((algorithm) => !/^(?:RS256|PS256|ES256|ES384|EdDSA)$/.test(algorithm))).toEqual([]);
});

test("§2: service_documentation is a page that can be read", async () => {
  const page = await send(setting.server, "GET", new URL(metadata["service_documentation"] as string).pathname);
  expect(page.status).toBe(200);
  expect(page.headers.get("content-type")).toMatch(/^text\/html\b/);
});

test("§2: introspection_endpoint is OPTIONAL, and tokens are introspected there", async () => {
  expect(metadata["introspection_endpoint"]).toBe(`${setting.as.issuer}/oauth2/introspect`);
  const caller = partnerCaller(setting, setting.partner);
  expect(await introspect(caller, (await obtainToken(setting.partner)).access_token)).toMatchObject({ active: true });
});

test("§2: introspection_endpoint_auth_methods_supported is there, for without it they would have to be found out by other means", () => {
  expect(metadata["introspection_endpoint_auth_methods_supported"]).toEqual(METHODS);
});

test("§2: introspection_endpoint_auth_signing_alg_values_supported MUST be there with private_key_jwt, and none MUST NOT be in it", () => {
  expect(list("introspection_endpoint_auth_signing_alg_values_supported")).toEqual(ALGORITHMS);
});

test("§2: revocation_endpoint is OPTIONAL, and tokens are revoked there", async () => {
  expect(metadata["revocation_endpoint"]).toBe(`${setting.as.issuer}/oauth2/revoke`);
  const { access_token } = await obtainToken(setting.partner);
  const caller = partnerCaller(setting, setting.partner);
  await revoke(caller, access_token);
  expect(await introspect(caller, access_token)).toEqual({ active: false });
});

test("§2: revocation_endpoint_auth_methods_supported is there, for its default would leave out two of three", () => {
  expect(metadata["revocation_endpoint_auth_methods_supported"]).toEqual(METHODS);
});

test("§2: revocation_endpoint_auth_signing_alg_values_supported MUST be there with private_key_jwt, and none MUST NOT be in it", () => {
  expect(list("revocation_endpoint_auth_signing_alg_values_supported")).toEqual(ALGORITHMS);
});

test("§2: each signing algorithm that is named serves to authenticate, at each endpoint", async () => {
  for (const algorithm of ALGORITHMS) {
    const key = keyFor(algorithm, setting);
    const fields = { token_endpoint_auth_method: "private_key_jwt", allowed_grants: ["client_credentials"] };
    const partner = await createTestPartner(setting.server, fields, key);
    const { server, as } = setting;
    const client = { client_id: partner.clientId };
    const caller = { server, as, partner, client, method: "private_key_jwt", auth: await privateKeyJwt(key) } as const;
    const { access_token } = await obtainByCredentials(caller);
    expect(await introspect(caller, access_token), algorithm).toMatchObject({ active: true });
    await revoke(caller, access_token);
    expect(await introspect(caller, access_token), algorithm).toEqual({ active: false });
  }
});

test("§2.1: signed_metadata is OPTIONAL, and not offered", () => {
  expect(metadata).not.toHaveProperty("signed_metadata");
});

test("§3: metadata MUST be available where the well-known string is inserted between host and path of the issuer", async () => {
  const issuer = "https://cambist.test/tenants/one";
  const server = await startTestServer("sqlite", { publicUrl: issuer });
  try {
    expect(await discover(server, issuer)).toMatchObject({ issuer, token_endpoint: `${issuer}/oauth2/token` });
    const reply = await send(server, "GET", `${PATH}/tenants/one`);
    expect(reply.status).toBe(200);
    // and what it names answers there
    expect((await send(server, "GET", new URL(reply.json["jwks_uri"] as string).pathname)).status).toBe(200);
    for (const member of ["token_endpoint", "introspection_endpoint", "revocation_endpoint"]) {
      expect((await send(server, "POST", new URL(reply.json[member] as string).pathname)).status).toBe(400);
    }
    expect((await send(server, "GET", "/tenants/one.well-known/jwks.json")).status).toBe(404);
  } finally {
    await server.stop();
  }
  expect((await send(setting.server, "GET", `${PATH}/tenants/one`)).status).toBe(404);
});

test("§3.1: metadata is queried by GET at that path, and no other method answers", async () => {
  expect((await discover(setting.server)).issuer).toBe(setting.as.issuer);
  for (const method of ["POST", "PUT", "DELETE"]) {
    const reply = await send(setting.server, method, PATH);
    expect(reply.status).toBe(405);
    expect(reply.headers.get("allow")).toContain("GET");
  }
});

test("§3.1: a slash at the end of the issuer's path MUST be removed", () => {
  const environment = {
    CAMBIST_MASTER_KEY: Buffer.from(Array.from({ length: 32 }, (_, index) => index * 7)).toString("base64"),
    CAMBIST_OPERATOR_TOKEN: "0123456789abcdef0123456789abcdef",
    CAMBIST_PUBLIC_URL: "https://cambist.test/tenants/one/",
  };
  expect(readConfig("serve", environment).publicUrl).toBe("https://cambist.test/tenants/one");
});

test("§3.2: a successful answer MUST be 200 and a JSON object of type application/json", async () => {
  const reply = await send(setting.server, "GET", PATH);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
  expect(reply.text).toMatch(/^\{.*\}$/s);
});

test("§3.2: values of several elements are JSON arrays", () => {
  const names = Object.keys(metadata).filter((name) => name.endsWith("_supported"));
  expect(names.length).toBeGreaterThanOrEqual(5);
  for (const name of names) expect(metadata[name]).toBeInstanceOf(Array);
});

test("§3.2: members without elements MUST be left out, but for the one that §2 requires and that has none here", () => {
  const empty = Object.entries(metadata).filter(([, value]) => Array.isArray(value) && value.length === 0);
  expect(empty.map(([name]) => name)).toEqual(["response_types_supported"]);
});

test("§3.2: an error has the HTTP status that applies", async () => {
  const reply = await send(setting.server, "GET", "/.well-known/openid-configuration");
  expect(reply.status).toBe(404);
});

test("§3.3: the issuer that is returned MUST be identical to the one that was asked, whatever host the request names", async () => {
  expect((await discover(setting.server)).issuer).toBe("https://cambist.test");
  const request = `GET ${PATH} HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n`;
  expect(parseRawReply(await sendRaw(setting.server, request)).json["issuer"]).toBe("https://cambist.test");
});
