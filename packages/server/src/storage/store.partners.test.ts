import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { newClientId, newSecretId } from "../ids.ts";
import { CALLERS, facts, issueRequest, newPartner, NOW, openTestStore, SERVICE_ACCOUNT, type TestStore } from "../testing/store.ts";
import type { Store } from "./store.ts";

describe.each(DIALECTS)("partners, secrets and accounts in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  describe("partners", () => {
    test("a created partner is found whole, and the same object until it changes", async () => {
      const created = await opened.createPartner({ name: "Ünïcode 漢字 🦊" });
      const found = await store.partners.find(created.clientId);
      expect(found).toMatchObject({ name: "Ünïcode 漢字 🦊", status: "active", version: 1, createdAtMs: NOW, allowedScopes: ["thread"] });
      expect(found?.secrets).toHaveLength(1);
      expect(await store.partners.find(created.clientId)).toBe(found);
      await store.partners.update(created.clientId, { name: "Other" }, () => NOW + 1);
      expect(await store.partners.find(created.clientId)).toMatchObject({
        name: "Other",
        version: 2,
        updatedAtMs: NOW + 1,
        issuer: created.issuer,
      });
      expect(await opened.nodes[1].partners.find(created.clientId)).toMatchObject({ name: "Other", version: 2 });
    });

    test("an absent partner is absent", async () => {
      expect(await store.partners.find(newClientId())).toBeUndefined();
      expect(await store.partners.update(newClientId(), { name: "x" }, () => NOW)).toBe("absent");
    });

    test("an issuer belongs to one partner, on creation and on change", async () => {
      const first = await opened.createPartner({ issuer: "https://one.example" });
      expect(await store.partners.create(newPartner({ issuer: "https://one.example" }), NOW)).toBe("issuer_taken");
      const second = await opened.createPartner();
      expect(await store.partners.update(second.clientId, { issuer: first.issuer }, () => NOW)).toBe("issuer_taken");
      expect(await store.partners.find(second.clientId)).toMatchObject({ issuer: second.issuer, version: 1 });
    });

    test("of 16 callers that register one issuer, one wins", async () => {
      const created = await opened.race((node) => node.partners.create(newPartner({ issuer: "https://raced.example" }), NOW));
      expect(created.filter((partner) => partner !== "issuer_taken")).toHaveLength(1);
      const movers = await Promise.all(Array.from({ length: CALLERS }, () => opened.createPartner()));
      const moved = await opened.race((node, caller) =>
        node.partners.update(movers.at(caller)?.clientId ?? "", { issuer: "https://moved.example" }, () => NOW),
      );
      expect(moved.filter((partner) => partner !== "issuer_taken")).toHaveLength(1);
    });

    test("of 16 callers that change different fields, no change is lost", async () => {
      const { clientId } = await opened.createPartner();
      await opened.race((node, caller) =>
        node.partners.update(clientId, caller % 2 === 0 ? { name: `n${caller}` } : { clockSkewSeconds: caller }, () => NOW),
      );
      const after = await store.partners.find(clientId);
      expect(after?.version).toBe(1 + CALLERS);
      expect(after?.name).toMatch(/^n\d+$/);
      expect((after?.clockSkewSeconds ?? 0) % 2).toBe(1);
    });

    test("pages through all partners, each once", async () => {
      const created = await Promise.all(Array.from({ length: 7 }, () => opened.createPartner()));
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const page = await store.partners.list({ after, limit: 3 });
        expect(page.items.length).toBeLessThanOrEqual(3);
        seen.push(...page.items.map((partner) => partner.clientId));
        after = page.next;
      } while (after !== undefined);
      expect(new Set(seen).size).toBe(seen.length);
      for (const partner of created) expect(seen).toContain(partner.clientId);
    });
  });

  describe("secrets", () => {
    test("two may live at once; of 16 callers that add a second, one does", async () => {
      const { clientId } = await opened.createPartner();
      const added = await opened.race((node) =>
        node.partners.addSecret(clientId, { secretId: newSecretId(), hash: randomBytes(32), pepperId: "p", createdAtMs: NOW }, 2),
      );
      expect(added.filter((result) => result === "added")).toHaveLength(1);
      expect(await store.partners.listSecrets(clientId)).toHaveLength(2);
      expect((await opened.nodes[1].partners.find(clientId))?.secrets).toHaveLength(2);
    });

    test("one in use is kept, unless it is forced; a removed one is gone on both nodes", async () => {
      const partner = await opened.createPartner();
      const secretId = partner.secrets[0]?.secretId ?? "";
      await store.exchanges.issue({
        ...issueRequest(partner, SERVICE_ACCOUNT, undefined),
        facts: facts({ partnerId: partner.clientId, secretId }),
      });
      expect(await store.partners.listSecrets(partner.clientId)).toMatchObject([{ secretId, lastUsedAtMs: NOW }]);
      expect(await store.partners.removeSecret(partner.clientId, secretId, NOW - 1)).toBe("in_use");
      expect(await store.partners.removeSecret(newClientId(), secretId, undefined)).toBe("absent");
      expect(await store.partners.removeSecret(partner.clientId, secretId, undefined)).toBe("removed");
      expect((await opened.nodes[1].partners.find(partner.clientId))?.secrets).toEqual([]);
    });
  });
});
