import { type ClientRequest, type Refusal, StoreUnavailable, type TokenEndpointPorts, type TokenOutcome } from "@cambist/protocol";
import type { Answer, RawRequest, Route, Unread } from "../http/route.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { noteRefusal, unreadRefusal } from "./refusal-answer.ts";

export interface TokenRouteDeps {
  readonly ports: TokenEndpointPorts;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** What the two published token endpoints have of their own: the rules, and the form of an answer. */
export interface TokenWire<A> {
  handle(request: ClientRequest, ports: TokenEndpointPorts): Promise<TokenOutcome<A>>;
  granted(answer: A): Answer;
  refused(refusal: Refusal, raw: RawRequest): Answer;
}

/** HTTP around a token endpoint. Every request is counted and logged, and but for what a limit turns away recorded, also one that is refused before it is read. */
export function answering<A>(deps: TokenRouteDeps, wire: TokenWire<A>): Required<Pick<Route, "handle" | "refuseUnread">> {
  const refused = (refusal: Refusal, raw: RawRequest, partnerId?: string): Answer => {
    deps.metrics.countExchange("refused", refusal.code);
    noteRefusal(deps.log, "exchange refused", refusal, { raw, partnerId });
    return wire.refused(refusal, raw);
  };
  return {
    async handle({ raw }) {
      try {
        const { result, facts } = await wire.handle(raw, deps.ports);
        if (!result.ok) return refused(result.fault, raw, facts.partnerId);
        deps.metrics.countExchange("granted", "");
        deps.log.debug("exchange granted", { trace_id: raw.traceId, client_id: facts.clientId, subject: facts.subject });
        return wire.granted(result.value);
      } catch (thrown) {
        deps.log.error("exchange failed", { trace_id: raw.traceId, error: thrown });
        return refused({ code: "server_error" }, raw);
      }
    },
    async refuseUnread(raw: RawRequest, why: Unread) {
      const refusal = unreadRefusal(why);
      try {
        await deps.ports.recordRefusal({ traceId: raw.traceId, atMs: deps.ports.nowMs(), address: raw.address }, refusal);
        return refused(refusal, raw);
      } catch (thrown) {
        if (!(thrown instanceof StoreUnavailable)) throw thrown;
        return refused({ code: "temporarily_unavailable", retryAfterSeconds: thrown.retryAfterSeconds }, raw);
      }
    },
  };
}
