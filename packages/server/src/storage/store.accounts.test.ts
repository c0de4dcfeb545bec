import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { createHome, createUser, newOrganization, newUser, newWorkspace, NOW, openTestStore, type TestStore } from "../testing/store.ts";
import type { AccountRefusal, EntityFilter, EntityPosition, IdempotentRequest } from "./account-store.ts";
import type { Store } from "./store.ts";

describe.each(DIALECTS)("accounts in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  const target = (partnerId: string, id: string, revisions?: string[]) => ({ partnerId, key: { id }, revisions });
  const rejection = (work: Promise<unknown>) =>
    work.then(
      () => undefined,
      (thrown: unknown) => (thrown as AccountRefusal).code,
    );

  test("organization and workspace come both or not at all", async () => {
    const { clientId } = await opened.createPartner();
    const { orgId } = await createHome(store, clientId, { org: "org-1", workspace: "ws-1" });
    expect(await rejection(createHome(store, clientId, { org: "org-2", workspace: "ws-1" }))).toBe("external_id_taken");
    expect(await opened.database.query("SELECT org_id FROM organizations WHERE partner_id = $1", [clientId])).toEqual([{ org_id: orgId }]);
  });

  test("an entity is found by either id, and only by its own partner", async () => {
    const [own, other] = [await opened.createPartner(), await opened.createPartner()];
    const { orgId, workspaceId } = await createHome(store, own.clientId);
    const user = await createUser(store, own.clientId, workspaceId, "ext-1");
    expect(user).toMatchObject({ org_id: orgId, workspace_id: workspaceId, status: "active" });
    for (const key of [{ id: user.user_id }, { externalId: "ext-1" }]) {
      expect((await store.accounts.find("user", own.clientId, key))?.entity).toEqual(user);
      expect(await store.accounts.find("user", other.clientId, key)).toBeUndefined();
    }
    expect(await rejection(createUser(store, other.clientId, workspaceId))).toBe("parent_absent");
  });

  test("of 16 callers that create one external id, one does, and its row stays", async () => {
    const { clientId } = await opened.createPartner();
    const { orgId, workspaceId } = await createHome(store, clientId);
    for (const create of [
      (node: Store) => node.accounts.write((writer) => writer.create("organization", clientId, newOrganization("raced"), NOW)),
      (node: Store) => node.accounts.write((writer) => writer.create("workspace", clientId, newWorkspace(orgId, "raced"), NOW)),
      (node: Store) => node.accounts.write((writer) => writer.create("user", clientId, newUser(workspaceId, "raced"), NOW)),
    ]) {
      const codes = await opened.race((node) => rejection(create(node)));
      expect(codes.filter((code) => code === undefined)).toHaveLength(1);
      expect(codes.filter((code) => code === "external_id_taken")).toHaveLength(15);
    }
  });

  test("of 16 callers with one request key, one writes, and all have its answer", async () => {
    const { clientId } = await opened.createPartner();
    const request: IdempotentRequest = { partnerId: clientId, key: randomBytes(16), fingerprint: randomBytes(32), nowMs: NOW };
    const outcomes = await opened.race((node) =>
      node.accounts.writeOnce(
        request,
        async (writer) => {
          const { entity } = await writer.create("organization", clientId, newOrganization(), NOW);
          return { status: 201, body: entity, entityId: entity.org_id };
        },
        () => undefined,
      ),
    );
    const rows = await opened.database.query("SELECT org_id FROM organizations WHERE partner_id = $1", [clientId]);
    expect(rows).toHaveLength(1);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ code: "answered", answer: { status: 201, body: rows[0] } });
  });

  test("writes that arrive together have outcomes of their own", async () => {
    const { clientId } = await opened.createPartner();
    const { workspaceId } = await createHome(store, clientId);
    const created = Array.from({ length: 40 }, (_, n) => rejection(createUser(store, clientId, workspaceId, `u${n % 20}`)));
    const failing = store.accounts.write(async (writer) => {
      await writer.create("user", clientId, newUser(workspaceId, "undone"), NOW);
      throw new Error("on purpose");
    });
    await expect(failing).rejects.toThrow("on purpose");
    expect((await Promise.all(created)).filter((code) => code === undefined)).toHaveLength(20);
    expect(await store.accounts.find("user", clientId, { externalId: "undone" })).toBeUndefined();
    expect(await store.accounts.find("user", clientId, { externalId: "u19" })).toBeDefined();
  });

  test("of 16 updates on what one of them has seen, one passes; without a condition none is lost", async () => {
    const { clientId } = await opened.createPartner();
    const { orgId } = await createHome(store, clientId);
    const before = await store.accounts.find("organization", clientId, { id: orgId });
    const at = { nowMs: () => NOW, cutOff: false };
    const codes = await opened.race((node, caller) =>
      rejection(
        node.accounts.write((writer) =>
          writer.update("organization", target(clientId, orgId, [before?.revision ?? ""]), { name: `n${caller}` }, at),
        ),
      ),
    );
    expect(codes.filter((code) => code === undefined)).toHaveLength(1);
    expect(codes.filter((code) => code === "revision_stale")).toHaveLength(15);
    const fields = ["name", "email", "phone_number", "support_email", "org_type"] as const;
    await opened.race((node, caller) =>
      node.accounts.write((writer) =>
        writer.update("organization", target(clientId, orgId), { [fields[caller % 5] as string]: `set-${caller % 5}@x` }, at),
      ),
    );
    expect((await store.accounts.find("organization", clientId, { id: orgId }))?.entity).toMatchObject(
      Object.fromEntries(fields.map((field, n) => [field, `set-${n}@x`])),
    );
  });

  test("a list goes on behind its position, whatever the filter, and gives each entity once", async () => {
    const { clientId } = await opened.createPartner();
    const homes = [];
    for (let n = 0; n < 3; n++) homes.push(await createHome(store, clientId, { org: `o${n}`, workspace: `w${n}` }));
    const users = [];
    for (let n = 0; n < 12; n++) users.push(await createUser(store, clientId, homes[n % 3]?.workspaceId ?? "", `u${n}`));
    const all: EntityFilter = {
      kinds: ["organization", "workspace", "user"],
      organizations: undefined,
      workspaces: undefined,
      users: undefined,
    };
    const read = async (filter: EntityFilter, limit: number) => {
      const ids: string[] = [];
      let after: EntityPosition | undefined;
      do {
        const page = await store.accounts.list(clientId, filter, { after, limit });
        const found = [
          ...page.organizations.map((each) => each.org_id),
          ...page.workspaces.map((each) => each.workspace_id),
          ...page.users.map((each) => each.user_id),
        ];
        expect(found.length).toBeLessThanOrEqual(limit);
        ids.push(...found);
        after = page.next;
      } while (after !== undefined);
      return ids;
    };
    const some = (names: string[]) => ({ ids: [], externalIds: names });
    for (const limit of [1, 2, 5, 6, 17, 18, 200]) {
      const everything = await read(all, limit);
      expect(everything).toHaveLength(18);
      expect(new Set(everything).size).toBe(18);
      expect(await read({ ...all, organizations: some(["o0", "o2", "none"]) }, limit)).toHaveLength(12);
      expect(await read({ ...all, workspaces: some(["w1", "w2"]), organizations: some(["o2"]) }, limit)).toHaveLength(5);
      expect(await read({ ...all, workspaces: some(["w1", "w2"]), kinds: ["user"] }, limit)).toHaveLength(8);
      expect(await read({ ...all, users: some(["u0", "u1", "u2"]), organizations: some(["o1"]) }, limit)).toEqual([users[1]?.user_id]);
      expect(await read({ ...all, users: some(["none"]) }, limit)).toEqual([]);
    }
  });

  test("erasing needs an empty entity; what lies below goes first, of one partner only", async () => {
    const [{ clientId }, other] = [await opened.createPartner(), await opened.createPartner()];
    const { orgId, workspaceId } = await createHome(store, clientId);
    await createUser(store, clientId, workspaceId);
    const erase = (kind: "organization" | "workspace", id: string) =>
      rejection(store.accounts.write((writer) => writer.erase(kind, target(clientId, id), () => NOW)));
    expect(await erase("organization", orgId)).toBe("has_children");
    expect(await erase("workspace", workspaceId)).toBe("has_children");
    await store.accounts.eraseBelow("organization", other.clientId, orgId);
    expect(await erase("workspace", workspaceId)).toBe("has_children");
    await store.accounts.eraseBelow("organization", clientId, orgId);
    expect(await erase("organization", orgId)).toBeUndefined();
    expect(await erase("organization", orgId)).toBe("absent");
  });

  test("a user is live as long as nothing above it is disabled or cut off", async () => {
    const { clientId } = await opened.createPartner();
    const { orgId, workspaceId } = await createHome(store, clientId);
    const { user_id: userId } = await createUser(store, clientId, workspaceId);
    const live = () => store.accounts.findLiveUser(clientId, userId);
    expect(await live()).toEqual({ workspaceId, orgId, disabled: undefined, tokensCutOffSeconds: 0 });
    let nowMs = NOW;
    for (const [kind, id] of [
      ["organization", orgId],
      ["workspace", workspaceId],
      ["user", userId],
    ] as const) {
      for (const status of ["disabled", "active"] as const) {
        nowMs += 1000;
        await store.accounts.write((writer) =>
          writer.update(kind, target(clientId, id), { status }, { nowMs: () => nowMs, cutOff: false }),
        );
        expect(await live()).toMatchObject({ disabled: status === "disabled" ? kind : undefined, tokensCutOffSeconds: nowMs / 1000 });
      }
    }
    expect(await store.accounts.findLiveUser((await opened.createPartner()).clientId, userId)).toBeUndefined();
    expect(await store.accounts.findLiveUser(clientId, randomUUID())).toBeUndefined();
  });
});
