/** RFC 9728, OAuth 2.0 Protected Resource Metadata: what our own API says of itself, and how a client comes from a refusal to a token. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "../packages/server/src/config.ts";
import { ISSUER, send, sendRaw, startTestServer, type TestServer } from "../packages/server/src/testing/server.ts";
import { parseRawReply } from "../tests/attacks/raw.ts";
import { obtainByCredentials, openApi, openCallers, refusedWith } from "./callers.ts";
import { API_PATH, callApi, discover, ledTo, obtainChallenge, obtainToken, openSetting, RESOURCE, type Setting } from "./client.ts";

const PATH = "/.well-known/oauth-protected-resource/v2";
/** Of §2. */
const MEMBERS = [
  "authorization_servers",
  "bearer_methods_supported",
  "resource",
  "resource_documentation",
  "resource_name",
  "scopes_supported",
];

let setting: Setting;
let metadata: Record<string, unknown>;
beforeAll(async () => {
  setting = await openSetting();
  metadata = (await send(setting.server, "GET", PATH)).json;
});
afterAll(() => setting.server.stop());

/** §3, with every check that the client makes of the answer. */
async function discoverResource(server: TestServer, resource: string): Promise<oauth.ResourceServer> {
  const identifier = new URL(resource);
  return oauth.processResourceDiscoveryResponse(identifier, await oauth.resourceDiscoveryRequest(identifier, ledTo(server)));
}

test("§1.2: the resource identifier is an https URL without a fragment, and SHOULD NOT have a query", () => {
  const { protocol, hash, search } = new URL(metadata["resource"] as string);
  expect([protocol, hash, search]).toEqual(["https:", "", ""]);
});

test("§2: resource is REQUIRED, and is the aud of the tokens that open the API", async () => {
  expect(metadata["resource"]).toBe(RESOURCE);
  const caller = { parameters: { resource: metadata["resource"] as string } };
  expect((await callApi(setting.server, (await obtainToken(setting.partner, caller)).access_token)).status).toBe(404);
});

test("§2: authorization_servers is a JSON array of issuers, and each one's metadata is where RFC 8414 says", async () => {
  expect(metadata["authorization_servers"]).toEqual([ISSUER]);
  for (const issuer of metadata["authorization_servers"] as string[]) expect((await discover(setting.server, issuer)).issuer).toBe(issuer);
});

test("§2: scopes_supported is RECOMMENDED: the scopes that open this API, and none that opens another", async () => {
  const { api } = await openApi(setting, "reports");
  setting.server.clock.offsetMs += 10_000; // a new scope is seen within seconds
  expect((await discover(setting.server)).scopes_supported).toContain(api.serviceScope);
  const { scopes_supported } = await discoverResource(setting.server, RESOURCE);
  expect(scopes_supported).toEqual(["thread", "account-management", "analytics"]);
});

test("§2: bearer_methods_supported says how a token is sent: in the header, and in no other way", async () => {
  expect(metadata["bearer_methods_supported"]).toEqual(["header"]);
  const { access_token } = await obtainToken(setting.partner);
  expect((await callApi(setting.server, access_token)).status).toBe(404);
  const query = await send(setting.server, "GET", `${API_PATH}&access_token=${access_token}`);
  const body = await send(setting.server, "PUT", "/v2/account-management/organization-and-workspace", {
    body: new URLSearchParams({ access_token }),
  });
  expect([query.status, body.status]).toEqual([401, 401]);
});

test("§2: resource_name is RECOMMENDED", () => {
  expect(metadata["resource_name"]).toMatch(/\w/);
});

test("§2: resource_documentation can be read", async () => {
  const { pathname, origin } = new URL(metadata["resource_documentation"] as string);
  expect(origin).toBe(ISSUER);
  expect((await send(setting.server, "GET", pathname)).status).toBe(200);
});

test("§2.2: signed_metadata MAY be there, and is not", () => {
  expect(metadata).not.toHaveProperty("signed_metadata");
});

test("§3: the document MUST be where the well-known string is inserted between the host and the path of the resource identifier", async () => {
  expect(await discoverResource(setting.server, RESOURCE)).toEqual(metadata);
  const publicUrl = "https://cambist.test/tenants/one";
  const server = await startTestServer("sqlite", { publicUrl });
  try {
    expect(await discoverResource(server, `${publicUrl}/v2`)).toMatchObject({
      resource: `${publicUrl}/v2`,
      authorization_servers: [publicUrl],
    });
    expect((await send(server, "GET", PATH)).status).toBe(404);
  } finally {
    await server.stop();
  }
});

test("§3.1: the document is queried by GET, and no other method answers", async () => {
  for (const method of ["POST", "PUT", "DELETE"]) {
    const reply = await send(setting.server, method, PATH);
    expect(reply.status).toBe(405);
    expect(reply.headers.get("allow")).toContain("GET");
  }
});

test("§3.1: a slash at the end of the identifier MUST be removed before the insertion: ours never has one", async () => {
  const environment = {
    CAMBIST_MASTER_KEY: Buffer.from(Array.from({ length: 32 }, (_, index) => index * 7)).toString("base64"),
    CAMBIST_OPERATOR_TOKEN: "0123456789abcdef0123456789abcdef",
    CAMBIST_PUBLIC_URL: "https://cambist.test/tenants/one/",
  };
  const server = await startTestServer("sqlite", { publicUrl: readConfig("serve", environment).publicUrl });
  try {
    const [challenge] = await challengesOf(server);
    expect(challenge?.parameters["resource_metadata"]).toBe("https://cambist.test/.well-known/oauth-protected-resource/tenants/one/v2");
  } finally {
    await server.stop();
  }
});

test("§3.2: a successful answer MUST be 200, a JSON object of type application/json, of members that §2 defines", async () => {
  const reply = await send(setting.server, "GET", PATH);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
  expect(Object.keys(reply.json).toSorted()).toEqual(MEMBERS);
});

test("§3.2: values of several elements are JSON arrays, and members without elements MUST be left out", () => {
  for (const [name, value] of Object.entries(metadata)) {
    expect(Array.isArray(value), name).toBe(/_supported$|_servers$/.test(name));
    expect(value, name).not.toHaveLength(0);
  }
});

test("§3.2: an error has the HTTP status that applies", async () => {
  expect((await send(setting.server, "GET", `${PATH}/users`)).status).toBe(404);
});

test("§3.3: resource MUST be identical to the identifier that the URL was made of, whatever host the request names", async () => {
  expect((await discoverResource(setting.server, RESOURCE)).resource).toBe(RESOURCE);
  const request = `GET ${PATH} HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n`;
  expect(parseRawReply(await sendRaw(setting.server, request)).json).toEqual(metadata);
});

test("§3.3: metadata of another resource MUST NOT be used: the copy at the bare path is none for the host itself", async () => {
  const { json } = await send(setting.server, "GET", "/.well-known/oauth-protected-resource");
  expect(json).toEqual(metadata);
  expect(await refusedWith(discoverResource(setting.server, ISSUER))).toMatchObject({ code: oauth.JSON_ATTRIBUTE_COMPARISON });
});

test("§5: from a refusal to an answer: the challenge leads to the API's metadata, that to the server's, and that to a token", async () => {
  const [{ parameters }] = (await challengesOf(setting.server)) as [oauth.WWWAuthenticateChallenge];
  const found = new URL(parameters["resource_metadata"] ?? "");
  expect(found.href).toBe(`${ISSUER}${PATH}`);
  const response = await fetch(found.href.replace(ISSUER, setting.server.url));
  const api = await oauth.processResourceDiscoveryResponse(new URL(RESOURCE), response);
  const as = await discover(setting.server, api.authorization_servers?.[0]);
  for (const caller of await openCallers({ ...setting, as })) {
    const { access_token } = await obtainByCredentials({ ...caller, as }, { resource: api.resource });
    expect((await callApi(setting.server, access_token)).status, caller.method).toBe(404);
  }
});

test("§5.1: resource_metadata in the challenge is the URL of the metadata, in a refusal of each kind", async () => {
  const narrow = await obtainToken(setting.partner, { parameters: { scope: "analytics" } });
  for (const token of ["junk", narrow.access_token]) {
    const { parameters } = await obtainChallenge(setting.server, token);
    expect(parameters["resource_metadata"]).toBe(`${ISSUER}${PATH}`);
  }
});

test("§5.1: a challenge of what no token of ours opens names no metadata", async () => {
  const { status, headers } = await send(setting.server, "GET", "/admin/v1/partners");
  expect(status).toBe(401);
  expect(headers.get("www-authenticate")).not.toContain("resource_metadata");
});

test("§7.1: TLS MUST be supported: every URL in the metadata is https", () => {
  const urls = [metadata["resource"], metadata["resource_documentation"], ...(metadata["authorization_servers"] as string[])] as string[];
  for (const url of urls) expect(new URL(url).protocol).toBe("https:");
});

test("§7.4: the authorization server SHOULD support audience-restricted tokens: one for another API does not open this one", async () => {
  const { api } = await openApi(setting, "other");
  const [caller] = await openCallers(setting, { allowed_scopes: ["account-management", api.serviceScope] });
  const { access_token } = await obtainByCredentials(caller, { resource: api.audience });
  expect(await obtainChallenge(setting.server, access_token)).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
});

test("§7.10: caching should be enabled for an appropriate time: minutes", async () => {
  expect((await send(setting.server, "GET", PATH)).headers.get("cache-control")).toBe("public, max-age=300");
});

/** The challenges of a refused call, as the client parses them. */
async function challengesOf(server: TestServer): Promise<readonly oauth.WWWAuthenticateChallenge[]> {
  const thrown = await refusedWith(callApi(server, "x"));
  if (!(thrown instanceof oauth.WWWAuthenticateChallengeError)) throw thrown;
  return thrown.cause;
}
