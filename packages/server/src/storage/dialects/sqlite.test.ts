import { StoreUnavailable } from "@cambist/protocol";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { createTestDatabase } from "../../testing/database.ts";

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
