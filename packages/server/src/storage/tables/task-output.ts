import { CompiledQuery, type RawBuilder, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import type { EventBatch, TaskOutput, ThreadKey } from "../thread-store.ts";

/**
 * What tasks bring about: that of all of them in one statement for each table, or a few. Whoever does not know whether it was written, since the connection was
 * lost, writes it again with what has come since, and that takes its place.
 */

/** Chunks are kept as long for those who come back; the message that they add up to stays. */
const STREAMED_KEPT_MS = 24 * 3600 * 1000;

export type Unpacking = Pick<Dialect, "unpack" | "name">;

export async function writeOutputs(
  db: Transaction<Schema>,
  dialect: Unpacking,
  outputs: readonly TaskOutput[],
  nowMs: number,
): Promise<void> {
  await writeEvents(db, dialect, outputs, nowMs + STREAMED_KEPT_MS);
  await writeArtifacts(db, dialect, outputs);
  await writeLogs(db, dialect, outputs);
}

const THREAD = { partner_id: "text", thread_id: "text" } as const;
const threadOf = ({ partnerId, threadId }: ThreadKey) => ({ partner_id: partnerId, thread_id: threadId });

/** Nothing where a batch is empty. `expiresAtMs` null: they stay with their thread. */
export async function writeEvents(
  db: Transaction<Schema>,
  dialect: Unpacking,
  batches: readonly EventBatch[],
  expiresAtMs: number | null,
): Promise<void> {
  const rows = batches
    .filter(({ events }) => events.length > 0)
    .map((batch) => ({
      ...threadOf(batch),
      first_id: batch.firstId,
      last_id: batch.firstId + batch.events.length - 1,
      events: JSON.stringify(batch.events),
    }));
  if (dialect.name === "sqlite") return insertBound(db, rows, expiresAtMs);
  const columns = { ...THREAD, first_id: "bigint", last_id: "bigint", events: "text" } as const;
  await unlessEmpty(db, dialect, { rows, columns }, (unpacked) => {
    return sql`${sql.raw(INSERTION)} SELECT partner_id, thread_id, first_id, last_id, events, CAST(${expiresAtMs} AS bigint) FROM ${unpacked} r
      ${sql.raw(REPLACEMENT)}`;
  });
}

const INSERTION = "INSERT INTO thread_events (partner_id, thread_id, first_id, last_id, events, expires_at)";
const REPLACEMENT = `ON CONFLICT (partner_id, thread_id, first_id)
  DO UPDATE SET last_id = excluded.last_id, events = excluded.events, expires_at = excluded.expires_at`;

/** Of one statement, largest first: few texts, each of which is prepared once. */
const BOUND_ROWS = [128, 16, 1].map((count) => ({
  count,
  text: `${INSERTION} VALUES ${Array.from({ length: count }, () => "(?, ?, ?, ?, ?, ?)").join(", ")} ${REPLACEMENT}`,
}));

interface NewEventRow {
  readonly partner_id: string;
  readonly thread_id: string;
  readonly first_id: number;
  readonly last_id: number;
  readonly events: string;
}

/** As values that are bound: taking them out of JSON costs SQLite more than to insert them. PostgreSQL would wait for each statement's way there and back. */
async function insertBound(db: Transaction<Schema>, rows: readonly NewEventRow[], expiresAtMs: number | null): Promise<void> {
  let at = 0;
  for (const { count, text } of BOUND_ROWS) {
    for (; rows.length - at >= count; at += count) {
      const values = rows
        .slice(at, at + count)
        .flatMap((row) => [row.partner_id, row.thread_id, row.first_id, row.last_id, row.events, expiresAtMs]);
      await db.executeQuery(CompiledQuery.raw(text, values));
    }
  }
}

async function writeArtifacts(db: Transaction<Schema>, dialect: Unpacking, outputs: readonly TaskOutput[]): Promise<void> {
  const rows = outputs.flatMap((output) =>
    output.artifacts.map(({ artifactId, artifact }) => ({
      ...threadOf(output),
      artifact_id: artifactId,
      artifact: JSON.stringify(artifact),
    })),
  );
  const columns = { ...THREAD, artifact_id: "text", artifact: "text" } as const;
  await unlessEmpty(db, dialect, { rows, columns }, (unpacked) => {
    // SQLite takes ON CONFLICT for a join's ON without a WHERE
    return sql`INSERT INTO thread_artifacts (partner_id, thread_id, artifact_id, artifact)
      SELECT partner_id, thread_id, artifact_id, artifact FROM ${unpacked} r WHERE true
      ON CONFLICT (partner_id, thread_id, artifact_id) DO NOTHING`;
  });
}

async function writeLogs(db: Transaction<Schema>, dialect: Unpacking, outputs: readonly TaskOutput[]): Promise<void> {
  const rows = outputs
    .filter(({ log }) => log !== undefined)
    .map((output) => ({ ...threadOf(output), progress_log: JSON.stringify(output.log) }));
  await unlessEmpty(db, dialect, { rows, columns: { ...THREAD, progress_log: "text" } }, (unpacked) => {
    return sql`UPDATE threads SET progress_log = r.progress_log FROM ${unpacked} r
      WHERE threads.partner_id = r.partner_id AND threads.thread_id = r.thread_id`;
  });
}

async function unlessEmpty(
  db: Transaction<Schema>,
  dialect: Unpacking,
  { rows, columns }: { readonly rows: readonly object[]; readonly columns: Readonly<Record<string, "text" | "bigint">> },
  statement: (unpacked: RawBuilder<unknown>) => RawBuilder<unknown>,
): Promise<void> {
  if (rows.length > 0) await statement(dialect.unpack(JSON.stringify(rows), columns)).execute(db);
}
