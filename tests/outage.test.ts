import { holdPostgres, holdSqlite } from "../packages/server/src/testing/database.ts";
import { describe, type ExpectStatic, inject, test } from "vitest";
import {
  admin,
  basic,
  call,
  createTestPartner,
  exchange,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../packages/server/src/testing/server.ts";
import { openPostgresLine } from "./postgres-line.ts";

/** A node that has stood still, as on a busy machine it may, is not ready for a second after that, whatever its store does. */
async function expectReady(server: TestServer, expect: ExpectStatic): Promise<void> {
  await expect.poll(async () => (await send(server, "GET", "/readyz")).status).toBe(200);
}

describe.concurrent("when the store is away", () => {
  test("SQLite held by another process: an exchange waits, then 503 with Retry-After, nothing spent; reads go on; it recovers", async ({
    expect,
  }) => {
    const server = await startTestServer("sqlite");
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    const other = await holdSqlite(server.database);
    const subject = subjectToken(partner);
    const waiting = exchange(partner, subject);
    expect((await call(server, "GET", "/v2/account-management/user?user_id=x", token)).status).toBe(404);
    await expectReady(server, expect);
    const refused = await waiting;
    expect(refused).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
    expect(refused.headers.get("retry-after")).toBe("1");
    expect((await call(server, "PUT", "/v2/account-management/organization-and-workspace", token, {})).status).toBe(503);
    const late = exchange(partner, subject);
    other.release();
    expect((await late).status).toBe(200);
    await server.stop();
  });

  test("PostgreSQL cut off: 503 with Retry-After within seconds, not ready, alive; it recovers, and the subject token is not lost", async ({
    expect,
  }) => {
    const line = await openPostgresLine(new URL(inject("postgresUrl")));
    const server = await startTestServer("postgres", {}, (url) => line.route(url));
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    const subject = subjectToken(partner);
    line.cut();
    const refused = await Promise.all([exchange(partner, subject), exchange(partner, subjectToken(partner))]);
    for (const reply of refused) {
      expect(reply).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
      expect(reply.headers.get("retry-after")).toBe("1");
    }
    expect((await call(server, "GET", "/v2/account-management/user?external_user_id=x", token)).status).toBe(503);
    expect((await admin(server, "GET", "/partners")).status).toBe(503);
    expect((await send(server, "GET", "/readyz")).status).toBe(503);
    expect((await send(server, "GET", "/livez")).status).toBe(200);
    line.restore();
    expect((await exchange(partner, subject)).status).toBe(200);
    await expectReady(server, expect);
    await server.stop();
    line.close();
  });

  test("PostgreSQL ends a connection that is in use: 503, and the process lives", async ({ expect }) => {
    const server = await startTestServer("postgres");
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    const blocker = await holdPostgres(server.database, "LOCK TABLE exchanges, organizations IN ACCESS EXCLUSIVE MODE");
    const waiting = [exchange(partner, subjectToken(partner)), call(server, "PUT", HOME, token, {})];
    const ended =
      "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let count = 0;
    await expect.poll(async () => (count += (await server.database.query(ended)).length)).toBeGreaterThanOrEqual(2);
    for (const reply of await Promise.all(waiting)) expect(reply.status).toBe(503);
    await blocker.release();
    expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
    await server.stop();
  });

  test("PostgreSQL holds up a write for too long: 503, and nothing of it is committed later", async ({ expect }) => {
    const server = await startTestServer("postgres");
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    const blocker = await holdPostgres(server.database, "LOCK TABLE workspaces IN ACCESS EXCLUSIVE MODE");
    expect((await call(server, "PUT", HOME, token, { external_org_id: "half" })).status).toBe(503);
    await blocker.release();
    for (let i = 0; i < 20; i++) expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
    expect(await server.database.query("SELECT 1 FROM organizations WHERE external_org_id = 'half'")).toEqual([]);
    await server.stop();
  });

  test("SQLite held by another process: eight writes wait two seconds together, not one after the other", async ({ expect }) => {
    const server = await startTestServer("sqlite");
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    const other = await holdSqlite(server.database);
    const started = Date.now();
    const writes = Array.from({ length: 8 }, () => call(server, "PUT", HOME, token, {}));
    const replies = await Promise.all([...writes, exchange(partner, subjectToken(partner)), send(server, "GET", "/oauth2/token")]);
    expect(Date.now() - started, "one after the other, the eight take 16 s").toBeLessThan(10_000);
    for (const reply of replies) expect(reply.status).toBe(503);
    expect(replies.at(-1)?.json["error"]).toBe("temporarily_unavailable");
    other.release();
    expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
    await server.stop();
  });

  test("SQLite held by another process: an API and a partner introspect on, also when the use of their secret is to be noted", async ({
    expect,
  }) => {
    const server = await startTestServer("sqlite");
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    const made = await admin(server, "POST", "/resource-servers", { name: "An API", audience: "https://api.example" });
    const { resource_server_id: apiId } = made.json["resource_server"] as { resource_server_id: string };
    const askers = [
      { authorization: basic(apiId, String(made.json["client_secret"])), answer: { active: false } },
      { authorization: basic(partner.clientId, partner.clientSecret), answer: { active: true, client_id: partner.clientId } },
    ];
    const other = await holdSqlite(server.database);
    server.clock.offsetMs = 120_000; // the last use of the partner's secret was noted more than a minute ago, that of the API's never
    for (let i = 0; i < 3; i++) {
      for (const { authorization, answer } of askers) {
        const body = new URLSearchParams({ token });
        const reply = await send(server, "POST", "/oauth2/introspect", { headers: { authorization }, body });
        expect(reply).toMatchObject({ status: 200, json: answer });
      }
    }
    other.release();
    server.clock.offsetMs = 240_000; // the next use is noted again
    for (const { authorization } of askers) {
      await send(server, "POST", "/oauth2/introspect", { headers: { authorization }, body: new URLSearchParams({ token }) });
    }
    for (const [table, id] of [
      ["partner_secrets", "partner_id"],
      ["resource_server_secrets", "resource_server_id"],
    ]) {
      const noted = `SELECT 1 FROM ${table} WHERE ${id} IN ($1, $2) AND last_used_at > $3`;
      const since = server.deps.nowMs() - 60_000;
      await expect.poll(() => server.database.query(noted, [partner.clientId, apiId, since]), { timeout: 10_000 }).toHaveLength(1);
    }
    await server.stop();
  });
});

const HOME = "/v2/account-management/organization-and-workspace";
