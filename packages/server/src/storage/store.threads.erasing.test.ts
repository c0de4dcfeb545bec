import { randomUUID } from "node:crypto";
import { StoreUnavailable } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { createOwner, createThread, erased, requireTask, sendMessage } from "../testing/threads.ts";
import type { Dialect } from "./dialect.ts";
import { storeOver } from "./kysely-store.ts";
import type { Store } from "./store.ts";
import type { ThreadOwner } from "./thread-store.ts";

describe.each(DIALECTS)("what deleted threads leave, in the store on %s", (name) => {
  let opened: TestStore;
  let other: Store;
  let owner: ThreadOwner;
  beforeAll(async () => {
    opened = await openTestStore(name);
    other = opened.nodes[0];
    owner = await createOwner(opened);
  });
  afterAll(() => opened.close());

  /** A node whose eraser gets as far as `beforeLook` lets it: it begins with the node's only read. */
  async function openNode(beforeLook: () => Promise<void>): Promise<Store> {
    const dialect = await opened.database.open();
    const read: Dialect["read"] = async (query) => {
      await beforeLook();
      return dialect.read(query);
    };
    return storeOver({ ...dialect, read });
  }

  const rowsOf = (threadId: string) => opened.database.query("SELECT position FROM thread_messages WHERE thread_id = $1", [threadId]);

  async function openThread(of = owner): Promise<string> {
    const threadId = await createThread(other, of);
    await sendMessage(other, of, threadId);
    return threadId;
  }

  const eraseUser = (node: Store, { partnerId, userId }: ThreadOwner) =>
    node.accounts.write((writer) => writer.erase("user", { partnerId, key: { id: userId }, revisions: undefined }, () => NOW));

  test("nobody waits for it who deletes a thread or erases a user or a workspace; however many do, one is at it", async () => {
    let looks = 0;
    let [atIt, atItMost] = [0, 0];
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const node = await openNode(async () => {
      looks++;
      atItMost = Math.max(atItMost, ++atIt);
      await gate;
      await new Promise(setImmediate);
      atIt--;
    });
    const [user, below] = [await createOwner(opened), await createOwner(opened)];
    const threads = [await openThread(), await openThread(user), await openThread(below)];
    expect(await node.threads.delete(owner, threads[0] ?? "")).toBe(true);
    await eraseUser(node, user);
    await node.accounts.eraseBelow("workspace", below.partnerId, below.workspaceId);
    const purges = Array.from({ length: 5 }, () => erased(node));
    for (const threadId of threads) expect(await rowsOf(threadId)).toHaveLength(1);
    expect(looks).toBe(1);
    open();
    await Promise.all(purges);
    for (const threadId of threads) expect(await rowsOf(threadId)).toEqual([]);
    expect([atIt, atItMost]).toEqual([0, 1]);
    await node.close();
  });

  test("it is nobody's before it is erased: whoever works on it has lost its lease, and is given nothing of it", async () => {
    const node = await openNode(() => Promise.reject(new StoreUnavailable("away")));
    const user = await createOwner(opened);
    for (const deletion of ["thread", "user"]) {
      const threadId = await openThread(user);
      const file = { fileId: randomUUID(), name: "n", mediaType: "m", content: Buffer.from("x") };
      await other.threads.addFile(user, threadId, file, { countMax: 9, bytesMax: 9, nowMs: NOW });
      const task = await requireTask(other, threadId);
      expect(await other.tasks.readFile(task, file.fileId)).toHaveLength(1);
      if (deletion === "thread") expect(await node.threads.delete(user, threadId)).toBe(true);
      else await eraseUser(node, user);
      expect(await rowsOf(threadId)).toHaveLength(1);
      expect(await other.tasks.renew([task], NOW + 1)).toEqual([]);
      expect(await other.tasks.findQuestion(task, 10)).toBeUndefined();
      expect(await other.tasks.readFile(task, file.fileId)).toBeUndefined();
    }
    await node.close();
  });

  test("a store that is away for it takes nothing back, and the next purge goes on", async () => {
    let isAway = true;
    const node = await openNode(() => (isAway ? Promise.reject(new StoreUnavailable("away")) : Promise.resolve()));
    const threadId = await openThread();
    expect(await node.threads.delete(owner, threadId)).toBe(true);
    await expect(erased(node)).rejects.toThrow(StoreUnavailable);
    expect(await rowsOf(threadId)).toHaveLength(1);
    isAway = false;
    await erased(node);
    expect(await rowsOf(threadId)).toEqual([]);
    await node.close();
  });

  test("what is deleted while others are erased is erased with them", async () => {
    const later = await openThread();
    let looks = 0;
    const node: Store = await openNode(async () => {
      if (looks++ === 1) await node.threads.delete(owner, later);
    });
    await node.threads.delete(owner, await openThread());
    await erased(node); // the first look may be over by now
    await erased(node);
    expect(looks).toBeGreaterThan(1);
    expect(await rowsOf(later)).toEqual([]);
    await node.close();
  });

  test("a node that stops does not wait for all of it, and another one goes on", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const node = await openNode(() => gate);
    const threadId = await openThread();
    await node.threads.delete(owner, threadId);
    const closed = node.close();
    open();
    await closed;
    expect(await rowsOf(threadId)).toHaveLength(1);
    await erased(other);
    expect(await rowsOf(threadId)).toEqual([]);
  });
});
