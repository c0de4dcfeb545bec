import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../packages/server/src/testing/database.ts";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  basic,
  createTestPartner,
  exchange,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../packages/server/src/testing/server.ts";

/* The operator takes a scope away, or has it open another API, while the server runs. */

interface Api {
  readonly id: string;
  readonly secret: string;
  readonly audience: string;
}

describe.each(DIALECTS)("the scopes of the operator's APIs, changed under way on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  const newAudience = () => `https://${randomUUID()}.example`;

  async function createApi(audience = newAudience()): Promise<Api> {
    const { json } = await admin(server, "POST", "/resource-servers", { name: "An API", audience });
    const { resource_server_id: id } = json["resource_server"] as { resource_server_id: string };
    return { id, secret: String(json["client_secret"]), audience };
  }

  async function createScope(name: string, api: Api): Promise<void> {
    const reply = await admin(server, "POST", "/scopes", { name, principal: "service_account", resource_server_id: api.id });
    expect(reply.status, reply.text).toBe(201);
  }

  async function removeScope(name: string): Promise<void> {
    expect((await admin(server, "DELETE", `/scopes/${encodeURIComponent(name)}`)).status).toBe(200);
  }

  async function allow(partner: TestPartner, ...scopes: readonly string[]): Promise<void> {
    const allowed = { allowed_scopes: ["account-management", ...scopes] };
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, allowed)).status).toBe(200);
  }

  async function exchangeFor(partner: TestPartner, scope: string): Promise<string> {
    const { status, text, json } = await exchange(partner, subjectToken(partner), { form: { scope } });
    expect(status, text).toBe(200);
    return String(json["access_token"]);
  }

  const audienceOf = (token: string) => decodeJwt(token).payload["aud"];

  const introspect = async (client: Pick<Api, "id" | "secret">, token: string) => {
    const body = new URLSearchParams({ token });
    return (await send(server, "POST", "/oauth2/introspect", { headers: { authorization: basic(client.id, client.secret) }, body })).json;
  };

  test("a scope that is removed, made anew for another API and allowed again opens that API from the next exchange on", async () => {
    const [former, latter] = [await createApi(), await createApi()];
    const name = `scope:${randomUUID()}`;
    await createScope(name, former);
    const partner = await createTestPartner(server, { allowed_scopes: ["account-management", name] });
    expect(audienceOf(await exchangeFor(partner, name))).toBe(former.audience);
    await allow(partner);
    await removeScope(name);
    await createScope(name, latter);
    await allow(partner, name);
    const token = await exchangeFor(partner, name);
    expect(audienceOf(token)).toBe(latter.audience);
    expect(await introspect(former, token)).toEqual({ active: false });
    expect(await introspect(latter, token)).toMatchObject({ active: true, scope: name });
  });

  test("an API that gets another audience is the one of the next token, and an API that takes its former one over is not", async () => {
    const api = await createApi();
    const name = `scope:${randomUUID()}`;
    await createScope(name, api);
    const partner = await createTestPartner(server, { allowed_scopes: ["account-management", name] });
    expect(audienceOf(await exchangeFor(partner, name))).toBe(api.audience);
    const audience = newAudience();
    expect((await admin(server, "PATCH", `/resource-servers/${api.id}`, { audience })).status).toBe(200);
    const successor = await createApi(api.audience);
    const token = await exchangeFor(partner, name);
    expect(audienceOf(token)).toBe(audience);
    expect(await introspect(successor, token)).toEqual({ active: false });
    expect(await introspect(api, token)).toMatchObject({ active: true, aud: audience });
  });

  test("introspection names only the scopes that the partner is still allowed, to the API and to the partner", async () => {
    const api = await createApi();
    const [kept, taken] = [`kept:${randomUUID()}`, `taken:${randomUUID()}`];
    for (const name of [kept, taken]) await createScope(name, api);
    const partner = await createTestPartner(server, { allowed_scopes: ["account-management", kept, taken] });
    const token = await exchangeFor(partner, `${kept} ${taken}`);
    const askers = [api, { id: partner.clientId, secret: partner.clientSecret }];
    const scopes = async () => Promise.all(askers.map(async (asker) => (await introspect(asker, token))["scope"] as unknown));
    const both = await scopes();
    expect(both.map((scope) => String(scope).split(" ").toSorted())).toEqual([
      [kept, taken],
      [kept, taken],
    ]);
    await allow(partner, kept);
    expect(await scopes()).toEqual([kept, kept]);
    await allow(partner);
    for (const asker of askers) expect(await introspect(asker, token)).toEqual({ active: false });
    await allow(partner, taken, kept);
    expect(await scopes()).toEqual(both);
  });
});
