import { setTimeout as sleep } from "node:timers/promises";
import type { Reply } from "../../packages/server/src/testing/server.ts";

/** One request of a load. */
export interface Sample {
  /** When it was due, on the clock of `performance`. */
  readonly dueMs: number;
  /** From then to the answer, so that a stall is not hidden. */
  readonly ms: number;
  /** 0 where there was no answer. */
  readonly status: number;
  readonly retryAfter: string | null;
  /** Of what was not granted. */
  readonly text: string;
}

export interface Load {
  /** So far. */
  readonly samples: readonly Sample[];
  /** Sends no more, and waits for what is under way. */
  stop(): Promise<readonly Sample[]>;
}

const TURN_MS = 4;

/** Sends at a fixed rate, whatever becomes of it. */
export function startLoad(perSecond: number, send: () => Promise<Reply>): Load {
  const samples: Sample[] = [];
  const pending = new Set<Promise<void>>();
  const startedMs = performance.now();
  let sent = 0;
  let isStopped = false;

  async function sendOne(dueMs: number): Promise<void> {
    const reply = await send().catch((thrown: unknown) => String(thrown));
    const ms = performance.now() - dueMs;
    if (typeof reply === "string") samples.push({ dueMs, ms, status: 0, retryAfter: null, text: reply });
    else {
      const { status, headers } = reply;
      samples.push({ dueMs, ms, status, retryAfter: headers.get("retry-after"), text: status === 200 ? "" : reply.text });
    }
  }

  async function run(): Promise<void> {
    while (!isStopped) {
      const due = ((performance.now() - startedMs) / 1000) * perSecond;
      for (; sent < due; sent++) {
        const one = sendOne(startedMs + (sent / perSecond) * 1000);
        pending.add(one);
        void one.finally(() => pending.delete(one));
      }
      await sleep(TURN_MS);
    }
  }

  const running = run();
  return {
    samples,
    async stop() {
      isStopped = true;
      await running;
      await Promise.all(pending);
      return samples;
    },
  };
}

export function between(samples: readonly Sample[], fromMs: number, toMs: number): Sample[] {
  return samples.filter(({ dueMs }) => dueMs >= fromMs && dueMs < toMs);
}

/** As `p50 1.2, p99 3.4, max 5.6 ms`. */
export function latencies(samples: readonly Sample[]): string {
  const sorted = samples.map(({ ms }) => ms).toSorted((left, right) => left - right);
  const at = (part: number) => (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN).toFixed(1);
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms`;
}

/** What was not answered with this status, each text once: empty where all is well. */
export function others(samples: readonly Sample[], status = 200): string[] {
  const texts = samples.filter((sample) => sample.status !== status).map((sample) => `${sample.status} ${sample.text.slice(0, 300)}`);
  return [...new Set(texts)];
}
