import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../testing/server.ts";

const API = "/v2/account-management";
const MANY = 3_000;

describe.each(DIALECTS)("the erasure of a tree on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  /** An organization whose erasure takes many steps. */
  async function setUp(fields: Record<string, unknown> = {}) {
    const partner = await createTestPartner(server, fields);
    const user = await createTestUser(partner);
    const token = await serviceAccountToken(partner);
    await fill(partner, user);
    expect((await call(server, "PATCH", `${API}/organization?org_id=${user.orgId}`, token, { external_org_id: "tree" })).status).toBe(200);
    return { partner, user, token };
  }

  async function fill({ clientId }: TestPartner, { workspaceId, orgId }: TestUser): Promise<void> {
    const series = dialect === "sqlite" ? `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${MANY}) ` : "";
    const from = dialect === "sqlite" ? "n" : `generate_series(1, ${MANY}) AS n(i)`;
    const columns = "partner_id, user_id, workspace_id, org_id, entitlements, status, revision, created_at, updated_at";
    await server.database.query(
      `${series}INSERT INTO users (${columns}) SELECT $1, 'id-' || i, $2, $3, '[]', 'active', 'r', 0, 0 FROM ${from} RETURNING 1`,
      [clientId, workspaceId, orgId],
    );
  }

  const count = async (table: string, partner: TestPartner) =>
    (await server.database.query(`SELECT 1 FROM ${table} WHERE partner_id = $1`, [partner.clientId])).length;

  test("200: goes by what it named at the beginning, though its external id names another one meanwhile", async () => {
    const { partner, user, token } = await setUp();
    const other = await call(server, "PUT", `${API}/organization`, token, { external_org_id: "other" });
    const erased = call(server, "DELETE", `${API}/organization?external_org_id=tree&cascade=true`, token);
    await expect.poll(() => count("users", partner)).toBeLessThan(MANY + 1);
    const moved = [
      await call(server, "PATCH", `${API}/organization?org_id=${user.orgId}`, token, { external_org_id: "moved" }),
      await call(server, "PATCH", `${API}/organization?external_org_id=other`, token, { external_org_id: "tree" }),
    ];
    expect((await erased).status).toBe(200);
    expect(
      moved.map((reply) => reply.status),
      "the renaming came in time",
    ).toContain(200);
    expect(await server.database.query("SELECT org_id FROM organizations WHERE partner_id = $1", [partner.clientId])).toEqual([
      { org_id: (other.json["org"] as { org_id: string }).org_id },
    ]);
  });

  test("412: a condition that does not hold erases nothing; one that holds is judged once, at the beginning", async () => {
    const { partner, user, token } = await setUp();
    const path = `${API}/organization?org_id=${user.orgId}`;
    const etag = (await call(server, "GET", path, token)).headers.get("etag") ?? "";
    const erase = (condition: string) =>
      send(server, "DELETE", `${path}&cascade=true`, { headers: { authorization: `Bearer ${token}`, "if-match": condition } });
    expect((await erase('"another"')).status).toBe(412);
    expect(await count("users", partner)).toBe(MANY + 1);
    expect((await call(server, "GET", path, token)).headers.get("etag")).toBe(etag);
    const erased = erase(etag);
    await expect.poll(() => count("users", partner)).toBeLessThan(MANY + 1);
    await call(server, "PATCH", path, token, { name: "changed meanwhile" });
    expect((await erased).status).toBe(200);
    expect(await count("organizations", partner)).toBe(0);
  });

  test("200: exchanges make nobody in it meanwhile", async () => {
    const { partner, user, token } = await setUp({ subject_namespace: "external_user_id" });
    const settings = { provisioning: "create", home_workspace_id: user.workspaceId };
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, settings)).status).toBe(200);
    let going = true;
    const exchanges = Array.from({ length: 4 }, async (_, n) => {
      for (let i = 0; going; i++) await exchange(partner, subjectToken(partner, { sub: `jit-${n}-${i}` }));
    });
    expect((await call(server, "DELETE", `${API}/workspace?workspace_id=${user.workspaceId}&cascade=true`, token)).status).toBe(200);
    going = false;
    await Promise.all(exchanges);
    expect(await count("users", partner)).toBe(0);
  });
});
