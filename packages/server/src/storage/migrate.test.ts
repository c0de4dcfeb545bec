import type { Kysely } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createTestDatabase, DIALECTS, type TestDatabase } from "../testing/database.ts";
import type { Dialect } from "./dialect.ts";
import { migrate, MIGRATION_NAMES } from "./migrate.ts";

describe.each(DIALECTS)("migrations on %s", (dialect) => {
  let database: TestDatabase;
  let nodes: Dialect[];
  beforeEach(async () => {
    database = await createTestDatabase(dialect);
    nodes = [];
  });
  afterEach(async () => {
    for (const node of nodes) await node.close();
    await database.drop();
  });

  async function openNodes(count: number): Promise<Dialect[]> {
    for (let i = 0; i < count; i++) nodes.push(await database.open());
    return nodes;
  }

  test("of 8 nodes that start at once on an empty database, one migrates, and all find the schema", async () => {
    const ran = await Promise.all((await openNodes(8)).map((node) => migrate(node)));
    expect(ran.filter((names) => names.length > 0)).toEqual([MIGRATION_NAMES]);
    expect((await database.query("SELECT name FROM migrations ORDER BY name")).map(({ name }) => name)).toEqual(ran.flat());
    expect(await database.query("SELECT * FROM leases")).toEqual([]);
  });

  test("a second start has nothing to do", async () => {
    const [node] = (await openNodes(1)) as [Dialect];
    await migrate(node);
    expect(await migrate(node)).toEqual([]);
  });

  test("a migration that fails leaves nothing behind, and runs again at the next start", async () => {
    const [node] = (await openNodes(1)) as [Dialect];
    await migrate(node);
    let fail = true;
    const broken = async (db: Kysely<never>) => {
      await db.schema.createTable("later").addColumn("id", "text").execute();
      if (fail) throw new Error("half way");
    };
    const all = [
      ["0001-first", () => Promise.resolve()],
      ["0002-later", broken],
    ] as const;
    await expect(migrate(node, all)).rejects.toThrow("half way");
    await expect(database.query("SELECT * FROM later")).rejects.toThrow();
    fail = false;
    expect(await migrate(node, all)).toEqual(["0002-later"]);
    expect(await database.query("SELECT * FROM later")).toEqual([]);
  });

  test("the lease of a node that died runs out", async () => {
    const [node] = (await openNodes(1)) as [Dialect];
    await migrate(node);
    const expiresAtMs = Date.now() + 400;
    await database.query("INSERT INTO leases (name, holder, expires_at) VALUES ('migrations', 'a dead node', $1)", [expiresAtMs]);
    expect(
      await migrate(node, [
        ["0001-first", () => Promise.resolve()],
        ["0002-x", () => Promise.resolve()],
      ]),
    ).toEqual(["0002-x"]);
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAtMs);
  });

  test("an older version runs on a newer schema", async () => {
    const [node] = (await openNodes(1)) as [Dialect];
    await migrate(node);
    await database.query("INSERT INTO migrations (name, applied_at) VALUES ('0099-future', 1)");
    expect(await migrate(node)).toEqual([]);
  });
});
