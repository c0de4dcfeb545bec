import { Connection } from "./connection.ts";
import type { Outcome } from "./load.ts";

/**
 * Every connection sends its next request as soon as it has its answer. Like Loader's closed loop, but an answer is good whatever 2xx it
 * has, as creating is 201. `around` is called before the first request and after the last answer.
 */
export async function closedLoop(port: number, count: number, requests: readonly Buffer[], around: () => void): Promise<Outcome> {
  const lost: { fail(error: Error): void } = { fail: () => undefined };
  const opening = Array.from({ length: count }, () => Connection.open(port, (error) => lost.fail(error)));
  const connections = await Promise.all(opening);
  const run = (some: readonly Buffer[]) =>
    new Promise<Outcome>((resolve, reject) => {
      lost.fail = reject;
      sendAll(connections, some, resolve);
    });
  try {
    const warming = Buffer.from(`GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    await run(connections.map(() => warming));
    around();
    const outcome = await run(requests);
    around();
    return outcome;
  } finally {
    for (const connection of connections) connection.close();
  }
}

function sendAll(connections: readonly Connection[], requests: readonly Buffer[], onDone: (outcome: Outcome) => void): void {
  const latencies = new Float64Array(requests.length);
  const began = performance.now();
  let next = 0;
  let open = requests.length;
  let failed = 0;
  let sample: string | undefined;
  const turn = (connection: Connection) => {
    const index = next++;
    const request = requests[index];
    if (request === undefined) return;
    const sent = performance.now();
    connection.send(request, (status, answer) => {
      latencies[index] = performance.now() - sent;
      if (status < 200 || status > 299) {
        failed++;
        sample ??= answer;
      }
      if (--open > 0) return turn(connection);
      const seconds = (performance.now() - began) / 1000;
      latencies.sort();
      const at = (share: number) => latencies[Math.max(0, Math.ceil(latencies.length * share) - 1)] ?? Number.NaN;
      onDone({ seconds, requestsPerSecond: requests.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), failed, sample });
    });
  };
  for (const connection of connections) turn(connection);
}
