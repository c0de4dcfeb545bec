import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { call, type Reply, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { addUsers } from "./a9-rows.ts";
import { ask, expectProblem, type Kind, KINDS, make, openTenant, ORGANIZATION, tally, type Tenant, USER, WORKSPACE } from "./a9-setting.ts";
import { keyed } from "./a9-writes.ts";

/* A9, P9.17: erasures that meet creations, changes and one another, over two nodes. */

describe.each(DIALECTS)("erasures at once on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let tenant: Tenant;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    tenant = await openTenant(server);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const node = (index: number) => (index % 2 === 0 ? server : second);
  const remove = (at: TestServer, kind: Kind, id: string, more = "&cascade=true"): Promise<Reply> =>
    ask(at, tenant, { method: "DELETE", path: `${kind.path}?${kind.id}=${id}${more}` });

  async function rowsBelow(orgId: string): Promise<number[]> {
    const counts = KINDS.map(({ table }) => server.database.query(`SELECT count(*) AS n FROM ${table} WHERE org_id = $1`, [orgId]));
    return (await Promise.all(counts)).map(([row]) => Number(row?.["n"]));
  }

  async function expectNoOrphan(): Promise<void> {
    const orphans = await server.database.query(
      `SELECT u.user_id AS id FROM users u LEFT JOIN workspaces w ON w.partner_id = u.partner_id AND w.workspace_id = u.workspace_id AND w.org_id = u.org_id
       WHERE w.workspace_id IS NULL
       UNION ALL SELECT w.workspace_id FROM workspaces w LEFT JOIN organizations o ON o.partner_id = w.partner_id AND o.org_id = w.org_id WHERE o.org_id IS NULL`,
    );
    expect(orphans).toEqual([]);
    const failures = [server, second].flatMap(({ logLines }) => logLines).filter((line) => line.includes('"request failed"'));
    expect(failures).toEqual([]);
  }

  test("P9.17: users and workspaces that are created while all above them is erased are erased with it or refused; none is an orphan", async () => {
    const created: Reply[] = [];
    const erased: Reply[] = [];
    for (let round = 0; round < 6; round++) {
      const { id: orgId } = await make(server, tenant, ORGANIZATION);
      const workspace = await make(server, tenant, WORKSPACE, { org_id: orgId });
      await addUsers(server, tenant, workspace, round % 3 === 0 ? 600 : 5);
      const creating = Array.from({ length: 6 }, async (_, i) => {
        for (let turn = 0; turn < 12; turn++) {
          const [kind, parents] =
            i % 3 === 0 ? ([WORKSPACE, { org_id: orgId }] as const) : ([USER, { workspace_id: workspace.id }] as const);
          created.push(await call(node(i), "PUT", kind.path, tenant.token, { ...parents, name: "Meanwhile" }));
        }
      });
      let reply: Reply;
      do {
        reply = await remove(node(round), ORGANIZATION, orgId);
        erased.push(reply);
      } while (reply.status === 503); // something was made in it again and again
      expect(reply.status, reply.text).toBe(200);
      await Promise.all(creating);
      created.push(await call(node(round), "PUT", USER.path, tenant.token, { workspace_id: workspace.id }));
      expect(created.at(-1)?.status).toBe(404);
      expect(await rowsBelow(orgId)).toEqual([0, 0, 0]);
      await expectNoOrphan();
    }
    for (const reply of created.filter(({ status }) => status !== 201)) expectProblem(reply, 404);
    for (const reply of erased.filter(({ status }) => status !== 200)) expectProblem(reply, 503);
    expect(tally(created)[201] ?? 0, "the race was one").toBeGreaterThan(10);
  });

  test("P9.17: a workspace is not erased under a user that is created at the same time", async () => {
    const outcomes: Record<string, number> = {};
    for (let round = 0; round < 30; round++) {
      const workspace = await make(server, tenant, WORKSPACE);
      const [created, erased] = await Promise.all([
        call(node(round), "PUT", USER.path, tenant.token, { workspace_id: workspace.id }),
        remove(node(round + 1), WORKSPACE, workspace.id, ""),
      ]);
      const outcome = `${created.status} ${erased.status}`;
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    expect(Object.keys(outcomes).filter((outcome) => !["201 409", "404 200"].includes(outcome))).toEqual([]);
    await expectNoOrphan();
  });

  test(
    "P9.17: erasures of one full organization at once, and of a workspace in it, end it together; none is told to use cascade=true",
    { timeout: 60_000 },
    async () => {
      for (let round = 0; round < 2; round++) {
        const { id: orgId } = await make(server, tenant, ORGANIZATION);
        const workspaces = [];
        for (let i = 0; i < 3; i++) workspaces.push(await make(server, tenant, WORKSPACE, { org_id: orgId }));
        for (const workspace of workspaces) await addUsers(server, tenant, workspace, 700);
        const replies = await Promise.all([
          ...Array.from({ length: 4 }, (_, i) => remove(node(i), ORGANIZATION, orgId)),
          ...workspaces.map(({ id }, i) => remove(node(i), WORKSPACE, id)),
        ]);
        const statuses = replies.slice(0, 4).map(({ status }) => status);
        expect(await rowsBelow(orgId), `answered ${statuses.join(", ")}`).toEqual([0, 0, 0]);
        expect(tally(replies.slice(0, 4))[200]).toBeGreaterThanOrEqual(1); // as many as had begun before it was gone
        for (const reply of replies.filter(({ status }) => status !== 200)) expectProblem(reply, 404);
      }
      await expectNoOrphan();
    },
  );

  test("P9.17: erasures of one organization and of its workspace at once, each under a key of its own, end it together, and each is told so", async () => {
    for (let round = 0; round < 5; round++) {
      const user = await make(server, tenant, USER);
      const [orgId, workspaceId] = [String(user.entity["org_id"]), String(user.entity["workspace_id"])];
      const erase = (i: number) => {
        const query = i % 4 === 3 ? `${WORKSPACE.path}?workspace_id=${workspaceId}` : `${ORGANIZATION.path}?org_id=${orgId}`;
        return ask(node(i), tenant, keyed({ method: "DELETE", path: `${query}&cascade=true` }, `${orgId}-${i}`));
      };
      const replies = await Promise.all(Array.from({ length: 12 }, (_, i) => erase(i)));
      expect(await rowsBelow(orgId)).toEqual([0, 0, 0]);
      for (const reply of replies.filter(({ status }) => status !== 200)) expectProblem(reply, 404);
      expect(tally(replies.filter((_, i) => i % 4 !== 3))[200]).toBeGreaterThanOrEqual(1);
      for (const [i, reply] of replies.entries()) expect((await erase(i)).text).toBe(reply.text);
    }
  });

  test("P9.17: changes of users while they are erased are done or find none, and each user is erased once", async () => {
    const workspace = await make(server, tenant, WORKSPACE);
    const ids = await addUsers(server, tenant, workspace, 200);
    const [changes, , ...erasures] = await Promise.all([
      Promise.all(
        ids.map((id, i) =>
          call(node(i), "PATCH", `${USER.path}?user_id=${id}`, tenant.token, { name: "Changed", external_user_id: `new-${id}` }),
        ),
      ),
      remove(second, WORKSPACE, workspace.id),
      ...ids.slice(0, 50).map((id, i) => remove(node(i), USER, id, "")),
    ]);
    for (const { status } of [...changes, ...erasures]) expect([200, 404]).toContain(status);
    expect(await server.database.query("SELECT user_id FROM users WHERE workspace_id = $1", [workspace.id])).toEqual([]);
    await expectNoOrphan();
  });
});
