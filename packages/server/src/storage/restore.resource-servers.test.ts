import { randomBytes } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newResourceServerId, newSecretId } from "../ids.ts";
import { newPartner, NOW } from "../testing/store.ts";
import { backUpStore } from "./backup.ts";
import { openStore } from "./kysely-store.ts";
import { restoreStore } from "./restore.ts";
import { StoreFiles } from "./store-file.ts";

const ID = newResourceServerId();
const SECRETS = [newSecretId(), newSecretId()] as const;
const KEY = {
  kid: "k1",
  algorithm: "ES256",
  state: "current",
  publicJwk: {},
  sealedPrivateKey: randomBytes(4),
  sealingKeyId: "m",
} as const;
/** As `ResourceServerStore.remove` does it. */
const REMOVE_API = ["DELETE FROM at.resource_server_secrets", "DELETE FROM at.resource_servers"];

let folder: string;
let template: string;
let storePath: string;
let file: string;

const newSecret = (secretId: string) => ({ secretId, hash: randomBytes(32), pepperId: "p", createdAtMs: NOW });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "cambist-restore-"));
  const seeded = join(folder, "seeded.db");
  const store = await openStore({ sqlitePath: seeded }, () => undefined);
  await store.partners.create(newPartner(), NOW);
  await store.signingKeys.addIfAbsent(KEY, NOW);
  const api = { resourceServerId: ID, name: "Files", audience: "https://files.example", createdAtMs: NOW, updatedAtMs: NOW };
  await store.resourceServers.create(api, newSecret(SECRETS[0]));
  await store.resourceServers.addSecret(ID, newSecret(SECRETS[1]), 2);
  template = join(folder, "template.db");
  await backUpStore(seeded, template);
  await store.close();
});
beforeEach(() => {
  const dataDir = mkdtempSync(join(folder, "data-"));
  storePath = join(dataDir, "cambist.db");
  file = join(dataDir, "backup");
  for (const path of [storePath, file]) copyFileSync(template, path);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function withReplaced<T>(work: (files: StoreFiles) => T): Promise<T> {
  const files = await StoreFiles.open();
  try {
    files.attach(storePath, "at");
    return work(files);
  } finally {
    files.close();
  }
}

const change = (...statements: string[]) => withReplaced((files) => statements.forEach((statement) => files.exec(statement)));
const restore = async () => (await restoreStore({ file, storePath, ignoreReplaced: false })).withdrawals?.secretsRemoved;
const secretsLeft = () =>
  withReplaced((files) => {
    const rows = files.rows<{ secret_id: string }>(`SELECT secret_id FROM at.resource_server_secrets WHERE resource_server_id = '${ID}'`);
    return rows.map((row) => row.secret_id).toSorted();
  });

describe("a restore, of an API's secrets", () => {
  test("brings back those that the replaced store has, too", async () => {
    expect(await restore()).toBe(0);
    expect(await secretsLeft()).toEqual(SECRETS.toSorted());
  });

  test("does not bring back one that was removed since", async () => {
    await change(`DELETE FROM at.resource_server_secrets WHERE secret_id = '${SECRETS[1]}'`);
    expect(await restore()).toBe(1);
    expect(await secretsLeft()).toEqual([SECRETS[0]]);
  });

  test("does not bring back any where the API itself was removed since", async () => {
    await change(...REMOVE_API);
    expect(await restore()).toBe(2);
    expect(await secretsLeft()).toEqual([]);
  });

  test.each([
    ["a partner", ["DELETE FROM at.signing_keys"]],
    ["a signing key", ["DELETE FROM at.partner_secrets", "DELETE FROM at.partners"]],
  ])("does not bring back any of a removed API where the two stores have no more than %s in common", async (_name, statements) => {
    await change(...REMOVE_API, ...statements);
    expect(await restore()).toBe(2);
    expect(await secretsLeft()).toEqual([]);
  });

  test("brings back all where the replaced store was begun anew", async () => {
    await change(...REMOVE_API, "DELETE FROM at.partner_secrets", "DELETE FROM at.partners", "DELETE FROM at.signing_keys");
    expect(await restore()).toBe(0);
    expect(await secretsLeft()).toEqual(SECRETS.toSorted());
  });
});
