/** RFC 6750, Bearer Token Usage: what our API takes as a token, and how it refuses. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  bearerChallenge,
  createTestPartner,
  exchange,
  OPERATOR_TOKEN,
  send,
  sendRaw,
  serviceAccountToken,
  subjectToken,
} from "../packages/server/src/testing/server.ts";
import { parseRawReply } from "../tests/attacks/raw.ts";
import { partnerCaller, revoke } from "./callers.ts";
import { API_PATH, callApi, obtainChallenge, obtainToken, openSetting, RESOURCE, type Setting } from "./client.ts";

const CHALLENGE = /^Bearer(?: [a-z_]+="[^"]*"(?:, [a-z_]+="[^"]*")*)$/;

let setting: Setting;
let token: string;
beforeAll(async () => {
  setting = await openSetting();
  token = await serviceAccountToken(setting.partner);
});
afterAll(() => setting.server.stop());

const get = (headers: Record<string, string>, path = API_PATH) => send(setting.server, "GET", path, { headers });

/** One refusal of each kind that our API makes. */
async function challenges(): Promise<string[]> {
  const { partner, server } = setting;
  const narrow = await obtainToken(partner, { parameters: { scope: "analytics" } });
  const replies = [
    await get({}),
    await get({ authorization: "Basic x" }),
    await get({ authorization: "Bearer junk" }),
    await get({ authorization: `Bearer ${narrow.access_token}` }),
    await send(server, "GET", "/admin/v1/partners"),
    await send(server, "GET", "/admin/v1/partners", { headers: { authorization: `Bearer ${token}` } }),
  ];
  return replies.map(({ headers }) => headers.get("www-authenticate") ?? "");
}

test("§2: the token MUST NOT come by more than one method: a second one in the query, or in the header, is refused", async () => {
  const second = await get({ authorization: `Bearer ${token}` }, `${API_PATH}&access_token=${token}`);
  expect(second.status).toBe(422);
  const others = await serviceAccountToken(await createTestPartner(setting.server));
  const twice = await get({ authorization: `Bearer ${token}, Bearer ${others}` });
  expect(twice.status).toBe(401);
});

test("§2.1: the Authorization header MUST be supported", async () => {
  expect((await callApi(setting.server, token)).status).toBe(404);
});

test("§2.1: the credentials are the scheme Bearer, one space or more, and a b64token", async () => {
  for (const authorization of [`Bearer ${token}`, `bearer ${token}`, `Bearer   ${token}`]) {
    expect((await get({ authorization })).status).toBe(404);
  }
  for (const authorization of ["Bearer", `Bearer ${token} x`, `Bearer "${token}"`, `Bearer ${token},`, `Bearer token=${token}=x`]) {
    const reply = await get({ authorization });
    expect(reply.status).toBe(401);
    expect(reply.headers.get("www-authenticate")).toContain('error="invalid_token"');
  }
});

test("§2.2: a token in a form body MAY be supported, and is not", async () => {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const body = new URLSearchParams({ access_token: token }).toString();
  const path = "/v2/account-management/organization-and-workspace";
  const reply = await send(setting.server, "PUT", path, { headers, body });
  expect(reply.status).toBe(401);
  expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge());
});

test("§2.3: a token in the URI MAY be supported, and is not", async () => {
  const reply = await get({}, `${API_PATH}&access_token=${token}`);
  expect(reply.status).toBe(401);
  expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge());
});

test("§3: WWW-Authenticate MUST be in the answer to a request without credentials, or with a token that opens nothing", async () => {
  for (const challenge of await challenges()) expect(challenge).not.toBe("");
  await expect(callApi(setting.server, "junk")).rejects.toBeInstanceOf(oauth.WWWAuthenticateChallengeError);
});

test("§3: the challenge MUST use the scheme Bearer, and one or more parameters MUST follow it", async () => {
  for (const challenge of await challenges()) expect(challenge).toMatch(CHALLENGE);
});

test("§3: realm, scope, error, error_description and error_uri MUST NOT appear more than once", async () => {
  for (const challenge of await challenges()) {
    const names = [...challenge.matchAll(/([a-z_]+)="/g)].map(([, name]) => name);
    expect(names).toContain("realm");
    expect(new Set(names).size).toBe(names.length);
  }
});

test("§3: error SHOULD be in the answer to a token that failed", async () => {
  expect((await obtainChallenge(setting.server, "junk")).parameters.error).toBe("invalid_token");
});

test("§3: scope and error MUST hold only the characters that are allowed", async () => {
  let values = 0;
  for (const challenge of await challenges()) {
    for (const [, name, value = ""] of challenge.matchAll(/(scope|error)="([^"]*)"/g)) {
      values++;
      expect(value).toMatch(
        name === "scope" ? /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/ : /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/,
      );
    }
  }
  expect(values).toBeGreaterThanOrEqual(4);
});

test("§3.1: invalid_request SHOULD be 400: two Authorization headers", async () => {
  const lines = [`GET ${API_PATH} HTTP/1.1`, "Host: cambist.test", "Connection: close"];
  const bearer = `Authorization: Bearer ${token}`;
  const once = parseRawReply(await sendRaw(setting.server, `${[...lines, bearer].join("\r\n")}\r\n\r\n`));
  const twice = parseRawReply(await sendRaw(setting.server, `${[...lines, bearer, bearer].join("\r\n")}\r\n\r\n`));
  expect(once.status).toBe(404);
  expect(twice.status).toBe(400);
  expect(twice.headers.get("www-authenticate")).toBe(bearerChallenge(', error="invalid_request"'));
});

test("§3.1: invalid_token SHOULD be 401: expired, revoked, malformed, or invalid for other reasons", async () => {
  const { server, partner } = setting;
  const revoked = await serviceAccountToken(partner);
  expect((await callApi(server, revoked)).status).toBe(404);
  await revoke(partnerCaller(setting, partner), revoked);
  const disabled = await createTestPartner(server);
  const ofDisabled = await serviceAccountToken(disabled);
  expect((await callApi(server, ofDisabled)).status).toBe(404);
  await admin(server, "PATCH", `/partners/${disabled.clientId}`, { status: "disabled" });
  const now = server.nowSeconds();
  const { header, payload } = decodeJwt(token);
  const expired = server.deps.keyring
    .signer()
    .sign(JSON.stringify(header), JSON.stringify({ ...payload, iat: now - 7200, exp: now - 3600 }));
  for (const refused of [expired, revoked, ofDisabled, "junk", subjectToken(partner), OPERATOR_TOKEN]) {
    expect(await obtainChallenge(server, refused)).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
  }
});

test("§3.1: insufficient_scope SHOULD be 403, and MAY say the scope that is necessary", async () => {
  const { access_token } = await obtainToken(setting.partner, { parameters: { scope: "analytics" } });
  const parameters = { error: "insufficient_scope", scope: "account-management" };
  expect(await obtainChallenge(setting.server, access_token)).toMatchObject({ status: 403, parameters });
});

test("§3.1: without authentication information there SHOULD NOT be an error code", async () => {
  for (const headers of [{}, { authorization: "Basic dXNlcjpwYXNz" }] as Record<string, string>[]) {
    const reply = await get(headers);
    expect(reply.status).toBe(401);
    expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge());
  }
});

test("§4: the token comes in an answer with token_type Bearer that no cache keeps", async () => {
  const reply = await exchange(setting.partner, subjectToken(setting.partner));
  expect(reply.json["token_type"]).toBe("Bearer");
  expect(reply.headers.get("cache-control")).toBe("no-store");
  expect(reply.headers.get("pragma")).toBe("no-cache");
});

test("§5.2: the integrity of a token MUST be protected: no change of it passes", async () => {
  const [header = "", payload = "", signature = ""] = token.split(".");
  const longer = { ...decodeJwt(token).payload, exp: 4_000_000_000 };
  const changed = `${header}.${Buffer.from(JSON.stringify(longer)).toString("base64url")}.${signature}`;
  for (const forged of [changed, `${header}.${payload}.${signature.slice(0, -4)}AAAA`, `${header}.${payload}`]) {
    expect(await obtainChallenge(setting.server, forged)).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
  }
});

test("§5.2: the token names its recipient, and one for another is refused", async () => {
  expect(decodeJwt(token).payload["aud"]).toBe(RESOURCE);
  const { header, payload } = decodeJwt(token);
  const other = setting.server.deps.keyring
    .signer()
    .sign(JSON.stringify(header), JSON.stringify({ ...payload, aud: "https://other.example" }));
  expect(await obtainChallenge(setting.server, other)).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
});

test("§5.2: the lifetime of a token MUST be limited", async () => {
  const { exp, iat } = decodeJwt(token).payload as { exp: number; iat: number };
  expect(exp - iat).toBe(3600);
  const tooLong = await admin(setting.server, "POST", "/partners", {
    name: "x",
    jwks: { keys: [setting.partner.key.publicJwk] },
    access_token_lifetime_seconds: 86_401,
  });
  expect(tooLong.status).toBe(422);
});

test("§5.3: tokens MUST NOT be stored in cookies: no answer sets one", async () => {
  const replies = [await exchange(setting.partner, subjectToken(setting.partner)), await get({ authorization: `Bearer ${token}` })];
  for (const { headers } of replies) expect(headers.get("set-cookie")).toBeNull();
});

test("§5.3: tokens SHOULD be short-lived, one hour or less, unless the operator sets otherwise", async () => {
  expect((await obtainToken(setting.partner)).expires_in).toBe(3600);
});
