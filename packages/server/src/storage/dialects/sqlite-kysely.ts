import { Kysely, type SqliteDatabase as KyselySqliteDatabase, SqliteDialect } from "kysely";
import type { Schema } from "../schema.ts";
import type { SqliteDatabase } from "./sqlite-driver.ts";

const STATEMENTS_MAX = 500;

const NOTHING = { reader: false, all: () => [], run: () => ({ changes: 0, lastInsertRowid: 0 }), iterate: () => [].values() };

type Statement = ReturnType<KyselySqliteDatabase["prepare"]>;

function prepare(database: SqliteDatabase, text: string): Statement {
  const prepared = database.prepare(text);
  return {
    reader: prepared.columns().length > 0, // asked once: it makes an object for each column
    all: (parameters) => prepared.all(...(parameters as never[])),
    run: (parameters) => prepared.run(...(parameters as never[])),
    iterate: (parameters) => prepared.iterate(...(parameters as never[])),
  };
}

/** Kysely over the synchronous driver. Statements are prepared once and kept; a transaction takes the write lock at its start. @param beforeCommit is called right before one commits. */
export function kyselyOverSqlite(database: SqliteDatabase, beforeCommit?: () => void): Kysely<Schema> {
  const statements = new Map<string, Statement>();
  const adapted: KyselySqliteDatabase = {
    close: () => database.close(),
    prepare(text) {
      if (text === "rollback" && !database.isTransaction) return NOTHING; // a full disk has undone the transaction already
      if (text === "commit") beforeCommit?.(); // it is prepared for each, and run in the same stretch
      const sql = text === "begin" ? "begin immediate" : text;
      const known = statements.get(sql);
      if (known !== undefined) return known;
      if (statements.size >= STATEMENTS_MAX) statements.clear();
      const prepared = prepare(database, sql);
      statements.set(sql, prepared);
      return prepared;
    },
  };
  return new Kysely<Schema>({ dialect: new SqliteDialect({ database: adapted }) });
}
