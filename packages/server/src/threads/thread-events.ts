import type { EventBatch, Message, StoredEvent } from "../storage/thread-store.ts";

/** The events of a thread (contract §6), and how they are written as server-sent events (HTML standard, §9.2). */

export type Outcome = "answered" | "cancelled" | "failed";

export function logEvent(log: string): StoredEvent {
  return ["message_work_in_progress", { log }];
}

export function chunkEvent(message: string, isFinal = false): StoredEvent {
  return ["message_chunk", { message, final_chunk: isFinal }];
}

export function messageEvent(message: Message): StoredEvent {
  return ["message", messageView(message)];
}

/** `Complete`: the thread is idle. `Running`: another message waits in it, and is taken up now. */
export function taskStatusEvent(taskId: string, outcome: Outcome, isIdle: boolean): StoredEvent {
  return ["task_status", { task_id: taskId, status: isIdle ? "Complete" : "Running", outcome }];
}

export function endsTask({ events }: EventBatch): boolean {
  return events.at(-1)?.[0] === "task_status";
}

/** A message as it is on the wire. */
export function messageView({ messageId, message, isUserMessage, sentAtMs, citations }: Message) {
  return {
    message_id: messageId,
    message,
    is_user_message: isUserMessage,
    message_time: new Date(sentAtMs).toISOString(),
    citations,
  };
}

/** The text of the chunks among the events, put together. */
export function chunkText(events: readonly StoredEvent[]): string {
  return events.map(([kind, data]) => (kind === "message_chunk" ? (data as { readonly message: string }).message : "")).join("");
}

/** JSON has no line break of its own, so that whatever a text holds cannot end the line that it is on, and forge an event. */
export function encodeEvents({ firstId, events }: EventBatch): string {
  let text = "";
  let id = firstId;
  for (const [kind, data] of events) text += lines(id++, kind, data);
  return withoutOtherLineBreaks(text);
}

export function encodeEvent(id: number, kind: string, data: unknown): string {
  return withoutOtherLineBreaks(lines(id, kind, data));
}

function lines(id: number, kind: string, data: unknown): string {
  return `id: ${id}\nevent: ${kind}\ndata: {"${kind}":${isChunk(kind, data) ? chunkJson(data) : JSON.stringify(data)}}\n\n`;
}

interface Chunk {
  readonly message: string;
  readonly final_chunk: boolean;
}

function isChunk(kind: string, data: unknown): data is Chunk {
  return kind === "message_chunk" && typeof (data as Partial<Chunk>).message === "string";
}

/** Nearly all events are chunks, and this takes half the time of writing the object. */
function chunkJson({ message, final_chunk: isFinal }: Chunk): string {
  return `{"message":${JSON.stringify(message)},"final_chunk":${isFinal}}`;
}

/** JSON lets these stand, and they end no line of a stream; but clients read lines with what their language takes for one, and would find a forged one. */
const OTHER_LINE_BREAKS = /[\u0085\u2028\u2029]/g;

function withoutOtherLineBreaks(text: string): string {
  return text.replaceAll(OTHER_LINE_BREAKS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** The part of it that comes after the event with this id. */
export function eventsBehind(batch: EventBatch, lastEventId: number): EventBatch {
  const known = lastEventId + 1 - batch.firstId;
  return known <= 0 ? batch : { ...batch, firstId: lastEventId + 1, events: batch.events.slice(known) };
}

export function lastIdOf({ firstId, events }: EventBatch): number {
  return firstId + events.length - 1;
}
