import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { createHome, createUser, NOW, openTestStore, type TestStore } from "../testing/store.ts";
import type { Store } from "./store.ts";

const SECOND = NOW / 1000;

/** Just before the end of a second for so many readings, and just after it from then on: by then the change is durable. */
function clockAcross(readings: number): () => number {
  let count = 0;
  return () => (count++ < readings ? NOW + 999 : NOW + 1_001);
}

/* What is issued between the reading of the clock and the commit is from before the change, whatever second that falls into. */
describe.each(DIALECTS)("a change whose commit falls into a later second, on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  /** As the feed tells it, which is all that an API that verifies offline has. */
  async function cutOffInFeed(partnerId: string, subjectId: string): Promise<number | undefined> {
    const lines = (await opened.nodes[1].tokens.listRevocations(partnerId, undefined, 100)).filter((line) => line.subjectId === subjectId);
    expect(lines).toHaveLength(1);
    return lines[0]?.cutOffSeconds;
  }

  test.each([
    ["disabled", ["disabled"]],
    ["enabled", ["disabled", "active"]],
  ] as const)("cuts off the tokens of a partner that is %s up to that second, in its record and in the feed", async (_name, statuses) => {
    const { clientId } = await opened.createPartner();
    const last = statuses.length - 1;
    for (const status of statuses.slice(0, last)) await store.partners.update(clientId, { status }, () => NOW - 10_000);
    const status = statuses[last];
    if (status === undefined) throw new Error("a partner of no status");
    const updated = await store.partners.update(clientId, { status }, clockAcross(2));
    expect(updated).toMatchObject({ status, cutOffs: { seconds: SECOND + 1, keys: [] } });
    for (const node of opened.nodes) expect(await node.partners.find(clientId)).toEqual(updated);
    expect(await cutOffInFeed(clientId, clientId)).toBe(SECOND + 1);
  });

  test("does not cut off a partner's tokens where its status stays, or the second does", async () => {
    const { clientId } = await opened.createPartner();
    expect(await store.partners.update(clientId, { name: "Other" }, clockAcross(2))).toMatchObject({ cutOffs: { seconds: 0 } });
    const disabled = await store.partners.update(clientId, { status: "disabled" }, () => NOW + 999);
    expect(disabled).toMatchObject({ version: 3, cutOffs: { seconds: SECOND } });
  });

  test("cuts off the tokens of an erased user, workspace and organization up to that second, in the feed", async () => {
    const { clientId } = await opened.createPartner();
    const { orgId, workspaceId } = await createHome(store, clientId);
    const { user_id: userId } = await createUser(store, clientId, workspaceId);
    for (const [kind, id] of [
      ["user", userId],
      ["workspace", workspaceId],
      ["organization", orgId],
    ] as const) {
      const target = { partnerId: clientId, key: { id }, revisions: undefined };
      await store.accounts.write((writer) => writer.erase(kind, target, clockAcross(1)));
      expect(await cutOffInFeed(clientId, id), kind).toBe(SECOND + 1);
    }
  });

  test("cuts off the tokens of a disabled user up to that second, in its record and in the feed", async () => {
    const { clientId } = await opened.createPartner();
    const { workspaceId } = await createHome(store, clientId);
    const { user_id: id } = await createUser(store, clientId, workspaceId);
    const target = { partnerId: clientId, key: { id }, revisions: undefined };
    await store.accounts.write((writer) => writer.update("user", target, { status: "disabled" }, { nowMs: clockAcross(1), cutOff: false }));
    expect(await opened.nodes[1].accounts.findLiveUser(clientId, id)).toMatchObject({ tokensCutOffSeconds: SECOND + 1 });
    expect(await cutOffInFeed(clientId, id)).toBe(SECOND + 1);
  });
});
