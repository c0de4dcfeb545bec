import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import {
  ask,
  BOTH,
  EACH_KIND,
  ENTITIES,
  expectProblem,
  getOf,
  type Kind,
  KINDS,
  make,
  type Made,
  openTenant,
  ORGANIZATION,
  rowsOf,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";

/* A9, properties: P9.4 (fields that are not a caller's to set), P9.6 (filters, limits, SQL text). */

const SQL = "'; DROP TABLE users; --";

describe.each(DIALECTS)("properties on %s", (dialect) => {
  let server: TestServer;
  let tenant: Tenant;
  let other: Tenant;
  const made = new Map<Kind, Made>();
  beforeAll(async () => {
    server = await startTestServer(dialect);
    tenant = await openTenant(server);
    other = await openTenant(server);
    const org = await make(server, tenant, ORGANIZATION, { external_org_id: "one", name: "One" });
    const workspace = await make(server, tenant, WORKSPACE, { org_id: org.id, external_workspace_id: "one", name: "One" });
    const user = await make(server, tenant, USER, { workspace_id: workspace.id, external_user_id: "one", name: "One" });
    made.set(ORGANIZATION, org).set(WORKSPACE, workspace).set(USER, user);
    for (const kind of KINDS) await make(server, other, kind, { [kind.externalId]: "one", name: "Other" });
  });
  afterAll(() => server.stop());

  const idOf = (kind: Kind) => made.get(kind)?.id ?? "";
  const patch = (kind: Kind, body: unknown) =>
    ask(server, tenant, { method: "PATCH", path: `${kind.path}?${kind.id}=${idOf(kind)}`, body });
  const create = (kind: Kind, body: Record<string, unknown>) =>
    ask(server, tenant, { method: "PUT", path: kind.path, body: { ...parentsOf(kind), ...body } });
  const parentsOf = (kind: Kind) => (kind.parent === undefined ? {} : { [kind.parent]: idOf(kind === USER ? WORKSPACE : ORGANIZATION) });
  const list = (body: unknown) => ask(server, tenant, { method: "POST", path: ENTITIES, body });

  const NOBODY_SETS = [
    "id ID client_id partner_id role roles scope is_admin admin created_at updated_at revision etag cut_off_at version success message",
    "hasOwnProperty toString org workspace user deleted entitlements[] Name $set name.first organizations",
  ].flatMap((names) => names.split(" "));

  test.each(EACH_KIND)("P9.4 422: no field of the server's own is set on a %s, and the row is unchanged", async (_name, kind) => {
    const before = await rowsOf(server, tenant);
    const own = KINDS.flatMap(({ id }) => [id, `${id}s`]).filter((name) => name !== kind.parent);
    const values = ["x", null, idOf(USER), true];
    for (const [index, name] of [...NOBODY_SETS, "name ", " name", "", ...own].entries()) {
      const value = values[index % values.length];
      const change = await patch(kind, { name: "Changed", [name]: value });
      expectProblem(change, 422);
      expect(change.json["errors"], name).toContainEqual({ field: name, message: "is not a known field" });
      expectProblem(await create(kind, { [name]: value }), 422);
    }
    for (const name of KINDS.map(({ id }) => id)) expectProblem(await patch(kind, { [name]: idOf(USER) }), 422); // not even what it is
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test.each(EACH_KIND)("P9.4 422: a %s is not created disabled, and a status is one of two", async (_name, kind) => {
    const before = await rowsOf(server, tenant);
    expectProblem(await create(kind, { status: "disabled" }), 422);
    for (const status of ["", "ACTIVE", "deleted", 1, true, {}, ["active"], "active "]) expectProblem(await patch(kind, { status }), 422);
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.4 422, 400: names that a prototype knows are unknown fields, in the body and in an entitlement, and reach nothing", async () => {
    const before = await rowsOf(server, tenant);
    for (const name of ["__proto__", "constructor", "prototype"]) {
      for (const value of ['{"isAdmin":true}', '"x"', "null"]) {
        for (const kind of KINDS) {
          const path = `${kind.path}?${kind.id}=${idOf(kind)}`;
          expectProblem(await ask(server, tenant, { method: "PATCH", path, body: `{"name":"Changed","${name}":${value}}` }), 422);
          const entitled = `{"entitlements":[{"billing_feature_id":"f","${name}":${value}}]}`;
          expectProblem(await ask(server, tenant, { method: "PATCH", path, body: entitled }), 422);
        }
        expectProblem(await ask(server, tenant, { method: "PUT", path: BOTH, body: `{"${name}":${value}}` }), 422);
        expectProblem(await ask(server, tenant, { method: "POST", path: ENTITIES, body: `{"${name}":${value}}` }), 422);
      }
    }
    expect(({} as Record<string, unknown>)["isAdmin"]).toBeUndefined();
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.4 400: a name twice, at any depth and however it is spelled; nesting over 32 deep; a body that is no object", async () => {
    const before = await rowsOf(server, tenant);
    const path = `${USER.path}?user_id=${idOf(USER)}`;
    for (const body of [
      '{"name":"a","name":"b"}',
      '{"name":"a","n\\u0061me":"b"}',
      '{"entitlements":[{"billing_feature_id":"a","billing_feature_id":"b"}]}',
      `{"name":${"[".repeat(40)}${"]".repeat(40)}}`,
      '{"name":"\\ud800"}',
      '{"name":1e999}',
      '{"name":"a"}{}',
      '\ufeff{"name":"a"}',
      "{name:'a'}",
      "",
    ]) {
      expectProblem(await ask(server, tenant, { method: "PATCH", path, body }), 400);
    }
    for (const body of ["[]", "null", '"x"', "1", "true", '[{"name":"a"}]'])
      expectProblem(await ask(server, tenant, { method: "PATCH", path, body }), 422);
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.6 422: limits and filters that are none, and the page is never over 200", async () => {
    for (const limit of [-1, 0, 201, 1e9, 1e308, 1.5, "1", "100; DROP TABLE users", [1], {}, true])
      expectProblem(await list({ limit }), 422);
    for (const unknown of [
      "filter",
      "order_by",
      "sort",
      "offset",
      "where",
      "partner_id",
      "partner_ids",
      "client_id",
      "status",
      "fields",
      "$or",
    ]) {
      expectProblem(await list({ [unknown]: "1=1" }), 422);
    }
    for (const [name, value] of [
      ["entity_types", []],
      ["entity_types", ["partner"]],
      ["entity_types", "user"],
      ["entity_types", ["user", "user", "user", "user"]],
      ["entity_types", [["user"]]],
      ...KINDS.flatMap(({ id, externalId }) =>
        [`${id}s`, `${externalId}s`].flatMap((filter) => [
          [filter, []],
          [filter, "one"],
          [filter, { $ne: null }],
          [filter, [{ $ne: null }]],
          [filter, [null]],
          [filter, [""]],
          [filter, ["a\0b"]],
          [filter, Array.from({ length: 101 }, () => randomUUID())],
        ]),
      ),
    ] as [string, unknown][]) {
      expectProblem(await list({ [name]: value }), 422);
    }
    for (let i = 0; i < 3; i++) expect((await list({ limit: 200 })).status).toBe(200);
  });

  test("P9.6: SQL text in any filter, id or field is text; only one's own rows are ever given", async () => {
    const texts = [
      [SQL, "' OR '1'='1", '" OR ""="', "one' --", "%", "_ne", "o%", "\\", "$1", "?1", "?", ":partner"],
      ["/*", "1) OR (1=1", "one\u2028", "${1}"],
    ].flat();
    for (const text of texts) {
      for (const kind of KINDS) {
        for (const filter of [`${kind.id}s`, `${kind.externalId}s`]) {
          expect((await list({ [filter]: [text] })).json).toMatchObject({
            organizations: [],
            workspaces: [],
            users: [],
            next_cursor: null,
          });
        }
        for (const name of [kind.id, kind.externalId]) {
          expectProblem(await ask(server, tenant, { method: "GET", path: `${kind.path}?${name}=${encodeURIComponent(text)}` }), 404);
        }
      }
      const user = await make(server, tenant, USER, {
        ...parentsOf(USER),
        external_user_id: text,
        name: text,
        entitlements: [{ billing_feature_id: text }],
      });
      expect(user.entity).toMatchObject({ external_user_id: text, name: text, entitlements: [{ billing_feature_id: text }] });
      const found = await list({ external_user_ids: [text] });
      expect(found.json).toMatchObject({ users: [user.entity], organizations: [], workspaces: [] });
      expect(
        (await ask(server, tenant, { method: "DELETE", path: `${USER.path}?external_user_id=${encodeURIComponent(text)}` })).status,
      ).toBe(200);
    }
    expect((await getOf(server, tenant, USER, idOf(USER))).status).toBe(200);
  });

  test("P9.6: a hundred ids of each kind at once are taken, in a list that holds the one that is there", async () => {
    const many = () => Array.from({ length: 99 }, () => randomUUID());
    const filters = Object.fromEntries(
      KINDS.flatMap((kind) => [[`${kind.id}s`, [...many(), idOf(kind)]] as const, [`${kind.externalId}s`, [...many(), "one"]] as const]),
    );
    for (const limit of [1, 200]) {
      const reply = await list({ ...filters, limit });
      expect(reply.json).toMatchObject({ organizations: [], workspaces: [], users: [{ user_id: idOf(USER) }], next_cursor: null });
    }
  });
});
