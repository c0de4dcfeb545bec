import { sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import type { ThreadKey, ThreadOwner } from "../thread-store.ts";
import { whereThread } from "./thread-rows.ts";

/** By its id, how many of each at once: the longest ones may be 20 MB, and a file 10 MiB, which holds the embedded store's only writer for a moment. */
const CONTENTS = [
  { table: "thread_messages", id: "position", countMax: 200 },
  { table: "thread_events", id: "first_id", countMax: 200 },
  { table: "thread_artifacts", id: "artifact_id", countMax: 20 },
  { table: "thread_files", id: "file_id", countMax: 1 },
] as const;

/** Takes it from its user, so that it is absent to everybody from one moment to the next; then erases it. False: absent. */
export async function deleteThread(dialect: Dialect, { partnerId, userId }: ThreadOwner, threadId: string): Promise<boolean> {
  const key = { partnerId, threadId };
  const taken = await dialect.write((db) =>
    db.updateTable("threads").set({ user_id: null }).where(whereThread(key)).where("user_id", "=", userId).executeTakeFirst(),
  );
  if (taken.numUpdatedRows === 0n) return false;
  await erase(dialect, key);
  return true;
}

/** Of users that are about to be erased: left to the cascade, all that they ever wrote would go in one statement. {@link eraseDeleted} does the rest. */
export async function takeThreadsFrom(db: Transaction<Schema>, partnerId: string, userIds: readonly string[]): Promise<void> {
  await db.updateTable("threads").set({ user_id: null }).where("partner_id", "=", partnerId).where("user_id", "in", userIds).execute();
}

/**
 * In short transactions: with 100,000 messages, a single one would hold everybody up for most of a second. Tasks go first, and nothing is added from
 * then on.
 */
async function erase(dialect: Dialect, key: ThreadKey): Promise<void> {
  await dialect.write((db) => db.deleteFrom("thread_tasks").where(whereThread(key)).execute());
  for (const contents of CONTENTS) {
    let last: number | string | undefined;
    do last = await dialect.write((db) => eraseSome(db, key, contents, last));
    while (last !== undefined);
  }
  await dialect.write((db) => db.deleteFrom("threads").where(whereThread(key)).execute());
}

/**
 * The first ones behind `after`; gives the id of the last. As a range, and not from the start each time: PostgreSQL would read past all that was erased
 * before. Undefined: there were none.
 */
async function eraseSome(
  db: Transaction<Schema>,
  key: ThreadKey,
  { table, id, countMax }: (typeof CONTENTS)[number],
  after: number | string | undefined,
): Promise<number | string | undefined> {
  const [rows, column] = [sql`${sql.table(table)} WHERE ${whereThread(key)}`, sql.ref(id)];
  const behind = after === undefined ? sql`` : sql`AND ${column} > ${after}`;
  const found = await sql<{ id: number | string }>`SELECT ${column} AS id FROM ${rows} ${behind}
    ORDER BY ${column} LIMIT ${sql.lit(countMax)}`.execute(db);
  const [first, last] = [found.rows[0]?.id, found.rows.at(-1)?.id];
  if (last !== undefined) await sql`DELETE FROM ${rows} AND ${column} >= ${first} AND ${column} <= ${last}`.execute(db);
  return last;
}

/** Goes on with deletions that were interrupted; also with one that is under way, which does no harm. */
export async function eraseDeleted(dialect: Dialect): Promise<void> {
  const deleted = await dialect.read((db) =>
    db.selectFrom("threads").select(["partner_id", "thread_id"]).where("user_id", "is", null).execute(),
  );
  for (const row of deleted) await erase(dialect, { partnerId: row.partner_id, threadId: row.thread_id });
}
