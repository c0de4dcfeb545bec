import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createHome, createUser, newPartner, NOW } from "../testing/store.ts";
import { answer, chunks, createThread, outputOf, requireTask, sendMessage, WAITING_MAX } from "../testing/threads.ts";
import { backUpStore } from "./backup.ts";
import { openStore } from "./kysely-store.ts";
import { restoreStore } from "./restore.ts";
import type { Partner, Store } from "./store.ts";
import { StoreFiles } from "./store-file.ts";
import type { ThreadOwner } from "./thread-store.ts";

const TABLES = ["threads", "thread_messages", "thread_tasks", "thread_events", "thread_artifacts", "thread_files"] as const;

let folder: string;
let template: string;
let owner: ThreadOwner;
let colleague: ThreadOwner;
let kept: string;
let deleted: string;
let ofColleague: string;

const open = (sqlitePath: string) => openStore({ sqlitePath }, () => undefined);

const FILE = { name: "report.pdf", mediaType: "application/pdf", content: Buffer.from("what is in it") };

/** One message that is answered, with an artifact, and one that waits, with a file. */
async function fillThread(store: Store, user: ThreadOwner): Promise<string> {
  const threadId = await createThread(store, user);
  await sendMessage(store, user, threadId);
  const task = await requireTask(store, threadId);
  const artifacts = [{ artifactId: "one", artifact: {} }];
  await store.tasks.finish(outputOf(task, { events: chunks("a"), artifacts, log: "log" }), answer(), NOW);
  const fileId = randomUUID();
  await store.threads.addFile(user, threadId, { ...FILE, fileId }, { countMax: 1, bytesMax: 100, nowMs: NOW });
  const ids = { messageId: randomUUID(), taskId: randomUUID() };
  await store.threads.send(user, threadId, { ...ids, message: "question", fileIds: [fileId] }, { nowMs: NOW, waitingMax: WAITING_MAX });
  return threadId;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "cambist-restore-"));
  const seeded = join(folder, "seeded.db");
  const store = await open(seeded);
  const { clientId: partnerId } = (await store.partners.create(newPartner(), NOW)) as Partner;
  const { workspaceId } = await createHome(store, partnerId);
  owner = { partnerId, userId: (await createUser(store, partnerId, workspaceId)).user_id };
  colleague = { partnerId, userId: (await createUser(store, partnerId, workspaceId)).user_id };
  kept = await fillThread(store, owner);
  deleted = await fillThread(store, owner);
  ofColleague = await fillThread(store, colleague);
  template = join(folder, "template.db");
  await backUpStore(seeded, template);
  await store.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

let storePath: string;
let file: string;
beforeEach(() => {
  const dataDir = mkdtempSync(join(folder, "data-"));
  storePath = join(dataDir, "cambist.db");
  file = join(dataDir, "backup");
  for (const path of [storePath, file]) copyFileSync(template, path);
});

async function withFile<T>(path: string, work: (files: StoreFiles) => T): Promise<T> {
  const files = await StoreFiles.open();
  try {
    files.attach(path, "at");
    return work(files);
  } finally {
    files.close();
  }
}

/** How many rows of each thread, by the table; as in the backup it is one of each kind, of messages three and of events two. */
const rowsLeft = () =>
  withFile(storePath, (files) => {
    const found = TABLES.map((table) =>
      files.rows<{ id: string; n: number }>(`SELECT thread_id AS id, count(*) AS n FROM at.${table} GROUP BY 1`),
    );
    return Object.fromEntries(
      [kept, deleted, ofColleague].map((id) => [id, found.map((rows) => rows.find((row) => row.id === id)?.n ?? 0)]),
    );
  });
const change = (path: string, ...statements: string[]) =>
  withFile(path, (files) => statements.forEach((statement) => files.exec(statement)));
/** In a copy: the driver may keep a file open until the garbage collector comes, and nobody may use a store that is restored. */
async function inStore(work: (store: Store) => Promise<unknown>): Promise<void> {
  const copy = `${storePath}.copy`;
  copyFileSync(storePath, copy);
  const store = await open(copy);
  await work(store);
  await store.close();
  copyFileSync(copy, storePath);
}
const restore = () => restoreStore({ file, storePath, ignoreReplaced: false });

const WHOLE = [1, 3, 1, 2, 1, 1];
const NOTHING = [0, 0, 0, 0, 0, 0];

describe("a restore, of threads", () => {
  test("brings back what was said since they were there, and a message without an answer gets one", async () => {
    await change(storePath, "DELETE FROM at.thread_messages", "DELETE FROM at.thread_tasks", "DELETE FROM at.thread_events");
    await restore();
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: WHOLE, [ofColleague]: WHOLE });
    const store = await open(storePath);
    const task = await requireTask(store, kept);
    const { name, mediaType, content } = FILE;
    const [asked] = (await store.tasks.findQuestion(task, 0))?.files ?? [];
    expect(asked).toMatchObject({ name, mediaType, size: content.length });
    expect(Buffer.from((await store.tasks.readFile(task, asked?.fileId ?? "")) ?? [])).toEqual(content);
    expect(await store.tasks.finish(outputOf(task), answer("at last"), NOW + 1)).toHaveLength(1);
    const page = await store.threads.listMessages(owner, kept, { startMs: undefined, endMs: undefined, startIndex: 0, limit: 9 });
    expect(page?.messages.map(({ message }) => message)).toEqual(["question", "answer", "question", "at last"]);
    await store.close();
  });

  test("does not bring back one that was deleted since, nor anything in it", async () => {
    await inStore((store) => store.threads.delete(owner, deleted));
    await restore();
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: NOTHING, [ofColleague]: WHOLE });
  });

  test("does not bring back one whose deletion was interrupted", async () => {
    await change(storePath, `UPDATE at.threads SET user_id = NULL WHERE thread_id = '${deleted}'`);
    await restore();
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: NOTHING, [ofColleague]: WHOLE });
  });

  test("of a backup that was taken in the middle of a deletion goes on with that", async () => {
    for (const path of [file, storePath]) await change(path, `UPDATE at.threads SET user_id = NULL WHERE thread_id = '${deleted}'`);
    await restore();
    const store = await open(storePath);
    await store.tasks.purgeEvents(NOW);
    await store.close();
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: NOTHING, [ofColleague]: WHOLE });
  });

  test("does not bring back those of a user that was erased since", async () => {
    const target = { partnerId: colleague.partnerId, key: { id: colleague.userId }, revisions: undefined };
    await inStore((store) => store.accounts.write((writer) => writer.erase("user", target, () => NOW)));
    expect((await restore()).withdrawals?.erased.users).toBe(1);
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: WHOLE, [ofColleague]: NOTHING });
  });

  test("brings back all of a partner that the replaced store does not know", async () => {
    await change(
      storePath,
      ...["threads", "users", "workspaces", "organizations", "partner_secrets", "partners"].map((table) => `DELETE FROM at.${table}`),
    );
    await restore();
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: WHOLE, [ofColleague]: WHOLE });
  });

  test("brings back all where the replaced store is from before there were threads", async () => {
    const drops = TABLES.toReversed().map((table) => `DROP TABLE at.${table}`);
    await change(storePath, ...drops, "DELETE FROM at.migrations WHERE name = '0008-threads'");
    await restore();
    expect(await rowsLeft()).toEqual({ [kept]: WHOLE, [deleted]: WHOLE, [ofColleague]: WHOLE });
  });
});
