import type { Generated } from "kysely";

/** The tables of threads, a part of the schema. */
export interface ThreadSchema {
  threads: ThreadsTable;
  thread_messages: ThreadMessagesTable;
  thread_tasks: ThreadTasksTable;
  thread_events: ThreadEventsTable;
  thread_artifacts: ThreadArtifactsTable;
  thread_files: ThreadFilesTable;
}

export interface ThreadsTable {
  partner_id: string;
  thread_id: string;
  /** null: deleted, so nobody's, and what is in it on its way out. */
  user_id: string | null;
  name: string;
  /** Also the position of the next message. */
  message_count: number;
  /** No later message has an earlier time. */
  last_message_at: number;
  /** Of the latest task, a JSON string; null: there was none. */
  progress_log: string | null;
  created_at: number;
  updated_at: number;
  /** Of its files, and all of them together. */
  file_count: Generated<number>;
  file_bytes: Generated<number>;
}

export interface ThreadMessagesTable {
  partner_id: string;
  thread_id: string;
  /** 0, 1, 2, …, without a gap. */
  position: number;
  message_id: string;
  /** Of a user's message: the one that answers it; of an agent's: the one that it came from. */
  task_id: string;
  is_user_message: number;
  /** A JSON string: PostgreSQL's text takes no NUL. */
  message: string;
  citations: string;
  sent_at: number;
  /** That came with it, JSON. */
  file_ids: Generated<string>;
}

/** A message that has no answer yet. */
export interface ThreadTasksTable {
  partner_id: string;
  thread_id: string;
  task_id: string;
  /** Of its message. */
  position: number;
  /** Of whoever works on it, another one each time; empty before that. */
  lease_id: string;
  /** 0: nobody works on it. null: nobody may, since another one of its thread is before it. */
  lease_until: number | null;
  /** How often somebody began to. */
  attempts: number;
  /** Where its events begin; null: it was not begun. */
  first_event_id: number | null;
  is_cancelled: number;
  created_at: number;
}

/** What was streamed in one go. */
export interface ThreadEventsTable {
  partner_id: string;
  thread_id: string;
  first_id: number;
  last_id: number;
  /** `[[kind, data], …]`, JSON. */
  events: string;
  /** Of what a message repeats later; null: kept with the thread. */
  expires_at: number | null;
}

export interface ThreadArtifactsTable {
  partner_id: string;
  thread_id: string;
  artifact_id: string;
  artifact: string;
}

/** What a user has uploaded; every column but the content is small. */
export interface ThreadFilesTable {
  partner_id: string;
  thread_id: string;
  file_id: string;
  name: string;
  media_type: string;
  size: number;
  created_at: number;
  content: Uint8Array;
}
