import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  call,
  exchange,
  type Reply,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { addUsers, findInTables } from "./a9-rows.ts";
import {
  anonymous,
  ask,
  BOTH,
  countsOf,
  EACH_KIND,
  ENTITIES,
  expectProblem,
  getOf,
  type Kind,
  KINDS,
  make,
  nth,
  openTenant,
  ORGANIZATION,
  rowsOf,
  tally,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";
import { keyed } from "./a9-writes.ts";

/*
 * A9, erasure: P9.17, over two nodes. That a user's token ends is asked of the store that every request with one is judged by: no route
 * takes a user's token yet. Erasures that meet creations and one another: a9-erasure-races.test.ts.
 */

describe.each(DIALECTS)("erasure on %s", (dialect) => {
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

  const remove = (at: TestServer, kind: Kind, id: string, more = "", own = tenant): Promise<Reply> =>
    ask(at, own, { method: "DELETE", path: `${kind.path}?${kind.id}=${id}${more}` });
  const rowCount = async () => (await countsOf(server, tenant)).reduce((sum, count) => sum + count);
  const countBelow = async (orgId: string) =>
    Promise.all(
      KINDS.map(async ({ table }) =>
        Number((await server.database.query(`SELECT count(*) AS n FROM ${table} WHERE org_id = $1`, [orgId]))[0]?.["n"]),
      ),
    );

  test.each([
    [ORGANIZATION.kind, ORGANIZATION],
    [WORKSPACE.kind, WORKSPACE],
  ] as const)("P9.17 409: a %s with children is not erased, and nothing is changed", async (_name, kind) => {
    const user = await make(server, tenant, USER);
    const before = await rowsOf(server, tenant);
    for (const at of [server, second]) {
      for (const more of ["", "&cascade=false"]) expectProblem(await remove(at, kind, String(user.entity[kind.id]), more), 409);
      for (const more of [
        "&cascade=",
        "&cascade=TRUE",
        "&cascade=1",
        "&cascade=true&cascade=true",
        "&cascade[]=true",
        "&Cascade=true",
        "&force=true",
      ]) {
        expectProblem(await remove(at, kind, String(user.entity[kind.id]), more), 422);
      }
    }
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.17: from the leaf up, each once it is empty; what is erased reads like what never was, by either id, and its external id is free", async () => {
    const user = await make(server, tenant, USER, { external_user_id: "leaf" });
    for (const kind of [USER, WORKSPACE, ORGANIZATION]) {
      const id = String(user.entity[kind.id]);
      const reply = await remove(second, kind, id);
      expect(reply.json).toEqual({ message: expect.any(String), success: true });
      expectProblem(await remove(server, kind, id), 404);
      const absent = anonymous(await getOf(server, tenant, kind, randomUUID()));
      for (const at of [server, second]) expect(anonymous(await getOf(at, tenant, kind, id))).toEqual(absent);
    }
    expect((await ask(server, tenant, { method: "GET", path: `${USER.path}?external_user_id=leaf` })).status).toBe(404);
    const heir = await make(server, tenant, USER, { external_user_id: "leaf" });
    expect(heir.id).not.toBe(user.id);
  });

  test(
    "P9.17: cascade=true erases all below, in several steps, and nothing beside it or of another tenant",
    { timeout: 60_000 },
    async () => {
      const other = await openTenant(server);
      const [org, kept, theirs] = [
        await make(server, tenant, ORGANIZATION),
        await make(server, tenant, USER),
        await make(server, other, WORKSPACE),
      ];
      const workspaces = [
        await make(server, tenant, WORKSPACE, { org_id: org.id }),
        await make(server, tenant, WORKSPACE, { org_id: org.id }),
      ];
      await addUsers(server, tenant, nth(workspaces, 0), 1_250);
      await addUsers(server, tenant, nth(workspaces, 1), 450);
      await addUsers(server, other, theirs, 20);
      const before = await rowsOf(server, other);
      expect(await countBelow(org.id)).toEqual([1, 2, 1_700]);
      expect((await remove(second, WORKSPACE, nth(workspaces, 0).id, "&cascade=true")).status).toBe(200);
      expect(await countBelow(org.id)).toEqual([1, 1, 450]);
      await addUsers(server, tenant, nth(workspaces, 1), 1_100);
      expect((await remove(server, ORGANIZATION, org.id, "&cascade=true")).status).toBe(200);
      expect(await countBelow(org.id)).toEqual([0, 0, 0]);
      expect((await getOf(second, tenant, USER, kept.id)).status).toBe(200);
      expect(await rowsOf(server, other)).toEqual(before);
    },
  );

  test("P9.17: after an erasure no name, email, telephone number or external id is in any table, but for ids of exchanges", async () => {
    const own = await openTenant(server);
    const m = (text: string) => `mrkd-${text}`;
    const entitlements = [{ billing_feature_id: m("feature") }];
    const org = {
      external_org_id: m("org-ext"),
      org_name: m("org-name"),
      org_email: `${m("org")}@x.example`,
      org_phone_number: m("+41 1"),
    };
    const more = { org_support_email: `${m("support")}@x.example`, org_type: m("type"), org_entitlements: entitlements };
    const workspace = { external_workspace_id: m("ws-ext"), workspace_name: m("ws-name"), workspace_entitlements: entitlements };
    const body = { ...org, ...more, ...workspace };
    const home = (await ask(server, own, keyed({ method: "PUT", path: BOTH, body }, m("key-1")))).json;
    const user = {
      workspace_id: home["workspace"].workspace_id as string,
      external_user_id: m("user-ext"),
      email: `${m("user")}@x.example`,
      name: m("user-name"),
    };
    const made = await ask(server, own, keyed({ method: "PUT", path: USER.path, body: user }, m("key-2")));
    await ask(
      second,
      own,
      keyed({ method: "PATCH", path: `${USER.path}?external_user_id=${m("user-ext")}`, body: { name: m("renamed") } }, m("key-3")),
    );
    await ask(
      second,
      own,
      keyed({ method: "PATCH", path: `${ORGANIZATION.path}?org_id=${home["org"].org_id}`, body: { name: m("renamed") } }, m("key-4")),
    );
    await ask(server, own, { method: "POST", path: ENTITIES, body: { external_user_ids: [m("user-ext")] } });
    expectProblem(
      await ask(server, own, keyed({ method: "PUT", path: USER.path, body: { ...user, email: `${m("second")}@x.example` } }, m("key-5"))),
      409,
    );
    expectProblem(await ask(server, own, { method: "PUT", path: USER.path, body: { ...user, email: m("no-email") } }), 422);
    await admin(server, "PATCH", `/partners/${own.partner.clientId}`, { subject_namespace: "external_user_id" });
    expect((await exchange(own.partner, subjectToken(own.partner, { sub: m("user-ext") }))).status).toBe(200);
    expect((await findInTables(server, "mrkd")).map(({ table }) => table)).toEqual(
      expect.arrayContaining(["organizations", "users", "idempotent_requests"]),
    );

    expect((await remove(second, ORGANIZATION, home["org"].org_id as string, "&cascade=true", own)).status).toBe(200);
    expect((await exchange(own.partner, subjectToken(own.partner, { sub: m("user-ext") }))).status).toBe(400);
    expect(new Set((await findInTables(server, "mrkd")).map(({ table, column }) => `${table}.${column}`))).toEqual(
      new Set(["exchanges.subject"]),
    );
    for (const id of [made.json["user"].user_id, home["org"].org_id, home["workspace"].workspace_id] as string[]) {
      for (const { table } of await findInTables(server, id)) expect(["exchanges", "idempotent_requests", "revocations"]).toContain(table);
    }
    expect(
      [server, second].flatMap(({ logLines }) => logLines).filter((line) => line.includes("mrkd") && !line.includes("exchange")),
    ).toEqual([]);
  });

  test("P9.17 400: an exchange for what was erased is refused on both nodes like one for a user that never was, and its tokens end", async () => {
    for (const namespace of ["user_id", "external_user_id"] as const) {
      const own = await openTenant(server, { subject_namespace: namespace });
      for (const kind of KINDS) {
        const user = await make(server, own, USER, { external_user_id: `gone-${kind.kind}` });
        const sub = String(user.entity[namespace]);
        const swap = (at: TestServer, subject = sub) => exchange(own.partner, subjectToken(own.partner, { sub: subject }), { at });
        for (const at of [server, second]) expect((await swap(at)).status).toBe(200);
        expect(await second.deps.store.accounts.findLiveUser(own.partner.clientId, user.id)).toBeDefined();
        expect((await remove(server, kind, String(user.entity[kind.id]), kind === USER ? "" : "&cascade=true", own)).status).toBe(200);
        for (const at of [server, second]) {
          const refused = await swap(at);
          expect(refused).toMatchObject({ status: 400, json: { error: "invalid_request" } });
          expect(anonymous(refused)).toEqual(anonymous(await swap(at, namespace === "user_id" ? randomUUID() : "never-was")));
          expect(await at.deps.store.accounts.findLiveUser(own.partner.clientId, user.id)).toBeUndefined();
        }
      }
    }
  });

  test.each(EACH_KIND)("P9.17 200, 404: of 20 erasures of one %s at once on two nodes one is done", async (_name, kind) => {
    const made = await make(server, tenant, kind);
    const before = await rowCount();
    const replies = await Promise.all(Array.from({ length: 20 }, (_, i) => remove(i % 2 === 0 ? server : second, kind, made.id)));
    expect(tally(replies)).toEqual({ 200: 1, 404: 19 });
    expect(await rowCount()).toBe(before - 1);
  });

  test("P9.17: disabled does not protect from erasure, and an erased entity takes no change", async () => {
    const user = await make(server, tenant, USER);
    const path = `${USER.path}?user_id=${user.id}`;
    expect((await call(server, "PATCH", path, tenant.token, { status: "disabled" })).status).toBe(200);
    expect((await remove(server, ORGANIZATION, String(user.entity["org_id"]), "&cascade=true")).status).toBe(200);
    expectProblem(await call(second, "PATCH", path, tenant.token, { status: "active" }), 404);
    expectProblem(await call(second, "PUT", USER.path, tenant.token, { workspace_id: user.entity["workspace_id"] }), 404);
  });
});
