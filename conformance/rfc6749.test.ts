/** RFC 6749, The OAuth 2.0 Authorization Framework: client authentication (§2.3), the token endpoint (§3.2) and scope (§3.3). */
import { readFileSync } from "node:fs";
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ConfigError, readConfig } from "../packages/server/src/config.ts";
import {
  basic,
  createTestPartner,
  exchange,
  exchangeForm,
  GRANT_TYPE,
  type Reply,
  send,
  subjectToken,
} from "../packages/server/src/testing/server.ts";
import { basicLine, postRaw } from "../tests/attacks/raw.ts";
import { obtainRefusal, obtainToken, openSetting, requestToken, type Setting } from "./client.ts";
import { INVALID_CLIENT, INVALID_SCOPE, refusalOf, replyOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

/** By an Authorization line that is written by hand. */
function byAuthorization(line: string): Promise<Reply> {
  return postRaw(setting.server, exchangeForm(setting.partner, subjectToken(setting.partner), "none").toString(), [line]);
}

test("§2.2: the client identifier MUST NOT be used alone to authenticate", async () => {
  const refusal = await obtainRefusal(setting.partner, { authentication: oauth.None() });
  expect(refusal).toMatchObject(refusalOf("client_authentication_missing", INVALID_CLIENT));
});

test("§2.3: a client is never identified by what a public client can show: without a secret or a key there is no token", async () => {
  const { partner } = setting;
  const reply = await exchange(partner, subjectToken(partner), { form: { client_id: undefined, client_secret: undefined } });
  expect(reply).toMatchObject(replyOf("client_authentication_missing", INVALID_CLIENT));
});

test("§2.3: more than one authentication method in a request is refused", async () => {
  const { partner } = setting;
  const assertion = { client_assertion: "x", client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" };
  const authorization = basic(partner.clientId, partner.clientSecret);
  for (const reply of [
    await exchange(partner, subjectToken(partner), { auth: "post", headers: { authorization } }),
    await exchange(partner, subjectToken(partner), { auth: "post", form: assertion }),
    await exchange(partner, subjectToken(partner), { auth: "basic", form: assertion }),
  ]) {
    expect(reply).toMatchObject(replyOf("client_authentication_multiple"));
  }
});

test("§2.3.1: HTTP Basic MUST be supported for clients that were issued a password", async () => {
  const authentication = oauth.ClientSecretBasic(setting.partner.clientSecret);
  expect(await obtainToken(setting.partner, { authentication })).toMatchObject({ token_type: "bearer" });
});

test("§2.3.1: identifier and password are form-encoded before they are joined for Basic", async () => {
  const { clientId, clientSecret } = setting.partner;
  const escaped = (text: string) => text.replaceAll(/./g, (letter) => `%${letter.charCodeAt(0).toString(16)}`);
  for (const pair of [`${clientId}:${clientSecret}`, `${escaped(clientId)}:${escaped(clientSecret)}`]) {
    expect((await byAuthorization(basicLine(pair))).status).toBe(200);
  }
  const broken = await byAuthorization(basicLine(`${clientId}:%`));
  expect(broken).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
});

test("§2.3.1: client_id and client_secret MAY stand in the body", async () => {
  const authentication = oauth.ClientSecretPost(setting.partner.clientSecret);
  expect(await obtainToken(setting.partner, { authentication })).toMatchObject({ token_type: "bearer" });
});

test("§2.3.1: in the body client_id is REQUIRED", async () => {
  const reply = await exchange(setting.partner, subjectToken(setting.partner), { form: { client_id: undefined } });
  expect(reply).toMatchObject(replyOf("parameter_missing"));
});

test("§2.3.1: in the body client_secret is REQUIRED, and no secret is empty", async () => {
  for (const client_secret of [undefined, ""]) {
    const reply = await exchange(setting.partner, subjectToken(setting.partner), { form: { client_secret } });
    expect(reply).toMatchObject(replyOf("client_authentication_missing", INVALID_CLIENT));
  }
});

test("§2.3.1: credentials MUST NOT be in the request URI", async () => {
  const { partner, server } = setting;
  const query = new URLSearchParams({ client_id: partner.clientId, client_secret: partner.clientSecret }).toString();
  const body = exchangeForm(partner, subjectToken(partner), "none").toString();
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const reply = await send(server, "POST", `/oauth2/token?${query}`, { headers, body });
  expect(reply).toMatchObject(replyOf("parameters_in_query"));
});

test("§2.3.1 §3.2: TLS MUST be required where passwords travel: a production server has an https URL or does not start", () => {
  const environment = {
    CAMBIST_MASTER_KEY: Buffer.from(Array.from({ length: 32 }, (_, index) => index * 7)).toString("base64"),
    CAMBIST_OPERATOR_TOKEN: "0123456789abcdef0123456789abcdef",
    CAMBIST_PUBLIC_URL: "https://auth.example.com",
  };
  expect(readConfig("serve", environment).publicUrl).toBe("https://auth.example.com");
  expect(() => readConfig("serve", { ...environment, CAMBIST_PUBLIC_URL: "http://auth.example.com" })).toThrow(ConfigError);
  expect(new URL(setting.as.token_endpoint ?? "").protocol).toBe("https:");
});

test("§2.3.1: a password MUST be safe from brute force: 256 random bits, and no refusal tells a near guess from a far one", async () => {
  const secrets = [setting.partner, await createTestPartner(setting.server)].map(({ clientSecret }) => clientSecret);
  const bytes = secrets.map((secret) => Buffer.from(secret.replace("cambist_secret_", ""), "base64url"));
  expect(bytes.map(({ length }) => length)).toEqual([32, 32]);
  expect(bytes[0]?.equals(bytes[1] ?? Buffer.alloc(0))).toBe(false);
  const guesses = [secrets[0]?.slice(0, -1), `${secrets[0]}x`, "wrong", secrets[1]] as string[];
  const answers = new Set<string>();
  for (const client_secret of guesses) {
    const reply = await exchange(setting.partner, subjectToken(setting.partner), { form: { client_secret } });
    expect(reply).toMatchObject(replyOf("client_not_authenticated", INVALID_CLIENT));
    answers.add(reply.text.replace(/"trace_id":"[^"]+"/, ""));
  }
  expect(answers.size).toBe(1);
});

test("§2.3.1: an endpoint that takes a password MUST be protected against brute force: wrong ones are counted, and then refused unread", async () => {
  const { server, partner } = await openSetting({ limitsWrongSecrets: true });
  try {
    const tryWith = (client_secret: string) => exchange(partner, subjectToken(partner), { form: { client_secret } });
    const statuses: number[] = [];
    for (let n = 0; n < 12; n++) statuses.push((await tryWith(`wrong ${n}`)).status);
    expect([...new Set(statuses)]).toEqual([401, 429]);
    const refused = await tryWith(partner.clientSecret);
    expect(refused).toMatchObject(replyOf("wrong_secrets_too_many", { status: 429, error: "slow_down" }));
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
  } finally {
    await server.stop();
  }
});

test("§2.3.2: an authentication scheme that is not offered is refused as such", async () => {
  for (const line of ["Authorization: Bearer x", "Authorization: Digest username=x", "Authorization: Negotiate x"]) {
    expect(await byAuthorization(line)).toMatchObject(replyOf("client_authentication_unsupported", INVALID_CLIENT));
  }
});

test("§3.2: the endpoint URI MUST NOT include a fragment", () => {
  expect(setting.as.token_endpoint).toBe(`${setting.as.issuer}/oauth2/token`);
  expect(setting.as.token_endpoint).not.toContain("#");
});

test("§3.2: requests are made by POST, and any other method is refused", async () => {
  for (const method of ["GET", "PUT", "PATCH", "DELETE"]) {
    const reply = await send(setting.server, method, "/oauth2/token");
    expect(reply).toMatchObject(replyOf("method_not_allowed", { status: 405, error: "invalid_request" }));
    expect(reply.headers.get("allow")).toBe("POST");
  }
});

test("§3.2: a parameter without a value MUST be treated as if it were omitted", async () => {
  const optional = ["scope", "audience", "resource", "requested_token_type", "actor_token", "actor_token_type"];
  const parameters = Object.fromEntries(optional.map((name) => [name, ""]));
  expect(await obtainToken(setting.partner, { parameters })).toMatchObject({ scope: "account-management analytics" });
  for (const name of ["subject_token", "subject_token_type"]) {
    expect(await obtainRefusal(setting.partner, { parameters: { [name]: "" } })).toMatchObject(refusalOf("parameter_missing"));
  }
});

test("§3.2: an unrecognized parameter MUST be ignored", async () => {
  const parameters = { nonce: "x", code: "y", toString: "z", constructor: "w" };
  expect((await requestToken(setting.partner, { parameters })).status).toBe(200);
});

test("§3.2: a parameter MUST NOT be included more than once, in a request or in an answer", async () => {
  const { partner, server } = setting;
  const form = exchangeForm(partner, subjectToken(partner)).toString();
  for (const again of [`grant_type=${encodeURIComponent(GRANT_TYPE)}`, "scope=analytics&scope=analytics", "unknown=1&unknown=1"]) {
    expect(await postRaw(server, `${form}&${again}`)).toMatchObject(replyOf("parameter_repeated"));
  }
  const { text } = await exchange(partner, subjectToken(partner));
  const names = [...text.matchAll(/"([a-z_]+)":/g)].map(([, name]) => name);
  expect(names.toSorted()).toEqual(["access_token", "expires_in", "issued_token_type", "scope", "token_type"]);
});

test("§3.2.1: a client that was issued credentials MUST authenticate, by these and no others", async () => {
  const { partner } = setting;
  const other = await createTestPartner(setting.server);
  for (const authentication of [oauth.ClientSecretPost("wrong"), oauth.ClientSecretPost(other.clientSecret)]) {
    const refusal = await obtainRefusal(partner, { authentication });
    expect(refusal).toMatchObject(refusalOf("client_not_authenticated", INVALID_CLIENT));
  }
});

test("§3.2.1: client_id MAY stand in the body to identify the client, and must be the one that authenticates", async () => {
  const { partner } = setting;
  const authentication = oauth.ClientSecretBasic(partner.clientSecret);
  const named = { authentication, parameters: { client_id: partner.clientId } };
  expect(await obtainToken(partner, named)).toMatchObject({ token_type: "bearer" });
  const other = { authentication, parameters: { client_id: `prt_${"0".repeat(32)}` } };
  expect(await obtainRefusal(partner, other)).toMatchObject(refusalOf("client_id_mismatch"));
});

test("§3.3: scope is a list of case-sensitive names with single spaces between, and their order does not matter", async () => {
  for (const scope of ["analytics account-management", "account-management analytics"]) {
    expect(await obtainToken(setting.partner, { parameters: { scope } })).toMatchObject({ scope: "account-management analytics" });
  }
  const malformed = [" analytics", "analytics ", "account-management  analytics", "analytics\taccount-management", 'analytics"', "a\\b"];
  for (const scope of malformed) {
    expect(await obtainRefusal(setting.partner, { parameters: { scope } })).toMatchObject(refusalOf("scope_malformed", INVALID_SCOPE));
  }
  const refusal = await obtainRefusal(setting.partner, { parameters: { scope: "ANALYTICS" } });
  expect(refusal).toMatchObject(refusalOf("scope_unknown", INVALID_SCOPE));
});

test("§3.3: a scope that differs from the request MUST be in the answer", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { scope: "analytics analytics" } });
  expect(answer.scope).toBe("analytics");
});

test("§3.3: a request without scope MUST get a default or be refused with invalid_scope", async () => {
  expect((await obtainToken(setting.partner)).scope).toBe("account-management analytics");
  const nothing = await createTestPartner(setting.server, { allowed_scopes: ["thread"] });
  expect(await obtainRefusal(nothing)).toMatchObject(refusalOf("scope_empty", INVALID_SCOPE));
});

test("§3.3: the scopes and the default SHOULD be documented", () => {
  const guide = readFileSync(new URL("../docs/token-exchange.md", import.meta.url), "utf8");
  expect(setting.as.scopes_supported).toHaveLength(3);
  for (const scope of setting.as.scopes_supported ?? []) expect(guide).toContain(`\`${scope}\``);
  expect(guide).toMatch(/leave `scope` out/i);
});
