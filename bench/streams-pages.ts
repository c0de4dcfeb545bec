import { randomUUID } from "node:crypto";
import type { BenchDatabase } from "./accounts-database.ts";
import { closedLoop } from "./accounts-load.ts";
import type { Row } from "./accounts-seed.ts";
import type { Conversation, StreamsHome } from "./streams-home.ts";

const SMALL = 100;
const LARGE = 100_000;
/** All pages have as many messages, so that the small thread has one to give too. */
const PAGE = 50;
const REQUESTS = 1_000;
const CONNECTIONS = 16;
const MESSAGE_CHARACTERS = 200;
const EVERY_MS = 1_000;

export interface PageFigures {
  readonly name: string;
  /** By round: µs of CPU for a page, of the server and its database together. */
  readonly small: number[];
  readonly large: number[];
}

interface Thread extends Conversation {
  readonly messages: number;
}

const START_MS = Date.UTC(2026, 0, 1);
const timeOf = (position: number) => new Date(START_MS + position * EVERY_MS).toISOString();

/** Query strings, for a thread of so many messages. */
const PAGES: Readonly<Record<string, (messages: number) => string>> = {
  "the newest": () => `limit_num=${PAGE}`,
  "in the middle": (messages) => `limit_num=${PAGE}&start_index=${messages / 2}`,
  "the oldest": (messages) => `limit_num=${PAGE}&start_index=${messages - PAGE}`,
  "the newest between two times, a quarter of them": (messages) =>
    `limit_num=${PAGE / 2}&start=${timeOf(messages / 2)}&end=${timeOf(0.75 * messages)}`,
};

/** List Messages in a thread of 100,000 beside one of 100. */
export async function measurePages(home: StreamsHome, database: BenchDatabase, rounds: number): Promise<PageFigures[]> {
  const token = await home.newToken();
  const small: Thread = { token, threadId: await home.newThread(token), messages: SMALL };
  const large: Thread = { token, threadId: await home.newThread(token), messages: LARGE };
  await home.restart(() =>
    database.fill(async (writer) => {
      for (const thread of [small, large]) {
        const key = `partner_id = '${home.clientId}' AND thread_id = '${thread.threadId}'`;
        await writer.insert("thread_messages", rowsOf(home.clientId, thread));
        const last = START_MS + (thread.messages - 1) * EVERY_MS;
        await writer.read(
          `UPDATE threads SET message_count = ${thread.messages}, last_message_at = ${last} WHERE ${key} RETURNING thread_id`,
        );
      }
    }),
  );
  const figures: PageFigures[] = [];
  for (const [name, query] of Object.entries(PAGES)) {
    const measured: PageFigures = { name, small: [], large: [] };
    for (let n = 0; n <= rounds; n++) {
      const cost = (thread: Thread) => costOf(home, database, pageRequest(home.port, thread, query(thread.messages)));
      const costs = { small: await cost(small), large: await cost(large) };
      if (n === 0) continue; // it warms the server up
      measured.small.push(costs.small);
      measured.large.push(costs.large);
    }
    figures.push(measured);
  }
  return figures;
}

function* rowsOf(partnerId: string, { threadId, messages }: Thread): Generator<Row> {
  let taskId = "";
  for (let position = 0; position < messages; position++) {
    const isUserMessage = position % 2 === 0;
    if (isUserMessage) taskId = randomUUID();
    const message = JSON.stringify(`Message ${position} `.padEnd(MESSAGE_CHARACTERS, "and so on "));
    const ids = { partner_id: partnerId, thread_id: threadId, message_id: randomUUID(), task_id: taskId };
    yield { ...ids, position, is_user_message: isUserMessage ? 1 : 0, message, citations: "[]", sent_at: START_MS + position * EVERY_MS };
  }
}

function pageRequest(port: number, { token, threadId }: Conversation, query: string): Buffer {
  return Buffer.from(
    `GET /v2/threads/${threadId}/messages?${query} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  );
}

async function costOf(home: StreamsHome, database: BenchDatabase, request: Buffer): Promise<number> {
  const readings: { server: number; database: Map<number, number> }[] = [];
  const read = () => void readings.push({ server: home.server.cpuMs(), database: database.cpuMs() });
  const requests = Array.from({ length: REQUESTS }, () => request);
  const { failed, sample } = await closedLoop(home.port, CONNECTIONS, requests, read);
  if (failed > 0) throw new Error(`${failed} pages were not answered; one of them:\n${sample}`);
  const [before, after] = readings as [(typeof readings)[number], (typeof readings)[number]];
  let cpuMs = after.server - before.server;
  for (const [pid, ms] of after.database) cpuMs += ms - (before.database.get(pid) ?? 0);
  return (cpuMs * 1000) / REQUESTS;
}
