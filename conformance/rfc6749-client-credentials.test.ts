/** RFC 6749, The OAuth 2.0 Authorization Framework: the client credentials grant (§4.4), in each way in which a client authenticates. */
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt, makeTestKey } from "../packages/server/src/testing/jwt.ts";
import { createTestPartner, send } from "../packages/server/src/testing/server.ts";
import { privateKeyJwt } from "./assertions.ts";
import {
  BOTH_GRANTS,
  obtainByCredentials,
  openCallers,
  partnerCaller,
  type PartnerCallers,
  refusedWith,
  requestByCredentials,
} from "./callers.ts";
import { callApi, openSetting, RESOURCE, type Setting } from "./client.ts";
import { INVALID_CLIENT, INVALID_SCOPE, refusalOf, replyOf } from "./refusals.ts";

let setting: Setting;
let callers: PartnerCallers;
beforeAll(async () => {
  setting = await openSetting();
  callers = await openCallers(setting);
});
afterAll(() => setting.server.stop());

const post = (form: Record<string, string>, init: RequestInit = {}) =>
  send(setting.server, "POST", "/oauth2/token", { body: new URLSearchParams(form), ...init });

test("§4.4: the grant MUST only be used by confidential clients: what a public client can show gets no token", async () => {
  for (const caller of callers) {
    const refused = await refusedWith(obtainByCredentials({ ...caller, auth: oauth.None() }));
    expect(refused).toMatchObject(refusalOf("client_authentication_missing", INVALID_CLIENT));
  }
  expect(await post({ grant_type: "client_credentials" })).toMatchObject(replyOf("client_authentication_missing", INVALID_CLIENT));
});

test("§4.4: the token is for what the client itself controls: its service account, and no user's scope", async () => {
  for (const caller of callers) {
    const { access_token, scope } = await obtainByCredentials(caller);
    const { clientId } = caller.partner;
    expect(decodeJwt(access_token).payload).toMatchObject({ sub: clientId, client_id: clientId, aud: RESOURCE, scope });
    expect((await callApi(setting.server, access_token)).status).toBe(404);
    expect(await refusedWith(obtainByCredentials(caller, { scope: "thread" }))).toMatchObject(
      refusalOf("scope_not_for_principal", INVALID_SCOPE),
    );
  }
});

test("§4.4.2: the parameters come by POST as a form, in UTF-8", async () => {
  const [{ partner }] = callers;
  const form = { grant_type: "client_credentials", client_id: partner.clientId, client_secret: partner.clientSecret };
  expect((await post(form, { headers: { "content-type": "application/x-www-form-urlencoded; charset=UTF-8" } })).status).toBe(200);
  const asJson = await post(form, { headers: { "content-type": "application/json" }, body: JSON.stringify(form) });
  expect(asJson).toMatchObject(replyOf("media_type_unsupported"));
  const asQuery = await send(setting.server, "POST", `/oauth2/token?${new URLSearchParams(form).toString()}`);
  expect(asQuery).toMatchObject(replyOf("parameters_in_query"));
  expect((await send(setting.server, "GET", "/oauth2/token")).status).toBe(405);
});

test("§4.4.2: grant_type is REQUIRED, and its value MUST be client_credentials", async () => {
  const [{ partner }] = callers;
  const client = { client_id: partner.clientId, client_secret: partner.clientSecret };
  expect(await post(client)).toMatchObject(replyOf("parameter_missing"));
  for (const grant_type of ["Client_Credentials", "client_credentials ", "urn:ietf:params:oauth:grant-type:client_credentials"]) {
    const refused = replyOf("grant_type_unsupported", { status: 400, error: "unsupported_grant_type" });
    expect(await post({ ...client, grant_type })).toMatchObject(refused);
  }
});

test("§4.4.2: scope is OPTIONAL, and asks for part of what the client may have", async () => {
  for (const caller of callers) {
    expect((await obtainByCredentials(caller)).scope).toBe("account-management analytics");
    expect((await obtainByCredentials(caller, { scope: "analytics" })).scope).toBe("analytics");
  }
});

test("§4.4.2: the client MUST authenticate, by the one method that it has", async () => {
  for (const caller of callers) expect((await requestByCredentials(caller)).status, caller.method).toBe(200);
  const [basic, post_, byKey] = callers;
  const others = [
    { ...byKey, auth: oauth.ClientSecretBasic(basic.partner.clientSecret) },
    { ...basic, auth: byKey.auth },
    { ...basic, auth: oauth.ClientSecretPost(post_.partner.clientSecret) },
  ];
  for (const caller of others) {
    expect(await refusedWith(obtainByCredentials(caller))).toMatchObject({ status: 401 });
  }
});

test("§4.4.2: the authorization server MUST authenticate the client: neither a wrong secret nor a stranger's key passes", async () => {
  const wrong = {
    client_secret_basic: oauth.ClientSecretBasic("wrong"),
    client_secret_post: oauth.ClientSecretPost("wrong"),
    private_key_jwt: await privateKeyJwt(makeTestKey("ES256")),
  };
  for (const caller of callers) {
    const response = await requestByCredentials({ ...caller, auth: wrong[caller.method] });
    expect(response.status, caller.method).toBe(401);
    expect(await response.json()).toMatchObject({ error: "invalid_client" });
  }
});

test("§4.4.3: a valid and authorized request is answered with an access token as §5.1 has it", async () => {
  for (const caller of callers) {
    const response = await requestByCredentials(caller);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("pragma")).toBe("no-cache");
    expect(response.headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
    const { access_token, ...others } = (await response.json()) as Record<string, unknown>;
    expect(others).toEqual({ token_type: "Bearer", expires_in: 3600, scope: "account-management analytics" });
    expect(access_token).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/);
  }
});

test("§4.4.3: a refresh token SHOULD NOT be included", async () => {
  for (const caller of callers) expect(await obtainByCredentials(caller)).not.toHaveProperty("refresh_token");
});

test("§4.4.3: a failed authentication or an invalid request is answered as §5.2 has it, with the challenge where Basic was used", async () => {
  const [basic] = callers;
  const response = await requestByCredentials({ ...basic, auth: oauth.ClientSecretBasic("wrong") });
  expect(response.status).toBe(401);
  expect(response.headers.get("www-authenticate")).toMatch(/^Basic realm="/);
  expect(await response.json()).toMatchObject({ error: "invalid_client" });
  expect(await refusedWith(obtainByCredentials(basic, { scope: "unknown" }))).toMatchObject(refusalOf("scope_unknown", INVALID_SCOPE));
});

test("§5.2: unauthorized_client for a client that is not allowed this grant, and no token", async () => {
  const unauthorized = { status: 400, error: "unauthorized_client" };
  const exchangeOnly = partnerCaller(setting, setting.partner);
  expect(await refusedWith(obtainByCredentials(exchangeOnly))).toMatchObject(refusalOf("grant_not_allowed", unauthorized));
  const only = await createTestPartner(setting.server, { ...BOTH_GRANTS, allowed_grants: ["client_credentials"] });
  expect(await obtainByCredentials(partnerCaller(setting, only))).toHaveProperty("access_token");
});
