import { type RawBuilder, sql, type Transaction } from "kysely";
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

/** Few enough to be held in memory; whoever has erased them looks again. */
const DELETED_AT_ONCE = 1_000;

/** Takes it from its user, so that it is absent to everybody from one moment to the next; {@link ThreadEraser} does the rest. False: absent. */
export async function deleteThread(dialect: Dialect, { partnerId, userId }: ThreadOwner, threadId: string): Promise<boolean> {
  return (await dialect.write((db) => takeThreads(db, partnerId, sql`thread_id = ${threadId} AND user_id = ${userId}`))) > 0n;
}

/** Of users that are about to be erased: left to the cascade, all that they ever wrote would go in one statement. {@link ThreadEraser} does the rest. */
export async function takeThreadsFrom(db: Transaction<Schema>, partnerId: string, userIds: readonly string[]): Promise<void> {
  await takeThreads(db, partnerId, sql`user_id IN (${sql.join(userIds)})`);
}

/**
 * With their tasks, so that whoever works on one, on whichever node, has lost its lease at once. Those first, and then the thread's row, as in the end
 * of a task: in PostgreSQL, two that hold what the other one wants would wait for each other. Gives the number of threads.
 */
async function takeThreads(db: Transaction<Schema>, partnerId: string, whose: RawBuilder<unknown>): Promise<bigint> {
  const own = sql`partner_id = ${partnerId} AND ${whose}`;
  await sql`DELETE FROM thread_tasks WHERE partner_id = ${partnerId} AND thread_id IN (SELECT thread_id FROM threads WHERE ${own})`.execute(
    db,
  );
  const taken = await sql`UPDATE threads SET user_id = NULL WHERE ${own}`.execute(db);
  return taken.numAffectedRows ?? 0n;
}

/**
 * Erases what deleted threads have left, one after the other, however many ask for it: an erasure of all that a partner has may take minutes, and
 * nobody waits for it. Several nodes may be at the same ones, which does no harm.
 */
export class ThreadEraser {
  private readonly dialect: Dialect;
  private underWay: Promise<void> | undefined;
  private isAsked = false;
  private isClosed = false;

  constructor(dialect: Dialect) {
    this.dialect = dialect;
  }

  /** Begins, and does not wait. Where the store is away meanwhile, the purge goes on with it, and hears of whatever else goes wrong. */
  start(): void {
    this.run().catch(() => undefined);
  }

  /** Resolves when all is erased that was deleted by now, or when it is closed. @throws StoreUnavailable */
  run(): Promise<void> {
    this.isAsked = true;
    return (this.underWay ??= this.eraseAll());
  }

  /** Stops between two steps; the purge of the next start goes on. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.underWay?.catch(() => undefined);
  }

  private async eraseAll(): Promise<void> {
    await Promise.resolve(); // so that `underWay` is set by the time that this ends
    try {
      while (this.isAsked && !this.isClosed) {
        this.isAsked = false;
        const deleted = await this.dialect.read((db) =>
          db.selectFrom("threads").select(["partner_id", "thread_id"]).where("user_id", "is", null).limit(DELETED_AT_ONCE).execute(),
        );
        for (const row of deleted) await this.erase({ partnerId: row.partner_id, threadId: row.thread_id });
        this.isAsked ||= deleted.length === DELETED_AT_ONCE;
      }
    } finally {
      this.underWay = undefined;
    }
  }

  /**
   * In short transactions: with 100,000 messages, a single one would hold everybody up for most of a second. Tasks go first (one may have been sent at
   * the moment of the deletion), and nothing is added from then on.
   */
  private async erase(key: ThreadKey): Promise<void> {
    await this.step((db) => db.deleteFrom("thread_tasks").where(whereThread(key)).execute());
    for (const contents of CONTENTS) {
      let last: number | string | undefined;
      do last = await this.step((db) => eraseSome(db, key, contents, last));
      while (last !== undefined);
    }
    await this.step((db) => db.deleteFrom("threads").where(whereThread(key)).execute());
  }

  private async step<T>(work: (db: Transaction<Schema>) => Promise<T>): Promise<T | undefined> {
    return this.isClosed ? undefined : this.dialect.write(work);
  }
}

/**
 * The first ones behind `after`; gives the id of the last, undefined where there are no more. As a range, and not from the start each time: PostgreSQL
 * would read past all that was erased before.
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
  return found.rows.length < countMax ? undefined : last;
}
