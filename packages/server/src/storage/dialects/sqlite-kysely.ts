import { Kysely, type SqliteDatabase as KyselySqliteDatabase, SqliteDialect } from "kysely";
import type { Schema } from "../schema.ts";
import type { SqliteDatabase, SqliteStatement } from "./sqlite-driver.ts";

const STATEMENTS_MAX = 500;

const NOTHING = { reader: false, all: () => [], run: () => ({ changes: 0, lastInsertRowid: 0 }), iterate: () => [].values() };

/** Kysely over the synchronous driver. Statements are prepared once and kept; a transaction takes the write lock at its start. */
export function kyselyOverSqlite(database: SqliteDatabase): Kysely<Schema> {
  const statements = new Map<string, SqliteStatement>();
  const adapted: KyselySqliteDatabase = {
    close: () => database.close(),
    prepare(text) {
      if (text === "rollback" && !database.isTransaction) return NOTHING; // a full disk has undone the transaction already
      const sql = text === "begin" ? "begin immediate" : text;
      let statement = statements.get(sql);
      if (statement === undefined) {
        if (statements.size >= STATEMENTS_MAX) statements.clear();
        statement = database.prepare(sql);
        statements.set(sql, statement);
      }
      const prepared = statement;
      return {
        reader: prepared.columns().length > 0,
        all: (parameters) => prepared.all(...(parameters as never[])),
        run: (parameters) => prepared.run(...(parameters as never[])),
        iterate: (parameters) => prepared.iterate(...(parameters as never[])),
      };
    },
  };
  return new Kysely<Schema>({ dialect: new SqliteDialect({ database: adapted }) });
}
