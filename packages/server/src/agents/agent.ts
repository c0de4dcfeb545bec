/** What the operator plugs in: it answers what users write. Cambist keeps the threads, the work and the stream. */
export interface Agent {
  /**
   * What it says, in order; the answer is whole when the iteration ends, and has failed when it throws. Nothing of an answer has to fit together
   * with chunks: a chunk is as long as it happens to be.
   *
   * Must stop its own work once `signal` is aborted (the user has cancelled, the time is over, the server stops); whatever it says after that is not
   * heard. What it throws itself, and what a listener of the signal throws, is logged, its message cut to 300 characters:
   * it should not say what the user wrote. What is thrown outside of both ends the process, as ever in Node: in a timer, or in a listener of another
   * signal that it has made out of this one. May be asked the same question again, with the same `taskId`, where a node died before the first chunk was stored.
   */
  answer(question: Question, signal: AbortSignal): AsyncIterable<AgentEvent>;
}

export interface Question {
  /** Another one for each message. */
  readonly taskId: string;
  readonly threadId: string;
  readonly partnerId: string;
  readonly user: { readonly userId: string; readonly workspaceId: string; readonly orgId: string };
  /** The `billing_feature_id`s of the user, its workspace and its organization together, each once. */
  readonly entitlements: readonly string[];
  readonly message: string;
  /** That came with the message. */
  readonly files: readonly AttachedFile[];
  /** What was said in the thread before the message, oldest first, bounded in number and length: the latest of it. */
  readonly history: readonly { readonly by: "user" | "agent"; readonly message: string }[];
}

/** What its user has uploaded. The name and the media type are as the user's program says: nobody has looked, and either may be a lie. */
export interface AttachedFile {
  readonly fileId: string;
  /** To be shown; no path. */
  readonly name: string;
  readonly mediaType: string;
  /** Bytes; 10 MiB at most. */
  readonly size: number;
  /** Its content, byte for byte. @throws where the file is gone, with its thread; where the store does not answer and the task is over. */
  read(): Promise<Uint8Array>;
}

export type AgentEvent =
  /** A line on what it is doing; not a part of the answer. */
  | { readonly kind: "log"; readonly line: string }
  | { readonly kind: "chunk"; readonly text: string }
  /** Stored as JSON; a reference to it appears in the answer at this place. */
  | { readonly kind: "artifact"; readonly artifact: Readonly<Record<string, unknown>> }
  | { readonly kind: "citation"; readonly citation: Citation };

/** A source of the answer. */
export interface Citation {
  readonly title: string;
  readonly url: string | null;
  /** The passage that the answer rests on. */
  readonly snippet: string | null;
}
