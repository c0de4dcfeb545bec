import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newPartner, NOW } from "../testing/store.ts";
import { backUpStore } from "./backup.ts";
import { openStore } from "./kysely-store.ts";
import { restoreStore } from "./restore.ts";
import { StoreFiles } from "./store-file.ts";
import type { Partner, Store } from "./store.ts";

const KEPT = "https://z.example";
const ALSO_KEPT = "https://b.example";
const WITHDRAWN = "https://m.example";
const ADDED = "https://added.example";

let folder: string;
let template: string;
let storePath: string;
let file: string;
let partner: Partner;
let other: Partner;

async function withStore<T>(work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore({ sqlitePath: storePath }, () => undefined);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "cambist-restore-"));
  storePath = join(folder, "seeded.db");
  template = join(folder, "template.db");
  await withStore(async ({ partners }) => {
    partner = (await partners.create(newPartner({ allowedOrigins: [KEPT, WITHDRAWN, ALSO_KEPT] }), NOW)) as Partner;
    other = (await partners.create(newPartner({ allowedOrigins: [WITHDRAWN] }), NOW)) as Partner;
    await backUpStore(storePath, template);
  });
});
beforeEach(() => {
  const dataDir = mkdtempSync(join(folder, "data-"));
  storePath = join(dataDir, "cambist.db");
  file = join(dataDir, "backup");
  for (const path of [storePath, file]) copyFileSync(template, path);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A store that was open in this process keeps its lock for a while: this changes the file, as `PartnerStore.update` would. */
async function changeReplaced(...sql: string[]): Promise<void> {
  const files = await StoreFiles.open();
  try {
    files.attach(storePath, "at");
    for (const statement of sql) files.exec(statement);
  } finally {
    files.close();
  }
}

function list(...listed: string[]): Promise<void> {
  const { clientId } = partner;
  return changeReplaced(
    `UPDATE at.partners SET settings = json_set(settings, '$.allowedOrigins', json('${JSON.stringify(listed)}')) WHERE client_id = '${clientId}'`,
    `DELETE FROM at.partner_origins WHERE partner_id = '${clientId}'`,
    ...listed.map((origin) => `INSERT INTO at.partner_origins VALUES ('${clientId}', '${origin}')`),
  );
}

const restore = () => restoreStore({ file, storePath, ignoreReplaced: false });

/** What the setting says, and what the rows say, of each of the two partners. */
async function origins() {
  return withStore(async ({ partners }) => ({
    settings: [(await partners.find(partner.clientId))?.allowedOrigins, (await partners.find(other.clientId))?.allowedOrigins],
    allowed: await Promise.all([KEPT, ALSO_KEPT, WITHDRAWN, ADDED].map((origin) => partners.isOriginAllowed(origin))),
  }));
}

describe("the origins of a restored store", () => {
  test("are those of the backup where nothing was taken away", async () => {
    expect((await restore()).withdrawals).toMatchObject({ settingsDiffer: [] });
    expect(await origins()).toEqual({ settings: [[KEPT, WITHDRAWN, ALSO_KEPT], [WITHDRAWN]], allowed: [true, true, true, false] });
  });

  test("are without what was taken away since, in setting and rows, of that partner only; what was added since is not there", async () => {
    await list(ALSO_KEPT, KEPT, ADDED);
    expect((await restore()).withdrawals).toMatchObject({ settingsDiffer: [partner.clientId] });
    expect(await origins()).toEqual({ settings: [[KEPT, ALSO_KEPT], [WITHDRAWN]], allowed: [true, true, true, false] });
  });

  test("are none where all were taken away; nothing else of the settings changes, and so nothing differs", async () => {
    await list();
    expect((await restore()).withdrawals).toMatchObject({ settingsDiffer: [] });
    expect(await origins()).toEqual({ settings: [[], [WITHDRAWN]], allowed: [false, false, true, false] });
    expect(await withStore((store) => store.partners.find(partner.clientId))).toMatchObject({
      allowedScopes: partner.allowedScopes,
      clockSkewSeconds: partner.clockSkewSeconds,
      rateLimits: null,
    });
  });

  test("are those of the backup where the replaced store is of a version that knew none", async () => {
    await changeReplaced("DROP TABLE at.partner_origins", "DELETE FROM at.migrations WHERE name = '0007-partner-origins'");
    await restore();
    expect((await origins()).allowed).toEqual([true, true, true, false]);
  });
});
