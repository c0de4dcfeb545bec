import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  bearerChallenge,
  admin,
  exchange,
  type Reply,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import {
  ask,
  type Asked,
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
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";

/*
 * A13, what the contract says of accounts: P13.1–P13.6, and of P13.11 who may call them. P13.3 with users who are there before the setting
 * changes: a6-tenant-and-scope.test.ts. P13.4 under 50 callers at once is P9.9, its races are a9-objects.test.ts.
 */

describe.each(DIALECTS)("accounts as the contract has them on %s", (dialect) => {
  let server: TestServer;
  let tenant: Tenant;
  const made = new Map<Kind, Made>();
  const others = new Map<Kind, Made>();
  beforeAll(async () => {
    server = await startTestServer(dialect);
    tenant = await openTenant(server);
    for (const [map, name] of [[made, "one"] as const, [others, "two"] as const]) {
      const org = await make(server, tenant, ORGANIZATION, { external_org_id: name, name });
      const workspace = await make(server, tenant, WORKSPACE, { org_id: org.id, external_workspace_id: name, name });
      const user = await make(server, tenant, USER, {
        workspace_id: workspace.id,
        external_user_id: name,
        name,
        email: `${name}@x.example`,
      });
      map.set(ORGANIZATION, org).set(WORKSPACE, workspace).set(USER, user);
    }
  });
  afterAll(() => server.stop());

  const idOf = (kind: Kind, from = made) => from.get(kind)?.id ?? "";
  const OPERATIONS = [
    { method: "GET" },
    { method: "PATCH", body: { name: "Changed" } },
    { method: "PATCH", body: {} },
    { method: "DELETE" },
  ] as const;
  const reach = (own: Tenant, operation: Omit<Asked, "path">, kind: Kind, query: string) =>
    ask(server, own, { ...operation, path: `${kind.path}?${query}` });
  const parentsOf = (kind: Kind) => (kind.parent === undefined ? {} : { [kind.parent]: idOf(kind === USER ? WORKSPACE : ORGANIZATION) });

  test.each(EACH_KIND)("P13.1 422: a %s by neither id is none, not the first one and no list", async (_name, kind) => {
    const lone = await openTenant(server); // with but one that could be meant
    await make(server, lone, kind);
    const before = await rowsOf(server, lone);
    for (const operation of OPERATIONS) {
      const none = await ask(server, lone, { ...operation, path: kind.path });
      expectProblem(none, 422);
      expect(none.json["errors"]).toEqual([{ field: kind.id, message: `give exactly one of ${kind.id} and ${kind.externalId}` }]);
      const queries = ["", "&", "=", "limit=1", "name=one", "cascade=true", "*", "id=one", kind.id, `${kind.id}=`, `${kind.externalId}=`];
      for (const query of queries) expectProblem(await reach(lone, operation, kind, query), 422);
    }
    expect(await rowsOf(server, lone)).toEqual(before);
  });

  test.each(EACH_KIND)(
    "P13.2 422: a %s by both ids, or by one of them twice, whether or not they mean the same one",
    async (_name, kind) => {
      const before = await rowsOf(server, tenant);
      const [own, other] = [idOf(kind), idOf(kind, others)];
      for (const operation of OPERATIONS) {
        for (const query of [
          `${kind.id}=${own}&${kind.externalId}=two`,
          `${kind.externalId}=two&${kind.id}=${own}`,
          `${kind.id}=${own}&${kind.externalId}=one`,
          `${kind.id}=${own}&${kind.externalId}=`,
          `${kind.id}=&${kind.externalId}=two`,
          `${kind.id}=${randomUUID()}&${kind.externalId}=one`,
          `${kind.id}=${own}&${kind.externalId}=nobody`,
          `${kind.id}=${own}&${kind.id}=${other}`,
          `${kind.id}=${own}&${kind.id}=${own}`,
          `${kind.externalId}=one&${kind.externalId}=two`,
          `${kind.id}=${own}&${kind.id.replace("_", "%5F")}=${other}`,
          ...KINDS.filter((one) => one !== kind).map((one) => `${kind.id}=${own}&${one.id}=${idOf(one)}`),
        ]) {
          expectProblem(await reach(tenant, operation, kind, query), 422);
        }
      }
      expect(await rowsOf(server, tenant)).toEqual(before);
    },
  );

  test("P13.3: an external id that is another user's user_id reaches, in each namespace, the one user that this namespace means", async () => {
    for (const namespace of ["user_id", "external_user_id"] as const) {
      const own = await openTenant(server, { subject_namespace: namespace });
      const victim = await make(server, own, USER, { external_user_id: "victim" });
      const impostor = await make(server, own, USER, { workspace_id: victim.entity["workspace_id"], external_user_id: victim.id });
      const late = await make(server, own, USER, { external_user_id: "late" });
      const patched = await reach(own, { method: "PATCH", body: { external_user_id: impostor.id } }, USER, `user_id=${late.id}`);
      expect(patched.status).toBe(200);
      const swap = (sub: string) => exchange(own.partner, subjectToken(own.partner, { sub }));
      const meant =
        namespace === "user_id"
          ? { [victim.id]: victim, [impostor.id]: impostor, [late.id]: late }
          : { victim, [victim.id]: impostor, [impostor.id]: late };
      for (const [sub, user] of Object.entries(meant)) expect(expectGranted(await swap(sub))["sub"], `${namespace} ${sub}`).toBe(user.id);
      for (const sub of [namespace === "user_id" ? "victim" : late.id, "late"])
        await expectRefusal(server, await swap(sub), { code: "subject_unknown" });

      // once the user whose turn it is is gone, the value does not fall through to the other namespace
      const [gone, sub] = namespace === "user_id" ? [victim, victim.id] : [impostor, victim.id];
      expect((await reach(own, { method: "DELETE" }, USER, `user_id=${gone.id}`)).status).toBe(200);
      await expectRefusal(server, await swap(sub), { code: "subject_unknown" });
      const byId = await reach(own, { method: "GET" }, USER, `external_user_id=${victim.id}`);
      expect(byId.status).toBe(namespace === "user_id" ? 200 : 404);
    }
  });

  test("P13.3: nor does account management look for one kind of id among the other, or one kind of entity among another", async () => {
    for (const kind of KINDS) {
      for (const one of KINDS) {
        expectProblem(await reach(tenant, { method: "GET" }, kind, `${kind.externalId}=${idOf(one)}`), 404);
        if (one !== kind) expectProblem(await reach(tenant, { method: "GET" }, kind, `${kind.id}=${idOf(one)}`), 404);
      }
      expectProblem(await reach(tenant, { method: "GET" }, kind, `${kind.id}=one`), 404);
    }
  });

  test.each(EACH_KIND)(
    "P13.4 409: PUT never changes a %s that is there, whatever else is sent, and creates nothing",
    async (_name, kind) => {
      const before = await rowsOf(server, tenant);
      const bodies = [{}, { name: "one" }, { name: "Changed" }, { name: null }, { entitlements: [{ billing_feature_id: "x" }] }];
      for (const body of bodies) {
        for (const headers of [
          {},
          { "if-match": "*" },
          { "if-match": made.get(kind)?.etag ?? "" },
          { "if-none-match": "*" },
          { "idempotency-key": randomUUID() },
        ]) {
          const reply = await ask(server, tenant, {
            method: "PUT",
            path: kind.path,
            headers,
            body: { ...parentsOf(kind), [kind.externalId]: "one", ...body },
          });
          expectProblem(reply, 409);
          expect(reply.text).not.toContain(idOf(kind));
        }
      }
      const both = kind === ORGANIZATION ? { external_org_id: "one" } : { external_workspace_id: "one" };
      if (kind !== USER) expectProblem(await ask(server, tenant, { method: "PUT", path: BOTH, body: { org_name: "x", ...both } }), 409);
      const rename = await reach(
        tenant,
        { method: "PATCH", body: { [kind.externalId]: "two", name: "Changed" } },
        kind,
        `${kind.id}=${idOf(kind)}`,
      );
      expectProblem(rename, 409);
      expect(await rowsOf(server, tenant)).toEqual(before);
    },
  );

  test("P13.5 422: a billing feature that the partner does not hold is refused wherever it can be named, and nothing is written", async () => {
    const own = await openTenant(server);
    const setHeld = async (features: string[] | null) => {
      expect((await admin(server, "PATCH", `/partners/${own.partner.clientId}`, { billing_features: features })).status).toBe(200);
    };
    const list = (...ids: string[]) => ids.map((id) => ({ billing_feature_id: id }));
    const user = await make(server, own, USER, { entitlements: list("free choice") });
    await setHeld(["gold", "silver"]);
    const before = await rowsOf(server, own);
    for (const bad of [
      list("platinum"),
      list("gold", "platinum"),
      list("GOLD"),
      list("gold "),
      list("free choice"),
      list("__proto__"),
      list("constructor"),
    ]) {
      for (const kind of KINDS) {
        const id = String(user.entity[kind.id]);
        const parents = kind.parent === undefined ? {} : { [kind.parent]: user.entity[kind.parent] };
        for (const headers of [{}, { "idempotency-key": randomUUID() }]) {
          const replies = [
            await ask(server, own, {
              method: "PATCH",
              path: `${kind.path}?${kind.id}=${id}`,
              headers,
              body: { name: "Changed", entitlements: bad },
            }),
            await ask(server, own, { method: "PUT", path: kind.path, headers, body: { ...parents, entitlements: bad } }),
          ];
          for (const reply of replies) {
            expectProblem(reply, 422);
            expect((reply.json["errors"] as { field: string }[])[0]?.field).toBe(`entitlements.${bad.length - 1}.billing_feature_id`);
          }
        }
      }
      for (const name of ["org_entitlements", "workspace_entitlements"]) {
        expectProblem(await ask(server, own, { method: "PUT", path: BOTH, body: { [name]: bad } }), 422);
      }
    }
    expect(await rowsOf(server, own)).toEqual(before);

    const path = `${USER.path}?user_id=${user.id}`;
    const change = (body: object) => ask(server, own, { method: "PATCH", path, body });
    expect((await change({ name: "Other fields go on" })).json["user"]).toMatchObject({ entitlements: list("free choice") });
    for (const good of [list("gold"), list("silver", "gold"), []])
      expect((await change({ entitlements: good })).json["user"]).toMatchObject({ entitlements: good });
    await setHeld([]);
    expectProblem(await change({ entitlements: list("gold") }), 422);
    expect((await change({ entitlements: [] })).status).toBe(200);
    await setHeld(null);
    expect((await change({ entitlements: list("anything") })).status).toBe(200);
  });

  test.each(EACH_KIND)(
    "P13.6 200: a change of a %s to nothing but nulls, or to what it is, changes neither row, ETag, time nor log",
    async (_name, kind) => {
      const path = `${kind.path}?${kind.id}=${idOf(kind)}`;
      const etag = (await getOf(server, tenant, kind, idOf(kind))).headers.get("etag");
      const before = await rowsOf(server, tenant);
      const linesBefore = server.logLines.length;
      const nulls = Object.fromEntries([...kind.fields, "entitlements", "status"].map((field) => [field, null]));
      const { [kind.id]: _id, org_id: _org, workspace_id: _workspace, ...same } = made.get(kind)?.entity ?? {};
      const bodies = [nulls, {}, { ...nulls, name: "one" }, same, ...Object.entries(nulls).map(([name, value]) => ({ [name]: value }))];
      for (const body of bodies) {
        for (const headers of [{}, { "if-match": etag ?? "" }, { "idempotency-key": randomUUID() }]) {
          const reply = await ask(server, tenant, { method: "PATCH", path, body, headers });
          expect(reply.status, JSON.stringify(body)).toBe(200);
          expect(reply.json[kind.member]).toEqual(made.get(kind)?.entity);
          expect(reply.headers.get("etag")).toBe(etag);
        }
      }
      expect(await rowsOf(server, tenant)).toEqual(before);
      expect(server.logLines.slice(linesBefore)).toEqual([]);
      const changed = await ask(server, tenant, { method: "PATCH", path, body: { ...nulls, name: "for once" } });
      expect(changed.headers.get("etag")).not.toBe(etag);
      expect(server.logLines.slice(linesBefore).filter((line) => line.includes("account changed"))).toHaveLength(1);
      await ask(server, tenant, { method: "PATCH", path, body: { name: "one" } });
    },
  );

  describe("P13.11: who may call", () => {
    /** Every operation, as it would succeed or at least be looked at. */
    const operations = (): Asked[] => [
      ...KINDS.flatMap((kind) => [
        ...OPERATIONS.map((operation) => ({ ...operation, path: `${kind.path}?${kind.id}=${idOf(kind)}` })),
        { method: "PUT", path: kind.path, body: parentsOf(kind) },
      ]),
      { method: "PUT", path: BOTH, body: {} },
      { method: "POST", path: ENTITIES, body: {} },
    ];

    async function expectForbidden(token: string): Promise<void> {
      const before = await rowsOf(server, tenant);
      for (const operation of operations()) {
        const reply: Reply = await ask(server, { token }, operation);
        expectProblem(reply, 403);
        expect(reply.headers.get("www-authenticate")).toBe(bearerChallenge(', error="insufficient_scope", scope="account-management"'));
      }
      expect(await rowsOf(server, tenant)).toEqual(before);
    }

    test("P13.11 403: a user's token at any operation of account management, also of a user that is asked for", async () => {
      const granted = await exchange(tenant.partner, subjectToken(tenant.partner, { sub: idOf(USER) }));
      await expectForbidden(String(granted.json["access_token"]));
      const asked = await exchange(tenant.partner, subjectToken(tenant.partner, { sub: idOf(USER) }), {
        form: { scope: "account-management" },
      });
      await expectRefusal(server, asked, { error: "invalid_scope", code: "scope_not_for_principal" });
    });

    test("P13.11 403: a service account's token without the scope, and one whose partner has lost the scope since", async () => {
      const analytics = await exchange(tenant.partner, subjectToken(tenant.partner), { form: { scope: "analytics" } });
      await expectForbidden(String(analytics.json["access_token"]));
      const partner = `/partners/${tenant.partner.clientId}`;
      expect((await admin(server, "PATCH", partner, { allowed_scopes: ["thread", "analytics"] })).status).toBe(200);
      await expectForbidden(tenant.token);
      expect((await admin(server, "PATCH", partner, { allowed_scopes: ["thread", "account-management", "analytics"] })).status).toBe(200);
      expect((await getOf(server, tenant, USER, idOf(USER))).status).toBe(200);
    });
  });
});
