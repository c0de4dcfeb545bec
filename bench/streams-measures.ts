import { setTimeout as sleep } from "node:timers/promises";
import { median, quantile } from "./load.ts";
import { type Conversation, inTurns, type StreamsHome } from "./streams-home.ts";
import { nowMicros, type StreamReader } from "./streams-reader.ts";

const SETTLE_MS = 4_000;
/** The server writes at most every 100 ms while there is something to write, and at once where nothing was written for as long. */
const AT_REST_MS = 250;

export interface IdleFigures {
  readonly streams: number;
  /** Of resident memory, each. */
  readonly kilobytes: number;
  /** Of a core, with all of them open; and the same server before. */
  readonly busy: number;
  readonly busyBefore: number;
}

/** Open streams of which nothing comes: each with a user, a token and a thread of its own. */
export async function measureIdle(home: StreamsHome, count: number, seconds: number): Promise<IdleFigures> {
  const conversations = await home.conversations(count);
  await home.restart(); // what making them has left on the heap is not theirs
  // the first ones load what all of them need
  for (const reader of await openAll(home, conversations.slice(0, 100))) reader.close();
  const before = await memoryAtRest(home);
  const busyBefore = await busyFor(home, seconds);
  const readers = await openAll(home, conversations);
  const after = await memoryAtRest(home);
  const busy = await busyFor(home, seconds);
  const lost = readers.filter(({ isLost }) => isLost).length;
  if (lost > 0) throw new Error(`the server closed ${lost} of the idle streams`);
  for (const reader of readers) reader.close();
  return { streams: count, kilobytes: ((after - before) * 1024) / count, busy, busyBefore };
}

function openAll(home: StreamsHome, conversations: readonly Conversation[]): Promise<StreamReader[]> {
  return inTurns(conversations, (conversation) => home.stream(conversation));
}

/** After what is no longer needed was collected, twice, for some of it goes only then. Megabytes. */
async function memoryAtRest({ server }: StreamsHome): Promise<number> {
  for (let n = 0; n < 2; n++) {
    await sleep(SETTLE_MS);
    process.kill(server.pid, "SIGUSR2");
  }
  await sleep(SETTLE_MS / 2);
  return server.memoryMb().rss;
}

async function busyFor({ server }: StreamsHome, seconds: number): Promise<number> {
  const before = server.cpuMs();
  const began = performance.now();
  await sleep(seconds * 1000);
  return (server.cpuMs() - before) / (performance.now() - began);
}

export interface Latencies {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface PacedFigures extends Latencies {
  readonly streams: number;
  readonly events: number;
  readonly perSecond: number;
  readonly busy: number;
  readonly loaderBusy: number;
}

const MADE_AT = /"message":"(\d+)\|/g;
const PACED_CHARACTERS = 40;

/** Answers that come word by word in many threads at once. A latency counts from when the agent has made the chunk to when the loader has read it. */
export async function measurePaced(home: StreamsHome, count: number, seconds: number): Promise<PacedFigures> {
  const speech = { chunks: seconds * 10, everyMs: 100, characters: PACED_CHARACTERS };
  const conversations = await home.conversations(count);
  const readers = await openAll(home, conversations);
  const latencies: number[] = [];
  const ended = readers.map((reader) => reader.until((text) => noteLatencies(text, latencies)));
  await inTurns(conversations, (conversation) => home.send(conversation, speech));
  const before = { cpuMs: home.server.cpuMs(), own: process.cpuUsage(), atMs: performance.now(), events: latencies.length };
  await sleep(seconds * 500); // while all of them speak
  const wallMs = performance.now() - before.atMs;
  const own = process.cpuUsage(before.own);
  const rates = {
    busy: (home.server.cpuMs() - before.cpuMs) / wallMs,
    loaderBusy: (own.user + own.system) / 1000 / wallMs,
    perSecond: ((latencies.length - before.events) * 1000) / wallMs,
  };
  await Promise.all(ended);
  for (const reader of readers) reader.close();
  if (latencies.length !== count * speech.chunks) throw new Error(`${latencies.length} chunks came of ${count * speech.chunks}`);
  return { streams: count, events: latencies.length, ...rates, ...quantiles(latencies) };
}

function noteLatencies(text: string, latencies: number[]): boolean {
  const now = nowMicros();
  for (const [, madeAt] of text.replace(/event: message\n[^\n]*/, "").matchAll(MADE_AT)) latencies.push((now - Number(madeAt)) / 1000);
  return text.includes("event: task_status");
}

/** From the moment at which the message is sent, of a server that has nothing else to do: to the first event of its answer, which is a word of it. */
export async function measureFirst(home: StreamsHome, sends: number): Promise<Latencies> {
  const token = await home.newToken();
  const latencies: number[] = [];
  for (let n = 0; n < sends; n++) {
    const thread = { token, threadId: await home.newThread(token) };
    const reader = await home.stream(thread);
    let firstAtMs: number | undefined;
    const ended = reader.until((text) => {
      if (text.includes("event: message_chunk")) firstAtMs ??= performance.now();
      return text.includes("event: task_status");
    });
    await sleep(AT_REST_MS);
    const sentAtMs = performance.now();
    await Promise.all([home.send(thread, { chunks: 3, everyMs: 20, characters: PACED_CHARACTERS }), ended]);
    latencies.push((firstAtMs ?? Number.NaN) - sentAtMs);
    reader.close();
  }
  return quantiles(latencies);
}

function quantiles(latencies: readonly number[]): Latencies {
  const sorted = Float64Array.from(latencies).toSorted();
  return { p50Ms: median(latencies), p99Ms: quantile(sorted, 0.99), maxMs: sorted.at(-1) ?? Number.NaN };
}
