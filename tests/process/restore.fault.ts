import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { StoreFiles } from "../../packages/server/src/storage/store-file.ts";
import { freePort, makeDataDir, runCli, startCli, startServer } from "./spawn.ts";

const ROUNDS = 40;

test(`kill -9 in the middle of a restore, ${ROUNDS} times: the store is the old one or the new one, whole`, async () => {
  const dataDir = makeDataDir();
  const store = join(dataDir.path, "cambist.db");
  const backup = join(dataDir.path, "backup");
  const env = { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" };
  const server = await startServer("sandbox", await freePort(), env);
  server.signal("SIGTERM");
  await server.exited;
  expect((await runCli(["backup", backup], env)).code).toBe(0);
  const outcomes = { old: 0, restored: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    await inStore(store, (files) => files.exec("UPDATE store.partners SET name = 'old'"));
    const restore = startCli(["restore", backup], env);
    await sleep(40 + Math.random() * 260);
    restore.signal("SIGKILL");
    await restore.exited;
    const [partner] = await inStore(store, (files) => {
      files.verify("store");
      return files.rows<{ name: string }>("SELECT name FROM store.partners");
    });
    outcomes[partner?.name === "old" ? "old" : "restored"]++;
    for (const name of readdirSync(dataDir.path))
      if (/^restoring-|replaced-/.test(name)) rmSync(join(dataDir.path, name), { recursive: true });
  }
  console.log(`kill -9 in a restore: ${JSON.stringify(outcomes)}`);
  for (const outcome of Object.values(outcomes)) expect(outcome).toBeGreaterThan(0);
  dataDir.remove();
});

async function inStore<T>(path: string, work: (files: StoreFiles) => T): Promise<T> {
  const files = await StoreFiles.open();
  try {
    files.attach(path, "store");
    return work(files);
  } finally {
    files.close();
  }
}
