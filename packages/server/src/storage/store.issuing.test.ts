import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  CALLERS,
  createHome,
  createUser,
  facts,
  issueRequest,
  NOW,
  openTestStore,
  SERVICE_ACCOUNT,
  type TestStore,
} from "../testing/store.ts";
import type { Store } from "./store.ts";

describe.each(DIALECTS)("issuing and keys in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  describe("issuing", () => {
    test("of 16 callers with one spend key, one is issued and 15 are replays; all are recorded", async () => {
      const partner = await opened.createPartner();
      for (let round = 0; round < 50; round++) {
        const key = randomBytes(16);
        const verdicts = await opened.race((node) => node.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key)));
        expect(verdicts.filter((verdict) => verdict.code === "issued")).toHaveLength(1);
        expect(verdicts.filter((verdict) => verdict.code === "refused" && verdict.refusal.code === "token_replayed")).toHaveLength(
          CALLERS - 1,
        );
      }
      const [granted] = await opened.database.query("SELECT count(*) AS n FROM exchanges WHERE partner_id = $1 AND outcome = 'granted'", [
        partner.clientId,
      ]);
      expect(Number(granted?.["n"])).toBe(50);
      const [refused] = await opened.database.query(
        "SELECT count(*) AS n FROM exchanges WHERE partner_id = $1 AND refusal = 'token_replayed'",
        [partner.clientId],
      );
      expect(Number(refused?.["n"])).toBe(50 * (CALLERS - 1));
    });

    test("a spend key is a partner's own", async () => {
      const key = randomBytes(16);
      for (const partner of [await opened.createPartner(), await opened.createPartner()]) {
        expect(await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key))).toMatchObject({ code: "issued" });
      }
    });

    test("a partner that changed since it was read is not issued for, and nothing is spent or recorded", async () => {
      const partner = await opened.createPartner();
      await opened.nodes[1].partners.update(partner.clientId, { status: "disabled" }, () => NOW);
      const key = randomBytes(16);
      expect(await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key))).toEqual({ code: "client_changed" });
      expect(await opened.database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId])).toEqual([]);
      expect(await opened.database.query("SELECT 1 FROM exchanges WHERE partner_id = $1", [partner.clientId])).toEqual([]);
    });

    test("a user is found in the one namespace; a disabled one, or one above it, is refused and nothing is spent", async () => {
      const partner = await opened.createPartner();
      const { orgId, workspaceId } = await createHome(store, partner.clientId);
      const { user_id: userId } = await createUser(store, partner.clientId, workspaceId, "ext-user");
      const issue = (namespace: "user_id" | "external_user_id", id: string) =>
        store.exchanges.issue(issueRequest(partner, { kind: "user", namespace, id }, randomBytes(16)));
      const subject = { kind: "user", userId, workspaceId, organizationId: orgId };
      expect(await issue("user_id", userId)).toEqual({ code: "issued", subject });
      expect(await issue("external_user_id", "ext-user")).toEqual({ code: "issued", subject });
      expect(await issue("user_id", "ext-user")).toEqual({ code: "refused", refusal: { code: "subject_unknown" } });
      expect(await issue("external_user_id", userId)).toEqual({ code: "refused", refusal: { code: "subject_unknown" } });
      const spent = await opened.database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId]);
      for (const [table, column, id, entity] of [
        ["users", "user_id", userId, "user"],
        ["workspaces", "workspace_id", workspaceId, "workspace"],
        ["organizations", "org_id", orgId, "organization"],
      ] as const) {
        await opened.database.query(`UPDATE ${table} SET status = 'disabled' WHERE ${column} = $1`, [id]);
        expect(await issue("user_id", userId)).toEqual({ code: "refused", refusal: { code: "subject_disabled", entity } });
        await opened.database.query(`UPDATE ${table} SET status = 'active' WHERE ${column} = $1`, [id]);
      }
      expect(await opened.database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId])).toHaveLength(
        spent.length,
      );
    });

    test("a mixed batch gives each job its own verdict, and a refusal is recorded with its detail", async () => {
      const [first, second] = [await opened.createPartner(), await opened.createPartner()];
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
      const [row] = await opened.database.query("SELECT * FROM exchanges WHERE trace_id = $1", [refused.traceId]);
      expect(row).toMatchObject({ outcome: "refused", refusal: "parameter_repeated", client_id: "x\uFFFDy", partner_id: null });
    });

    test("spent tokens are forgotten when they have expired, and not before", async () => {
      const partner = await opened.createPartner();
      const keys = Array.from({ length: 5 }, () => randomBytes(16));
      for (const key of keys) await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, key));
      expect(await store.exchanges.purgeSpent(NOW + 60_000)).toBe(0);
      expect(await store.exchanges.purgeSpent(NOW + 60_001)).toBeGreaterThanOrEqual(keys.length);
      expect(await opened.database.query("SELECT 1 FROM spent_tokens WHERE partner_id = $1", [partner.clientId])).toEqual([]);
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
      await opened.race((node, caller) => node.signingKeys.addIfAbsent(key(`kid-${caller}`), NOW));
      expect(await store.signingKeys.list()).toHaveLength(1);
    });
  });

  test("no column keeps a secret but as a keyed hash or sealed", async () => {
    const columns =
      dialect === "sqlite"
        ? await opened.database.query(
            "SELECT m.name AS table_name, p.name AS column_name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'",
          )
        : await opened.database.query("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'");
    expect(columns.length).toBeGreaterThan(60);
    const suspicious = columns
      .map((row) => `${String(row["table_name"])}.${String(row["column_name"])}`)
      .filter((name) => /secret|token|private|password|pepper|assertion|credential/.test(name.split(".")[1] ?? ""));
    // an id or a keyed hash, or sealed under the master key; anything else that sounds like a secret has to be argued for here
    expect(suspicious.toSorted()).toEqual([
      "exchanges.token_id",
      "opaque_tokens.pepper_id",
      "opaque_tokens.token_hash",
      "opaque_tokens.token_id",
      "partner_secrets.pepper_id",
      "partner_secrets.secret_hash",
      "partner_secrets.secret_id",
      "resource_server_secrets.pepper_id",
      "resource_server_secrets.secret_hash",
      "resource_server_secrets.secret_id",
      "signing_keys.private_key_sealed",
    ]);
  });
});
