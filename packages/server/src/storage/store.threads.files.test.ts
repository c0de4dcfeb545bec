import { randomBytes, randomUUID } from "node:crypto";
import { StoreUnavailable } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { CALLERS, NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { createOwner, createThread, erased, requireTask, WAITING_MAX } from "../testing/threads.ts";
import type { Dialect } from "./dialect.ts";
import { storeOver } from "./kysely-store.ts";
import type { Store } from "./store.ts";
import type { NewFile, ThreadOwner } from "./thread-store.ts";

const MIB = 1024 * 1024;
const LIMITS = { countMax: 100, bytesMax: 100 * MIB };

describe.each(DIALECTS)("files of threads in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  let owner: ThreadOwner;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
    owner = await createOwner(opened);
  });
  afterAll(() => opened.close());

  const fileOf = (content: Uint8Array, name = "report.pdf"): NewFile => ({
    fileId: randomUUID(),
    name,
    mediaType: "application/pdf",
    content,
  });
  const add = (threadId: string, file: NewFile, limits = LIMITS, of = owner, node = store) =>
    node.threads.addFile(of, threadId, file, { ...limits, nowMs: NOW });

  /** Gives its id. */
  async function addTo(threadId: string, content: Uint8Array = randomBytes(10), of = owner): Promise<string> {
    const file = fileOf(content);
    expect(await add(threadId, file, LIMITS, of)).toBe("added");
    return file.fileId;
  }

  async function rowsOf(threadId: string): Promise<number> {
    const [row] = await opened.database.query("SELECT count(*) AS n FROM thread_files WHERE thread_id = $1", [threadId]);
    return Number(row?.["n"]);
  }

  const send = (threadId: string, fileIds: readonly string[]) => {
    const ids = { messageId: randomUUID(), taskId: randomUUID() };
    return store.threads.send(owner, threadId, { ...ids, message: "see", fileIds }, { nowMs: NOW, waitingMax: WAITING_MAX });
  };

  test("a file comes back byte for byte, up to 10 MiB, and empty", async () => {
    const threadId = await createThread(store, owner);
    const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    for (const content of [every, Buffer.alloc(0), randomBytes(10 * MIB)]) {
      const file = fileOf(content, "naïve € 🧵.pdf");
      expect(await add(threadId, file)).toBe("added");
      const { fileId, name, mediaType } = file;
      expect(await store.threads.findFiles(owner, threadId, [fileId])).toEqual([{ fileId, name, mediaType, size: content.byteLength }]);
      const read = await store.tasks.readFile({ partnerId: owner.partnerId, threadId }, fileId);
      expect(Buffer.from(read ?? []).equals(content)).toBe(true);
    }
  });

  test("while the store is away, uploads that wait for each other fail together, and the next ones are stored", async () => {
    const threadId = await createThread(store, owner);
    const database = await opened.database.open();
    let writes = 0;
    const write: Dialect["write"] = (work) => (++writes === 1 ? Promise.reject(new StoreUnavailable("away")) : database.write(work));
    const node = storeOver({ ...database, write });
    const uploads = Array.from({ length: 16 }, () => add(threadId, fileOf(randomBytes(1)), LIMITS, owner, node));
    for (const outcome of await Promise.allSettled(uploads)) expect(outcome).toMatchObject({ reason: expect.any(StoreUnavailable) });
    expect(writes).toBe(1);
    expect(await add(threadId, fileOf(randomBytes(1)), LIMITS, owner, node)).toBe("added");
    await node.close();
  });

  test("a file is there for the user of its thread alone, and under its own thread", async () => {
    const [threadId, another] = [await createThread(store, owner), await createThread(store, owner)];
    const fileId = await addTo(threadId);
    const colleague = await createOwner(opened, await createOwner(opened, { partnerId: owner.partnerId }));
    const stranger = await createOwner(opened);
    for (const other of [colleague, stranger, { partnerId: stranger.partnerId, userId: owner.userId }]) {
      expect(await add(threadId, fileOf(randomBytes(1)), LIMITS, other)).toBe("absent");
      expect(await store.threads.findFiles(other, threadId, [fileId])).toBeUndefined();
    }
    expect(await rowsOf(threadId)).toBe(1);
    expect(await store.threads.findFiles(owner, another, [fileId])).toEqual([]);
    expect(await store.tasks.readFile({ partnerId: owner.partnerId, threadId: another }, fileId)).toBeUndefined();
    expect(await store.tasks.readFile({ partnerId: stranger.partnerId, threadId }, fileId)).toBeUndefined();
    expect(await add(randomUUID(), fileOf(randomBytes(1)))).toBe("absent");
  });

  test("of 16 that come at once, over two nodes, as many are stored as the number allows, and as the bytes allow", async () => {
    for (const [limits, stored] of [
      [{ countMax: 5, bytesMax: MIB }, 5],
      [{ countMax: 100, bytesMax: 7_500 }, 7],
    ] as const) {
      const threadId = await createThread(store, owner);
      const outcomes = await opened.race((node) => add(threadId, fileOf(randomBytes(1_000)), limits, owner, node));
      expect(outcomes.toSorted()).toEqual([...Array<string>(stored).fill("added"), ...Array<string>(CALLERS - stored).fill("full")]);
      expect(await rowsOf(threadId)).toBe(stored);
    }
  });

  test("a thread that is full is as it was; a smaller file that fits is still stored; another thread has its own limits", async () => {
    const [threadId, another] = [await createThread(store, owner), await createThread(store, owner)];
    const limits = { countMax: 3, bytesMax: 100 };
    expect(await add(threadId, fileOf(randomBytes(60)), limits)).toBe("added");
    expect(await add(threadId, fileOf(randomBytes(41)), limits)).toBe("full");
    expect(await add(threadId, fileOf(randomBytes(40)), limits)).toBe("added");
    expect(await add(threadId, fileOf(randomBytes(0)), limits)).toBe("added");
    expect(await add(threadId, fileOf(randomBytes(0)), limits)).toBe("full");
    expect(await add(another, fileOf(randomBytes(100)), limits)).toBe("added");
    expect(await rowsOf(threadId)).toBe(3);
  });

  test("an upload leaves the name, the time and the messages of its thread as they were", async () => {
    const user = await createOwner(opened);
    const threadId = await createThread(store, user);
    const before = await store.threads.list(user, { after: undefined, limit: 10 });
    await store.threads.addFile(user, threadId, fileOf(randomBytes(1)), { ...LIMITS, nowMs: NOW + 5_000 });
    expect(await store.threads.list(user, { after: undefined, limit: 10 })).toEqual(before);
  });

  test("the files of a message are found with it, in its order, by whoever takes its task up, however often", async () => {
    const threadId = await createThread(store, owner);
    const [one, two, three] = [await addTo(threadId), await addTo(threadId, randomBytes(20)), await addTo(threadId)];
    await send(threadId, [three, two]);
    const first = await requireTask(store, threadId);
    const later = await requireTask(opened.nodes[1], threadId, NOW + 60_000); // whoever had it died
    for (const task of [first, later]) {
      const question = await store.tasks.findQuestion(task, 10);
      expect(question?.files).toEqual([
        expect.objectContaining({ fileId: three, size: 10 }),
        expect.objectContaining({ fileId: two, size: 20 }),
      ]);
    }
    expect(later.taskId).toBe(first.taskId);
    expect(await store.threads.findFiles(owner, threadId, [one])).toHaveLength(1);
  });

  test("files go with their thread, also where there are more than a step takes, and with their user", async () => {
    const user = await createOwner(opened);
    const [deleted, kept] = [await createThread(store, user), await createThread(store, user)];
    for (let n = 0; n < 5; n++) await addTo(deleted, randomBytes(5), user);
    const fileId = await addTo(kept, randomBytes(5), user);
    expect(await store.threads.delete(user, deleted)).toBe(true);
    await erased(store);
    expect([await rowsOf(deleted), await rowsOf(kept)]).toEqual([0, 1]);
    expect(await add(deleted, fileOf(randomBytes(1)), LIMITS, user)).toBe("absent");
    const target = { partnerId: user.partnerId, key: { id: user.userId }, revisions: undefined };
    await store.accounts.write((writer) => writer.erase("user", target, () => NOW));
    await erased(store);
    expect(await rowsOf(kept)).toBe(0);
    expect(await store.threads.findFiles(user, kept, [fileId])).toBeUndefined();
    expect(await add(kept, fileOf(randomBytes(1)), LIMITS, user)).toBe("absent");
  });
});
