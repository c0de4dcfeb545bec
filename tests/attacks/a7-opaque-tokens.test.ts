import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  basic,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  type Reply,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { BOTH_GRANTS, clientForm, expectEnvelope, FORM_TYPE, postForm } from "./expect-envelope.ts";

/* A7: client credentials and opaque tokens. */

const ROOT = "/v2/account-management";
const ABSENT = `${ROOT}/organization?org_id=00000000-0000-4000-8000-000000000000`;
const NODE_BOUND_MS = 5_000;

describe.each(DIALECTS)("opaque tokens on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    partner = await createTestPartner(server, BOTH_GRANTS);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const minted: string[] = [];
  async function mint(more: Record<string, string> = {}, of = partner): Promise<string> {
    const reply = await postForm(server, clientForm(of, more));
    expect(reply.status, reply.text).toBe(200);
    const { access_token: token } = reply.json["data"] as { access_token: string };
    minted.push(token);
    return token;
  }

  /** 404: the token was taken, and there is no such organization. */
  const use = (token: string, node = server) => call(node, "GET", ABSENT, token);

  function expectDead(reply: Reply): void {
    expect(reply.status, reply.text).toBe(401);
    expect(reply.headers.get("www-authenticate")).toMatch(/^Bearer realm="cambist", error="invalid_token"/);
  }

  test("P7.1 200: the right credentials, and the token works on every node; no two are alike", async () => {
    const reply = await postForm(server, clientForm(partner));
    expect(reply.json["data"]).toMatchObject({ access_token: expect.stringMatching(/^sk-[0-9a-f]{32}$/) as unknown });
    expect(reply.headers.get("cache-control")).toBe("no-store");
    const tokens = await Promise.all(Array.from({ length: 16 }, () => mint()));
    expect(new Set(tokens).size).toBe(16);
    for (const node of [server, second]) expect((await use(tokens[0] ?? "", node)).status).toBe(404);
  });

  test("P7.2 401: a token cut by a character, and one with a character more", async () => {
    const token = await mint();
    for (const changed of [token.slice(0, -1), `${token}0`, `${token.slice(0, 3)}${token.slice(4)}`, token.slice(3), `sk-${token}`]) {
      expectDead(await use(changed));
    }
    expect((await use(token)).status).toBe(404);
  });

  test("P7.3 401: a token in capitals, padded or percent-encoded", async () => {
    const token = await mint();
    const digits = token.slice(3);
    const encoded = `%73${token.slice(1)}`;
    const spelled = [token.toUpperCase(), `SK-${digits}`, `sk-${digits.toUpperCase()}`, `${token}=`, `${token}==`, `${token}%20`, encoded];
    for (const text of [...spelled, `${token} ${token}`, `"${token}"`, `${token},`, digits, Buffer.from(token).toString("base64")]) {
      expectDead(await use(text));
    }
    expect((await use(token)).status).toBe(404);
  });

  test("P7.4 401: a token as the client's secret, at every endpoint that takes one", async () => {
    const token = await mint();
    const { clientId } = partner;
    for (const [id, secret] of [
      [clientId, token],
      [token, token],
      [token, ""],
    ] as const) {
      const byBasic = { headers: { ...FORM_TYPE, authorization: basic(id, secret) }, body: "grant_type=client_credentials&token=x" };
      for (const path of ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"]) {
        expect(await send(server, "POST", path, byBasic), path).toMatchObject({ status: 401, json: { error: "invalid_client" } });
      }
      if (secret !== "") expectEnvelope(await postForm(server, clientForm({ clientId: id, clientSecret: secret })), 401);
    }
  });

  test("P7.5 401: a revoked token, on every node within the bound, and no other token with it", async () => {
    const [token, other] = [await mint(), await mint()];
    for (const node of [server, second]) expect((await use(token, node)).status).toBe(404);
    const startedMs = performance.now();
    const revoked = await postForm(server, clientForm(partner, { token }), {}, "/oauth2/revoke");
    expect(revoked.status).toBe(200);
    expectDead(await use(token));
    const hereMs = performance.now() - startedMs;
    await expect.poll(async () => (await use(token, second)).status, { timeout: NODE_BOUND_MS, interval: 5 }).toBe(401);
    console.log(
      `revoked on ${dialect}: refused here after ${hereMs.toFixed(1)} ms, by the other node after ${(performance.now() - startedMs).toFixed(1)} ms`,
    );
    for (const node of [server, second]) expect((await use(other, node)).status).toBe(404);
  });

  test("P7.6 404: A's token and what is B's, to read, change and erase; nothing of B's changes, and none of it is listed", async () => {
    const other = await createTestPartner(server, BOTH_GRANTS);
    const { userId, workspaceId, orgId } = await createTestUser(other);
    const [ours, theirs] = [await mint(), await mint({}, other)];
    for (const target of [`/organization?org_id=${orgId}`, `/workspace?workspace_id=${workspaceId}`, `/user?user_id=${userId}`]) {
      const before = await call(server, "GET", ROOT + target, theirs);
      expect(before.status).toBe(200);
      expect((await call(server, "GET", ROOT + target, ours)).status).toBe(404);
      expect((await call(server, "PATCH", ROOT + target, ours, { name: "mine" })).status).toBe(404);
      expect((await call(server, "DELETE", ROOT + target, ours)).status).toBe(404);
      expect((await call(server, "GET", ROOT + target, theirs)).json).toEqual(before.json);
    }
    expect((await call(server, "PUT", `${ROOT}/user`, ours, { workspace_id: workspaceId })).status).toBe(404);
    const listed = await call(server, "POST", `${ROOT}/entities`, ours, {});
    expect(listed).toMatchObject({ status: 200, json: { organizations: [], workspaces: [], users: [] } });
    for (const [caller, active] of [
      [partner, false],
      [other, true],
    ] as const) {
      const asked = await postForm(server, clientForm(caller, { token: theirs }), {}, "/oauth2/introspect");
      expect(asked.json["active"]).toBe(active);
    }
    await postForm(server, clientForm(partner, { token: theirs }), {}, "/oauth2/revoke");
    expect((await use(theirs)).status).toBe(404);
  });

  test("P7.7: a token has the scopes that were asked for, and loses what the partner loses", async () => {
    const narrow = await createTestPartner(server, BOTH_GRANTS);
    const forAnalytics = await mint({ scope: "analytics" }, narrow);
    const refused = await use(forAnalytics);
    expect(refused.status).toBe(403);
    expect(refused.headers.get("www-authenticate")).toContain('error="insufficient_scope", scope="account-management"');
    const all = await mint({}, narrow);
    expect((await use(all)).status).toBe(404);
    await admin(server, "PATCH", `/partners/${narrow.clientId}`, { allowed_scopes: ["analytics"] });
    expect((await use(all)).status).toBe(403);
    const wider = await postForm(server, clientForm(narrow, { scope: "account-management" }));
    expect(wider.status).toBe(400);
  });

  test("P7.8 401: a secret of any length, longer or shorter, is wrong and no fault", async () => {
    const { clientSecret } = partner;
    const lengths = [
      clientSecret.slice(0, 1),
      clientSecret.slice(0, -1),
      `${clientSecret}x`,
      "x".repeat(20_000),
      "é",
      "\u{1f600}".repeat(29),
    ];
    for (const secret of lengths) expectEnvelope(await postForm(server, clientForm({ ...partner, clientSecret: secret })), 401);
    expect(server.logLines.filter((line) => line.includes("failed"))).toEqual([]);
  });

  test("works at every route for a service account, and at no other that asks who calls", async () => {
    const token = await mint();
    const reached = { service_account: 0, operator: 0, user: 0 };
    for (const route of server.app.routes) {
      const { kind } = route.auth;
      if (kind === "public" || kind === "oauth_client") continue;
      const reply = await call(server, route.method, route.path.replaceAll(/:\w+/g, "x"), token);
      reached[kind] += 1;
      if (kind === "service_account") expect([400, 404, 415, 422], `${route.operationId}: ${reply.text}`).toContain(reply.status);
      else expect(reply.status, route.operationId).toBe(kind === "operator" ? 401 : 403);
    }
    expect(reached.service_account).toBeGreaterThanOrEqual(14);
    expect(reached.operator).toBeGreaterThanOrEqual(10);
  });

  test("does what the service account may: an organization made, read and erased by it", async () => {
    const token = await mint();
    const made = await call(server, "PUT", `${ROOT}/organization`, token, { name: "Acme" });
    expect(made.status).toBe(201);
    const path = `${ROOT}/organization?org_id=${(made.json["org"] as { org_id: string }).org_id}`;
    expect((await call(second, "GET", path, token)).status).toBe(200);
    expect((await call(second, "DELETE", path, token)).status).toBe(200);
  });

  test("stands nowhere in a log line or in the database, also where it came in another field", async () => {
    const token = await mint();
    await exchange(partner, token);
    await exchange(partner, subjectToken(partner), { form: { grant_type: token } });
    await exchange({ ...partner, clientId: token }, subjectToken(partner));
    for (const field of ["scope", "grant_type", "audience", "client_assertion_type"]) {
      await postForm(server, clientForm(partner, { [field]: token }));
    }
    await postForm(server, `${token}&${token}`);
    await send(server, "POST", `/v1/auth/token?${token}`, { headers: FORM_TYPE });
    await send(server, "GET", `/v1/${token}`);
    expect(minted.length).toBeGreaterThan(20);
    const log = [...server.logLines, ...second.logLines].join("");
    expect(log).toContain("exchange refused");
    expect(minted.filter((each) => log.includes(each.slice(3)))).toEqual([]);
    const cells = await everyCell(server);
    const hash = Buffer.from(server.deps.masterKeys.hashSecret(token).hash);
    expect(
      cells.some((cell) => cell.includes(hash)),
      "its keyed hash is found",
    ).toBe(true);
    for (const each of minted) {
      const digits = each.slice(3);
      const forms = [digits, Buffer.from(digits, "hex"), Buffer.from(each).toString("hex"), Buffer.from(each).toString("base64")];
      expect(cells.filter((cell) => forms.some((form) => cell.includes(form)))).toEqual([]);
    }
  });
});

/** Every text and every bytes of every row of every table; with SQLite the bytes of its files too. */
async function everyCell({ database }: TestServer): Promise<Buffer[]> {
  const { location } = database;
  const tables = await database.query(
    "sqlitePath" in location
      ? "SELECT name FROM sqlite_master WHERE type = 'table'"
      : "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'",
  );
  const rows = (await Promise.all(tables.map(({ name }) => database.query(`SELECT * FROM "${String(name)}"`)))).flat();
  expect(rows.length).toBeGreaterThan(50);
  const cells = rows.flatMap((row) => Object.values(row)).filter((value) => typeof value === "string" || value instanceof Uint8Array);
  const files = "sqlitePath" in location ? ["", "-wal"].map((suffix) => readFileSync(location.sqlitePath + suffix)) : [];
  return [...cells.map((value) => Buffer.from(value)), ...files];
}
