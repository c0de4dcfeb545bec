import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { call, type Reply, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { addUsers } from "./a9-rows.ts";
import {
  ask,
  ENTITIES,
  expectProblem,
  type Kind,
  KINDS,
  make,
  type Made,
  nth,
  openTenant,
  ORGANIZATION,
  rowsOf,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";

/* A9, paging: P9.18. The list is read on one node while the other writes. */

const ROWS = 10_000;

type Entity = Readonly<Record<string, string>>;
interface Listing {
  /** Ids in the order in which they came. */
  readonly ids: string[];
  readonly pages: Reply[];
}

describe.each(DIALECTS)("paging on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let tenant: Tenant;
  let other: Tenant;
  const organizations: Made[] = [];
  const workspaces: Made[] = [];
  /** Every row of the tenant before any test, by kind. */
  let rows: Readonly<Record<string, Entity[]>>;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    [tenant, other] = [await openTenant(server), await openTenant(server)];
    for (let i = 0; i < 10; i++) organizations.push(await make(server, tenant, ORGANIZATION, { external_org_id: `org-${i}` }));
    for (let i = 0; i < 40; i++)
      workspaces.push(await make(server, tenant, WORKSPACE, { org_id: nth(organizations, i % 10).id, external_workspace_id: `ws-${i}` }));
    for (const [i, workspace] of workspaces.entries()) await addUsers(server, tenant, workspace, i === 0 ? 90 : i === 1 ? 420 : 250);
    await addUsers(server, other, await make(server, other, WORKSPACE, { external_workspace_id: "ws-1" }), 300);
    rows = (await rowsOf(server, tenant)) as unknown as Record<string, Entity[]>;
    expect(Object.values(rows).flat().length).toBeGreaterThanOrEqual(ROWS);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const list = (own: Tenant, body: object, at = server) => ask(at, own, { method: "POST", path: ENTITIES, body });

  /** All pages to the end. Each is full but the last, and organizations, workspaces and users come in this order. */
  async function listAll(filters: object, limit: number, own = tenant): Promise<Listing> {
    const [ids, pages]: [string[], Reply[]] = [[], []];
    let cursor: string | null = null;
    let kindBefore = 0;
    do {
      const page = await list(own, { ...filters, limit, cursor });
      expect(page.status, page.text).toBe(200);
      const entities = KINDS.flatMap(({ table, id }, kind) =>
        (page.json[table] as Entity[]).map((entity) => ({ kind, id: entity[id] ?? "" })),
      );
      for (const { kind, id } of entities) {
        expect(kind).toBeGreaterThanOrEqual(kindBefore);
        kindBefore = kind;
        ids.push(id);
      }
      pages.push(page);
      cursor = page.json["next_cursor"] as string | null;
      if (cursor !== null) expect(entities).toHaveLength(limit);
      else expect(entities.length).toBeLessThanOrEqual(limit);
    } while (cursor !== null);
    return { ids, pages };
  }

  const idsOf = (kind: Kind, keeps: (row: Entity) => boolean = () => true) =>
    (rows[kind.table] ?? []).filter(keeps).map((row) => row[kind.id] ?? "");

  /** Each of the expected ones exactly once, and none twice. */
  function expectEachOnce(ids: readonly string[], expected: readonly string[]): void {
    const seen = new Set(ids);
    expect(ids.length, "none twice").toBe(seen.size);
    expect(expected.filter((id) => !seen.has(id))).toEqual([]);
  }

  /** Users, workspaces and organizations that come and go through the other node, until it is told to stop. */
  function churn(): { stop(): Promise<number> } {
    let going = true;
    let written = 0;
    const writing = Array.from({ length: 2 }, async (_, i) => {
      for (let turn = 0; going; turn++) {
        const org = await make(second, tenant, ORGANIZATION, turn % 2 === 0 ? { external_org_id: `churn-${i}` } : {});
        const workspace = await make(second, tenant, WORKSPACE, { org_id: turn % 2 === 0 ? org.id : nth(organizations, turn % 10).id });
        const user = await make(second, tenant, USER, { workspace_id: turn % 2 === 0 ? nth(workspaces, turn % 2).id : workspace.id });
        for (const [kind, { id }] of [[USER, user] as const, [WORKSPACE, workspace] as const, [ORGANIZATION, org] as const]) {
          if (turn % 4 !== 3) expect((await call(second, "DELETE", `${kind.path}?${kind.id}=${id}`, tenant.token)).status).toBe(200);
        }
        written += 6;
      }
    });
    return {
      async stop() {
        going = false;
        await Promise.all(writing);
        return written;
      },
    };
  }

  test.each([
    [200, {}, () => KINDS.flatMap((kind) => idsOf(kind))],
    [7, { workspace: 1 }, () => [...idsOf(WORKSPACE, isIn("workspace_id", 1)), ...idsOf(USER, isIn("workspace_id", 1))]],
    [7, { entity_types: ["organization", "workspace"] }, () => [...idsOf(ORGANIZATION), ...idsOf(WORKSPACE)]],
    [1, { workspace: 0 }, () => [...idsOf(WORKSPACE, isIn("workspace_id", 0)), ...idsOf(USER, isIn("workspace_id", 0))]],
  ] as const)(
    "P9.18: %i at a time, %j, while others come and go: what is there all the while comes once",
    async (limit, filters, expected) => {
      const asked = "workspace" in filters ? { workspace_ids: [nth(workspaces, filters.workspace).id] } : filters;
      const churning = churn();
      try {
        expectEachOnce((await listAll(asked, limit)).ids, expected());
      } finally {
        expect(await churning.stop(), "something came and went").toBeGreaterThan(0);
      }
    },
  );

  function isIn(level: "org_id" | "workspace_id", index: number): (row: Entity) => boolean {
    return (row) => row[level] === (level === "org_id" ? organizations : workspaces)[index]?.id;
  }

  test("P9.18: every filter, and several together, give exactly what they name, whatever the size of a page", async () => {
    const three = (made: readonly Made[]) => [7, 2, 5].map((i) => nth(made, i).id);
    const users = (rows["users"] ?? []).filter((_, i) => i % 400 === 0);
    const inOrgs = (row: Entity) => three(organizations).includes(row["org_id"] ?? "");
    const inWorkspaces = (row: Entity) => three(workspaces).includes(row["workspace_id"] ?? "");
    const known = new Set(KINDS.flatMap((kind) => idsOf(kind)));
    for (const [filters, expected] of [
      [{ org_ids: three(organizations) }, [...idsOf(ORGANIZATION, inOrgs), ...idsOf(WORKSPACE, inOrgs), ...idsOf(USER, inOrgs)]],
      [{ external_org_ids: ["org-7", "org-2", "org-5", "org-none"], entity_types: ["workspace"] }, idsOf(WORKSPACE, inOrgs)],
      [
        { org_ids: [nth(organizations, 7).id], external_org_ids: ["org-2", "org-5", "org-7"], entity_types: ["organization"] },
        idsOf(ORGANIZATION, inOrgs),
      ],
      [{ workspace_ids: three(workspaces) }, [...idsOf(WORKSPACE, inWorkspaces), ...idsOf(USER, inWorkspaces)]],
      [
        { external_workspace_ids: ["ws-5", "ws-2"], workspace_ids: [nth(workspaces, 7).id], entity_types: ["user"] },
        idsOf(USER, inWorkspaces),
      ],
      [
        { org_ids: [nth(organizations, 7).id], workspace_ids: three(workspaces) },
        [nth(workspaces, 7).id, ...idsOf(USER, isIn("workspace_id", 7))],
      ],
      [{ user_ids: users.map((user) => user["user_id"]) }, users.map((user) => user["user_id"] ?? "")],
      [{ external_user_ids: users.map((user) => user["external_user_id"]) }, users.map((user) => user["user_id"] ?? "")],
      [
        { user_ids: users.map((user) => user["user_id"]), workspace_ids: [users[0]?.["workspace_id"]] },
        users.filter((user) => user["workspace_id"] === users[0]?.["workspace_id"]).map((user) => user["user_id"] ?? ""),
      ],
      [{ user_ids: users.map((user) => user["user_id"]), entity_types: ["organization", "workspace"] }, []],
      [{ org_ids: [nth(workspaces, 0).id], workspace_ids: [nth(organizations, 0).id] }, []],
    ] as const) {
      const wanted: readonly string[] = expected;
      for (const limit of wanted.length > 500 ? [200] : [1, 7, 200]) {
        const { ids } = await listAll(filters, limit);
        expectEachOnce(ids, wanted);
        expect(
          ids.filter((id) => known.has(id)),
          "of what is there all the while, nothing else",
        ).toHaveLength(wanted.length);
      }
    }
  });

  test("P9.18: entities that are made behind the cursor come, those that are erased ahead of it do not, and the page's own end may vanish", async () => {
    const own = await openTenant(server);
    const workspace = await make(server, own, WORKSPACE);
    const ids = (await addUsers(server, own, workspace, 30)).toSorted();
    const first = await list(own, { entity_types: ["user"], limit: 10 });
    const seen = (first.json["users"] as Entity[]).map((user) => user["user_id"]);
    expect(seen).toEqual(ids.slice(0, 10));
    for (const id of [ids[9], ids[15]]) expect((await call(second, "DELETE", `${USER.path}?user_id=${id}`, own.token)).status).toBe(200);
    const rest = await list(own, { entity_types: ["user"], limit: 200, cursor: first.json["next_cursor"] as string });
    expect((rest.json["users"] as Entity[]).map((user) => user["user_id"])).toEqual(ids.slice(10).filter((id) => id !== ids[15]));
    expect(rest.json["next_cursor"]).toBeNull();
    expect((await call(server, "DELETE", `${WORKSPACE.path}?workspace_id=${workspace.id}&cascade=true`, own.token)).status).toBe(200);
    expect((await list(own, { entity_types: ["user"], cursor: first.json["next_cursor"] as string })).json).toMatchObject({
      users: [],
      next_cursor: null,
    });
  });

  test("P9.18 422: a cursor of another tenant, of other filters, of another server, or none at all; and never another's rows", async () => {
    const [mine, theirs] = await Promise.all([list(tenant, { limit: 100 }), list(other, { limit: 100 })]);
    const cursor = mine.json["next_cursor"] as string;
    const foreign = theirs.json["next_cursor"] as string;
    expectProblem(await list(tenant, { limit: 100, cursor: foreign }), 422);
    for (const at of [server, second]) expectProblem(await list(other, { limit: 100, cursor }, at), 422);
    for (const filters of [
      { entity_types: ["user"] },
      { org_ids: [nth(organizations, 0).id] },
      { external_org_ids: ["org-1"] },
      { user_ids: ["x"] },
    ]) {
      expectProblem(await list(tenant, { ...filters, cursor }), 422);
      const filtered = (await list(tenant, { ...filters, limit: 1 })).json["next_cursor"] as string | null;
      if (filtered !== null) expectProblem(await list(tenant, { cursor: filtered }), 422);
    }
    const text = Buffer.from(cursor, "base64url").toString();
    const junk = [
      "x",
      "null",
      "[]",
      "{}",
      "AAAA",
      cursor.slice(0, -10),
      cursor.slice(5),
      text,
      "🦊",
      "x".repeat(500),
      "bnVsbA",
      cursor.toUpperCase(),
      cursor.toLowerCase(),
    ];
    for (const bad of junk) expectProblem(await list(tenant, { cursor: bad }), 422);
    for (const bad of ["x".repeat(501), 1, {}, [cursor], true]) expectProblem(await list(tenant, { cursor: bad }), 422);
    const elsewhere = await startTestServer("sqlite");
    const stranger = await openTenant(elsewhere);
    for (let i = 0; i < 3; i++) await make(elsewhere, stranger, ORGANIZATION);
    const strange = (await ask(elsewhere, stranger, { method: "POST", path: ENTITIES, body: { limit: 1 } })).json["next_cursor"] as string;
    expectProblem(await list(tenant, { cursor: strange }), 422);
    await elsewhere.stop();
    expect((await list(tenant, { limit: 7, cursor }, second)).status, "another size, on another node, goes on").toBe(200);
  });

  test("P9.18: a cursor that was tampered with is refused, or is a place in one's own list", async () => {
    const cursor = (await list(tenant, { limit: 100 })).json["next_cursor"] as string;
    const own = new Set(
      Object.values(await rowsOf(server, tenant))
        .flat()
        .flatMap((row) => [row["user_id"], row["workspace_id"], row["org_id"]]),
    );
    const foreignUser = (await rowsOf(server, other))["users"]?.[0]?.["user_id"] as string;
    const parts = JSON.parse(Buffer.from(cursor, "base64url").toString()) as string[];
    const forged = [foreignUser, "", "\0", "0", "g", "'; DROP TABLE users; --", "\ud800", "💥", "x".repeat(300)].flatMap((text) =>
      parts.map((_, index) => Buffer.from(JSON.stringify(parts.with(index, text))).toString("base64url")),
    );
    const flipped = Array.from(
      cursor,
      (_, index) => `${cursor.slice(0, index)}${cursor[index] === "A" ? "B" : "A"}${cursor.slice(index + 1)}`,
    );
    for (const bad of [...forged, ...flipped]) {
      const reply = await list(tenant, { limit: 3, cursor: bad });
      if (reply.status === 200) {
        const given = KINDS.flatMap(({ table, id }) => (reply.json[table] as Entity[]).map((entity) => entity[id]));
        expect(given.filter((id) => !own.has(id))).toEqual([]);
      } else expectProblem(reply, 422);
      if (bad !== cursor)
        expect([422, 404], "not another tenant's either").toContain((await list(other, { limit: 3, cursor: bad })).status);
    }
  });
});
