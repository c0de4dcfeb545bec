import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

/** Prometheus metrics. Labels come from closed lists of ours, never from a request: their number is bounded. */
export interface Metrics {
  observeRequest(operationId: string, status: number, durationMs: number): void;
  /** `cause` is a refusal code, or empty. */
  countExchange(outcome: "granted" | "refused", cause: string): void;
  /** `outcome` is "fetched", or why there was nothing to fetch. */
  countJwksFetch(outcome: string): void;
  countKeysVanished(): void;
  /** A request that was turned away unread. */
  countShed(): void;
  /** A stream of a thread was opened, or has ended. */
  changeOpenStreams(by: 1 | -1): void;
  /** An agent has begun to work on an answer, or has ended. */
  changeRunningTasks(by: 1 | -1): void;
  countAnswer(outcome: "answered" | "cancelled" | "failed"): void;
  render(): Promise<{ readonly contentType: string; readonly text: string }>;
}

export function openMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "cambist_" });
  const requests = new Histogram({
    name: "cambist_http_request_duration_seconds",
    help: "Time from the first look at a request to its answer, by operation and status.",
    labelNames: ["operation", "status"] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers: [registry],
  });
  const exchanges = new Counter({
    name: "cambist_exchanges_total",
    help: "Token requests by outcome and, where refused, cause.",
    labelNames: ["outcome", "cause"] as const,
    registers: [registry],
  });
  const jwksFetches = new Counter({
    name: "cambist_jwks_fetches_total",
    help: "Fetches of partners' key sets by outcome: fetched, or the kind of failure.",
    labelNames: ["outcome"] as const,
    registers: [registry],
  });
  const keysVanished = new Counter({
    name: "cambist_jwks_keys_vanished_total",
    help: "Times that a partner's keys went from its set without one that was known taking their place.",
    registers: [registry],
  });
  const shed = new Counter({
    name: "cambist_http_requests_shed_total",
    help: "Requests turned away unread, because the server had more than it can answer in time.",
    registers: [registry],
  });
  const conversations = conversationMetrics(registry);
  // looking a label set up by its values costs more than counting; the sets are few, and found again by name
  const observers = new Map<string, { observe(seconds: number): void }>();
  return {
    observeRequest(operation, status, durationMs) {
      const name = `${operation} ${status}`;
      const observer = observers.get(name) ?? requests.labels(operation, String(status));
      observers.set(name, observer);
      observer.observe(durationMs / 1000);
    },
    countExchange: (outcome, cause) => exchanges.inc({ outcome, cause }),
    countJwksFetch: (outcome) => jwksFetches.inc({ outcome }),
    countKeysVanished: () => keysVanished.inc(),
    countShed: () => shed.inc(),
    ...conversations,
    render: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}

function conversationMetrics(registry: Registry): Pick<Metrics, "changeOpenStreams" | "changeRunningTasks" | "countAnswer"> {
  const registers = [registry];
  const streams = new Gauge({ name: "cambist_thread_streams_open", help: "Streams of threads that are open on this node.", registers });
  const tasks = new Gauge({ name: "cambist_thread_tasks_running", help: "Answers that this node works on.", registers });
  const labelNames = ["outcome"] as const;
  const answers = new Counter({
    name: "cambist_thread_answers_total",
    help: "Answers that this node has ended, by outcome.",
    labelNames,
    registers,
  });
  return {
    changeOpenStreams: (by) => streams.inc(by),
    changeRunningTasks: (by) => tasks.inc(by),
    countAnswer: (outcome) => answers.inc({ outcome }),
  };
}
