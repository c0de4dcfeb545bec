import { Connection } from "./connection.ts";
import { quantile } from "./load.ts";

/** What became of the requests with one kind of answer. */
export interface Answers {
  readonly count: number;
  readonly share: number;
  /** From the time at which the request was due, whether or not the loader had a connection for it then. */
  readonly sinceDue: Quantiles;
  /** From the time at which it was written to its connection. */
  readonly sinceSent: Quantiles;
}

interface Quantiles {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface OpenLoopOutcome {
  readonly seconds: number;
  readonly offeredPerSecond: number;
  readonly accepted: Answers;
  /** 429 and 503, each with Retry-After. */
  readonly refused: Answers;
  readonly goodputPerSecond: number;
  /** Of the requests, those that had no idle connection when they were due. */
  readonly lateShare: number;
  /** Neither accepted nor refused as it must be. */
  readonly failed: number;
  readonly sample: string | undefined;
}

/** Whole HTTP requests; what is refused unread comes back, for its token is unspent. */
export interface Supply {
  take(): Buffer | undefined;
  giveBack?(request: Buffer): void;
}

const RETRY_AFTER = /\r\nretry-after: *[1-9]/i;
/** More would overflow the queue of connections that are not accepted yet. */
const OPENED_AT_ONCE = 50;
/** For the last answers, after the last request. */
const TAIL_MS_MAX = 10_000;

class Tally {
  private readonly sinceDue: number[] = [];
  private readonly sinceSent: number[] = [];

  add(dueMs: number, sentMs: number, nowMs: number): void {
    this.sinceDue.push(nowMs - dueMs);
    this.sinceSent.push(nowMs - sentMs);
  }

  answers(all: number): Answers {
    const count = this.sinceDue.length;
    return { count, share: count / all, sinceDue: quantiles(this.sinceDue), sinceSent: quantiles(this.sinceSent) };
  }
}

function quantiles(values: readonly number[]): Quantiles {
  const sorted = Float64Array.from(values).toSorted();
  return { p50Ms: quantile(sorted, 0.5), p99Ms: quantile(sorted, 0.99) };
}

/** A fixed schedule that does not wait for the server, over as many connections as it takes; each has one request in flight. */
export class OpenLoop {
  private readonly idle: Connection[];
  private readonly connections: readonly Connection[];
  private fail: (error: Error) => void = () => undefined;

  private constructor(connections: readonly Connection[]) {
    this.connections = connections;
    this.idle = [...connections];
  }

  /** Each has had an answer from `warmPath`: a connection that the server has not accepted yet would wait for that besides. */
  static async open(port: number, count: number, warmPath: string): Promise<OpenLoop> {
    const connections: Connection[] = [];
    let loop: OpenLoop | undefined;
    const warming = Buffer.from(`GET ${warmPath} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    const openWarm = async () => {
      const connection = await Connection.open(port, (error) => loop?.fail(error));
      await new Promise<void>((resolve) => connection.send(warming, () => resolve()));
      return connection;
    };
    while (connections.length < count) {
      connections.push(...(await Promise.all(Array.from({ length: Math.min(OPENED_AT_ONCE, count - connections.length) }, openWarm))));
    }
    loop = new OpenLoop(connections);
    return loop;
  }

  close(): void {
    for (const connection of this.connections) connection.close();
  }

  run(supply: Supply, requestsPerSecond: number, seconds: number): Promise<OpenLoopOutcome> {
    const all = Math.round(requestsPerSecond * seconds);
    const accepted = new Tally();
    const refused = new Tally();
    const everyMs = 1000 / requestsPerSecond;
    let sent = 0;
    let answered = 0;
    let late = 0;
    let lateIndex = -1;
    let failed = 0;
    let sample: string | undefined;
    return new Promise((resolve, reject) => {
      this.fail = reject;
      const start = performance.now();
      const end = () => {
        const goodputPerSecond = accepted.answers(all).count / ((performance.now() - start) / 1000);
        const counts = { goodputPerSecond, lateShare: late / all, failed, sample };
        resolve({
          seconds,
          offeredPerSecond: requestsPerSecond,
          accepted: accepted.answers(all),
          refused: refused.answers(all),
          ...counts,
        });
      };
      const send = (connection: Connection, request: Buffer, dueMs: number) => {
        const sentMs = performance.now();
        connection.send(request, (status, answer) => {
          const nowMs = performance.now();
          this.idle.push(connection);
          if (status === 200) accepted.add(dueMs, sentMs, nowMs);
          else if ((status === 503 || status === 429) && RETRY_AFTER.test(answer)) {
            refused.add(dueMs, sentMs, nowMs);
            supply.giveBack?.(request);
          } else {
            failed++;
            sample ??= answer;
          }
          if (++answered === all) end();
        });
      };
      const sendDue = () => {
        while (sent < all) {
          const dueMs = start + sent * everyMs;
          if (performance.now() < dueMs) break;
          const connection = this.idle.pop();
          if (connection === undefined) {
            if (lateIndex !== sent) late++;
            lateIndex = sent;
            break;
          }
          const request = supply.take();
          if (request === undefined) return reject(new Error("the bench ran out of subject tokens"));
          sent++;
          send(connection, request, dueMs);
        }
        if (sent < all) return void setImmediate(sendDue); // a timer is a millisecond late; the loader has its core to itself
        setTimeout(
          () => reject(new Error(`${all - answered} requests have had no answer for ${TAIL_MS_MAX / 1000} s`)),
          TAIL_MS_MAX,
        ).unref();
      };
      sendDue();
    });
  }
}
