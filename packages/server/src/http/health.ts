import { z } from "zod";
import type { Store } from "../storage/store.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Overload } from "./overload.ts";
import { defineRoute, type Route } from "./route.ts";

export interface HealthDeps {
  readonly store: Pick<Store, "ping">;
  readonly metrics: Metrics;
  readonly overload: Pick<Overload, "hasStalled">;
  readonly isStopping: () => boolean;
}

const PING_MS_MAX = 1_000;

/** For whoever keeps the process alive, routes to it and watches it. */
export function healthRoutes({ store, metrics, overload, isStopping }: HealthDeps): Route[] {
  return [
    defineRoute({
      operationId: "getLiveness",
      method: "GET",
      path: "/livez",
      auth: { kind: "public" },
      docs: {
        summary: "Get Liveness",
        tag: "operation",
        answers: { 200: { description: "The process lives.", body: statusBody("alive") } },
      },
      handle: () => ({ status: 200, body: { status: "alive" } }),
    }),
    defineRoute({
      operationId: "getReadiness",
      method: "GET",
      path: "/readyz",
      auth: { kind: "public" },
      docs: {
        summary: "Get Readiness",
        tag: "operation",
        answers: {
          200: { description: "Send requests here.", body: statusBody("ready") },
          503: { description: "Send none for now.", body: statusBody("stopping", "the server stood still", "the store does not answer") },
        },
      },
      async handle() {
        if (isStopping()) return { status: 503, body: { status: "stopping" } };
        if (overload.hasStalled()) return { status: 503, body: { status: "the server stood still" } };
        const answers = await answersInTime(store.ping());
        return answers ? { status: 200, body: { status: "ready" } } : { status: 503, body: { status: "the store does not answer" } };
      },
    }),
    defineRoute({
      operationId: "getMetrics",
      method: "GET",
      path: "/metrics",
      auth: { kind: "public" },
      docs: {
        summary: "Get Metrics",
        tag: "operation",
        answers: { 200: { description: "In the text format of Prometheus.", mediaType: "text/plain" } },
      },
      async handle() {
        const { contentType, text } = await metrics.render();
        return { status: 200, headers: { "content-type": contentType }, body: text };
      },
    }),
  ];
}

function statusBody(...values: readonly [string, ...string[]]): z.ZodType {
  return z.strictObject({ status: z.enum(values) });
}

async function answersInTime(ping: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), PING_MS_MAX);
  });
  const answered = ping.then(
    () => true,
    () => false,
  );
  const result = await Promise.race([answered, late]);
  clearTimeout(timer);
  return result;
}
