/** Conversations: the part of the store that users write, and the agent. Times are milliseconds since 1970. */

/** Whose thread it is. A thread of another user is absent. */
export interface ThreadOwner {
  readonly partnerId: string;
  readonly userId: string;
}

export interface Thread {
  readonly threadId: string;
  readonly name: string;
  readonly createdAtMs: number;
  /** Of its name, or of its latest message. */
  readonly updatedAtMs: number;
}

/** `next` is absent at the end. */
export interface ThreadPage {
  readonly items: readonly Thread[];
  readonly next: ThreadPosition | undefined;
}

/** Where a list of threads goes on: behind this one. */
export type ThreadPosition = Pick<Thread, "threadId" | "createdAtMs">;

export interface Message {
  readonly messageId: string;
  readonly message: string;
  readonly isUserMessage: boolean;
  /** Never before that of an earlier message of the thread. */
  readonly sentAtMs: number;
  readonly citations: readonly unknown[];
}

/**
 * Which messages: of those between the two times, both included, `limit` at most, leaving out the `startIndex` newest ones. Of long ones fewer: the
 * newest of these, about 2 MB, one at least.
 */
export interface MessageRange {
  readonly startMs: number | undefined;
  readonly endMs: number | undefined;
  readonly startIndex: number;
  readonly limit: number;
}

export interface MessagePage {
  /** Oldest first. */
  readonly messages: readonly Message[];
  /** Of all between the two times. */
  readonly totalCount: number;
}

export interface NewMessage {
  readonly messageId: string;
  readonly taskId: string;
  readonly message: string;
  /** Of files of its thread, which the caller has looked up: see `findFiles`. */
  readonly fileIds?: readonly string[];
}

/** What is said of a file that was uploaded, without its content. */
export interface FileOfThread {
  readonly fileId: string;
  /** To be shown: it was chosen by whoever sent it, and names no place. */
  readonly name: string;
  /** As its sender says; nobody has looked. */
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
}

export interface NewFile extends Omit<FileOfThread, "size"> {
  readonly content: Uint8Array;
}

/** Of one thread: files, and bytes of all of them together. */
export interface FileLimits {
  readonly countMax: number;
  readonly bytesMax: number;
}

export interface Progress {
  /** What the agent has said of its work on the latest message. */
  readonly log: string;
  readonly state: "queued" | "running" | "complete";
}

/** One event of a thread: its kind, and the data that goes with it. */
export type StoredEvent = readonly [kind: string, data: unknown];

/** Events with ids from `firstId` on, one after the other. */
export interface EventBatch {
  readonly partnerId: string;
  readonly threadId: string;
  readonly firstId: number;
  readonly events: readonly StoredEvent[];
}

export interface ThreadKey {
  readonly partnerId: string;
  readonly threadId: string;
}

/** A thread, and the id of the last event of it that is known. */
export interface EventPosition extends ThreadKey {
  readonly lastEventId: number;
}

export interface ThreadStore {
  /** "absent": there is no such user. */
  create(owner: ThreadOwner, thread: Pick<Thread, "threadId" | "name">, nowMs: number): Promise<"created" | "absent">;
  /** Newest first, by when they were made: an order that nothing changes. */
  list(owner: ThreadOwner, page: { readonly after: ThreadPosition | undefined; readonly limit: number }): Promise<ThreadPage>;
  /** False: absent. */
  rename(owner: ThreadOwner, threadId: string, name: string, nowMs: number): Promise<boolean>;
  /**
   * With all that is in it: absent when this resolves, and its tasks have lost their leases; it is erased from then on, which nobody waits for.
   * Interrupted, `TaskStore.purgeEvents` goes on with it. False: absent.
   */
  delete(owner: ThreadOwner, threadId: string): Promise<boolean>;
  /** Undefined: the thread is absent. */
  listMessages(owner: ThreadOwner, threadId: string, range: MessageRange): Promise<MessagePage | undefined>;
  /** The message and the task to answer it, in one transaction. `lastEventId`: the events of the task come behind it. */
  send(
    owner: ThreadOwner,
    threadId: string,
    message: NewMessage,
    at: { readonly nowMs: number; readonly waitingMax: number },
  ): Promise<{ readonly lastEventId: number } | "absent" | "too_many_waiting">;
  /** null: no message was ever sent. Undefined: the thread is absent. */
  findProgress(owner: ThreadOwner, threadId: string): Promise<Progress | null | undefined>;
  /** Marks the first task that is not done. Gives its id, undefined where the thread is idle; "absent": the thread is. */
  cancel(owner: ThreadOwner, threadId: string): Promise<{ readonly taskId: string | undefined } | "absent">;
  /** "full": with it the thread would be over one of the limits; nothing was stored. */
  addFile(
    owner: ThreadOwner,
    threadId: string,
    file: NewFile,
    at: FileLimits & { readonly nowMs: number },
  ): Promise<"added" | "absent" | "full">;
  /** Those of these ids that are files of the thread, in this order. Undefined: the thread is absent. */
  findFiles(owner: ThreadOwner, threadId: string, fileIds: readonly string[]): Promise<readonly FileOfThread[] | undefined>;
  /** As it was stored. */
  findArtifact(owner: ThreadOwner, threadId: string, artifactId: string): Promise<unknown>;
  /**
   * Where a stream begins: behind the last event; or, where a task is not done, at the first event of that task (`taskFrom`, the id before it).
   * Undefined: the thread is absent.
   */
  findStreamStart(owner: ThreadOwner, threadId: string): Promise<{ readonly lastEventId: number; readonly taskFrom: number } | undefined>;
  /** Behind an id, in order, about `charactersMax` of them; one batch at least where there is any. */
  readEvents(after: EventPosition, charactersMax: number): Promise<readonly EventBatch[]>;
  /**
   * Of several threads at once, what is behind each position, in order within a thread: the first batches of each. Where there is more than is read in
   * one go, nobody has to wait for all of another thread.
   */
  readNewEvents(positions: readonly EventPosition[]): Promise<readonly EventBatch[]>;
  /** Which of them are no longer there. */
  listDeleted(threads: readonly ThreadKey[]): Promise<readonly ThreadKey[]>;
}

/** A task that was begun, under a lease: of all nodes, only its holder writes about it. */
export interface ClaimedTask extends ThreadKey {
  readonly taskId: string;
  readonly userId: string;
  readonly leaseId: string;
  /** 1: nobody began it before. */
  readonly attempts: number;
  /** Before the first of its events. */
  readonly eventsAfter: number;
  readonly isCancelled: boolean;
  /** Of its message. */
  readonly position: number;
}

export type LeasedTask = ThreadKey & Pick<ClaimedTask, "taskId" | "leaseId">;

/** What a task has brought about since its last one. */
export interface TaskOutput extends LeasedTask {
  readonly firstId: number;
  readonly events: readonly StoredEvent[];
  readonly artifacts: readonly { readonly artifactId: string; readonly artifact: unknown }[];
  /** All of it; undefined: as it was. */
  readonly log: string | undefined;
}

export interface TaskEnd {
  readonly messageId: string;
  readonly message: string;
  readonly citations: readonly unknown[];
  /** The last events of the task, once it is known when the message was stored, and whether no other task waits. */
  events(end: { readonly sentAtMs: number; readonly isIdle: boolean }): readonly StoredEvent[];
}

/** Of tasks that were leased: whether the lease still holds. */
export interface LeaseState {
  readonly taskId: string;
  readonly isCancelled: boolean;
}

export interface StoredQuestion {
  readonly message: string;
  readonly files: readonly FileOfThread[];
  readonly history: readonly Pick<Message, "message" | "isUserMessage">[];
}

export interface TaskStore {
  /**
   * Takes tasks that nobody works on, or whose lease is over, oldest first, at most `limit`; of a thread only the first one. Of several nodes that ask
   * at once, one gets a task. None of the partners in `exceptOf`. Where it throws, the next one with the same `leaseId` gives what this one may have
   * taken: the same tasks, or where there are none, others.
   */
  claim(
    lease: { readonly leaseId: string; readonly untilMs: number },
    limit: number,
    nowMs: number,
    exceptOf?: readonly string[],
  ): Promise<readonly ClaimedTask[]>;
  /**
   * The message of a task with its files, and the messages before it, oldest first: the latest ones, `countMax` at most, and of long ones fewer, but
   * never less than 200,000 characters of what there is. Undefined: it is gone.
   */
  findQuestion(task: ClaimedTask, countMax: number): Promise<StoredQuestion | undefined>;
  /** Its content. Undefined: it is gone, with its thread. */
  readFile(thread: ThreadKey, fileId: string): Promise<Uint8Array | undefined>;
  /**
   * Writes down what tasks have brought about, all in one durable transaction, and prolongs their leases; none of it for a task whose lease is lost.
   * Gives the others. Where it throws, the same again, with what has come since, writes nothing twice.
   */
  append(outputs: readonly TaskOutput[], at: { readonly nowMs: number; readonly untilMs: number }): Promise<readonly LeaseState[]>;
  /** Prolongs leases. Gives those that held. */
  renew(tasks: readonly LeasedTask[], untilMs: number): Promise<readonly LeaseState[]>;
  /** The answer, the last output and the end of the task in one transaction. Undefined: the lease is lost, and nothing was written. */
  finish(output: TaskOutput, end: TaskEnd, nowMs: number): Promise<readonly EventBatch[] | undefined>;
  /** Gives a task back, as if it had not been begun: whoever takes it begins behind what it has streamed. Does nothing where the lease is lost. */
  release(task: LeasedTask): Promise<void>;
  /**
   * Forgets streamed events whose time is over, but for those of a task that is not done. Gives the number. Erases also what deleted threads have left,
   * and resolves when that is done.
   */
  purgeEvents(nowMs: number): Promise<number>;
}
