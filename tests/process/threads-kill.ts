import { setTimeout as sleep } from "node:timers/promises";
import { createTestDatabase, type DialectName } from "../../packages/server/src/testing/database.ts";
import { createThread, sendMessage } from "../../packages/server/src/testing/event-stream.ts";
import { byTask, faultsOf, outcomeOf, readWhole, type Sent } from "../threads-whole.ts";
import { freePort, makeDataDir, type ServerProcess, startServer } from "./spawn.ts";
import { demoUserToken, Reader } from "./threads-client.ts";

/** When a server is killed; each time a thread is in each of these. */
const MOMENTS = ["while chunks come", "while another message waits", "before the first chunk"] as const;
const SHOWN_MAX = 6;
/** Word by word, ten words a second: longer than any kill takes to come. */
const SLOW = `slow ${"word ".repeat(38)}end`;
const WAIT_MS_MAX = 90_000;

export interface ThreadsKillReport {
  /** What did not hold: must be none. */
  readonly faults: readonly string[];
  readonly kills: number;
  threads: number;
  /** Chunks that readers had been shown when the server was killed. */
  shownBefore: number;
  reconnects: number;
  /** Of tasks, by how they ended. */
  readonly outcomes: Record<string, number>;
  /** How those ended that were killed before their first chunk. */
  readonly unbegun: string[];
  /** From the last kill until the last task was done. */
  settledMs: number;
}

interface Talk {
  readonly threadId: string;
  readonly sent: Sent[];
  readonly reader: Reader;
  readonly moment: (typeof MOMENTS)[number];
}

/** Nodes of the real server on one store, each at a port of its own, which it keeps. */
class Nodes {
  readonly places: { readonly url: string }[] = [];
  private readonly running: (ServerProcess | undefined)[] = [];
  private readonly env: Record<string, string>;

  constructor(env: Record<string, string>) {
    this.env = env;
  }

  async add(): Promise<void> {
    const port = await freePort();
    this.places.push({ url: `http://127.0.0.1:${port}` });
    await this.start(this.places.length - 1);
  }

  async start(index: number): Promise<void> {
    const port = Number(new URL(this.places[index]?.url ?? "").port);
    this.running[index] = await startServer("sandbox", port, this.env);
  }

  async kill(index: number): Promise<void> {
    const server = this.running[index];
    this.running[index] = undefined;
    server?.signal("SIGKILL");
    await server?.exited;
  }

  async stop(): Promise<void> {
    for (const index of this.running.keys()) await this.kill(index);
  }
}

/**
 * Conversations on a server that is killed (kill -9) again and again, each time at another moment, and started again. With two nodes they are killed in
 * turn, and the last one to be killed stays away: the other one takes over.
 */
export async function killAmidAnswers(
  dialect: DialectName,
  { kills, nodeCount = 1 }: { readonly kills: number; readonly nodeCount?: 1 | 2 },
): Promise<ThreadsKillReport> {
  const dataDir = makeDataDir();
  const database = dialect === "postgres" ? await createTestDatabase("postgres") : undefined;
  const env: Record<string, string> = { CAMBIST_DATA_DIR: dataDir.path, CAMBIST_LOG_LEVEL: "warn" };
  if (nodeCount > 1) env["CAMBIST_PUBLIC_URL"] = "http://localhost:1"; // one issuer
  if (database && "postgresUrl" in database.location) env["DATABASE_URL"] = database.location.postgresUrl;
  const nodes = new Nodes(env);
  const talks: Talk[] = [];
  const faults: string[] = [];
  const report = { faults, kills, threads: 0, shownBefore: 0, reconnects: 0, outcomes: {}, unbegun: [], settledMs: 0 };
  try {
    for (let index = 0; index < nodeCount; index++) await nodes.add();
    const token = await demoUserToken({ url: nodes.places[0]?.url ?? "" }, dataDir.path);
    for (let round = 0; round < kills; round++) {
      const at = round % nodeCount;
      for (const moment of MOMENTS) {
        const talk = await beginTalk(nodes.places, at, token, moment);
        talks.push(talk);
        report.shownBefore += await waitForMoment(talk);
      }
      await nodes.kill(at);
      if (nodeCount === 1 || round < kills - 1) await nodes.start(at);
    }
    const survivor = nodes.places[nodeCount === 1 ? 0 : kills % nodeCount] as { url: string };
    await settle(talks, survivor, token, report);
  } finally {
    for (const { reader } of talks) reader.stop();
    await nodes.stop();
    await database?.drop();
    dataDir.remove();
  }
  return report;
}

/** At the node that is to be killed. */
async function beginTalk(places: readonly { readonly url: string }[], at: number, token: string, moment: Talk["moment"]): Promise<Talk> {
  const place = places[at] as { url: string };
  const threadId = await createThread(place, token);
  const sent: Sent[] = [];
  const send = async (message: string) => {
    const { taskId } = await sendMessage(place, threadId, token, message);
    sent.push({ taskId, message });
  };
  await send(moment === "before the first chunk" ? "slow but short" : SLOW);
  if (moment === "while another message waits") await send("and another one");
  return { threadId, sent, moment, reader: new Reader({ places, token, threadId }, () => sent.at(-1)) };
}

/** Gives how many chunks were shown by then. */
async function waitForMoment({ moment, reader }: Talk): Promise<number> {
  if (moment === "before the first chunk") return 0;
  const wanted = 1 + Math.floor(Math.random() * SHOWN_MAX);
  const shown = () => reader.events.filter(({ kind }) => kind === "message_chunk").length;
  for (let waited = 0; shown() < wanted && waited < WAIT_MS_MAX; waited += 10) await sleep(10);
  return shown();
}

async function settle(
  talks: readonly Talk[],
  place: { readonly url: string },
  token: string,
  report: Omit<ThreadsKillReport, "faults" | "outcomes" | "unbegun"> & {
    faults: string[];
    outcomes: Record<string, number>;
    unbegun: string[];
  },
): Promise<void> {
  const lastKillMs = performance.now();
  const late = sleep(WAIT_MS_MAX, "late", { ref: false });
  const settled = await Promise.race([Promise.all(talks.map(({ reader }) => reader.done)), late]);
  if (settled === "late") report.faults.push(`not all answers had ended ${WAIT_MS_MAX} ms after the last kill`);
  report.threads = talks.length;
  report.settledMs = Math.round(performance.now() - lastKillMs);
  for (const { threadId, sent, reader, moment } of settled === "late" ? [] : talks) {
    const whole = await readWhole(place, token, threadId, sent.at(-1) as Sent);
    report.faults.push(...reader.faults, ...faultsOf(whole, sent).map((fault) => `killed ${moment}: ${fault}`));
    const [shown, replayed] = [reader.events, whole.events].map((events) => JSON.stringify(events));
    if (shown !== replayed) report.faults.push(`killed ${moment}: shown ${shown}, replayed ${replayed}`);
    report.reconnects += reader.reconnects;
    const outcomes = byTask(whole.events).map(outcomeOf);
    for (const outcome of outcomes) report.outcomes[outcome] = (report.outcomes[outcome] ?? 0) + 1;
    if (moment === "before the first chunk") report.unbegun.push(...outcomes);
  }
  report.faults.push(...(await Promise.all(talks.map((talk) => goOn(talk, place, token)))).flat());
}

/** Each thread takes a new message, which is answered. */
async function goOn({ threadId, sent }: Talk, place: { readonly url: string }, token: string): Promise<string[]> {
  const { taskId } = await sendMessage(place, threadId, token, "and now?");
  sent.push({ taskId, message: "and now?" });
  const whole = await readWhole(place, token, threadId, sent.at(-1) as Sent);
  const outcome = String(whole.events.at(-1)?.data["outcome"]);
  return [...faultsOf(whole, sent), ...(outcome === "answered" ? [] : [`a new message is ${outcome}`])];
}
