import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newSecretId } from "../ids.ts";
import { DIALECTS } from "../testing/database.ts";
import { CALLERS, NOW, openTestStore, type TestStore } from "../testing/store.ts";
import type { SigningKeyStore, StoredSigningKey } from "./store.ts";
import { MASTER_KEY_COLUMNS } from "./tables/master-key-uses.ts";

const DAY_MS = 86_400_000;
const PUBLISHED_A_DAY = { notBeforeMs: NOW, publishedMsMin: DAY_MS };

const newKey = (kid: string, state: "current" | "next"): StoredSigningKey => ({
  kid,
  algorithm: "ES256",
  state,
  publicJwk: { kid },
  sealedPrivateKey: randomBytes(8),
  sealingKeyId: "old",
});

describe.each(DIALECTS)("signing keys in the store on %s", (dialect) => {
  let opened: TestStore;
  let keys: SigningKeyStore;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    keys = opened.nodes[0].signingKeys;
  });
  afterAll(() => opened.close());
  beforeEach(async () => {
    await opened.database.query("DELETE FROM signing_keys");
    await keys.addIfAbsent(newKey("k1", "current"), NOW);
    await keys.addIfAbsent(newKey("k2", "next"), NOW);
  });

  const states = async () => Object.fromEntries((await keys.list()).map(({ kid, state }) => [kid, state]));
  const retire = { dropAfterMs: NOW + DAY_MS };

  describe("a switch", () => {
    test("makes the next key the current one, publishes its successor, and leaves nothing of the former one's private half", async () => {
      const switched = await keys.switch({ from: "k1", former: retire, successor: newKey("k3", "next") }, NOW + 5);
      expect(switched).toEqual(await keys.list());
      expect(await keys.list()).toMatchObject([
        { kid: "k1", state: "retired", dropAfterMs: NOW + DAY_MS, sealingKeyId: "" },
        { kid: "k2", state: "current", signsFromMs: NOW + 5, sealingKeyId: "old" },
        { kid: "k3", state: "next", signsFromMs: undefined, createdAtMs: NOW + 5 },
      ]);
      const [row] = await opened.database.query("SELECT length(private_key_sealed) AS bytes FROM signing_keys WHERE kid = 'k1'");
      expect(row).toEqual({ bytes: 0 });
      expect((await keys.list())[0]?.sealedPrivateKey).toHaveLength(0);
    });

    test("happens once, of 16 callers that decided on it at once", async () => {
      const outcomes = await opened.race((node, caller) =>
        node.signingKeys.switch({ from: "k1", former: retire, successor: newKey(`s${caller}`, "next") }, NOW),
      );
      expect(outcomes.filter((outcome) => outcome === "outdated")).toHaveLength(CALLERS - 1);
      const after = await states();
      expect(Object.keys(after)).toHaveLength(3);
      expect(after).toMatchObject({ k1: "retired", k2: "current" });
    });

    test("in an emergency drops the former key, those that were retired before it, and every key of another algorithm", async () => {
      await keys.addIfAbsent({ ...newKey("r1", "current"), algorithm: "RS256" }, NOW);
      await keys.switch({ from: "k1", former: retire, successor: newKey("k3", "next") }, NOW);
      await keys.addIfAbsent({ ...newKey("r2", "current"), algorithm: "RS256" }, NOW);
      await keys.switch({ from: "k2", former: "drop", successor: newKey("k4", "next") }, NOW);
      expect(await states()).toEqual({ k3: "current", k4: "next" });
    });

    test("retires every key of another algorithm too, and leaves those that are retired already their time", async () => {
      await keys.addIfAbsent({ ...newKey("r1", "current"), algorithm: "RS256" }, NOW);
      await keys.switch({ from: "k1", former: retire, successor: newKey("k3", "next") }, NOW);
      await keys.addIfAbsent({ ...newKey("r2", "next"), algorithm: "RS256" }, NOW);
      const later = { dropAfterMs: NOW + 2 * DAY_MS };
      await keys.switch({ from: "k2", former: later, successor: newKey("k4", "next") }, NOW);
      const others = (await keys.list()).filter(({ algorithm }) => algorithm === "RS256");
      const gone = { state: "retired", sealingKeyId: "", sealedPrivateKey: expect.toSatisfy((sealed: Uint8Array) => sealed.length === 0) };
      expect(others).toMatchObject([
        { kid: "r1", dropAfterMs: retire.dropAfterMs, ...gone },
        { kid: "r2", dropAfterMs: later.dropAfterMs, ...gone },
      ]);
    });

    test("from a key that is no longer the current one does nothing", async () => {
      for (const former of ["drop", retire] as const) {
        expect(await keys.switch({ from: "k2", former, successor: newKey("k3", "next") }, NOW)).toBe("outdated");
      }
      expect(await states()).toEqual({ k1: "current", k2: "next" });
    });

    test("without a next key is undone as a whole", async () => {
      await opened.database.query("DELETE FROM signing_keys WHERE kid = 'k2'");
      await expect(keys.switch({ from: "k1", former: "drop", successor: newKey("k3", "next") }, NOW)).rejects.toThrow(/no next ES256/);
      expect(await states()).toEqual({ k1: "current" });
    });
  });

  describe("a schedule", () => {
    const scheduled = async (when: { notBeforeMs: number; publishedMsMin: number }) =>
      (await keys.schedule("ES256", when)).find(({ state }) => state === "next")?.signsFromMs;

    test("waits until the next key has been published for long enough, or for the time that is asked for", async () => {
      expect(await scheduled(PUBLISHED_A_DAY)).toBe(NOW + DAY_MS);
      await opened.database.query("UPDATE signing_keys SET signs_from = NULL");
      expect(await scheduled({ notBeforeMs: NOW + 2 * DAY_MS, publishedMsMin: DAY_MS })).toBe(NOW + 2 * DAY_MS);
    });

    test("is brought forward and never put off, and leaves all other keys alone", async () => {
      await scheduled({ notBeforeMs: NOW + 3 * DAY_MS, publishedMsMin: DAY_MS });
      expect(await scheduled({ notBeforeMs: NOW + 2 * DAY_MS, publishedMsMin: DAY_MS })).toBe(NOW + 2 * DAY_MS);
      expect(await scheduled({ notBeforeMs: NOW + 3 * DAY_MS, publishedMsMin: DAY_MS })).toBe(NOW + 2 * DAY_MS);
      expect(await keys.schedule("RS256", PUBLISHED_A_DAY)).toEqual(await keys.list());
      expect((await keys.list())[0]?.signsFromMs).toBeUndefined();
    });

    test("is one, of 16 callers at once", async () => {
      const all = await opened.race((node, caller) =>
        node.signingKeys.schedule("ES256", { notBeforeMs: NOW + 2 * DAY_MS + caller, publishedMsMin: DAY_MS }),
      );
      expect(all).toHaveLength(CALLERS);
      expect((await keys.list())[1]?.signsFromMs).toBe(NOW + 2 * DAY_MS);
    });

    test("that has come stays on record as the time from which the key signs", async () => {
      await scheduled({ notBeforeMs: NOW, publishedMsMin: 0 });
      await keys.switch({ from: "k1", former: retire, successor: newKey("k3", "next") }, NOW + 999);
      expect((await keys.list()).find(({ kid }) => kid === "k2")?.signsFromMs).toBe(NOW);
    });
  });

  test("a retired key is dropped when its time is over, and not before", async () => {
    await keys.switch({ from: "k1", former: retire, successor: newKey("k3", "next") }, NOW);
    await keys.dropRetired(NOW + DAY_MS - 1);
    expect(Object.keys(await states())).toHaveLength(3);
    await keys.dropRetired(NOW + DAY_MS);
    expect(await states()).toEqual({ k2: "current", k3: "next" });
  });

  test("of two nodes that seal a key anew, one does, and a retired key is not given a private half again", async () => {
    const seals = await opened.race(async (node, caller) => {
      const sealed = randomBytes(4 + caller);
      await node.signingKeys.reseal("k2", "old", { sealed, keyId: "new" });
      return sealed.toString("hex");
    });
    const [, k2] = await keys.list();
    expect(k2?.sealingKeyId).toBe("new");
    expect(seals).toContain(Buffer.from(k2?.sealedPrivateKey ?? []).toString("hex"));
    await keys.switch({ from: "k1", former: retire, successor: newKey("k3", "next") }, NOW);
    await keys.reseal("k1", "old", { sealed: randomBytes(4), keyId: "new" });
    expect((await keys.list())[0]).toMatchObject({ kid: "k1", sealingKeyId: "" });
  });
});

describe.each(DIALECTS)("master keys in the store on %s", (dialect) => {
  let opened: TestStore;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
  });
  afterAll(() => opened.close());

  test("what hangs on each is counted, and every column that names one is in the list", async () => {
    const { signingKeys } = opened.nodes[0];
    await signingKeys.addIfAbsent(newKey("k1", "current"), NOW);
    await signingKeys.addIfAbsent({ ...newKey("k2", "next"), sealingKeyId: "new" }, NOW);
    const secret = { secretId: newSecretId(), hash: randomBytes(32), pepperId: "old" };
    for (const pepperId of ["old", "old", "new"]) await opened.createPartner({ secret: { ...secret, pepperId } });
    const uses = await signingKeys.listMasterKeyUses();
    expect(uses.map(({ masterKeyId, what, count }) => `${masterKeyId} ${what} ${count}`).toSorted()).toEqual([
      "new secrets 1",
      "new signing_keys 1",
      "old secrets 2",
      "old signing_keys 1",
    ]);
    const named = await opened.database.query(
      dialect === "sqlite"
        ? "SELECT m.name || '.' || p.name AS name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'"
        : "SELECT table_name || '.' || column_name AS name FROM information_schema.columns WHERE table_schema = 'public'",
    );
    const columns = named.map(({ name }) => String(name)).filter((name) => /\.(?:pepper|sealing_key)_id$/.test(name));
    expect(columns.toSorted()).toEqual(MASTER_KEY_COLUMNS.map(({ table, column }) => `${table}.${column}`).toSorted());
  });

  test("a secret is hashed anew once, by whichever of 16 callers is first, and every node reads it so from then on", async () => {
    const before = { secretId: newSecretId(), hash: randomBytes(32), pepperId: "old" };
    const { clientId, version } = await opened.createPartner({ secret: before });
    await opened.nodes[1].partners.find(clientId);
    const after = { hash: randomBytes(32), pepperId: "new" };
    await opened.race((node) => node.partners.rehashSecret(clientId, before.secretId, before.hash, after));
    for (const node of opened.nodes) {
      const partner = await node.partners.find(clientId);
      expect(partner?.version).toBe(version + 1);
      expect(partner?.secrets).toMatchObject([{ secretId: before.secretId, pepperId: "new" }]);
      expect(Buffer.from(partner?.secrets[0]?.hash ?? [])).toEqual(after.hash);
    }
    await opened.nodes[0].partners.rehashSecret(clientId, before.secretId, before.hash, { hash: randomBytes(32), pepperId: "other" });
    const other = await opened.createPartner();
    await opened.nodes[0].partners.rehashSecret(other.clientId, before.secretId, after.hash, {
      hash: randomBytes(32),
      pepperId: randomUUID(),
    });
    expect((await opened.nodes[0].partners.find(clientId))?.secrets[0]?.pepperId).toBe("new");
  });
});
