import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createApp } from "../../packages/server/src/app.ts";
import { openDeps } from "../../packages/server/src/deps.ts";
import { openLog } from "../../packages/server/src/telemetry/log.ts";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { decodeJwt, signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  exchange,
  ISSUER,
  type Reply,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { BOTH_GRANTS, clientForm, expectEnvelope, postForm } from "./expect-envelope.ts";

/* A7: how long an opaque token lives, who may have one, and by what a partner asks for it. */

const ABSENT = "/v2/account-management/organization?org_id=00000000-0000-4000-8000-000000000000";
const LIFETIME_SECONDS = 3_600;
/** How far the clocks of two nodes may be apart. */
const NODE_SKEW_SECONDS = 5;
const ASSERTION = { client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" };

type Node = Pick<TestServer, "url">;

/** 404: the token was taken, and there is no such organization. */
const use = async (token: string, node: Node) => (await call(node, "GET", ABSENT, token)).status;
const tokenOf = (reply: Reply) => (reply.json["data"] as { access_token: string } | undefined)?.access_token ?? reply.text;
const ask = (partner: TestPartner, node: Node = partner.server) => postForm(node, clientForm(partner));
const mint = async (partner: TestPartner, node?: Node) => tokenOf(await ask(partner, node));

describe.each(DIALECTS)("an opaque token on %s", (dialect) => {
  const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
  const stops: (() => Promise<void>)[] = [];
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = stopLater(await startTestServer(dialect, { masterKeys: [oldKey] }));
    partner = await createTestPartner(server, BOTH_GRANTS);
  });
  afterAll(async () => {
    for (const stop of stops.toReversed()) await stop();
  });

  function stopLater<S extends { stop(): Promise<void> }>(started: S): S {
    stops.push(() => started.stop());
    return started;
  }

  /** Another start on the same database, with other master keys. */
  async function startWith(...masterKeys: readonly Uint8Array[]): Promise<Node> {
    const app = stopLater(createApp(await openDeps({ ...server.deps.config, masterKeys }, { log: openLog("silent") })));
    return { url: `http://127.0.0.1:${await app.start()}` };
  }

  test("lives on when its server stops and starts again, for 3600 s, and then nowhere, introspection included", async () => {
    const first = await server.startSecondNode();
    const token = await mint(partner, first);
    await first.stop();
    const again = stopLater(await server.startSecondNode());
    const active = async () => (await postForm(again, clientForm(partner, { token }), {}, "/oauth2/introspect")).json["active"] as unknown;
    for (const node of [again, server]) expect(await use(token, node)).toBe(404);
    again.clock.offsetMs = (LIFETIME_SECONDS - 10) * 1_000;
    expect([await use(token, again), await active()]).toEqual([404, true]);
    again.clock.offsetMs = (LIFETIME_SECONDS + NODE_SKEW_SECONDS) * 1_000;
    expect([await use(token, again), await active()]).toEqual([401, false]);
    await again.deps.store.tokens.purge(again.deps.nowMs());
    expect(await server.database.query("SELECT token_id FROM opaque_tokens")).toEqual([]);
  });

  test("dies with its partner: disabled, enabled again, its tokens revoked; the next one lives", async () => {
    const second = stopLater(await server.startSecondNode());
    const dying = await createTestPartner(server, BOTH_GRANTS);
    let token = await mint(dying);
    const set = (status: string) => admin(server, "PATCH", `/partners/${dying.clientId}`, { status });
    await set("disabled");
    for (const node of [server, second]) expect(await use(token, node)).toBe(401);
    expectEnvelope(await ask(dying), 401);
    await set("active");
    for (const node of [server, second]) expect(await use(token, node)).toBe(401);
    token = await mint(dying, second);
    for (const node of [server, second]) expect(await use(token, node)).toBe(404);
    await server.deps.store.tokens.revoke({ kind: "partner", clientId: dying.clientId }, server.deps.nowMs);
    for (const node of [server, second]) expect(await use(token, node)).toBe(401);
    expect(await use(await mint(dying, second), server)).toBe(404);
  });

  test("is only for a partner that is allowed it, and both endpoints agree on that", async () => {
    const plain = await createTestPartner(server);
    const jwt = () => postForm(server, clientForm(plain, { grant_type: "client_credentials" }), {}, "/oauth2/token");
    const allow = (...grants: string[]) => admin(server, "PATCH", `/partners/${plain.clientId}`, { allowed_grants: grants });
    expectEnvelope(await ask(plain), 403);
    expect(await jwt()).toMatchObject({ status: 400, json: { error: "unauthorized_client" } });
    await allow("client_credentials");
    expect((await ask(plain)).status).toBe(200);
    const granted = await jwt();
    expect(granted).toMatchObject({ status: 200, json: { token_type: "Bearer", expires_in: 3600, scope: "account-management analytics" } });
    expect(Object.keys(granted.json).toSorted()).toEqual(["access_token", "expires_in", "scope", "token_type"]);
    expect(decodeJwt(String(granted.json["access_token"])).payload).toMatchObject({ sub: plain.clientId, client_id: plain.clientId });
    expect(await exchange(plain, subjectToken(plain))).toMatchObject({ status: 400, json: { error: "unauthorized_client" } });
    await allow("token-exchange");
    expectEnvelope(await ask(plain), 403);
    expect((await exchange(plain, subjectToken(plain))).status).toBe(200);
  });

  test("is had by an assertion where the partner authenticates so, once for each, and never by a secret", async () => {
    const byKey = await createTestPartner(server, { ...BOTH_GRANTS, token_endpoint_auth_method: "private_key_jwt" });
    const sign = (changes: Record<string, unknown> = {}, typ: string | undefined = "client-authentication+jwt") => {
      const now = server.nowSeconds();
      const claims = { iss: byKey.clientId, sub: byKey.clientId, aud: ISSUER, iat: now, exp: now + 60, jti: randomUUID(), ...changes };
      return signJwt({ alg: byKey.key.algorithm, kid: byKey.key.kid, typ }, claims, byKey.key);
    };
    const by = (client_assertion: string) => postForm(server, new URLSearchParams({ ...ASSERTION, client_assertion }));
    const once = sign();
    expect(await use(tokenOf(await by(once)), server)).toBe(404);
    expectEnvelope(await by(once), 401);
    const refused = [
      sign({ aud: `${ISSUER}/v1/auth/token` }),
      sign({ exp: server.nowSeconds() - 60 }),
      sign({}, "JWT"),
      subjectToken(byKey),
      "x",
    ];
    for (const assertion of refused) expectEnvelope(await by(assertion), 401);
    const added = await admin(server, "POST", `/partners/${byKey.clientId}/secrets`);
    expectEnvelope(await ask({ ...byKey, clientSecret: String(added.json["client_secret"]) }), 401);
    const bySecret = await createTestPartner(server, BOTH_GRANTS);
    expectEnvelope(await by(sign({ iss: bySecret.clientId, sub: bySecret.clientId })), 401);
  });

  test("is found under each master key of the list, and under none that was dropped", async () => {
    const older = await mint(partner);
    const prepared = await startWith(oldKey, newKey);
    const rotated = await startWith(newKey, oldKey);
    const newer = await mint(partner, rotated);
    for (const node of [prepared, rotated]) expect([await use(older, node), await use(newer, node)]).toEqual([404, 404]);
    expect([await use(older, server), await use(newer, server)]).toEqual([404, 401]);
    const dropped = await startWith(newKey);
    expect([await use(older, dropped), await use(newer, dropped)]).toEqual([401, 404]);
  });

  test("dies when the store is put back from a backup, also one that the backup holds", async () => {
    const lasting = await createTestPartner(server, BOTH_GRANTS);
    const token = await mint(lasting);
    await server.database.query("INSERT INTO store_state (name, value) VALUES ('restored_at', $1)", [Date.now()]);
    const restored = await startWith(newKey, oldKey);
    expect([await use(token, restored), await use(token, server)]).toEqual([401, 404]);
    await expect.poll(async () => use(await mint(lasting, restored), restored)).toBe(404);
  });
});
