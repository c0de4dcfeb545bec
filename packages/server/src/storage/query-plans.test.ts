import { randomBytes, randomUUID } from "node:crypto";
import type { Provisioning } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { CROWD, fillWithAccounts, idOf, org, user, USERS, ws } from "../testing/many-accounts.ts";
import { faultsOf, openObserved, sentDuring, WHOLE_PARTNER, type Wire } from "../testing/query-plans.ts";
import { issueRequest, newOrganization, newUser, newWorkspace, NOW, type TestStore } from "../testing/store.ts";
import type { AccountWriter, EntityFilter, EntityKey, EntityKind, EntityTarget } from "./account-store.ts";
import type { Partner, Store } from "./store.ts";

const wire = vi.hoisted((): Wire => ({ sent: [] }));

vi.mock(import("./dialects/sqlite-driver.ts"), async (importOriginal) => {
  const { observedSqlite } = await import("../testing/query-plans.ts");
  return observedSqlite(await importOriginal(), wire);
});

afterAll(() => {
  vi.doUnmock("./dialects/sqlite-driver.ts");
  vi.resetModules();
});

const KINDS = ["organization", "workspace", "user"] as const satisfies EntityKind[];
const PREFIX = { organization: "org", workspace: "ws", user: "user" } as const;
const keysOf = (kind: EntityKind, n: number): [EntityKey, EntityKey] => [
  { id: idOf(PREFIX[kind], n) },
  { externalId: `x${PREFIX[kind]}-${n}` },
];

const level = (...ids: string[]) => ({ ids: ids.filter((id) => !id.startsWith("x")), externalIds: ids.filter((id) => id.startsWith("x")) });
const many = (make: (n: number) => string, count = 200) => level(...Array.from({ length: count }, (_, n) => make(n + 1)));
type Levels = Partial<Omit<EntityFilter, "kinds">>;
const LISTS: readonly (readonly [name: string, levels: Levels, parents: Partial<Record<EntityKind, string>>])[] = [
  ["all of a partner", {}, {}],
  ["an organization", { organizations: level(org(1)) }, { workspace: org(1), user: org(1) }],
  ["organizations by either id", { organizations: level(org(1), org(2), "xorg-3") }, { workspace: org(1), user: org(2) }],
  ["a workspace", { workspaces: level(ws(1)) }, { user: ws(1) }],
  ["workspaces by either id", { workspaces: level(ws(1), ws(2), "xws-3") }, { user: ws(1) }],
  ["users by either id", { users: level(user(1), user(2), "xuser-3") }, {}],
  ["workspaces of an organization", { organizations: level(org(1)), workspaces: level(ws(1), ws(2)) }, { user: ws(1) }],
  ["users of an organization", { organizations: level(org(1)), users: level(user(1), "xuser-2") }, {}],
  ["users of a workspace", { workspaces: level(ws(1)), users: level(user(1), "xuser-2") }, {}],
  ["all levels", { organizations: level(org(1)), workspaces: level(ws(1)), users: level(user(1), user(2)) }, {}],
  ["50 organizations", { organizations: many(org, 50) }, { workspace: org(1), user: org(1) }],
  ["200 workspaces", { workspaces: many(ws) }, { user: ws(1) }],
  ["200 users by external id", { users: many((n) => `xuser-${n}`) }, {}],
  ["200 users", { users: many(user) }, {}],
];

describe.each(DIALECTS)("what the store asks %s goes by an index", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let partner: Partner;
  let partnerId: string;
  beforeAll(async () => {
    opened = await openObserved(dialect, wire);
    store = opened.nodes[0];
    partner = await opened.createPartner();
    partnerId = partner.clientId;
    await fillWithAccounts(opened.database, [partner, await opened.createPartner()]);
  });
  afterAll(async () => {
    await opened.close();
    vi.restoreAllMocks();
  });

  /** That at least so many statements were seen. */
  async function expectIndexed(least: number, work: () => Promise<unknown>): Promise<void> {
    const statements = await sentDuring(wire, work);
    expect(statements.length, statements.map(({ sql }) => sql).join("\n")).toBeGreaterThanOrEqual(least);
    const ofAccounts = statements.filter(({ sql }) => !/\bthreads\b/.test(sql)); // which are empty here: query-plans.threads.test.ts
    expect(await faultsOf(opened.database, ofAccounts)).toEqual([]);
  }

  test.each([
    ["no index", "SELECT * FROM users WHERE name = $1", ["x"]],
    ["a write without an index", "UPDATE organizations SET name = $1 WHERE name = $2", ["x", "y"]],
    ["an index over all partners", "SELECT * FROM workspaces WHERE workspace_id = $1", [ws(1)]],
    ["a partner's rows looked through", "SELECT * FROM users WHERE partner_id = $1 AND email = $2", ["PARTNER", "x"]],
    ["a sort", "SELECT * FROM users WHERE partner_id = $1 AND workspace_id = $2 ORDER BY name LIMIT 200", ["PARTNER", ws(1)]],
    ["a delete by what is not in the key", "DELETE FROM idempotent_requests WHERE partner_id = $1 AND answer = $2", ["PARTNER", "{}"]],
  ])("found where it is not so: %s", async (_name, sql, values) => {
    const bound = values.map((value) => (value === "PARTNER" ? partnerId : value));
    expect(
      await faultsOf(opened.database, [{ sql: dialect === "sqlite" ? sql.replaceAll(/\$\d/g, "?") : sql, values: bound, prepared: false }]),
    ).not.toEqual([]);
  });

  test.each(KINDS)("find a %s by either id", async (kind) => {
    for (const key of keysOf(kind, 7)) {
      await expectIndexed(1, async () => expect(await store.accounts.find(kind, partnerId, key)).toBeDefined());
    }
  });

  test("findLiveUser", () => expectIndexed(1, async () => expect(await store.accounts.findLiveUser(partnerId, user(7))).toBeDefined()));

  test.each(LISTS)("list: %s", async (_name, levels, parents) => {
    const filter = { organizations: undefined, workspaces: undefined, users: undefined, ...levels };
    const pages = KINDS.flatMap((kind) => {
      const after = { kind, parentId: parents[kind] ?? "", id: idOf(PREFIX[kind], 1) };
      return [undefined, after].map((position) => ({ kinds: [kind], after: position }));
    });
    for (const { kinds, after } of [...pages, { kinds: KINDS, after: undefined }]) {
      const list = () => store.accounts.list(partnerId, { ...filter, kinds }, { after, limit: 200 });
      const statements = await sentDuring(wire, list);
      if (kinds.length > 1) expect(statements.length).toBeGreaterThan(0);
      const faults = await faultsOf(opened.database, statements);
      const ordered = (fault: string) => fault.startsWith(WHOLE_PARTNER) && Object.keys(levels).length === 0; // no sort, so it ends with the page
      expect(faults.filter((fault) => !ordered(fault))).toEqual([]);
    }
  });

  const target = (key: EntityKey): EntityTarget => ({ partnerId, key, revisions: undefined });
  const write = (work: (writer: AccountWriter) => Promise<unknown>) => store.accounts.write(work);
  const refused = () => ({ status: 409, body: {} });

  test("create, also where the parent is absent or the external id taken", async () => {
    await expectIndexed(3, () =>
      write(async (writer) => {
        await writer.create("organization", partnerId, newOrganization("xorg-new"), NOW);
        await writer.create("workspace", partnerId, newWorkspace(org(1), "xws-new"), NOW);
        await writer.create("user", partnerId, newUser(ws(1), "xuser-new"), NOW);
      }),
    );
    for (const [workspaceId, external] of [
      [ws(1), "xuser-1"],
      ["absent", "xuser-other"],
    ] as const) {
      const creating = () => write((writer) => writer.create("user", partnerId, newUser(workspaceId, external), NOW));
      await expectIndexed(2, () => expect(creating()).rejects.toThrow(/taken|absent/));
    }
  });

  test.each(KINDS)("update a %s by either id", async (kind) => {
    for (const [n, key] of keysOf(kind, 8).entries()) {
      const change = {
        [`external_${PREFIX[kind] === "ws" ? "workspace" : PREFIX[kind]}_id`]: `y${n}`,
        name: "y",
        status: "disabled" as const,
      };
      const at = { nowMs: () => NOW, cutOff: true };
      await expectIndexed(2, () => write((writer) => writer.update(kind, target(n === 0 ? key : { externalId: "y0" }), change, at)));
    }
  });

  test("erase and eraseBelow", async () => {
    const [byId] = keysOf("user", 9);
    const [, byExternalId] = keysOf("user", 10);
    for (const key of [byId, byExternalId]) await expectIndexed(3, () => write((writer) => writer.erase("user", target(key), Date.now)));
    for (const kind of ["workspace", "organization"] as const) {
      await expectIndexed(2, () =>
        expect(write((writer) => writer.erase(kind, target({ id: idOf(PREFIX[kind], 1) }), Date.now))).rejects.toThrow("has_children"),
      );
      await expectIndexed(2, () => store.accounts.eraseBelow(kind, partnerId, idOf(PREFIX[kind], 1)));
      await expectIndexed(3, () => write((writer) => writer.erase(kind, target({ id: idOf(PREFIX[kind], 1) }), Date.now)));
    }
  });

  test("writeOnce and purgeRepeated", async () => {
    const request = { partnerId, key: randomBytes(16), fingerprint: randomBytes(32), nowMs: NOW };
    const once = () =>
      store.accounts.writeOnce(
        request,
        async (writer) => {
          const made = await writer.create("user", partnerId, newUser(ws(2)), NOW);
          return { status: 201, body: {}, entityId: made.entity.user_id };
        },
        refused,
      );
    await expectIndexed(3, once);
    await expectIndexed(2, async () => expect(await once()).toMatchObject({ code: "answered" }));
    await expectIndexed(1, () => store.accounts.purgeRepeated(NOW + 1_500));
  });

  test("an exchange: its commit, users by either id, one that it makes, and what is spent and purged", async () => {
    const provisioning: Provisioning = { homeWorkspaceId: ws(2), hourlyMax: 10 };
    const issue = (namespace: "user_id" | "external_user_id", id: string, rule?: Provisioning) =>
      store.exchanges.issue(issueRequest(partner, { kind: "user", namespace, id, provisioning: rule }, randomBytes(16)));
    for (const [namespace, id] of [
      ["user_id", user(USERS - 1)],
      ["external_user_id", `xuser-${USERS - 1}`],
    ] as const) {
      await expectIndexed(4, async () => expect(await issue(namespace, id)).toMatchObject({ code: "issued" }));
    }
    await expectIndexed(7, async () =>
      expect(await issue("external_user_id", randomUUID(), provisioning)).toMatchObject({ code: "issued" }),
    );
    const ids = Array.from({ length: 200 }, (_, n) => user(CROWD + n + 1));
    await expectIndexed(4, () => Promise.all(ids.map((id) => issue("user_id", id))));
    await expectIndexed(1, () => store.exchanges.purgeSpent(NOW + 1_500));
  });
});
