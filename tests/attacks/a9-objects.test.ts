import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { admin, call, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import {
  anonymous,
  ask,
  type Asked,
  BOTH,
  countsOf,
  EACH_KIND,
  ENTITIES,
  expectProblem,
  getOf,
  type Kind,
  KINDS,
  make,
  type Made,
  nth,
  openTenant,
  ORGANIZATION,
  rowsOf,
  tally,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";

/*
 * A9, objects: P9.1, P9.2, P9.3, P9.5, P9.8, P9.9. Fields and filters (P9.4, P9.6): a9-properties.test.ts. Odd ids (P9.7): a9-ids.test.ts.
 * P9.3 creates by PUT where the list says POST (contract §5).
 */

describe.each(DIALECTS)("objects of two tenants on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let a: Tenant;
  let b: Tenant;
  const ofA = new Map<Kind, Made>();
  const ofB = new Map<Kind, Made>();
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    a = await openTenant(server);
    b = await openTenant(server);
    for (const [tenant, made] of [[a, ofA] as const, [b, ofB] as const]) {
      const org = await make(server, tenant, ORGANIZATION, { external_org_id: "same", name: "Org", email: "o@x.example" });
      const workspace = await make(server, tenant, WORKSPACE, { org_id: org.id, external_workspace_id: "same", name: "Workspace" });
      const user = await make(server, tenant, USER, { workspace_id: workspace.id, external_user_id: "same", name: "User" });
      made.set(ORGANIZATION, org).set(WORKSPACE, workspace).set(USER, user);
    }
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const at = (index: number) => (index % 2 === 0 ? server : second);
  const list = (tenant: Tenant, body: unknown) => ask(server, tenant, { method: "POST", path: ENTITIES, body });
  const idOf = (made: Map<Kind, Made>, kind: Kind) => made.get(kind)?.id ?? "";

  test("P9.1: each tenant lists its own entities and no other", async () => {
    for (const [tenant, made] of [[a, ofA] as const, [b, ofB] as const]) {
      const { json } = await list(tenant, {});
      for (const kind of KINDS) {
        expect((json[kind.table] as Record<string, unknown>[]).map((entity) => entity[kind.id])).toEqual([idOf(made, kind)]);
      }
    }
  });

  test("P9.1: filters that name another tenant's ids give nothing, and its external ids give one's own", async () => {
    for (const kind of KINDS) {
      const foreign = await list(a, { [`${kind.id}s`]: [idOf(ofB, kind), randomUUID()] });
      expect(foreign.json).toMatchObject({ organizations: [], workspaces: [], users: [], next_cursor: null });
      const absent = await list(a, { [`${kind.id}s`]: [randomUUID(), randomUUID()] });
      expect(anonymous(foreign)).toEqual(anonymous(absent));
      const shared = await list(a, { [`${kind.externalId}s`]: ["same"], entity_types: [kind.kind] });
      expect((shared.json[kind.table] as Record<string, unknown>[]).map((entity) => entity[kind.id])).toEqual([idOf(ofA, kind)]);
      const both = await list(a, { [`${kind.id}s`]: [idOf(ofB, kind)], [`${kind.externalId}s`]: ["only-b"] });
      expect(both.json).toMatchObject({ organizations: [], workspaces: [], users: [] });
    }
  });

  const REACHES: readonly Omit<Asked, "path">[] = [
    { method: "GET" },
    { method: "PATCH", body: { name: "Stolen" } },
    { method: "PATCH", body: {} },
    { method: "PATCH", body: { status: "disabled" }, headers: { "idempotency-key": "reach" } },
    { method: "PATCH", body: { name: "Stolen" }, headers: { "if-match": '"0123456789abcdef"' } },
    { method: "PATCH", body: { name: "Stolen" }, headers: { "if-match": "*" } },
    { method: "DELETE" },
    { method: "DELETE", headers: { "if-match": '"0123456789abcdef"' } },
    { method: "DELETE", headers: { "idempotency-key": "reach" } },
  ];

  test.each(EACH_KIND)("P9.2 404: another tenant's %s reads exactly like none, for every operation, on both nodes", async (_name, kind) => {
    const before = await rowsOf(server, b);
    const cascade =
      kind === USER
        ? []
        : [
            { method: "DELETE", query: "&cascade=true" },
            { method: "DELETE", query: "&cascade=false" },
          ];
    for (const reach of [...REACHES, ...cascade]) {
      const query = "query" in reach ? reach.query : "";
      // an Idempotency-Key answers for one request: the absent one gets a key of its own
      const keyed = (key: string) =>
        "headers" in reach && "idempotency-key" in reach.headers! ? { headers: { "idempotency-key": key } } : {};
      for (const node of [server, second]) {
        const reachFor = (id: string) => ask(node, a, { ...reach, ...keyed(id), path: `${kind.path}?${kind.id}=${id}${query}` });
        const foreign = await reachFor(idOf(ofB, kind));
        const absent = await reachFor(randomUUID());
        expectProblem(foreign, 404);
        expect(anonymous(foreign)).toEqual(anonymous(absent));
      }
    }
    expect(await rowsOf(server, b)).toEqual(before);
  });

  test.each(EACH_KIND)(
    "P9.2 404: nor is another tenant's %s reached by an external id that only it has, or with its own ETag",
    async (_name, kind) => {
      const own = `only-b-${kind.kind}`;
      const theirs = await make(server, b, kind, { [kind.externalId]: own });
      for (const reach of REACHES) {
        const headers = { ...reach.headers, ...(reach.headers && "if-match" in reach.headers ? { "if-match": theirs.etag } : {}) };
        const reply = await ask(server, a, { ...reach, headers, path: `${kind.path}?${kind.externalId}=${own}` });
        const absent = await ask(server, a, {
          ...reach,
          ...("idempotency-key" in headers ? { headers: { "idempotency-key": `absent-${kind.kind}` } } : { headers }),
          path: `${kind.path}?${kind.externalId}=nobody-has-this`,
        });
        expectProblem(reply, 404);
        expect(anonymous(reply)).toEqual(anonymous(absent));
      }
      expect((await getOf(server, b, kind, theirs.id)).headers.get("etag")).toBe(theirs.etag);
    },
  );

  test("P9.3, P9.5 404: nothing is created below another tenant's entity, and it reads like an absent one", async () => {
    const before = [await rowsOf(server, a), await rowsOf(server, b)];
    for (const [kind, parent] of [[WORKSPACE, ORGANIZATION] as const, [USER, WORKSPACE] as const]) {
      for (const fields of [{}, { [kind.externalId]: "same" }, { [kind.externalId]: "new" }, { name: "x" }]) {
        const into = (id: string) => ask(second, a, { method: "PUT", path: kind.path, body: { [parent.id]: id, ...fields } });
        const foreign = await into(idOf(ofB, parent));
        expectProblem(foreign, 404);
        expect(anonymous(foreign), "even where the external id is taken").toEqual(anonymous(await into(randomUUID())));
        expectProblem(await into("same"), 404); // an external id is no id
      }
    }
    expect([await rowsOf(server, a), await rowsOf(server, b)]).toEqual(before);
  });

  test("P9.5 422, 404: no other member, and no setting of the partner, links to another tenant's entity", async () => {
    const before = [await rowsOf(server, a), await rowsOf(server, b)];
    const links = (made: Map<Kind, Made>) =>
      KINDS.flatMap(({ id }, index) => [id, `${id}s`].map((name) => [name, idOf(made, nth(KINDS, index))]));
    for (const [name = "", value = ""] of links(ofB)) {
      for (const kind of KINDS) {
        for (const linked of [value, [value]]) {
          expectProblem(
            await ask(server, a, { method: "PATCH", path: `${kind.path}?${kind.id}=${idOf(ofA, kind)}`, body: { [name]: linked } }),
            422,
          );
        }
        const parents = kind.parent === undefined ? {} : { [kind.parent]: idOf(ofA, kind === USER ? WORKSPACE : ORGANIZATION) };
        if (name !== kind.parent)
          expectProblem(await ask(server, a, { method: "PUT", path: kind.path, body: { ...parents, [name]: value } }), 422);
      }
      expectProblem(await ask(server, a, { method: "PUT", path: BOTH, body: { [name]: value } }), 422);
    }
    const settings = { provisioning: "create", home_workspace_id: idOf(ofB, WORKSPACE) };
    expect([404, 422]).toContain((await admin(server, "PATCH", `/partners/${a.partner.clientId}`, settings)).status);
    expect([await rowsOf(server, a), await rowsOf(server, b)]).toEqual(before);
  });

  test.each(EACH_KIND)("P9.8 409: a second %s with an external id that is taken, the stored row unchanged", async (_name, kind) => {
    const parents = kind.parent === undefined ? {} : { [kind.parent]: idOf(ofA, kind === USER ? WORKSPACE : ORGANIZATION) };
    const before = await rowsOf(server, a);
    for (const node of [server, second]) {
      expectProblem(
        await ask(node, a, { method: "PUT", path: kind.path, body: { ...parents, [kind.externalId]: "same", name: "Another" } }),
        409,
      );
    }
    expect(await rowsOf(server, a)).toEqual(before);
    const otherCase = await make(server, a, kind, { ...parents, [kind.externalId]: "SAME" });
    expect((await ask(server, a, { method: "DELETE", path: `${kind.path}?${kind.id}=${otherCase.id}` })).status).toBe(200);
  });

  test.each(EACH_KIND)(
    "P9.9: of 50 creates of one %s at once on two nodes one is 201, the others 409, and the row is the 201's",
    async (_name, kind) => {
      const parents = kind.parent === undefined ? {} : { [kind.parent]: idOf(ofA, kind === USER ? WORKSPACE : ORGANIZATION) };
      for (let round = 0; round < 2; round++) {
        const external = `race-${round}`;
        const replies = await Promise.all(
          Array.from({ length: 50 }, (_, caller) =>
            call(at(caller), "PUT", kind.path, a.token, { ...parents, [kind.externalId]: external, name: `caller ${caller}` }),
          ),
        );
        expect(tally(replies)).toEqual({ 201: 1, 409: 49 });
        for (const reply of replies.filter(({ status }) => status === 409)) expectProblem(reply, 409);
        const won = replies.findIndex(({ status }) => status === 201);
        const rows = await server.database.query(
          `SELECT ${kind.id}, name FROM ${kind.table} WHERE partner_id = $1 AND ${kind.externalId} = $2`,
          [a.partner.clientId, external],
        );
        const stored = replies[won]?.json[kind.member] as Record<string, unknown>;
        expect(rows.map((row) => ({ ...row }))).toEqual([{ [kind.id]: stored[kind.id], name: `caller ${won}` }]);
        for (const node of [server, second]) {
          const found = await ask(node, a, { method: "GET", path: `${kind.path}?${kind.externalId}=${external}` });
          expect(found.json[kind.member]).toEqual(stored);
          expect(found.headers.get("etag")).toBe(replies[won]?.headers.get("etag"));
        }
      }
    },
  );

  test("P9.9: of 50 organizations with a workspace at once, which share either external id, one is 201 and nothing of the others is left", async () => {
    for (const [name, ids] of [
      ["both", () => ({ external_org_id: "pair", external_workspace_id: "pair" })],
      ["the organization's", (caller: number) => ({ external_org_id: "left", external_workspace_id: `left-${caller}` })],
      ["the workspace's", (caller: number) => ({ external_org_id: `right-${caller}`, external_workspace_id: "right" })],
    ] as const) {
      const [organizations = 0, workspaces = 0] = await countsOf(server, a);
      const replies = await Promise.all(Array.from({ length: 50 }, (_, caller) => call(at(caller), "PUT", BOTH, a.token, ids(caller))));
      expect(tally(replies), name).toEqual({ 201: 1, 409: 49 });
      expect((await countsOf(server, a)).slice(0, 2), name).toEqual([organizations + 1, workspaces + 1]);
    }
  });

  test("P9.9: two tenants that create one external id at once both get it", async () => {
    const replies = await Promise.all(
      [a, b].map((tenant, index) => call(at(index), "PUT", ORGANIZATION.path, tenant.token, { external_org_id: "shared" })),
    );
    expect(tally(replies)).toEqual({ 201: 2 });
  });
});
