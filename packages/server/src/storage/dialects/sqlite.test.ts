import { StoreUnavailable } from "@cambist/protocol";
import { statSync } from "node:fs";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { createTestDatabase } from "../../testing/database.ts";
import { migrate } from "../migrate.ts";

test("the log of the embedded store stays as long as it takes to fill it once, though something is read in every turn of the event loop", async () => {
  const database = await createTestDatabase("sqlite");
  const dialect = await database.open();
  await migrate(dialect);
  await dialect.write((db) => sql`CREATE TABLE notes (id integer PRIMARY KEY, text text)`.execute(db));
  let isWriting = true;
  const readers = Array.from({ length: 4 }, async () => {
    while (isWriting) {
      await dialect.isTokenRevoked("nobody's");
      await new Promise(setImmediate);
    }
  });
  const write = () => dialect.write((db) => sql`INSERT OR REPLACE INTO notes VALUES (1, ${"x".repeat(200_000)})`.execute(db));
  for (let n = 0; n < 500; n++) await write(); // 100 MB
  isWriting = false;
  await Promise.all(readers);
  const [{ path = "" } = {}] = (await database.query("SELECT file AS path FROM pragma_database_list")) as { path?: string }[];
  expect(statSync(`${path}-wal`).size).toBeLessThan(50_000_000);
  await dialect.close();
  await database.drop();
});

test("a full disk refuses a write, alone and in a group, as unavailable; with room again they pass", async () => {
  const database = await createTestDatabase("sqlite");
  const dialect = await database.open();
  const pages = (count: string) => dialect.write((db) => sql`PRAGMA max_page_count = ${sql.raw(count)}`.execute(db));
  const fill = () => dialect.write((db) => sql`INSERT INTO notes (text) VALUES (${"x".repeat(40_000)})`.execute(db).then(() => "written"));
  await dialect.write((db) => sql`CREATE TABLE notes (text text)`.execute(db));
  await pages("5");
  await expect(fill()).rejects.toThrow(StoreUnavailable);
  const group = await Promise.allSettled(Array.from({ length: 5 }, fill));
  for (const result of group) expect(result).toMatchObject({ status: "rejected", reason: expect.any(StoreUnavailable) });
  await pages("10000");
  expect(await Promise.all(Array.from({ length: 5 }, fill))).toEqual(Array(5).fill("written"));
  await dialect.close();
  await database.drop();
});
