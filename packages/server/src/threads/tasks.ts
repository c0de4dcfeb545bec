import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import type { Progress } from "../storage/thread-store.ts";
import { ABSENT_DOCS, absent, AUTH, HOME, ownerOf, requireOwnId, SUCCESS, success, type ThreadDeps, threadParams } from "./thread.ts";

const STATUSES: Readonly<Record<Progress["state"], string>> = { queued: "Queued", running: "Running", complete: "Complete" };

export interface TaskRoutesDeps extends ThreadDeps {
  /** It is marked; whoever works on it is to stop. */
  readonly onCancelled: (taskId: string) => void;
}

/** What becomes of the latest message: how far its answer is, and to give it up (contract §6). */
export function taskRoutes(deps: TaskRoutesDeps): Route[] {
  return [progressRoute(deps), cancelRoute(deps)];
}

function progressRoute({ threads }: ThreadDeps): Route {
  const progress = z.strictObject({
    log: z.string().describe("Lines of the agent on its work."),
    status: z.enum(["Queued", "Running", "Complete"]),
  });
  return defineRoute({
    operationId: "getThreadProgress",
    method: "GET",
    path: `${HOME}/:thread_id/progress`,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "Get Thread Progress",
      description: "`Complete`: nothing is under way, and nothing waits. null: no message was sent yet.",
      tag: "threads",
      answers: { 200: { description: "As it is now.", body: z.strictObject({ progress_data: progress.nullable() }) }, 404: ABSENT_DOCS },
    },
    params: threadParams,
    async handle({ params, principal }) {
      const found = await threads.findProgress(ownerOf(principal), requireOwnId(params.thread_id, "thread"));
      if (found === undefined) throw absent("thread");
      const data = found === null ? null : { log: found.log, status: STATUSES[found.state] };
      return { status: 200, body: { progress_data: data } };
    },
  });
}

function cancelRoute({ threads, onCancelled }: TaskRoutesDeps): Route {
  return defineRoute({
    operationId: "cancelThreadTask",
    method: "DELETE",
    path: `${HOME}/:thread_id/task`,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "Cancel Thread Task",
      description:
        "Ends the answer that is under way, or whose turn it is: the agent stops, and what it has said so far becomes the message, with `User cancelled message` at its end. " +
        "A message that waits behind it is taken up then. Where nothing is under way, nothing happens.",
      tag: "threads",
      answers: { 200: { description: "It ends; `task_status` says when.", body: success }, 404: ABSENT_DOCS },
    },
    params: threadParams,
    async handle({ params, principal }) {
      const cancelled = await threads.cancel(ownerOf(principal), requireOwnId(params.thread_id, "thread"));
      if (cancelled === "absent") throw absent("thread");
      if (cancelled.taskId !== undefined) onCancelled(cancelled.taskId);
      return SUCCESS;
    },
  });
}
