import { get, type IncomingMessage } from "node:http";
import { createParser } from "eventsource-parser";
import type { Agent, AgentEvent, Question } from "../agents/agent.ts";
import { call, createTestUser, exchange, subjectToken, type TestPartner, type TestServer } from "./server.ts";

/** An event as it came: `data` is the object under the key of its kind. */
export interface ReceivedEvent {
  readonly id: number;
  readonly kind: string;
  readonly data: Record<string, unknown>;
}

export interface OpenStream {
  readonly response: IncomingMessage;
  /** So far. */
  readonly events: readonly ReceivedEvent[];
  /** All bytes so far. */
  text(): string;
  /** All events up to the first one that is asked for. Rejects where the stream ends, or nothing comes for 20 s. */
  until(isIt: (event: ReceivedEvent) => boolean): Promise<readonly ReceivedEvent[]>;
  /** Once it has ended, whoever ended it. */
  readonly ended: Promise<void>;
  close(): void;
}

const WAIT_MS_MAX = 20_000;

export const isComplete = ({ kind, data }: ReceivedEvent) => kind === "task_status" && data["status"] === "Complete";
export const isEnd = ({ kind }: ReceivedEvent) => kind === "stream_end";

/** A stream of a thread, read by an independent parser. */
export async function openStream(
  server: Pick<TestServer, "url">,
  threadId: string,
  token: string,
  headers: Record<string, string> = {},
): Promise<OpenStream> {
  const url = `${server.url}/v2/threads/stream/${threadId}`;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { headers: { authorization: `Bearer ${token}`, ...headers }, agent: false }, resolve).on("error", reject);
  });
  const events: ReceivedEvent[] = [];
  const chunks: Buffer[] = [];
  const listeners = new Set<() => void>();
  let isOver = false;
  const parser = createParser({
    onEvent({ id, event = "", data }) {
      events.push({ id: Number(id), kind: event, data: (JSON.parse(data) as Record<string, Record<string, unknown>>)[event] ?? {} });
    },
  });
  const decoder = new TextDecoder();
  response.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    parser.feed(decoder.decode(chunk, { stream: true }));
    for (const listener of listeners) listener();
  });
  const ended = new Promise<void>((resolve) => {
    response.on("error", () => undefined); // cut off
    response.on("close", () => {
      isOver = true;
      for (const listener of listeners) listener();
      resolve();
    });
  });
  async function until(isIt: (event: ReceivedEvent) => boolean): Promise<readonly ReceivedEvent[]> {
    for (;;) {
      const at = events.findIndex(isIt);
      if (at >= 0) return events.slice(0, at + 1);
      if (isOver) throw new Error(`the stream ended without the event:\n${Buffer.concat(chunks).toString()}`);
      await nextNews(listeners, chunks);
    }
  }
  return { response, events, text: () => Buffer.concat(chunks).toString(), until, ended, close: () => void response.destroy() };
}

function nextNews(listeners: Set<() => void>, chunks: readonly Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const heard = () => {
      listeners.delete(heard);
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => {
      listeners.delete(heard);
      reject(new Error(`nothing came for ${WAIT_MS_MAX} ms; so far:\n${Buffer.concat(chunks).toString()}`));
    }, WAIT_MS_MAX);
    listeners.add(heard);
  });
}

/** An agent that a test leads by the hand, question by question. */
export class LedAgent implements Agent {
  readonly questions: (Question & { readonly signal: AbortSignal })[] = [];
  private readonly said: { readonly events: AgentEvent[]; end?: "done" | Error }[] = [];
  private wake: () => void = () => undefined;
  private news = Promise.resolve();

  constructor() {
    this.renew();
  }

  async *answer(question: Question, signal: AbortSignal): AsyncIterable<AgentEvent> {
    const at = this.questions.push({ ...question, signal }) - 1;
    this.tell();
    for (let heard = 0; ;) {
      const mine = this.of(at);
      const next = mine.events[heard];
      if (next !== undefined) {
        heard++;
        yield next;
      } else if (mine.end === "done") return;
      else if (mine.end !== undefined) throw mine.end;
      else await this.news;
    }
  }

  /** In answer to the question with this number. */
  say(number: number, ...events: (AgentEvent | string)[]): void {
    this.of(number).events.push(...events.map((event) => (typeof event === "string" ? ({ kind: "chunk", text: event } as const) : event)));
    this.tell();
  }

  end(number: number, how: "done" | Error = "done"): void {
    this.of(number).end = how;
    this.tell();
  }

  /** Resolves when so many questions were asked. */
  async asked(count: number): Promise<void> {
    while (this.questions.length < count) await this.news;
  }

  private of(number: number) {
    while (this.said.length <= number) this.said.push({ events: [] });
    return this.said[number] as { events: AgentEvent[]; end?: "done" | Error };
  }

  private tell(): void {
    const { wake } = this;
    this.renew();
    wake();
  }

  private renew(): void {
    this.news = new Promise((resolve) => {
      this.wake = resolve;
    });
  }
}

export interface TestTalker {
  readonly token: string;
  readonly userId: string;
  readonly workspaceId: string;
  readonly orgId: string;
}

/** A user with a token for threads. */
export async function createTalker(partner: TestPartner, fields: Record<string, unknown> = {}): Promise<TestTalker> {
  const user = await createTestUser(partner, fields);
  return { ...user, token: await talkerToken(partner, user.userId) };
}

export async function talkerToken(partner: TestPartner, userId: string): Promise<string> {
  const reply = await exchange(partner, subjectToken(partner, { sub: userId }), { form: { scope: "thread" } });
  if (reply.status !== 200) throw new Error(`no token: ${reply.text}`);
  return String(reply.json["access_token"]);
}

export async function createThread(server: Pick<TestServer, "url">, token: string, name = "A thread"): Promise<string> {
  const reply = await call(server, "POST", "/v2/threads", token, { thread_name: name });
  if (reply.status !== 200) throw new Error(`no thread: ${reply.text}`);
  return String(reply.json["thread_id"]);
}

/** Gives the id of the task, and that of the last event before it. */
export async function sendMessage(
  server: Pick<TestServer, "url">,
  threadId: string,
  token: string,
  message: string,
): Promise<{ readonly taskId: string; readonly messageId: string; readonly lastEventId: string }> {
  const reply = await call(server, "POST", `/v2/threads/${threadId}/messages`, token, { message });
  if (reply.status !== 200) throw new Error(`not sent: ${reply.text}`);
  const { task_id: taskId, message_id: messageId } = reply.json as { task_id: string; message_id: string };
  return { taskId, messageId, lastEventId: reply.headers.get("last-event-id") ?? "" };
}
