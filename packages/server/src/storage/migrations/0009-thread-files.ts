import { type Kysely, sql } from "kysely";

type Dialect = "sqlite" | "postgres";

/**
 * Files that users upload to their threads. A thread counts its own, so that the limits are kept by the one statement that holds its row. The content
 * stands last: who looks at a file's name does not read past it.
 */
export async function threadFiles(db: Kysely<never>, dialect: Dialect): Promise<void> {
  await db.schema
    .createTable("thread_files")
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("thread_id", "text", (column) => column.notNull())
    .addColumn("file_id", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("media_type", "text", (column) => column.notNull())
    .addColumn("size", "bigint", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("content", dialect === "sqlite" ? sql`blob` : sql`bytea`, (column) => column.notNull())
    .addPrimaryKeyConstraint("thread_files_key", ["partner_id", "thread_id", "file_id"])
    .addForeignKeyConstraint("thread_files_thread", ["partner_id", "thread_id"], "threads", ["partner_id", "thread_id"], (key) =>
      key.onDelete("cascade"),
    )
    .execute();
  for (const column of ["file_count", "file_bytes"]) {
    await db.schema
      .alterTable("threads")
      .addColumn(column, "bigint", (added) => added.notNull().defaultTo(0))
      .execute();
  }
  await db.schema
    .alterTable("thread_messages")
    .addColumn("file_ids", "text", (column) => column.notNull().defaultTo("[]"))
    .execute();
  if (dialect === "postgres") await sql`ALTER TABLE thread_files ALTER COLUMN partner_id SET (n_distinct = 10)`.execute(db); // see 0008
}
