import { randomUUID } from "node:crypto";
import type { Store } from "../storage/store.ts";
import type { ClaimedTask, StoredEvent, TaskEnd, TaskOutput, ThreadOwner } from "../storage/thread-store.ts";
import { createHome, createUser, NOW, type TestStore } from "./store.ts";

/** Threads in the store, for tests of it. */

export const WAITING_MAX = 5;
export const LEASE_MS = 10_000;

/** A user of a new partner, or of one that is there, in a workspace of its own unless one is given. */
export async function createOwner(
  opened: TestStore,
  home: { readonly partnerId?: string; readonly workspaceId?: string } = {},
): Promise<ThreadOwner & { readonly workspaceId: string }> {
  const [store] = opened.nodes;
  const partnerId = home.partnerId ?? (await opened.createPartner()).clientId;
  const workspaceId = home.workspaceId ?? (await createHome(store, partnerId)).workspaceId;
  return { partnerId, workspaceId, userId: (await createUser(store, partnerId, workspaceId)).user_id };
}

/** Gives its id. */
export async function createThread(store: Store, owner: ThreadOwner, nowMs = NOW): Promise<string> {
  const threadId = randomUUID();
  if ((await store.threads.create(owner, { threadId, name: "Thread" }, nowMs)) === "absent") throw new Error("there is no such user");
  return threadId;
}

/** Resolves when the rows of all threads that are deleted by now are gone: nobody waits for that but a test. */
export async function erased(store: Store): Promise<void> {
  await store.tasks.purgeEvents(0);
}

export interface SentMessage {
  readonly messageId: string;
  readonly taskId: string;
  readonly lastEventId: number;
}

export async function sendMessage(
  store: Store,
  owner: ThreadOwner,
  threadId: string,
  message = "question",
  nowMs = NOW,
): Promise<SentMessage> {
  const ids = { messageId: randomUUID(), taskId: randomUUID() };
  const sent = await store.threads.send(owner, threadId, { ...ids, message }, { nowMs, waitingMax: WAITING_MAX });
  if (typeof sent === "string") throw new Error(sent);
  return { ...ids, ...sent };
}

/** Tasks of this thread alone: other tests of the file have theirs in the same store. */
export async function claimOf(store: Store, threadId: string, nowMs = NOW + 1): Promise<ClaimedTask | undefined> {
  const lease = { leaseId: randomUUID(), untilMs: nowMs + LEASE_MS };
  const claimed = await store.tasks.claim(lease, 1_000, nowMs);
  for (const task of claimed.filter((other) => other.threadId !== threadId)) await store.tasks.release(task);
  return claimed.find((task) => task.threadId === threadId);
}

export async function requireTask(store: Store, threadId: string, nowMs = NOW + 1): Promise<ClaimedTask> {
  const task = await claimOf(store, threadId, nowMs);
  if (task === undefined) throw new Error("there is no task to claim");
  return task;
}

/** Its first events, unless told otherwise. */
export function outputOf(task: ClaimedTask, changes: Partial<TaskOutput> = {}): TaskOutput {
  const { partnerId, threadId, taskId, leaseId, eventsAfter } = task;
  return { partnerId, threadId, taskId, leaseId, firstId: eventsAfter + 1, events: [], artifacts: [], log: undefined, ...changes };
}

export const chunks = (...texts: readonly string[]): StoredEvent[] => texts.map((text) => ["chunk", text]);

export function answer(message = "answer", changes: Partial<TaskEnd> = {}): TaskEnd {
  return {
    messageId: randomUUID(),
    message,
    citations: [],
    events: ({ sentAtMs, isIdle }) => [
      ["message", sentAtMs],
      ["status", isIdle],
    ],
    ...changes,
  };
}
