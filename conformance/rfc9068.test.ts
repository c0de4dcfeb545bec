/** RFC 9068, JWT Profile for OAuth 2.0 Access Tokens: what is issued (§2, §3, §5). How our API checks it is in rfc9068-validation.test.ts. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  createTestUser,
  exchangeForm,
  ISSUER,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../packages/server/src/testing/server.ts";
import { allowedScopes } from "../tests/attacks/own-api.ts";
import { obtainByCredentials, openApi, openCallers, refusedWith } from "./callers.ts";
import { callApi, discover, ledTo, obtainRefusal, obtainToken, openSetting, RESOURCE, type Setting } from "./client.ts";
import { INVALID_TARGET, refusalOf, replyOf } from "./refusals.ts";

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

/** A user's token and the service account's, taken apart. */
async function issued(): Promise<{ header: Record<string, unknown>; payload: Record<string, unknown> }[]> {
  const { partner, user } = setting;
  const answers = [
    await obtainToken(partner),
    await obtainToken(partner, { parameters: { subject_token: subjectToken(partner, { sub: user.userId }) } }),
  ];
  return answers.map((answer) => decodeJwt(answer.access_token));
}

/** As an API of the operator's own would check it, by what the metadata says and nothing else. */
async function validate(server: TestServer, token: string): Promise<oauth.JWTAccessTokenClaims> {
  const request = new Request("https://api.example.com", { headers: { authorization: `Bearer ${token}` } });
  return oauth.validateJwtAccessToken(await discover(server), request, RESOURCE, ledTo(server));
}

test("§2.1: JWT access tokens MUST be signed", async () => {
  const { partner, server } = setting;
  const token = await serviceAccountToken(partner);
  expect(await validate(server, token)).toMatchObject({ sub: partner.clientId });
  await expect(validate(server, `${token.slice(0, -8)}AAAAAAAA`)).rejects.toThrow("JWT signature verification failed");
});

test("§2.1: none MUST NOT be the signing algorithm", async () => {
  for (const { header } of await issued()) expect(header["alg"]).toBe("ES256");
});

test("§2.1: RS256 MUST be among the supported algorithms, of the authorization server and of the API", async () => {
  const server = await startTestServer("sqlite", { signingAlgorithm: "RS256" });
  try {
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    expect(decodeJwt(token).header["alg"]).toBe("RS256");
    expect(await validate(server, token)).toMatchObject({ sub: partner.clientId });
    expect((await callApi(server, token)).status).toBe(404);
  } finally {
    await server.stop();
  }
});

test("§2.1: the typ header MUST say that it is an access token, and SHOULD be at+jwt", async () => {
  for (const { header } of await issued()) expect(header["typ"]).toBe("at+jwt");
});

test("§2.2: iss is REQUIRED, and is the issuer of the metadata", async () => {
  for (const { payload } of await issued()) expect(payload["iss"]).toBe(setting.as.issuer);
});

test("§2.2: exp is REQUIRED", async () => {
  for (const { payload } of await issued()) expect(payload["exp"]).toBe((payload["iat"] as number) + 3600);
});

test("§2.2: aud is REQUIRED", async () => {
  for (const { payload } of await issued()) expect(payload["aud"]).toBe(RESOURCE);
});

test("§2.2: sub is REQUIRED, and SHOULD be the subject identifier of the user where one is involved", async () => {
  const [, user] = await issued();
  expect(user?.payload["sub"]).toBe(setting.user.userId);
});

test("§2.2: sub SHOULD be an identifier of the client where no user is involved", async () => {
  const [serviceAccount] = await issued();
  expect(serviceAccount?.payload["sub"]).toBe(setting.partner.clientId);
});

test("§2.2: client_id is REQUIRED", async () => {
  for (const { payload } of await issued()) expect(payload["client_id"]).toBe(setting.partner.clientId);
});

test("§2.2: iat is REQUIRED, and is the time at which the token was issued", async () => {
  const before = setting.server.nowSeconds();
  for (const { payload } of await issued()) {
    expect(payload["iat"]).toBeGreaterThanOrEqual(before);
    expect(payload["iat"]).toBeLessThanOrEqual(setting.server.nowSeconds());
  }
});

test("§2.2: jti is REQUIRED, another one for each token", async () => {
  const ids = [...(await issued()), ...(await issued())].map(({ payload }) => payload["jti"]);
  for (const id of ids) expect(id).toMatch(/^[\w-]{22}$/);
  expect(new Set(ids).size).toBe(4);
});

test("§2.2.2: attributes of our own MAY be there: the partner's keys behind the token, the ids of a user's organization and workspace, and no others", async () => {
  const [serviceAccount, user] = await issued();
  const required = ["aud", "client_id", "exp", "iat", "iss", "jti", "partner_kids", "scope", "sub"];
  expect(Object.keys(serviceAccount?.payload ?? {}).toSorted()).toEqual(required);
  expect(Object.keys(user?.payload ?? {}).toSorted()).toEqual([...required, "org_id", "workspace_id"].toSorted());
});

test("§2.2.3: the scope claim SHOULD be there, and is what was granted", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { scope: "analytics" } });
  expect(decodeJwt(answer.access_token).payload["scope"]).toBe("analytics");
});

test("§2.2.3: every scope in the claim MUST have a meaning for the resource in aud", async () => {
  for (const { payload } of await issued()) {
    const scopes = (payload["scope"] as string).split(" ");
    expect(scopes.length).toBeGreaterThan(0);
    expect(setting.as.scopes_supported).toEqual(expect.arrayContaining(scopes));
  }
});

test("§3: aud SHOULD be the resource that the request names", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { resource: RESOURCE } });
  expect(decodeJwt(answer.access_token).payload["aud"]).toBe(RESOURCE);
  const refusal = await obtainRefusal(setting.partner, { parameters: { resource: "https://other.example" } });
  expect(refusal).toMatchObject(refusalOf("target_unknown", INVALID_TARGET));
});

test("§3: a token whose authorization would be ambiguous MUST NOT be issued: one for two resources is refused", async () => {
  const form = exchangeForm(setting.partner, subjectToken(setting.partner));
  form.append("resource", RESOURCE);
  form.append("resource", `${ISSUER}/v3`);
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const reply = await send(setting.server, "POST", "/oauth2/token", { headers, body: form.toString() });
  expect(reply).toMatchObject(replyOf("target_repeated", INVALID_TARGET));
});

test("§3: without resource in the request a default resource indicator MUST be in aud", async () => {
  const answer = await obtainToken(setting.partner, { parameters: { resource: undefined, audience: undefined } });
  expect(decodeJwt(answer.access_token).payload["aud"]).toBe(RESOURCE);
});

test("§3: scope, where it is in the request, SHOULD say which default resource is in aud", async () => {
  const { api } = await openApi(setting, "reports");
  const [caller] = await openCallers(setting, { allowed_scopes: allowedScopes(api) });
  const audienceFor = async (scope: string) => decodeJwt((await obtainByCredentials(caller, { scope })).access_token).payload["aud"];
  expect(await audienceFor(api.serviceScope)).toBe(api.audience);
  expect(await audienceFor("analytics")).toBe(RESOURCE);
});

test("§3: scopes of different default resources SHOULD be refused", async () => {
  const { api } = await openApi(setting, "billing");
  const [caller] = await openCallers(setting, { allowed_scopes: allowedScopes(api) });
  const refused = await refusedWith(obtainByCredentials(caller, { scope: `analytics ${api.serviceScope}` }));
  expect(refused).toMatchObject(refusalOf("target_ambiguous", INVALID_TARGET));
});

test("§4: an asymmetric algorithm is RECOMMENDED for signing", async () => {
  const { kid } = decodeJwt(await serviceAccountToken(setting.partner)).header as { kid: string };
  const { keys } = (await send(setting.server, "GET", "/.well-known/jwks.json")).json as { keys: { kid: string; kty: string }[] };
  expect(keys.find((key) => key.kid === kid)?.kty).toBe("EC");
  expect(keys.map((key) => key.kty)).not.toContain("oct");
});

test("§4: metadata SHOULD advertise the keys by jwks_uri and the iss to expect: an API needs nothing else", async () => {
  const { partner, server, user } = setting;
  const answer = await obtainToken(partner, { parameters: { subject_token: subjectToken(partner, { sub: user.userId }) } });
  const claims = await validate(server, answer.access_token);
  expect(claims).toMatchObject({ iss: ISSUER, sub: user.userId, client_id: partner.clientId, scope: "thread" });
});

test("§5: clients cannot choose a sub that confuses: client ids and user ids are made by the server", async () => {
  const { partner } = setting;
  const mapped = await createTestPartner(setting.server, { subject_namespace: "external_user_id" });
  const user = await createTestUser(mapped, { external_user_id: partner.clientId.slice(4) });
  const subject_token = subjectToken(mapped, { sub: partner.clientId.slice(4) });
  const { payload } = decodeJwt((await obtainToken(mapped, { parameters: { subject_token } })).access_token);
  expect(payload["sub"]).toBe(user.userId);
  expect(user.userId).toMatch(/^[0-9a-f-]{36}$/);
  expect(partner.clientId).toMatch(/^prt_[0-9a-f]{32}$/);
});

test("§5: aud MUST be a distinct identifier of the resource: never the issuer, nor what the subject token was for", async () => {
  const audience = "urn:example:handed-to-the-partner";
  const partner = await createTestPartner(setting.server, { audience });
  const answer = await obtainToken(partner, { parameters: { subject_token: subjectToken(partner, { aud: audience }) } });
  expect(decodeJwt(answer.access_token).payload["aud"]).toBe(RESOURCE);
  expect(RESOURCE).not.toBe(setting.as.issuer);
});
