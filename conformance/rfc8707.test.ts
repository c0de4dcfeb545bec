/** RFC 8707, Resource Indicators for OAuth 2.0: `resource` at the token endpoint, of every grant and in each way in which a client authenticates. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import { createTestUser, ISSUER, send } from "../packages/server/src/testing/server.ts";
import { allowedScopes, type OwnApi } from "../tests/attacks/own-api.ts";
import {
  type Caller,
  introspect,
  obtainByCredentials,
  obtainByExchange,
  openApi,
  openCallers,
  type PartnerCaller,
  type PartnerCallers,
  refusedWith,
} from "./callers.ts";
import { callApi, obtainChallenge, openSetting, RESOURCE, type Setting } from "./client.ts";
import { INVALID_SCOPE, INVALID_TARGET, refusalOf, replyOf } from "./refusals.ts";

let setting: Setting;
let api: OwnApi;
let asApi: Caller;
/** Not open to the partners. */
let closed: OwnApi;
let callers: PartnerCallers;
let first: PartnerCaller;
beforeAll(async () => {
  setting = await openSetting();
  const opened = await openApi(setting, "reports");
  ({ api } = opened);
  asApi = opened.callers[0];
  closed = (await openApi(setting, "closed")).api;
  callers = await openCallers(setting, { allowed_scopes: allowedScopes(api) });
  first = callers[0];
});
afterAll(() => setting.server.stop());

const audienceOf = ({ access_token }: { readonly access_token: string }) => decodeJwt(access_token).payload["aud"];
const UNKNOWN = refusalOf("target_unknown", INVALID_TARGET);

test("§2: resource MUST be an absolute URI: what is none is refused", async () => {
  for (const resource of ["/v2", "v2", "cambist.test/v2", "reports", " "]) {
    expect(await refusedWith(obtainByCredentials(first, { resource })), resource).toMatchObject(UNKNOWN);
  }
});

test("§2: resource MUST NOT include a fragment", async () => {
  for (const target of [RESOURCE, api.audience]) {
    expect(await refusedWith(obtainByCredentials(first, { resource: `${target}#x` }))).toMatchObject(UNKNOWN);
  }
});

test("§2: resource SHOULD NOT include a query: ours have none, and one with it is another resource", async () => {
  expect(await refusedWith(obtainByCredentials(first, { resource: `${api.audience}?x=1` }))).toMatchObject(UNKNOWN);
});

test("§2: several resources MAY be asked for, and are too many: invalid_target", async () => {
  const client = { client_id: first.partner.clientId, client_secret: first.partner.clientSecret };
  for (const second of [RESOURCE, closed.audience, api.audience]) {
    const body = new URLSearchParams({ grant_type: "client_credentials", ...client, resource: api.audience });
    body.append("resource", second);
    expect(await send(setting.server, "POST", "/oauth2/token", { body })).toMatchObject(replyOf("target_repeated", INVALID_TARGET));
  }
});

test("§2: invalid_target says that a resource is unknown or malformed, and one that this client may not have reads the same", async () => {
  const answers = new Set<string>();
  for (const resource of ["https://nobody.example/api", closed.audience, `${api.audience}/`, api.audience.toUpperCase(), ISSUER]) {
    for (const request of [obtainByCredentials(first, { resource }), obtainByExchange(first, { resource })]) {
      const refused = await refusedWith(request);
      expect(refused, resource).toMatchObject(UNKNOWN);
      answers.add((refused as { error_description: string }).error_description);
    }
  }
  expect(answers.size).toBe(1);
});

test("§2: a token SHOULD be restricted to the resource: its aud in the JWT and in introspection", async () => {
  for (const caller of callers) {
    for (const resource of [api.audience, RESOURCE]) {
      const issued = await obtainByCredentials(caller, { resource });
      expect(audienceOf(issued), caller.method).toBe(resource);
      expect(await introspect(caller, issued.access_token)).toMatchObject({ active: true, aud: resource });
    }
  }
});

test("§2.1: without resource the server MAY take a default: our own API", async () => {
  for (const caller of callers) {
    expect(audienceOf(await obtainByCredentials(caller))).toBe(RESOURCE);
    expect(audienceOf(await obtainByExchange(caller))).toBe(RESOURCE);
  }
});

test("§2.2: resource is taken with every grant type", async () => {
  const { userId } = await createTestUser(first.partner);
  const resource = api.audience;
  expect(audienceOf(await obtainByCredentials(first, { resource }))).toBe(resource);
  expect(audienceOf(await obtainByExchange(first, { resource }))).toBe(resource);
  expect(audienceOf(await obtainByExchange(first, { resource }, userId))).toBe(resource);
});

test("§2.2: which resources are acceptable is the server's policy: those that a scope of this client opens", async () => {
  const [narrow] = await openCallers(setting, { allowed_scopes: ["thread", "account-management"] });
  expect(await refusedWith(obtainByCredentials(narrow, { resource: api.audience }))).toMatchObject(UNKNOWN);
  expect(audienceOf(await obtainByCredentials(narrow, { resource: RESOURCE }))).toBe(RESOURCE);
});

test("§2.2: the scope SHOULD be what the resource needs: without scope, only what opens that one", async () => {
  expect((await obtainByCredentials(first, { resource: api.audience })).scope).toBe(api.serviceScope);
  expect((await obtainByCredentials(first, { resource: RESOURCE })).scope).toBe("account-management analytics");
});

test("§2.2: the token has each scope at each resource: one that does not open it is refused, and so are scopes of two", async () => {
  const resource = api.audience;
  const foreign = await refusedWith(obtainByCredentials(first, { resource, scope: "analytics" }));
  expect(foreign).toMatchObject(refusalOf("scope_not_for_target", INVALID_SCOPE));
  const two = await refusedWith(obtainByCredentials(first, { scope: `analytics ${api.serviceScope}` }));
  expect(two).toMatchObject(refusalOf("target_ambiguous", INVALID_TARGET));
});

test("§2.2: the effective scope MUST be in the answer where it differs from the request", async () => {
  for (const caller of callers) {
    expect((await obtainByCredentials(caller, { resource: api.audience })).scope).toBe(api.serviceScope);
    expect((await obtainByCredentials(caller, { scope: api.serviceScope })).scope).toBe(api.serviceScope);
  }
});

test("§3: a token that one resource was given is of no use at another", async () => {
  const forApi = await obtainByCredentials(first, { resource: api.audience });
  const forUs = await obtainByCredentials(first, { resource: RESOURCE });
  expect(await obtainChallenge(setting.server, forApi.access_token)).toMatchObject({ status: 401, parameters: { error: "invalid_token" } });
  expect((await callApi(setting.server, forUs.access_token)).status).toBe(404);
  expect(await introspect(asApi, forApi.access_token)).toMatchObject({ active: true });
  expect(await introspect(asApi, forUs.access_token)).toEqual({ active: false });
});
