import { randomBytes, randomUUID } from "node:crypto";
import type { ExchangeFacts, IssueRequest, Principal } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newClientId, newSecretId, newTraceId } from "../ids.ts";
import { createTestDatabase, DIALECTS, type TestDatabase } from "../testing/database.ts";
import { openStore } from "./kysely-store.ts";
import type { NewPartner, Organization, Partner, Store, Workspace } from "./store.ts";

const CALLERS = 16;
const NOW = 1_800_000_000_000;

function newPartner(changes: Partial<NewPartner> = {}): NewPartner {
  const clientId = newClientId();
  return {
    clientId,
    name: "Partner",
    issuer: clientId,
    audience: "https://cambist.test",
    jwks: { keys: [] },
    subjectNamespace: "user_id",
    replay: "single_use",
    assertionLifetimeSecondsMax: 3600,
    clockSkewSeconds: 30,
    accessTokenLifetimeSeconds: 3600,
    allowedAlgorithms: ["RS256"],
    allowedGrants: ["token-exchange"],
    allowedScopes: ["thread"],
    tokenEndpointAuthMethod: "client_secret",
    secret: { secretId: newSecretId(), hash: randomBytes(32), pepperId: "pepper" },
    ...changes,
  };
}

function newHome(external: { org?: string; workspace?: string } = {}): { organization: Organization; workspace: Workspace } {
  const organization = {
    orgId: randomUUID(),
    externalOrgId: external.org ?? null,
    name: "Org",
    email: null,
    phoneNumber: null,
    supportEmail: null,
    orgType: null,
    entitlements: [],
  };
  const workspace = {
    workspaceId: randomUUID(),
    externalWorkspaceId: external.workspace ?? null,
    orgId: organization.orgId,
    name: null,
    entitlements: [],
  };
  return { organization, workspace };
}

const newUser = (workspaceId: string, externalUserId: string | null = null) => ({
  userId: randomUUID(),
  externalUserId,
  workspaceId,
  email: null,
  name: "Ada",
  entitlements: [],
});

function facts(changes: Partial<ExchangeFacts> = {}): ExchangeFacts {
  return { traceId: newTraceId(NOW), atMs: NOW, address: "127.0.0.1", ...changes };
}

function issueRequest(partner: Partner, principal: Principal, key: Uint8Array | undefined): IssueRequest {
  return {
    client: partner,
    principal,
    spend: key && { key, expiresAtMs: NOW + 60_000 },
    facts: facts({ clientId: partner.clientId, partnerId: partner.clientId }),
  };
}

const SERVICE_ACCOUNT: Principal = { kind: "service_account" };

describe.each(DIALECTS)("the store on %s", (dialect) => {
  let database: TestDatabase;
  /** Two nodes on one database. */
  let nodes: [Store, Store];
  let store: Store;

  beforeAll(async () => {
    database = await createTestDatabase(dialect);
    const open = () => openStore(database.location, () => undefined);
    store = await open();
    nodes = [store, await open()];
  });
  afterAll(async () => {
    for (const node of nodes) await node.close();
    await database.drop();
  });

  async function createPartner(changes: Partial<NewPartner> = {}): Promise<Partner> {
    const created = await store.partners.create(newPartner(changes), NOW);
    if (created === "issuer_taken") throw new Error("issuer taken");
    return created;
  }

  /** The same operation, started by many callers at once on both nodes. */
  function race<T>(operation: (node: Store, caller: number) => Promise<T>): Promise<T[]> {
    return Promise.all(Array.from({ length: CALLERS }, (_, caller) => operation(nodes[caller % 2] as Store, caller)));
  }

  describe("partners", () => {
    test("a created partner is found whole, and the same object until it changes", async () => {
      const created = await createPartner({ name: "Ünïcode 漢字 🦊" });
      const found = await store.partners.find(created.clientId);
      expect(found).toMatchObject({ name: "Ünïcode 漢字 🦊", status: "active", version: 1, createdAtMs: NOW, allowedScopes: ["thread"] });
      expect(found?.secrets).toHaveLength(1);
      expect(await store.partners.find(created.clientId)).toBe(found);
      await store.partners.update(created.clientId, { name: "Other" }, NOW + 1);
      expect(await store.partners.find(created.clientId)).toMatchObject({
        name: "Other",
        version: 2,
        updatedAtMs: NOW + 1,
        issuer: created.issuer,
      });
      expect(await nodes[1].partners.find(created.clientId)).toMatchObject({ name: "Other", version: 2 });
    });

    test("an absent partner is absent", async () => {
      expect(await store.partners.find(newClientId())).toBeUndefined();
      expect(await store.partners.update(newClientId(), { name: "x" }, NOW)).toBe("absent");
    });

    test("an issuer belongs to one partner, on creation and on change", async () => {
      const first = await createPartner({ issuer: "https://one.example" });
      expect(await store.partners.create(newPartner({ issuer: "https://one.example" }), NOW)).toBe("issuer_taken");
      const second = await createPartner();
      expect(await store.partners.update(second.clientId, { issuer: first.issuer }, NOW)).toBe("issuer_taken");
      expect(await store.partners.find(second.clientId)).toMatchObject({ issuer: second.issuer, version: 1 });
    });

    test("of 16 callers that register one issuer, one wins", async () => {
      const created = await race((node) => node.partners.create(newPartner({ issuer: "https://raced.example" }), NOW));
      expect(created.filter((partner) => partner !== "issuer_taken")).toHaveLength(1);
      const movers = await Promise.all(Array.from({ length: CALLERS }, () => createPartner()));
      const moved = await race((node, caller) =>
        node.partners.update((movers[caller] as Partner).clientId, { issuer: "https://moved.example" }, NOW),
      );
      expect(moved.filter((partner) => partner !== "issuer_taken")).toHaveLength(1);
    });

    test("of 16 callers that change different fields, no change is lost", async () => {
      const { clientId } = await createPartner();
      await race((node, caller) =>
        node.partners.update(clientId, caller % 2 === 0 ? { name: `n${caller}` } : { clockSkewSeconds: caller }, NOW),
      );
      const after = await store.partners.find(clientId);
      expect(after?.version).toBe(1 + CALLERS);
      expect(after?.name).toMatch(/^n\d+$/);
      expect((after?.clockSkewSeconds ?? 0) % 2).toBe(1);
    });

    test("pages through all partners, each once", async () => {
      const created = await Promise.all(Array.from({ length: 7 }, () => createPartner()));
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
      const { clientId } = await createPartner();
      const added = await race((node) =>
        node.partners.addSecret(clientId, { secretId: newSecretId(), hash: randomBytes(32), pepperId: "p", createdAtMs: NOW }, 2),
      );
      expect(added.filter((result) => result === "added")).toHaveLength(1);
      expect(await store.partners.listSecrets(clientId)).toHaveLength(2);
      expect((await nodes[1].partners.find(clientId))?.secrets).toHaveLength(2);
    });

    test("one in use is kept, unless it is forced; a removed one is gone on both nodes", async () => {
      const partner = await createPartner();
      const secretId = partner.secrets[0]?.secretId ?? "";
      await store.exchanges.issue({
        ...issueRequest(partner, SERVICE_ACCOUNT, undefined),
        facts: facts({ partnerId: partner.clientId, secretId }),
      });
      expect(await store.partners.listSecrets(partner.clientId)).toMatchObject([{ secretId, lastUsedAtMs: NOW }]);
      expect(await store.partners.removeSecret(partner.clientId, secretId, NOW - 1)).toBe("in_use");
      expect(await store.partners.removeSecret(newClientId(), secretId, undefined)).toBe("absent");
      expect(await store.partners.removeSecret(partner.clientId, secretId, undefined)).toBe("removed");
      expect((await nodes[1].partners.find(partner.clientId))?.secrets).toEqual([]);
    });
  });

  describe("accounts", () => {
    test("organization and workspace come both or not at all", async () => {
      const { clientId } = await createPartner();
      const first = newHome({ org: "org-1", workspace: "ws-1" });
      expect(await store.accounts.createOrganizationAndWorkspace(clientId, first.organization, first.workspace, NOW)).toBe("created");
      const clash = newHome({ org: "org-2", workspace: "ws-1" });
      expect(await store.accounts.createOrganizationAndWorkspace(clientId, clash.organization, clash.workspace, NOW)).toBe(
        "external_workspace_id_taken",
      );
      expect(await database.query("SELECT org_id FROM organizations WHERE partner_id = $1", [clientId])).toEqual([
        { org_id: first.organization.orgId },
      ]);
      const repeated = newHome({ org: "org-1" });
      expect(await store.accounts.createOrganizationAndWorkspace(clientId, repeated.organization, repeated.workspace, NOW)).toBe(
        "external_org_id_taken",
      );
    });

    test("a user is found by either id, and only by its own partner", async () => {
      const [own, other] = [await createPartner(), await createPartner()];
      const { organization, workspace } = newHome();
      await store.accounts.createOrganizationAndWorkspace(own.clientId, organization, workspace, NOW);
      const user = newUser(workspace.workspaceId, "ext-1");
      expect(await store.accounts.createUser(own.clientId, user, NOW)).toEqual({ ...user, orgId: organization.orgId });
      for (const key of [{ userId: user.userId }, { externalUserId: "ext-1" }]) {
        expect(await store.accounts.findUser(own.clientId, key)).toEqual({ ...user, orgId: organization.orgId });
        expect(await store.accounts.findUser(other.clientId, key)).toBeUndefined();
      }
      expect(await store.accounts.createUser(other.clientId, newUser(workspace.workspaceId), NOW)).toBe("workspace_absent");
    });

    test("of 16 callers that create one external id, one does, and its row stays", async () => {
      const { clientId } = await createPartner();
      const homes = await race((node) => {
        const home = newHome({ org: "raced" });
        return node.accounts
          .createOrganizationAndWorkspace(clientId, home.organization, home.workspace, NOW)
          .then((result) => ({ result, home }));
      });
      const winner = homes.filter(({ result }) => result === "created");
      expect(winner).toHaveLength(1);
      const { workspaceId } = winner[0]?.home.workspace ?? { workspaceId: "" };
      const users = await race((node) => node.accounts.createUser(clientId, newUser(workspaceId, "raced"), NOW));
      expect(users.filter((user) => user !== "external_user_id_taken")).toHaveLength(1);
    });
  });

  describe("issuing", () => {
    test("of 16 callers with one spend key, one is issued and 15 are replays; all are recorded", async () => {
      const partner = await createPartner();
      for (let round = 0; round < 50; round++) {
        const key = randomBytes(16);
        const verdicts = await race((node) => node.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key)));
        expect(verdicts.filter((verdict) => verdict.code === "issued")).toHaveLength(1);
        expect(verdicts.filter((verdict) => verdict.code === "refused" && verdict.refusal.code === "token_replayed")).toHaveLength(
          CALLERS - 1,
        );
      }
      const [granted] = await database.query("SELECT count(*) AS n FROM exchanges WHERE partner_id = $1 AND outcome = 'granted'", [
        partner.clientId,
      ]);
      expect(Number(granted?.["n"])).toBe(50);
      const [refused] = await database.query("SELECT count(*) AS n FROM exchanges WHERE partner_id = $1 AND refusal = 'token_replayed'", [
        partner.clientId,
      ]);
      expect(Number(refused?.["n"])).toBe(50 * (CALLERS - 1));
    });

    test("a spend key is a partner's own", async () => {
      const key = randomBytes(16);
      for (const partner of [await createPartner(), await createPartner()]) {
        expect(await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key))).toMatchObject({ code: "issued" });
      }
    });

    test("a partner that changed since it was read is not issued for, and nothing is spent or recorded", async () => {
      const partner = await createPartner();
      await nodes[1].partners.update(partner.clientId, { status: "disabled" }, NOW);
      const key = randomBytes(16);
      expect(await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key))).toEqual({ code: "client_changed" });
      expect(await database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId])).toEqual([]);
      expect(await database.query("SELECT 1 FROM exchanges WHERE partner_id = $1", [partner.clientId])).toEqual([]);
    });

    test("a user is found in the one namespace; a disabled one, or one above it, is refused and nothing is spent", async () => {
      const partner = await createPartner();
      const { organization, workspace } = newHome();
      await store.accounts.createOrganizationAndWorkspace(partner.clientId, organization, workspace, NOW);
      const user = newUser(workspace.workspaceId, "ext-user");
      await store.accounts.createUser(partner.clientId, user, NOW);
      const issue = (namespace: "user_id" | "external_user_id", id: string) =>
        store.exchanges.issue(issueRequest(partner, { kind: "user", namespace, id }, randomBytes(16)));
      const subject = { kind: "user", userId: user.userId, workspaceId: workspace.workspaceId, organizationId: organization.orgId };
      expect(await issue("user_id", user.userId)).toEqual({ code: "issued", subject });
      expect(await issue("external_user_id", "ext-user")).toEqual({ code: "issued", subject });
      expect(await issue("user_id", "ext-user")).toEqual({ code: "refused", refusal: { code: "subject_unknown" } });
      expect(await issue("external_user_id", user.userId)).toEqual({ code: "refused", refusal: { code: "subject_unknown" } });
      const spent = await database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId]);
      for (const [table, column, id, entity] of [
        ["users", "user_id", user.userId, "user"],
        ["workspaces", "workspace_id", workspace.workspaceId, "workspace"],
        ["organizations", "org_id", organization.orgId, "organization"],
      ] as const) {
        await database.query(`UPDATE ${table} SET status = 'disabled' WHERE ${column} = $1`, [id]);
        expect(await issue("user_id", user.userId)).toEqual({ code: "refused", refusal: { code: "subject_disabled", entity } });
        await database.query(`UPDATE ${table} SET status = 'active' WHERE ${column} = $1`, [id]);
      }
      expect(await database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId])).toHaveLength(spent.length);
    });

    test("a mixed batch gives each job its own verdict, and a refusal is recorded with its detail", async () => {
      const [first, second] = [await createPartner(), await createPartner()];
      const key = randomBytes(16);
      const refusal = { code: "parameter_repeated", parameter: "scope\0\ud800" } as const;
      const refused = facts({ clientId: "x\0y" });
      const verdicts = await Promise.all([
        store.exchanges.issue(issueRequest(first, SERVICE_ACCOUNT, key)),
        store.exchanges.recordRefusal(refused, refusal),
        store.exchanges.issue(issueRequest(second, { kind: "user", namespace: "user_id", id: randomUUID() }, randomBytes(16))),
        store.exchanges.issue(issueRequest(first, SERVICE_ACCOUNT, key)),
        store.exchanges.issue(issueRequest(second, SERVICE_ACCOUNT, key)),
      ]);
      expect(verdicts.map((verdict) => verdict?.code)).toEqual(["issued", undefined, "refused", "refused", "issued"]);
      const [row] = await database.query("SELECT * FROM exchanges WHERE trace_id = $1", [refused.traceId]);
      expect(row).toMatchObject({ outcome: "refused", refusal: "parameter_repeated", client_id: "x\uFFFDy", partner_id: null });
    });

    test("spent tokens are forgotten when they have expired, and not before", async () => {
      const partner = await createPartner();
      const keys = Array.from({ length: 5 }, () => randomBytes(16));
      for (const key of keys) await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key));
      expect(await store.exchanges.purgeSpent(NOW + 60_000)).toBe(0);
      expect(await store.exchanges.purgeSpent(NOW + 60_001)).toBeGreaterThanOrEqual(keys.length);
      expect(await database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId])).toEqual([]);
    });
  });

  describe("signing keys", () => {
    test("of 16 nodes that start at once, one makes the current key", async () => {
      const key = (kid: string) => ({
        kid,
        algorithm: "ES256",
        state: "current" as const,
        publicJwk: { kid },
        sealedPrivateKey: randomBytes(8),
        sealingKeyId: "k",
      });
      await race((node, caller) => node.signingKeys.addIfAbsent(key(`kid-${caller}`), NOW));
      expect(await store.signingKeys.list()).toHaveLength(1);
    });
  });

  test("no column keeps a secret but as a keyed hash or sealed", async () => {
    const columns =
      dialect === "sqlite"
        ? await database.query(
            "SELECT m.name AS table_name, p.name AS column_name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'",
          )
        : await database.query("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'");
    expect(columns.length).toBeGreaterThan(60);
    const suspicious = columns
      .map((row) => `${String(row["table_name"])}.${String(row["column_name"])}`)
      .filter((name) => /secret|token|private|password|pepper|assertion|credential/.test(name.split(".")[1] ?? ""));
    // an id or a keyed hash, or sealed under the master key; anything else that sounds like a secret has to be argued for here
    expect(suspicious.toSorted()).toEqual([
      "exchanges.token_id",
      "partner_secrets.pepper_id",
      "partner_secrets.secret_hash",
      "partner_secrets.secret_id",
      "signing_keys.private_key_sealed",
    ]);
  });
});
