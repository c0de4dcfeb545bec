import { join } from "node:path";
import { root } from "./contender.ts";
import { freePort, type ServerCommand, ServerProcess } from "./server-process.ts";
import { type Conversation, inTurns, type StreamsHome } from "./streams-home.ts";
import { StreamReader } from "./streams-reader.ts";

/** Of each event: about a sentence of an answer in words. */
const CHARACTERS = 40;

export interface RateRound {
  readonly perSecond: number;
  readonly cpuMicrosPerEvent: number;
  /** CPU time ÷ wall time. */
  readonly busy: number;
  readonly loaderBusy: number;
}

export interface RateOptions {
  readonly connections: number;
  /** Of each connection. */
  readonly events: number;
  readonly rounds: number;
}

export type RateFigures = Readonly<Record<"loop" | "turns" | "ours", RateRound[]>>;

/** Events per second: bare node:http in both of its ways, and ours, which stores them all first, in turns. */
export async function measureRate(home: StreamsHome, folder: string, options: RateOptions): Promise<RateFigures> {
  const raw = await RawServer.start(folder);
  const conversations = await home.conversations(options.connections);
  const figures: RateFigures = { loop: [], turns: [], ours: [] };
  for (let n = 0; n <= options.rounds; n++) {
    const round = {
      loop: await raw.round("loop", options),
      ours: await ourRound(home, conversations, options),
      turns: await raw.round("turns", options),
    };
    if (n === 0) continue; // it warms them up
    for (const name of ["loop", "turns", "ours"] as const) figures[name].push(round[name]);
  }
  await raw.stop();
  return figures;
}

const isLast = (text: string) => text.includes("event: task_status");

class RawServer {
  private readonly command: ServerCommand;
  private readonly server: ServerProcess;

  private constructor(command: ServerCommand, server: ServerProcess) {
    this.command = command;
    this.server = server;
  }

  static async start(folder: string): Promise<RawServer> {
    const output = { outputPath: join(folder, "raw-sse.log"), readyPath: "/" };
    const command = { args: [join(root, "bench", "raw-sse.mjs")], port: await freePort(), environment: {}, ...output };
    return new RawServer(command, (await ServerProcess.start(command)).server);
  }

  /** It begins with the last connection, which is therefore opened when all others are there. */
  async round(way: "loop" | "turns", { connections, events }: RateOptions): Promise<RateRound> {
    const path = `/${way}?connections=${connections}&events=${events}&characters=${CHARACTERS}`;
    const open = () => StreamReader.open(this.command.port, path);
    const readers = await inTurns(Array.from({ length: connections - 1 }), open);
    const ended = readers.map((reader) => reader.until(isLast));
    return measured(this.server, connections * events, async () => {
      const last = await open();
      await Promise.all([...ended, last.until(isLast)]);
      for (const reader of [...readers, last]) reader.close();
    });
  }

  stop(): Promise<void> {
    return this.server.stop();
  }
}

/** In new threads: an agent is told what was said before. Counts from the first message that is sent. */
async function ourRound(home: StreamsHome, conversations: readonly Conversation[], { events }: RateOptions): Promise<RateRound> {
  const fresh = await inTurns(conversations, async ({ token }) => ({ token, threadId: await home.newThread(token) }));
  const readers = await inTurns(fresh, (conversation) => home.stream(conversation));
  const ended = readers.map((reader) => reader.until((text) => isLast(text) && isWhole(text, events)));
  const round = await measured(home.server, fresh.length * events, async () => {
    await inTurns(fresh, (conversation) => home.send(conversation, { chunks: events, everyMs: 0, characters: CHARACTERS }));
    await Promise.all(ended);
  });
  for (const reader of readers) reader.close();
  return round;
}

/** All chunks, the final one, the message and the status have an id each. */
function isWhole(text: string, events: number): boolean {
  if (text.includes(`id: ${events + 3}\nevent: task_status\ndata: {"task_status":{`) && text.includes('"outcome":"answered"')) return true;
  throw new Error(`an answer was not whole; it ended with:\n${text.slice(-500)}`);
}

async function measured(server: ServerProcess, events: number, run: () => Promise<void>): Promise<RateRound> {
  const before = { cpuMs: server.cpuMs(), own: process.cpuUsage(), atMs: performance.now() };
  await run();
  const wallMs = performance.now() - before.atMs;
  const cpuMs = server.cpuMs() - before.cpuMs;
  const own = process.cpuUsage(before.own);
  return {
    perSecond: (events * 1000) / wallMs,
    cpuMicrosPerEvent: (cpuMs * 1000) / events,
    busy: cpuMs / wallMs,
    loaderBusy: (own.user + own.system) / 1000 / wallMs,
  };
}
