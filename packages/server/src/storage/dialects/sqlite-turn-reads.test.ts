import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSqlite, type SqliteDatabase } from "./sqlite-driver.ts";
import { TurnReads } from "./sqlite-turn-reads.ts";

describe("reads of one turn of the event loop", () => {
  let folder: string;
  let own: SqliteDatabase;
  let other: SqliteDatabase;
  let turn: TurnReads;
  const count = () => turn.read(() => (own.prepare("SELECT count(*) AS n FROM rows").get() as { n: number }).n);
  const nextTurn = () => new Promise(setImmediate);
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "cambist-turn-reads-"));
    own = await openSqlite(join(folder, "store.db"));
    other = await openSqlite(join(folder, "store.db"));
    own.exec("CREATE TABLE rows (id INTEGER PRIMARY KEY)");
    turn = new TurnReads(own);
  });
  afterEach(() => {
    turn.end();
    own.close();
    other.close();
    rmSync(folder, { recursive: true });
  });

  test("see one state of the store, and what was written meanwhile from the next turn on", async () => {
    expect(count()).toBe(0);
    other.exec("INSERT INTO rows DEFAULT VALUES");
    await Promise.resolve();
    expect(count()).toBe(0);
    await nextTurn();
    expect(own.isTransaction).toBe(false);
    expect(count()).toBe(1);
  });

  test("see at once what was written before the end that a writer brings about, on this connection or another", () => {
    expect(count()).toBe(0);
    other.exec("INSERT INTO rows DEFAULT VALUES");
    turn.end();
    expect(count()).toBe(1);
    turn.end();
    own.exec("INSERT INTO rows DEFAULT VALUES");
    expect(count()).toBe(2);
  });

  test("a read that throws, or ends the transaction, leaves nothing open", async () => {
    expect(() => turn.read(() => own.prepare("SELECT * FROM nothing"))).toThrow("nothing");
    await nextTurn();
    expect(own.isTransaction).toBe(false);
    turn.read(() => own.exec("ROLLBACK"));
    await nextTurn();
    expect(count()).toBe(0);
  });
});
