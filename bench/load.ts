import { Connection } from "./connection.ts";

/** What a run of requests came to. */
export interface Outcome {
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers other than 200, or than the status that was expected. */
  readonly failed: number;
  /** One of them, as it came. */
  readonly sample: string | undefined;
}

/** Warm connections to one server. */
export class Loader {
  private readonly connections: readonly Connection[];
  private fail: (error: Error) => void = () => undefined;

  private constructor(connections: readonly Connection[]) {
    this.connections = connections;
  }

  /** `count` connections, each of which has had an answer from `warmPath`. */
  static async open(port: number, count: number, warmPath: string): Promise<Loader> {
    let loader: Loader | undefined;
    const onLost = (error: Error) => loader?.fail(error);
    loader = new Loader(await Promise.all(Array.from({ length: count }, () => Connection.open(port, onLost))));
    const warming = Buffer.from(`GET ${warmPath} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    await loader.closedLoop(Array.from({ length: count }, () => warming));
    return loader;
  }

  close(): void {
    for (const connection of this.connections) connection.close();
  }

  /** Every connection sends its next request as soon as it has its answer: as many per second as the server can do. */
  closedLoop(requests: readonly Buffer[], expected = 200): Promise<Outcome> {
    return this.run({ count: requests.length, expected }, (record) => {
      let next = 0;
      const turn = (connection: Connection) => {
        const request = requests[next];
        if (request === undefined) return;
        const index = next++;
        const sent = performance.now();
        connection.send(request, (status, answer) => {
          record(index, sent, status, answer);
          turn(connection);
        });
      };
      for (const connection of this.connections) turn(connection);
    });
  }

  /** A fixed schedule that does not wait for the server. A latency counts from the scheduled time, so that a stall is not hidden. */
  openLoop(requests: readonly Buffer[], requestsPerSecond: number): Promise<Outcome> {
    return this.run({ count: requests.length, expected: 200 }, (record) => {
      const start = performance.now();
      const everyMs = 1000 / requestsPerSecond;
      const idle = [...this.connections];
      let next = 0;
      const sendDue = () => {
        for (;;) {
          const request = requests[next];
          if (request === undefined) return;
          if (performance.now() < start + next * everyMs) break;
          const connection = idle.pop();
          if (connection === undefined) break; // it is sent late, and its latency counts that
          const index = next++;
          connection.send(request, (status, answer) => {
            record(index, start + index * everyMs, status, answer);
            idle.push(connection);
          });
        }
        setImmediate(sendDue); // a timer is a millisecond late; the loader has its core to itself
      };
      sendDue();
    });
  }

  private run(
    { count, expected }: { readonly count: number; readonly expected: number },
    start: (record: (index: number, sinceMs: number, status: number, answer: string) => void) => void,
  ) {
    return new Promise<Outcome>((resolve, reject) => {
      this.fail = reject;
      const latencies = new Float64Array(count);
      const began = performance.now();
      let open = count;
      let failed = 0;
      let sample: string | undefined;
      start((index, sinceMs, status, answer) => {
        const now = performance.now();
        latencies[index] = now - sinceMs;
        if (status !== expected) {
          failed++;
          sample ??= answer;
        }
        if (--open > 0) return;
        const seconds = (now - began) / 1000;
        latencies.sort();
        const quantiles = { p50Ms: quantile(latencies, 0.5), p99Ms: quantile(latencies, 0.99) };
        resolve({ seconds, requestsPerSecond: count / seconds, ...quantiles, failed, sample });
      });
    });
  }
}

/** Nearest rank: a value that was measured. */
export function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
}
