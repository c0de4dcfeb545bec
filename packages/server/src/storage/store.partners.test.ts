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

  describe("origins", () => {
    const rowsOf = async (clientId: string) =>
      (await opened.database.query("SELECT origin FROM partner_origins WHERE partner_id = $1 ORDER BY origin", [clientId])).map(
        (row) => row["origin"],
      );
    const allowed = async (origin: string) => Promise.all(opened.nodes.map((node) => node.partners.isOriginAllowed(origin)));

    test("are none unless given, and then those of the setting, in their order", async () => {
      expect((await opened.createPartner()).allowedOrigins).toEqual([]);
      const { clientId } = await opened.createPartner({ allowedOrigins: ["https://b.example", "https://a.example"] });
      expect((await opened.nodes[1].partners.find(clientId))?.allowedOrigins).toEqual(["https://b.example", "https://a.example"]);
      expect(await rowsOf(clientId)).toEqual(["https://a.example", "https://b.example"]);
    });

    test("a record of a version that had none has none", async () => {
      const { clientId } = await opened.createPartner();
      const [row] = await opened.database.query("SELECT settings FROM partners WHERE client_id = $1", [clientId]);
      const { allowedOrigins: _none, ...earlier } = JSON.parse(String(row?.["settings"])) as Record<string, unknown>;
      await opened.database.query("UPDATE partners SET settings = $1, version = 7 WHERE client_id = $2", [
        JSON.stringify(earlier),
        clientId,
      ]);
      expect(await store.partners.find(clientId)).toMatchObject({ version: 7, allowedOrigins: [] });
    });

    test("follow from the settings at the next change, whatever it is, where a node of an earlier version has written those", async () => {
      const { clientId } = await opened.createPartner({ allowedOrigins: ["https://a.example", "https://b.example"] });
      const [row] = await opened.database.query("SELECT settings FROM partners WHERE client_id = $1", [clientId]);
      const settings = JSON.parse(String(row?.["settings"])) as Record<string, unknown>;
      for (const [allowedOrigins, version] of [
        [undefined, 10],
        [["https://c.example"], 20],
      ] as const) {
        await opened.database.query("UPDATE partners SET settings = $1, version = $2 WHERE client_id = $3", [
          JSON.stringify({ ...settings, allowedOrigins }),
          version,
          clientId,
        ]);
        await store.partners.update(clientId, { name: "Renamed" }, () => NOW);
        expect(await rowsOf(clientId)).toEqual(allowedOrigins ?? []);
        expect(await store.partners.find(clientId)).toMatchObject({ allowedOrigins: allowedOrigins ?? [] });
      }
    });

    test("one is allowed on both nodes while an active partner lists it, exactly so", async () => {
      const origin = "https://shared.example";
      const [one, two] = [
        await opened.createPartner({ allowedOrigins: [origin] }),
        await opened.createPartner({ allowedOrigins: [origin] }),
      ];
      expect(await allowed(origin)).toEqual([true, true]);
      for (const other of ["https://shared.example:443", "https://Shared.example", "https://shared", "%", "' OR ''='"]) {
        expect(await allowed(other), other).toEqual([false, false]);
      }
      await store.partners.update(one.clientId, { allowedOrigins: [] }, () => NOW);
      expect(await allowed(origin)).toEqual([true, true]);
      await store.partners.update(two.clientId, { status: "disabled" }, () => NOW);
      expect(await allowed(origin)).toEqual([false, false]);
      await store.partners.update(two.clientId, { status: "active" }, () => NOW);
      expect(await allowed(origin)).toEqual([true, true]);
    });

    test("of 16 callers that replace the list, the rows are those of the one that was last", async () => {
      const { clientId } = await opened.createPartner({ allowedOrigins: ["https://first.example"] });
      await opened.race((node, caller) =>
        node.partners.update(clientId, { allowedOrigins: ["https://common.example", `https://c${caller}.example`] }, () => NOW),
      );
      const listed = (await store.partners.find(clientId))?.allowedOrigins ?? [];
      expect(listed).toHaveLength(2);
      expect(await rowsOf(clientId)).toEqual(listed.toSorted());
    });

    test("a change that is refused leaves them as they were", async () => {
      const taken = (await opened.createPartner()).issuer;
      const { clientId } = await opened.createPartner({ allowedOrigins: ["https://kept.example"] });
      const change = { issuer: taken, allowedOrigins: ["https://never.example"] };
      expect(await store.partners.update(clientId, change, () => NOW)).toBe("issuer_taken");
      expect(await store.partners.create(newPartner(change), NOW)).toBe("issuer_taken");
      expect([await allowed("https://kept.example"), await allowed("https://never.example")]).toEqual([
        [true, true],
        [false, false],
      ]);
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
