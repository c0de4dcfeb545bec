import { type Kysely, sql } from "kysely";

type Dialect = "sqlite" | "postgres";

/**
 * Threads, what was said in them, the work that is not done yet, and what was streamed. Everything of a thread goes with it, and a thread with its
 * user. One without a user is deleted, and what is in it on its way out. A row of `thread_tasks` is there exactly as long as its message has no answer: a
 * thread without one is idle.
 */
export async function threads(db: Kysely<never>, dialect: Dialect): Promise<void> {
  await createThreads(db);
  await createMessages(db);
  await createTasks(db);
  await createEvents(db);
  await ofThread(db, "thread_artifacts")
    .addColumn("artifact_id", "text", (column) => column.notNull())
    .addColumn("artifact", "text", (column) => column.notNull())
    .addPrimaryKeyConstraint("thread_artifacts_key", ["partner_id", "thread_id", "artifact_id"])
    .execute();
  if (dialect === "postgres") await fixDistinctPartners(db);
}

async function createThreads(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("threads")
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("thread_id", "text", (column) => column.notNull())
    .addColumn("user_id", "text")
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("message_count", "bigint", (column) => column.notNull())
    .addColumn("last_message_at", "bigint", (column) => column.notNull())
    .addColumn("progress_log", "text")
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("updated_at", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("threads_key", ["partner_id", "thread_id"])
    .addForeignKeyConstraint("threads_user", ["partner_id", "user_id"], "users", ["partner_id", "user_id"], (key) =>
      key.onDelete("cascade"),
    )
    .execute();
  await db.schema
    .createIndex("threads_deleted")
    .on("threads")
    .columns(["user_id", "partner_id", "thread_id"])
    .where(sql<boolean>`user_id IS NULL`)
    .execute();
  await db.schema.createIndex("threads_of_user").on("threads").columns(["partner_id", "user_id", "created_at", "thread_id"]).execute();
}

/** A table whose rows go with their thread. */
function ofThread(db: Kysely<never>, table: string) {
  return db.schema
    .createTable(table)
    .addColumn("partner_id", "text", (column) => column.notNull())
    .addColumn("thread_id", "text", (column) => column.notNull())
    .addForeignKeyConstraint(`${table}_thread`, ["partner_id", "thread_id"], "threads", ["partner_id", "thread_id"], (key) =>
      key.onDelete("cascade"),
    );
}

async function createMessages(db: Kysely<never>): Promise<void> {
  await ofThread(db, "thread_messages")
    .addColumn("position", "bigint", (column) => column.notNull())
    .addColumn("message_id", "text", (column) => column.notNull())
    .addColumn("task_id", "text", (column) => column.notNull())
    .addColumn("is_user_message", "integer", (column) => column.notNull())
    .addColumn("message", "text", (column) => column.notNull())
    .addColumn("citations", "text", (column) => column.notNull())
    .addColumn("sent_at", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("thread_messages_key", ["partner_id", "thread_id", "position"])
    .execute();
  await db.schema
    .createIndex("thread_messages_time")
    .on("thread_messages")
    .columns(["partner_id", "thread_id", "sent_at", "position"])
    .execute();
}

async function createTasks(db: Kysely<never>): Promise<void> {
  await ofThread(db, "thread_tasks")
    .addColumn("task_id", "text", (column) => column.notNull())
    .addColumn("position", "bigint", (column) => column.notNull())
    .addColumn("lease_id", "text", (column) => column.notNull())
    .addColumn("lease_until", "bigint")
    .addColumn("attempts", "integer", (column) => column.notNull())
    .addColumn("first_event_id", "bigint")
    .addColumn("is_cancelled", "integer", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("thread_tasks_key", ["partner_id", "task_id"])
    .execute();
  await db.schema
    .createIndex("thread_tasks_of_thread")
    .unique()
    .on("thread_tasks")
    .columns(["partner_id", "thread_id", "position"])
    .execute();
  await db.schema.createIndex("thread_tasks_waiting").on("thread_tasks").columns(["lease_until", "created_at"]).execute();
}

async function createEvents(db: Kysely<never>): Promise<void> {
  await ofThread(db, "thread_events")
    .addColumn("first_id", "bigint", (column) => column.notNull())
    .addColumn("last_id", "bigint", (column) => column.notNull())
    .addColumn("events", "text", (column) => column.notNull())
    .addColumn("expires_at", "bigint")
    .addPrimaryKeyConstraint("thread_events_key", ["partner_id", "thread_id", "first_id"])
    .execute();
  await db.schema.createIndex("thread_events_expiry").on("thread_events").column("expires_at").execute();
}

/** As for the tables of accounts: partners are few, and large. */
async function fixDistinctPartners(db: Kysely<never>): Promise<void> {
  for (const table of ["threads", "thread_messages", "thread_tasks", "thread_events", "thread_artifacts"]) {
    await sql`ALTER TABLE ${sql.table(table)} ALTER COLUMN partner_id SET (n_distinct = 10)`.execute(db);
  }
}
