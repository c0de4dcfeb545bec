import fs, { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createHome, createUser, newPartner, NOW } from "../testing/store.ts";
import { backUpStore } from "./backup.ts";
import { openStore } from "./kysely-store.ts";
import { type RestoreReport, restoreStore } from "./restore.ts";
import type { Partner, Store } from "./store.ts";
import { StoreFiles } from "./store-file.ts";

const faults = { at: Infinity, calls: 0 };
const diskSteps = (["linkSync", "renameSync", "fsyncSync", "mkdtempSync", "writeFileSync"] as const).map(
  (name) => [name, fs[name]] as const,
);

function makeStepsFail(): void {
  for (const [name, work] of diskSteps) {
    Reflect.set(fs, name, (...args: unknown[]): unknown => {
      if (faults.calls++ === faults.at) throw new Error("the disk says no");
      return Reflect.apply(work, fs, args);
    });
  }
  syncBuiltinESMExports();
}

/** Other test files run in this process. */
function mendSteps(): void {
  for (const [name, work] of diskSteps) Reflect.set(fs, name, work);
  syncBuiltinESMExports();
}

const KEYS = ["a", "b"].map((x) => ({ kty: "EC", crv: "P-256", x, y: x, kid: x, alg: "ES256" }));
const URL_OF_KEYS = "https://keys.example/jwks.json";

let folder: string;
let template: string;
let partner: Partner;
let byUrl: Partner;

async function seed(store: Store): Promise<void> {
  partner = (await store.partners.create(newPartner({ jwks: { keys: KEYS } }), NOW)) as Partner;
  byUrl = (await store.partners.create(newPartner({ jwks: null, jwksUri: URL_OF_KEYS }), NOW)) as Partner;
  const { workspaceId } = await createHome(store, partner.clientId);
  await createUser(store, partner.clientId, workspaceId);
  for (const [kid, state] of [
    ["k1", "current"],
    ["k2", "next"],
  ] as const) {
    const key = { kid, algorithm: "ES256", state, publicJwk: { kid }, sealedPrivateKey: new Uint8Array(4), sealingKeyId: "m" };
    await store.signingKeys.addIfAbsent(key, NOW);
  }
}

beforeAll(async () => {
  makeStepsFail();
  folder = mkdtempSync(join(tmpdir(), "cambist-restore-"));
  const seeded = join(folder, "seeded.db");
  const store = await openStore({ sqlitePath: seeded }, () => undefined);
  await seed(store);
  template = join(folder, "template.db");
  await backUpStore(seeded, template);
  await store.close();
});
afterAll(() => {
  mendSteps();
  rmSync(folder, { recursive: true });
});

let storePath: string;
let file: string;
let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(folder, "data-"));
  storePath = join(dataDir, "cambist.db");
  file = join(dataDir, "backup");
  for (const path of [storePath, file]) copyFileSync(template, path);
  faults.calls = 0;
});
afterEach(() => {
  faults.at = Infinity;
});

async function change(path: string, ...sql: string[]): Promise<void> {
  await withFile(path, (files) => sql.forEach((statement) => files.exec(statement.replaceAll("@", "at."))));
}

async function query(path: string, sql: string): Promise<Record<string, unknown>[]> {
  return withFile(path, (files) => files.rows<Record<string, unknown>>(sql.replaceAll("@", "at.")));
}

async function withFile<T>(path: string, work: (files: StoreFiles) => T): Promise<T> {
  const files = await StoreFiles.open();
  try {
    files.attach(path, "at");
    return work(files);
  } finally {
    files.close();
  }
}

const restore = (ignoreReplaced = false): Promise<RestoreReport> => restoreStore({ file, storePath, ignoreReplaced });

describe("a restored store", () => {
  test("is the backup, marked with the moment; the replaced one is beside it, and nothing else is", async () => {
    await change(storePath, "UPDATE @partners SET name = 'changed since'");
    const before = Date.now();
    const { restoredAtMs, replaced, migrated, withdrawals } = await restore();
    expect(restoredAtMs).toBeGreaterThanOrEqual(before);
    expect(migrated).toEqual([]);
    expect(await query(storePath, "SELECT DISTINCT name FROM @partners")).toEqual([{ name: "Partner" }]);
    expect(await query(storePath, "SELECT * FROM @store_state")).toEqual([{ name: "restored_at", value: String(restoredAtMs) }]);
    expect(await query(replaced ?? "", "SELECT DISTINCT name FROM @partners")).toEqual([{ name: "changed since" }]);
    expect(statSync(storePath).mode & 0o777).toBe(0o600);
    expect(
      readdirSync(dataDir)
        .map((name) => join(dataDir, name))
        .toSorted(),
    ).toEqual([file, replaced ?? "", storePath].toSorted());
    expect(withdrawals).toEqual({
      erased: { organizations: 0, workspaces: 0, users: 0 },
      disabled: { partners: 0, organizations: 0, workspaces: 0, users: 0 },
      secretsRemoved: 0,
      partnerKeysRemoved: 0,
      partnersWithoutKeys: [],
      signingKeysRemoved: 0,
      settingsDiffer: [],
      partnersMissing: [],
    });
  });

  test("opens like any other, and tells when it was restored", async () => {
    const { restoredAtMs } = await restore();
    const store = await openStore({ sqlitePath: storePath }, () => undefined);
    expect(store.restoredAtSeconds).toBe(restoredAtMs / 1000);
    expect(await store.partners.find(partner.clientId)).toMatchObject({ status: "active", version: partner.version + 1 });
    await store.close();
  });

  test("was never restored earlier than it or the replaced one was, whatever the clock says", async () => {
    const later = Date.now() + 3_600_000;
    await change(file, `INSERT INTO @store_state VALUES ('restored_at', '${later}')`);
    expect((await restore()).restoredAtMs).toBe(later);
    copyFileSync(template, file);
    expect((await restore()).restoredAtMs).toBe(later);
  });

  test("holds no keys that were fetched before the backup", async () => {
    await change(file, `INSERT INTO @partner_jwks (partner_id, jwks_uri, keys) VALUES ('${byUrl.clientId}', '${URL_OF_KEYS}', '[]')`);
    await restore();
    expect(await query(storePath, "SELECT * FROM @partner_jwks")).toEqual([]);
  });

  test("stands alone where there was none", async () => {
    rmSync(storePath);
    expect(await restore()).toMatchObject({ replaced: undefined, withdrawals: undefined });
    expect(await query(storePath, "SELECT count(*) AS n FROM @partners")).toEqual([{ n: 2 }]);
  });

  test("does not play a log into it that another store has left", async () => {
    rmSync(storePath);
    writeFileSync(`${storePath}-wal`, "log");
    await restore();
    expect(existsSync(`${storePath}-wal`)).toBe(false);
    const kept = readdirSync(dataDir).find((name) => /replaced.*-wal$/.test(name));
    expect(readFileSync(join(dataDir, kept ?? ""), "latin1")).toBe("log");
  });

  test("of an earlier schema is brought up to date, and so is a replaced one compared as it is", async () => {
    for (const path of [file, storePath]) {
      await change(
        path,
        "ALTER TABLE @signing_keys DROP COLUMN signs_from",
        "ALTER TABLE @signing_keys DROP COLUMN drop_after",
        ...["thread_messages", "thread_tasks", "thread_events", "thread_artifacts", "thread_files", "threads", "partner_origins"].map(
          (table) => `DROP TABLE @${table}`,
        ),
        ...["rate_limit_buckets", "opaque_tokens", "revocations", "scopes", "resource_server_secrets", "resource_servers"].map(
          (table) => `DROP TABLE @${table}`,
        ),
        "DROP TABLE @idempotent_requests",
        "DROP TABLE @provisioning_quotas",
        "DROP INDEX @users_org_id",
        "DROP INDEX @users_workspace_id",
        "DROP INDEX @workspaces_org_id",
        "ALTER TABLE @users DROP COLUMN org_id",
        ...["organizations", "workspaces", "users"].flatMap((table) => [
          `ALTER TABLE @${table} DROP COLUMN revision`,
          `ALTER TABLE @${table} DROP COLUMN cut_off_at`,
        ]),
        "DROP TABLE @partner_jwks",
        "DROP TABLE @store_state",
        "DROP INDEX @partners_jwks_uri",
        "ALTER TABLE @partners DROP COLUMN jwks_uri",
        "DELETE FROM @migrations WHERE name > '0001-first'",
      );
    }
    await change(storePath, "UPDATE @partners SET status = 'disabled'");
    const { migrated, withdrawals } = await restore();
    expect(migrated[0]).toBe("0002-partner-jwks");
    expect(withdrawals).toMatchObject({ disabled: { partners: 2 }, partnerKeysRemoved: 0 });
    expect(await query(storePath, "SELECT 1 AS whole FROM @users u JOIN @workspaces w ON w.org_id = u.org_id")).toEqual([{ whole: 1 }]);
  });
});

describe("what the replaced store had withdrawn", () => {
  test("stays disabled: partner, organization, workspace, user", async () => {
    for (const table of ["partners", "organizations", "workspaces", "users"])
      await change(storePath, `UPDATE @${table} SET status = 'disabled'`);
    expect((await restore()).withdrawals?.disabled).toEqual({ partners: 2, organizations: 1, workspaces: 1, users: 1 });
    for (const table of ["partners", "organizations", "workspaces", "users"])
      expect(await query(storePath, `SELECT DISTINCT status FROM @${table}`)).toEqual([{ status: "disabled" }]);
  });

  test("stays erased: a user, a workspace and an organization, with the answers that were kept of them", async () => {
    for (const path of [file, storePath]) {
      await change(
        path,
        "INSERT INTO @idempotent_requests SELECT partner_id, x'01', x'02', '{}', user_id, 9e15 FROM @users",
        "INSERT INTO @idempotent_requests SELECT client_id, x'03', x'02', '{}', NULL, 9e15 FROM @partners LIMIT 1",
      );
    }
    await change(storePath, "DELETE FROM @users", "DELETE FROM @workspaces", "DELETE FROM @organizations");
    expect((await restore()).withdrawals?.erased).toEqual({ organizations: 1, workspaces: 1, users: 1 });
    for (const table of ["organizations", "workspaces", "users"]) expect(await query(storePath, `SELECT 1 FROM @${table}`)).toEqual([]);
    expect(await query(storePath, "SELECT answer FROM @idempotent_requests ORDER BY request_key")).toEqual([
      { answer: null },
      { answer: "{}" },
    ]);
  });

  test("stays used: the key of a request whose answer has been erased since", async () => {
    await change(storePath, `INSERT INTO @idempotent_requests VALUES ('${partner.clientId}', x'01', x'02', NULL, 'erased-user', 9e15)`);
    await restore();
    expect(await query(storePath, "SELECT answer, entity_id FROM @idempotent_requests")).toEqual([
      { answer: null, entity_id: "erased-user" },
    ]);
  });

  test("is not erased where the replaced store does not know the partner", async () => {
    await change(storePath, "DELETE FROM @users", "DELETE FROM @workspaces", "DELETE FROM @organizations");
    await change(storePath, "PRAGMA foreign_keys = OFF", "DELETE FROM @partner_secrets", "DELETE FROM @partners");
    expect((await restore()).withdrawals?.erased).toEqual({ organizations: 0, workspaces: 0, users: 0 });
    expect(await query(storePath, "SELECT 1 FROM @users")).toHaveLength(1);
  });

  test("stays removed: a secret, of a partner that the replaced store knows", async () => {
    await change(storePath, `DELETE FROM @partner_secrets WHERE partner_id = '${partner.clientId}'`);
    expect((await restore()).withdrawals).toMatchObject({ secretsRemoved: 1 });
    expect(await query(storePath, "SELECT partner_id FROM @partner_secrets")).toEqual([{ partner_id: byUrl.clientId }]);
  });

  test("stays removed: a registered key, also where it has another name now", async () => {
    const left = JSON.stringify({ keys: [{ ...KEYS[1], kid: "renamed" }] });
    await change(storePath, `UPDATE @partners SET jwks = '${left}' WHERE client_id = '${partner.clientId}'`);
    expect((await restore()).withdrawals).toMatchObject({ partnerKeysRemoved: 1, partnersWithoutKeys: [] });
    const [row] = await query(storePath, `SELECT jwks FROM @partners WHERE client_id = '${partner.clientId}'`);
    expect(JSON.parse(String(row?.["jwks"]))).toEqual({ keys: [KEYS[1]] });
  });

  test("stays removed: a URL of keys that was changed, and keys that went behind a URL", async () => {
    await change(
      storePath,
      `UPDATE @partners SET jwks_uri = 'https://other.example/' WHERE client_id = '${byUrl.clientId}'`,
      `UPDATE @partners SET jwks = 'null', jwks_uri = '${URL_OF_KEYS}' WHERE client_id = '${partner.clientId}'`,
    );
    const { withdrawals } = await restore();
    expect(withdrawals?.partnersWithoutKeys.toSorted()).toEqual([partner.clientId, byUrl.clientId].toSorted());
    expect(withdrawals?.partnerKeysRemoved).toBe(3);
    expect(await query(storePath, "SELECT DISTINCT jwks, jwks_uri FROM @partners")).toEqual([{ jwks: '{"keys":[]}', jwks_uri: null }]);
  });

  test("stays removed: a signing key that was dropped; one that took its turn has it", async () => {
    await change(storePath, "DELETE FROM @signing_keys WHERE kid = 'k1'", "UPDATE @signing_keys SET state = 'current' WHERE kid = 'k2'");
    expect((await restore()).withdrawals).toMatchObject({ signingKeysRemoved: 1 });
    expect(await query(storePath, "SELECT kid, state FROM @signing_keys")).toEqual([{ kid: "k2", state: "current" }]);
  });

  test("stays retired: a signing key, until its time is over, and without the private half that the backup has", async () => {
    await change(
      storePath,
      "UPDATE @signing_keys SET state = 'retired', drop_after = 77, private_key_sealed = x'', sealing_key_id = '' WHERE kid = 'k1'",
      "UPDATE @signing_keys SET state = 'current', signs_from = 66 WHERE kid = 'k2'",
    );
    await restore();
    const columns = "kid, state, signs_from, drop_after, length(private_key_sealed) AS bytes, sealing_key_id";
    expect(await query(storePath, `SELECT ${columns} FROM @signing_keys ORDER BY kid`)).toEqual([
      { kid: "k1", state: "retired", signs_from: null, drop_after: 77, bytes: 0, sealing_key_id: "" },
      { kid: "k2", state: "current", signs_from: 66, drop_after: null, bytes: 4, sealing_key_id: "m" },
    ]);
  });

  test("leaves the signing keys alone where the replaced store was begun anew", async () => {
    for (const table of ["users", "workspaces", "organizations", "partner_secrets", "partners", "signing_keys"])
      await change(storePath, `DELETE FROM @${table}`);
    expect((await restore()).withdrawals).toMatchObject({ signingKeysRemoved: 0, secretsRemoved: 0 });
    expect(await query(storePath, "SELECT count(*) AS n FROM @signing_keys")).toEqual([{ n: 2 }]);
  });

  test("stays spent", async () => {
    await change(storePath, `INSERT INTO @spent_tokens VALUES ('${partner.clientId}', x'01', 9)`);
    await restore();
    expect(await query(storePath, "SELECT partner_id, hex(spend_key) AS k FROM @spent_tokens")).toEqual([
      { partner_id: partner.clientId, k: "01" },
    ]);
  });

  test("moves the version past both, and what else differs is named, not taken over", async () => {
    const settings = JSON.stringify({ clockSkewSeconds: 5 });
    await change(
      storePath,
      `UPDATE @partners SET version = 40, settings = '${settings}' WHERE client_id = '${partner.clientId}'`,
      `INSERT INTO @partners SELECT 'prt_later', name, status, 1, 'i', audience, jwks, settings, 1, 1, NULL FROM @partners WHERE client_id = '${byUrl.clientId}'`,
    );
    expect((await restore()).withdrawals).toMatchObject({ settingsDiffer: [partner.clientId], partnersMissing: ["prt_later"] });
    const [row] = await query(storePath, `SELECT version, settings FROM @partners WHERE client_id = '${partner.clientId}'`);
    expect(row?.["version"]).toBe(41);
    expect(row?.["settings"]).not.toBe(settings);
  });

  test("is all that is taken over: what was given since is not", async () => {
    await change(file, `UPDATE @partners SET status = 'disabled' WHERE client_id = '${partner.clientId}'`);
    await change(
      storePath,
      `INSERT INTO @partner_secrets VALUES ('${partner.clientId}', 'sec_intruder', x'00', 'p', 1, NULL)`,
      `UPDATE @partners SET jwks = '${JSON.stringify({ keys: [...KEYS, { ...KEYS[0], x: "c" }] })}' WHERE client_id = '${partner.clientId}'`,
    );
    await restore();
    const [row] = await query(storePath, `SELECT status, jwks FROM @partners WHERE client_id = '${partner.clientId}'`);
    expect(row?.["status"]).toBe("disabled");
    expect(JSON.parse(String(row?.["jwks"]))).toEqual({ keys: KEYS });
    expect(await query(storePath, "SELECT * FROM @partner_secrets WHERE secret_id = 'sec_intruder'")).toEqual([]);
  });
});

describe("a restore is refused, and the store in place is as it was", () => {
  async function refused(message: RegExp, ignoreReplaced = false): Promise<void> {
    const before = readFileSync(storePath);
    await expect(restore(ignoreReplaced)).rejects.toThrow(message);
    expect(readFileSync(storePath).equals(before)).toBe(true);
    expect(readdirSync(dataDir).filter((name) => /^restoring-|replaced/.test(name))).toEqual([]);
  }

  test("where the file is missing, no database, or another kind of database", async () => {
    rmSync(file);
    await refused(/There is no file/);
    writeFileSync(file, "not a database, but long enough to be taken for one");
    await refused(/not a Cambist store/);
    rmSync(file);
    const files = await StoreFiles.open();
    files.attach(file, "other");
    files.exec("CREATE TABLE other.t (a)");
    files.close();
    await refused(/not a Cambist store/);
  });

  test("where the file is damaged", async () => {
    const bytes = readFileSync(file);
    bytes.fill(0x5a, 4096, bytes.length - 4096);
    writeFileSync(file, bytes);
    await refused(/damaged|cannot be read/);
  });

  test("where the file is of a later version", async () => {
    await change(file, "INSERT INTO @migrations VALUES ('0999-later', 1)");
    await refused(/made by a later version, with 0999-later/);
  });

  test("where the file is the store itself, or a copy of one in use", async () => {
    const kept = file;
    file = storePath;
    await refused(/is the store itself/);
    file = kept;
    writeFileSync(`${file}-wal`, "x");
    await refused(/a store in use, or a copy of one/);
  });

  test("where the store in place is open elsewhere, whatever was asked", async () => {
    const other = await StoreFiles.open();
    other.attach(storePath, "other");
    other.exec("PRAGMA other.journal_mode = WAL");
    other.rows("SELECT * FROM other.partners");
    await expect(restore()).rejects.toThrow(/open in another process/);
    await expect(restore(true)).rejects.toThrow(/open in another process/);
    other.close();
  });

  test("where the store in place cannot be read, unless that is asked for", async () => {
    writeFileSync(storePath, "garbage in the place of a store, longer than a header is");
    await refused(/cannot be read, so what was disabled or removed.*--ignore-replaced/);
    const { replaced, withdrawals } = await restore(true);
    expect(withdrawals).toBeUndefined();
    expect(readFileSync(replaced ?? "", "latin1")).toContain("garbage");
    expect(await query(storePath, "SELECT count(*) AS n FROM @partners")).toEqual([{ n: 2 }]);
  });

  test("where any step on the disk fails", async () => {
    await change(storePath, "UPDATE @partners SET name = 'in place'");
    await restore();
    const steps = faults.calls;
    expect(steps).toBeGreaterThan(5);
    await change(storePath, "UPDATE @partners SET name = 'in place'");
    const names = readdirSync(dataDir);
    for (let at = 0; at < steps; at++) {
      Object.assign(faults, { at, calls: 0 });
      await expect(restore()).rejects.toThrow(/the disk says no/);
      expect(await query(storePath, "SELECT DISTINCT name FROM @partners"), `step ${at}`).toEqual([{ name: "in place" }]);
      expect(readdirSync(dataDir)).toEqual(names);
    }
  });
});
