import { isComplete, openStream, type ReceivedEvent } from "../packages/server/src/testing/event-stream.ts";
import { call } from "../packages/server/src/testing/server.ts";

/** What was sent to a thread, and the task to answer it. */
export interface Sent {
  readonly taskId: string;
  readonly message: string;
}

/** A thread, as anybody may see it who comes late. */
export interface WholeThread {
  /** From the first one on. */
  readonly events: readonly ReceivedEvent[];
  readonly messages: readonly { readonly message: string; readonly is_user_message: boolean }[];
  readonly status: string | undefined;
}

interface Place {
  readonly url: string;
}

export const isEndOf =
  (taskId: string) =>
  ({ kind, data }: ReceivedEvent): boolean =>
    kind === "task_status" && data["task_id"] === taskId;

/** @param last the task that was sent last; waits for its end. */
export async function readWhole(server: Place, token: string, threadId: string, last: Sent): Promise<WholeThread> {
  const stream = await openStream(server, threadId, token, { "last-event-id": "0" });
  const events = await stream.until(isEndOf(last.taskId));
  stream.close();
  const listed = await call(server, "GET", `/v2/threads/${threadId}/messages?limit_num=200`, token);
  const progress = await call(server, "GET", `/v2/threads/${threadId}/progress`, token);
  const data = progress.json["progress_data"] as { readonly status: string } | null | undefined;
  return { events, messages: listed.json["messages"] as WholeThread["messages"], status: data?.status };
}

/** The part of the events that is about one task each. */
export function byTask(events: readonly ReceivedEvent[]): ReceivedEvent[][] {
  const parts: ReceivedEvent[][] = [[]];
  for (const event of events) {
    parts.at(-1)?.push(event);
    if (event.kind === "task_status") parts.push([]);
  }
  return parts.filter((part) => part.length > 0);
}

export function outcomeOf(part: readonly ReceivedEvent[]): string {
  return String(part.at(-1)?.data["outcome"]);
}

export function textOf(events: readonly ReceivedEvent[]): string {
  return events.map(({ kind, data }) => (kind === "message_chunk" ? String(data["message"]) : "")).join("");
}

/**
 * What must hold of a thread that is idle, whatever has happened to it: nothing lost, nothing twice, nothing out of order, one answer to each message.
 * Gives what does not hold.
 */
export function faultsOf({ events, messages, status }: WholeThread, sent: readonly Sent[]): string[] {
  const faults: string[] = [];
  const check = (holds: boolean, text: string) => void (holds || faults.push(text));
  check(status === "Complete", `the thread is ${status}`);
  const last = events.at(-1);
  check(last !== undefined && isComplete(last), "the last event does not say that the thread is idle");
  events.forEach(({ id }, index) => check(id === index + 1, `event ${index + 1} has the id ${id}`));
  const parts = byTask(events);
  check(parts.length === sent.length, `${sent.length} messages, ${parts.length} ends of tasks`);
  const said = messages.filter(({ is_user_message: isUser }) => isUser).map(({ message }) => message);
  const answers = messages.filter(({ is_user_message: isUser }) => !isUser).map(({ message }) => message);
  check(
    JSON.stringify(said) === JSON.stringify(sent.map(({ message }) => message)),
    `the messages of the user are ${JSON.stringify(said)}`,
  );
  check(answers.length === sent.length, `${sent.length} messages, ${answers.length} answers`);
  for (const [index, part] of parts.entries()) {
    const of = `task ${index + 1}`;
    check(part.at(-1)?.data["task_id"] === sent[index]?.taskId, `${of} is not that of message ${index + 1}`);
    const whole = part.filter(({ kind }) => kind === "message");
    check(whole.length === 1 && part.at(-2)?.kind === "message", `${of} has ${whole.length} messages, or not before its end`);
    const chunks = part.filter(({ kind }) => kind === "message_chunk");
    const finals = chunks.filter(({ data }) => data["final_chunk"] === true);
    check(finals.length === 1 && finals[0] === chunks.at(-1), `${of} has ${finals.length} final chunks, or one that is not the last`);
    check(whole[0]?.data["message"] === textOf(part), `the chunks of ${of} are not its message`);
    check(answers[index] === textOf(part), `the chunks of ${of} are not the message that is listed`);
  }
  return faults;
}
