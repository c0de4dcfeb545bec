import type { Agent, Question } from "../agents/agent.ts";
import type { Authenticate } from "../http/auth.ts";
import type { Route } from "../http/route.ts";
import type { AccountStore } from "../storage/account-store.ts";
import type { ClaimedTask, EventBatch, TaskStore, ThreadKey, ThreadStore } from "../storage/thread-store.ts";
import type { TokenStore } from "../storage/token-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { artifactRoutes } from "./artifacts.ts";
import { EventStreams } from "./event-streams.ts";
import { fileRoutes } from "./files.ts";
import { messageRoutes } from "./messages.ts";
import { streamRoutes } from "./stream.ts";
import { TaskRunner } from "./task-runner.ts";
import { taskRoutes } from "./tasks.ts";
import { threadRoutes } from "./threads.ts";

export interface ConversationPorts {
  readonly agent: Agent;
  readonly threads: ThreadStore;
  readonly tasks: TaskStore;
  readonly accounts: Pick<AccountStore, "find" | "findLiveUser">;
  readonly tokens: Pick<TokenStore, "onEnded">;
  readonly authenticate: Authenticate;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Conversations {
  readonly routes: readonly Route[];
  start(): void;
  /** Tells readers to come back elsewhere, and lets answers that are under way finish until `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

/** Threads, the work on them and their streams, out of their parts. */
export function conversations(ports: ConversationPorts): Conversations {
  const { threads, tasks, nowMs, log, metrics } = ports;
  const streams = new EventStreams({ threads, nowMs, monotonicMs: () => performance.now(), log, metrics });
  const publish = (batch: EventBatch) => streams.publish(batch);
  const findAsker = (task: ClaimedTask) => findAskerOf(ports.accounts, task);
  const runner = new TaskRunner({ agent: ports.agent, tasks, threads, findAsker, publish, nowMs, log, metrics });
  ports.tokens.onEnded((ended) => streams.judgeAgain(ended));
  const deps = { threads, nowMs };
  const onDeleted = (thread: ThreadKey) => {
    streams.endThread(thread);
    runner.giveUp(thread);
  };
  return {
    routes: [
      ...threadRoutes({ ...deps, onDeleted }),
      ...messageRoutes({ ...deps, onSent: () => runner.wake() }),
      ...taskRoutes({ ...deps, onCancelled: (taskId) => runner.cancel(taskId) }),
      ...artifactRoutes(deps),
      ...fileRoutes(deps),
      ...streamRoutes({ threads, streams, authenticate: ports.authenticate }),
    ],
    start() {
      streams.start();
      runner.start();
    },
    async stop(graceMs) {
      streams.close();
      await runner.stop(graceMs);
    },
  };
}

/** Who asked, with what it has: of itself, of its workspace and of its organization (contract §1). Undefined where it is disabled or gone by now. */
async function findAskerOf(
  accounts: ConversationPorts["accounts"],
  { partnerId, userId }: ClaimedTask,
): Promise<Pick<Question, "user" | "entitlements"> | undefined> {
  const live = await accounts.findLiveUser(partnerId, userId);
  if (live === undefined || live.disabled !== undefined) return undefined;
  const { workspaceId, orgId } = live;
  const found = await Promise.all([
    accounts.find("user", partnerId, { id: userId }),
    accounts.find("workspace", partnerId, { id: workspaceId }),
    accounts.find("organization", partnerId, { id: orgId }),
  ]);
  const ids = found.flatMap((stored) => stored?.entity.entitlements ?? []).map((entitlement) => entitlement.billing_feature_id);
  return { user: { userId, workspaceId, orgId }, entitlements: [...new Set(ids)] };
}
