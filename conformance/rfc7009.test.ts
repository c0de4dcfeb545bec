/** RFC 7009, OAuth 2.0 Token Revocation, by partners in each way in which a client authenticates. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { holdSqlite } from "../packages/server/src/testing/database.ts";
import { send } from "../packages/server/src/testing/server.ts";
import {
  introspect,
  obtainByCredentials,
  obtainByExchange,
  obtainOpaque,
  openApi,
  openCallers,
  type PartnerCaller,
  type PartnerCallers,
  refusedWith,
  requestRevocation,
  revoke,
} from "./callers.ts";
import { callApi, obtainChallenge, openSetting, type Setting } from "./client.ts";
import { INVALID_CLIENT, refusalOf, replyOf } from "./refusals.ts";

const INVALID_TOKEN = { status: 401, parameters: { error: "invalid_token" } };

let setting: Setting;
let callers: PartnerCallers;
beforeAll(async () => {
  setting = await openSetting();
  callers = await openCallers(setting);
});
afterAll(() => setting.server.stop());

const post = (form: Record<string, string>, init: RequestInit = {}) =>
  send(setting.server, "POST", "/oauth2/revoke", { body: new URLSearchParams(form), ...init });
const credentialsOf = ({ partner }: PartnerCaller) => ({ client_id: partner.clientId, client_secret: partner.clientSecret });
const tokenOf = async (caller: PartnerCaller) => (await obtainByCredentials(caller)).access_token;

async function expectWorks(token: string): Promise<void> {
  expect((await callApi(setting.server, token)).status).toBe(404);
}

test("§2: revocation of access tokens SHOULD be supported: of either form, by either grant", async () => {
  const [caller] = callers;
  for (const token of [await obtainOpaque(caller), await tokenOf(caller), (await obtainByExchange(caller)).access_token]) {
    await expectWorks(token);
    await revoke(caller, token);
    expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
  }
});

test("§2: the URL MUST be https, and without a fragment as RFC 6749 §3.1 says", () => {
  const url = new URL(setting.as.revocation_endpoint ?? "");
  expect(url.protocol).toBe("https:");
  expect(url.hash).toBe("");
});

test("§2: revocation is requested by POST, and any other method is refused", async () => {
  for (const method of ["GET", "HEAD", "PUT", "DELETE"]) {
    const reply = await send(setting.server, method, "/oauth2/revoke");
    expect(reply.status).toBe(405);
    expect(reply.headers.get("allow")).toBe("POST");
  }
});

test("§2.1: the parameters come as a form in the body", async () => {
  const token = await obtainOpaque(callers[0]);
  const form = { ...credentialsOf(callers[0]), token };
  const asJson = await post(form, { headers: { "content-type": "application/json" }, body: JSON.stringify(form) });
  expect(asJson).toMatchObject(replyOf("media_type_unsupported"));
  const query = new URLSearchParams(form).toString();
  expect(await send(setting.server, "POST", `/oauth2/revoke?${query}`)).toMatchObject({ status: 400 });
  await expectWorks(token);
  expect((await post(form)).status).toBe(200);
  expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
});

test("§2.1: token is REQUIRED", async () => {
  for (const form of [{}, { token: "" }]) {
    expect(await post({ ...credentialsOf(callers[0]), ...form })).toMatchObject(replyOf("parameter_missing"));
  }
});

test("§2.1: token_type_hint is OPTIONAL: where it is wrong, the search MUST extend to every type of token", async () => {
  for (const token of [await obtainOpaque(callers[0]), await tokenOf(callers[0])]) {
    await revoke(callers[0], token, { token_type_hint: "refresh_token" });
    expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
  }
});

test("§2.1: the client includes its credentials: each method that the metadata names serves", async () => {
  expect(callers.map(({ method }) => method)).toEqual(setting.as.revocation_endpoint_auth_methods_supported);
  for (const caller of callers) {
    const token = await tokenOf(caller);
    await revoke(caller, token);
    expect(await obtainChallenge(setting.server, token), caller.method).toMatchObject(INVALID_TOKEN);
  }
});

test("§2.1: the server first validates the credentials: without them, or with wrong ones, nothing is revoked", async () => {
  for (const caller of callers) {
    const token = await tokenOf(caller);
    const without = await refusedWith(revoke({ ...caller, auth: oauth.None() }, token));
    expect(without).toMatchObject(refusalOf("client_authentication_missing", INVALID_CLIENT));
    const wrong = await refusedWith(revoke({ ...caller, auth: oauth.ClientSecretPost("wrong") }, token));
    expect(wrong).toMatchObject(refusalOf("client_not_authenticated", INVALID_CLIENT));
    await expectWorks(token);
  }
});

test("§2.1: it then verifies that the token was issued to the client: another's works on, and so does one that an API was shown", async () => {
  const [owner, stranger, byKey] = callers;
  const { callers: apis } = await openApi(setting, "reports");
  for (const token of [await obtainOpaque(owner), await tokenOf(owner)]) {
    for (const caller of [stranger, byKey, ...apis]) await revoke(caller, token);
    await expectWorks(token);
    expect((await introspect(owner, token)).active).toBe(true);
  }
});

test("§2.1: the invalidation takes place immediately, on other nodes too", async () => {
  const second = await setting.server.startSecondNode();
  try {
    const tokens = [await obtainOpaque(callers[0]), await tokenOf(callers[0])];
    for (const token of tokens) {
      expect((await callApi(second, token)).status).toBe(404);
      await revoke(callers[0], token);
      expect(await obtainChallenge(second, token)).toMatchObject(INVALID_TOKEN);
      expect(await introspect({ ...callers[0], server: second }, token)).toEqual({ active: false });
    }
  } finally {
    await second.stop();
  }
});

test("§2.1: related tokens MAY be revoked with it, and are not: each token stands alone", async () => {
  const [revoked, other] = [await tokenOf(callers[0]), await tokenOf(callers[0])];
  await revoke(callers[0], revoked);
  await expectWorks(other);
  await expectWorks(await tokenOf(callers[0]));
});

test("§2.2: the answer is 200 where the token has been revoked, and where the client submitted an invalid one", async () => {
  const token = await tokenOf(callers[0]);
  for (const submitted of [token, token, "unknown", "sk-0123456789abcdef0123456789abcdef", `${token}x`]) {
    expect((await requestRevocation(callers[0], submitted)).status).toBe(200);
  }
});

test("§2.2: all is said by the status: the body is the same whether or not something was revoked", async () => {
  const token = await obtainOpaque(callers[0]);
  const bodies = [];
  for (const [caller, submitted] of [
    [callers[1], token],
    [callers[0], token],
    [callers[0], token],
    [callers[0], "unknown"],
  ] as const) {
    bodies.push(await (await requestRevocation(caller, submitted)).text());
  }
  expect(new Set(bodies).size).toBe(1);
});

test("§2.2: an invalid token_type_hint is ignored", async () => {
  const token = await tokenOf(callers[0]);
  expect((await requestRevocation(callers[0], token, { token_type_hint: "no such type" })).status).toBe(200);
  expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
});

test("§2.2.1: errors are those of RFC 6749 §5.2, and unsupported_token_type is for no token: each one can be revoked", async () => {
  const { status, headers, json } = await post({ ...credentialsOf(callers[0]), client_secret: "wrong", token: "x" });
  expect(status).toBe(401);
  expect(headers.get("cache-control")).toBe("no-store");
  expect(Object.keys(json)).toEqual(["error", "error_description", "error_uri", "trace_id"]);
  const [caller] = callers;
  for (const token_type_hint of ["access_token", "refresh_token", "id_token"]) {
    await revoke(caller, await obtainOpaque(caller), { token_type_hint });
  }
});

test("§2.2.1: 503 says that the token still exists, and MAY say by Retry-After when to try again", async () => {
  const [caller] = callers;
  const token = await tokenOf(caller);
  const other = await holdSqlite(setting.server.database);
  try {
    const response = await requestRevocation(caller, token);
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await response.json()).toMatchObject({ error: "temporarily_unavailable" });
  } finally {
    other.release();
  }
  await expectWorks(token);
  await revoke(caller, token);
  expect(await obtainChallenge(setting.server, token)).toMatchObject(INVALID_TOKEN);
});

test("§5: the countermeasures of the token endpoint MUST be applied here too: wrong secrets are counted, and then refused unread", async () => {
  const own = await openSetting({ limitsWrongSecrets: true });
  try {
    const [guessed, other] = await openCallers(own);
    const wrong = { ...guessed, auth: oauth.ClientSecretPost("wrong") };
    const statuses: number[] = [];
    for (let n = 0; n < 12; n++) statuses.push((await requestRevocation(wrong, "x")).status);
    expect([...new Set(statuses)]).toEqual([401, 429]);
    expect((await requestRevocation(guessed, "x")).status).toBe(429);
    expect((await requestRevocation(other, "x")).status).toBe(200);
  } finally {
    await own.server.stop();
  }
});
