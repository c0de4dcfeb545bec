import { type Kysely, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import { GroupCommit } from "../group-commit.ts";
import type { Schema } from "../schema.ts";
import type { FileLimits, FileOfThread, NewFile, ThreadKey, ThreadOwner, ThreadStore } from "../thread-store.ts";
import { owned, whereLiveThread, whereThread } from "./thread-rows.ts";

export function fileStore(dialect: Dialect): Pick<ThreadStore, "addFile" | "findFiles"> {
  /** One at a time: a commit that many of them share would hold everybody else up, as would many connections that each write one. */
  const queue = new GroupCommit<Upload, Added>(
    (uploads) => Promise.all(uploads.map(({ own, file, at }) => dialect.write((db) => addFile(db, own, file, at)))),
    1,
  );
  return {
    addFile: (owner, threadId, file, at) => queue.submit({ own: { ...owner, threadId }, file, at }),
    findFiles: (owner, threadId, fileIds) =>
      dialect.read(async (db) => {
        const own = { ...owner, threadId };
        return (await isOwned(db, own)) ? listFiles(db, own, fileIds) : undefined;
      }),
  };
}

type Own = ThreadOwner & ThreadKey;
type Added = "added" | "absent" | "full";

interface Upload {
  readonly own: Own;
  readonly file: NewFile;
  readonly at: FileLimits & { readonly nowMs: number };
}

async function isOwned(db: Kysely<Schema>, own: Own): Promise<boolean> {
  return (await owned(db.selectFrom("threads").select("thread_id"), own, own.threadId).executeTakeFirst()) !== undefined;
}

/** The limits are a condition of the statement that counts the file: of many that come at once, each sees those before it. */
async function addFile(
  db: Transaction<Schema>,
  own: Own,
  { fileId, name, mediaType, content }: NewFile,
  { nowMs, countMax, bytesMax }: Upload["at"],
): Promise<Added> {
  const size = content.byteLength;
  const counted = await sql`UPDATE threads SET file_count = file_count + 1, file_bytes = file_bytes + ${size}
    WHERE ${whereThread(own)} AND user_id = ${own.userId} AND file_count < ${countMax} AND file_bytes + ${size} <= ${bytesMax}`.execute(db);
  if (counted.numAffectedRows !== 1n) return (await isOwned(db, own)) ? "full" : "absent";
  const key = { partner_id: own.partnerId, thread_id: own.threadId, file_id: fileId };
  await db
    .insertInto("thread_files")
    .values({ ...key, name, media_type: mediaType, size, created_at: nowMs, content })
    .execute();
  return "added";
}

/** Those of the thread that are named, in the order of the names. Whoever asks has made sure of whose thread it is. */
export async function listFiles(db: Kysely<Schema>, key: ThreadKey, fileIds: readonly string[]): Promise<readonly FileOfThread[]> {
  if (fileIds.length === 0) return [];
  const rows = await db
    .selectFrom("thread_files")
    .select(["file_id", "name", "media_type", "size"])
    .where(whereThread(key))
    .where("file_id", "in", fileIds)
    .execute();
  const files = rows.map((row) => ({ fileId: row.file_id, name: row.name, mediaType: row.media_type, size: row.size }));
  return files.toSorted((a, b) => fileIds.indexOf(a.fileId) - fileIds.indexOf(b.fileId));
}

export async function readFile(db: Kysely<Schema>, key: ThreadKey, fileId: string): Promise<Uint8Array | undefined> {
  const row = await db
    .selectFrom("thread_files")
    .select("content")
    .where(whereLiveThread(key))
    .where("file_id", "=", fileId)
    .executeTakeFirst();
  return row?.content;
}
