import { setTimeout as sleep } from "node:timers/promises";
import { StoreUnavailable } from "@cambist/protocol";
import type { Agent, AgentEvent, Question } from "../agents/agent.ts";
import { newEntityId } from "../ids.ts";
import type { ClaimedTask, EventBatch, LeaseState, TaskEnd, TaskStore, ThreadStore } from "../storage/thread-store.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { EventWriter } from "./event-writer.ts";
import { guardListeners } from "./guarded-signal.ts";
import { TaskOutputs } from "./task-output.ts";
import { messageEvent, type Outcome, taskStatusEvent } from "./thread-events.ts";

const HISTORY_MESSAGES_MAX = 100;
const HISTORY_CHARACTERS_MAX = 200_000;
/** Where nobody has seen anything of an answer yet, it is begun again after its node died, so many times. */
const ATTEMPTS_MAX = 3;
const TASK_MS_MAX = 10 * 60 * 1000;
const RETRY_MS = 500;
const READ_CHARACTERS_MAX = 200_000;
/** After so many events everybody else has a turn, also where an agent never waits for anything. */
const EVENTS_PER_TURN = 64;

/** What an answer ends with where it is not whole. */
const ENDINGS: Readonly<Record<Outcome, string>> = {
  answered: "",
  cancelled: "User cancelled message",
  failed: "The answer could not be completed.",
};

export interface TaskPorts {
  readonly agent: Agent;
  readonly tasks: Pick<TaskStore, "findQuestion" | "readFile" | "finish" | "release">;
  readonly threads: Pick<ThreadStore, "readEvents">;
  /** Undefined: the user may not use threads any more. */
  readonly findAsker: (task: ClaimedTask) => Promise<Pick<Question, "user" | "entitlements"> | undefined>;
  readonly writer: Pick<EventWriter, "add" | "remove">;
  readonly publish: (batch: EventBatch) => void;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "countAnswer">;
}

/** `lost`: another node has the task, or it is gone with its thread. `stopping`: this node stops. */
type Abort = "cancelled" | "lost" | "stopping" | "too_long";

/** A task at work on this node: asks the agent, has what it says written, and ends the task with exactly one message. */
export class TaskRun {
  readonly task: ClaimedTask;
  /** Of its lease. */
  prolongedAtMs: number;
  private readonly ports: TaskPorts;
  private readonly controller = new AbortController();
  private readonly outputs: TaskOutputs;
  private isLost = false;
  private isStopping = false;

  constructor(task: ClaimedTask, ports: TaskPorts) {
    this.task = task;
    this.ports = ports;
    this.prolongedAtMs = ports.nowMs();
    this.outputs = new TaskOutputs(task, (state) => this.note(state));
    const { taskId, threadId } = task;
    guardListeners(this.controller.signal, (error) =>
      ports.log.warn("a listener of the agent's signal failed", { taskId, threadId, error }),
    );
  }

  abort(why: Abort): void {
    this.isStopping ||= why === "stopping";
    this.controller.abort(why);
  }

  /** What the store says of the task. Undefined: its lease is lost. */
  note(state: LeaseState | undefined): void {
    this.prolongedAtMs = this.ports.nowMs();
    this.isLost ||= state === undefined;
    if (state === undefined) this.abort("lost");
    else if (state.isCancelled) this.abort("cancelled");
  }

  /** Resolves when the task is ended, given back or lost. Gives whether another message of the thread waits. Never throws. */
  async work(): Promise<{ readonly isNextWaiting: boolean }> {
    const tooLong = setTimeout(() => this.abort("too_long"), TASK_MS_MAX);
    try {
      const outcome = await this.answer();
      await this.ports.writer.remove(this.outputs);
      if (this.isLost) return { isNextWaiting: false };
      if (this.controller.signal.reason === "stopping" && this.outputs.text === "") {
        await this.ports.tasks.release(this.task);
        return { isNextWaiting: false };
      }
      return await this.end(outcome);
    } catch (error) {
      const { taskId, threadId } = this.task;
      this.ports.log.error("a task could not be ended; it is taken up again once its lease is over", { taskId, threadId, error });
      return { isNextWaiting: false };
    } finally {
      clearTimeout(tooLong);
    }
  }

  private async answer(): Promise<Outcome> {
    const { task, ports, outputs, controller } = this;
    await this.recover();
    if (task.isCancelled) return "cancelled";
    // somebody may have read it: begun again, it would go on in other words
    if (outputs.text !== "" || task.attempts > ATTEMPTS_MAX) return "failed";
    const isOver = () => controller.signal.aborted;
    try {
      const asker = await patiently(() => ports.findAsker(task), isOver);
      const asked = await patiently(() => ports.tasks.findQuestion(task, HISTORY_MESSAGES_MAX), isOver);
      if (asker === undefined || asked === undefined) return "failed";
      const { taskId, threadId, partnerId } = task;
      const said = asked.history.map(({ isUserMessage, message }) => ({
        by: isUserMessage ? ("user" as const) : ("agent" as const),
        message,
      }));
      const files = asked.files.map((file) => ({ ...file, read: () => this.readFile(file.fileId) }));
      await this.listen({ taskId, threadId, partnerId, ...asker, message: asked.message, files, history: latest(said) });
    } catch (error) {
      if (controller.signal.aborted) return this.outcomeOfAbort();
      ports.log.warn("the agent failed", { taskId: task.taskId, threadId: task.threadId, error });
      return "failed";
    }
    return controller.signal.aborted ? this.outcomeOfAbort() : "answered";
  }

  private async readFile(fileId: string): Promise<Uint8Array> {
    const content = await patiently(
      () => this.ports.tasks.readFile(this.task, fileId),
      () => this.controller.signal.aborted,
    );
    if (content === undefined) throw new Error("the file is gone, with its thread");
    return content;
  }

  private outcomeOfAbort(): Outcome {
    return this.controller.signal.reason === "cancelled" ? "cancelled" : "failed";
  }

  /** What was streamed before, where a node has died over the task or has given it back. */
  private async recover(): Promise<void> {
    const { partnerId, threadId } = this.task;
    for (;;) {
      const after = { partnerId, threadId, lastEventId: this.outputs.lastEventId };
      const read = () => this.ports.threads.readEvents(after, READ_CHARACTERS_MAX);
      const batches = await patiently(read, () => this.controller.signal.aborted);
      for (const batch of batches) this.outputs.recover(batch);
      if (batches.length === 0) return;
    }
  }

  /** Resolves when the agent has said all, or at once when the signal is aborted: an agent that does not stop is not waited for. */
  private async listen(question: Question): Promise<void> {
    const { signal } = this.controller;
    const events = this.ports.agent.answer(question, signal)[Symbol.asyncIterator]();
    const { aborted, forget } = whenAborted(signal);
    try {
      await Promise.race([this.hear(events), aborted]);
    } finally {
      forget();
      void Promise.resolve()
        .then(() => events.return?.())
        .catch(() => undefined);
    }
  }

  /** Takes nothing more once the signal is aborted, but may wait for ever. */
  private async hear(events: AsyncIterator<AgentEvent>): Promise<void> {
    const { signal } = this.controller;
    for (let count = 1; !signal.aborted; count++) {
      const next = await events.next();
      if (next.done === true || signal.aborted) return;
      this.outputs.add(next.value);
      this.ports.writer.add(this.outputs);
      if (this.outputs.isFull) await this.outputs.room(signal);
      if (count % EVENTS_PER_TURN === 0) await new Promise(setImmediate);
    }
  }

  /** Until the store has taken it, or has given the task to somebody else. */
  private async end(outcome: Outcome): Promise<{ readonly isNextWaiting: boolean }> {
    const { outputs, ports, task } = this;
    const before = outputs.text === "" || ENDINGS[outcome] === "" ? "" : "\n\n";
    outputs.addEnding(`${before}${ENDINGS[outcome]}`);
    const messageId = newEntityId();
    let isNextWaiting = false;
    const end: TaskEnd = {
      messageId,
      message: outputs.text,
      citations: outputs.citations,
      events: ({ sentAtMs, isIdle }) => {
        isNextWaiting = !isIdle;
        const message = { messageId, message: outputs.text, isUserMessage: false, sentAtMs, citations: outputs.citations };
        return [messageEvent(message), taskStatusEvent(task.taskId, outcome, isIdle)];
      },
    };
    const output = outputs.take();
    const finish = () => ports.tasks.finish(output, end, ports.nowMs());
    const batches = await patiently(finish, () => this.isLost || this.isStopping);
    if (batches !== undefined) ports.metrics.countAnswer(outcome);
    for (const batch of batches ?? []) ports.publish(batch);
    return { isNextWaiting };
  }
}

/** Again and again while the store is away. @throws StoreUnavailable once it `isOver`; whatever else the work throws. */
async function patiently<T>(work: () => Promise<T>, isOver: () => boolean): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof StoreUnavailable) || isOver()) throw thrown;
      await sleep(RETRY_MS, undefined, { ref: false });
    }
  }
}

const nothing = () => undefined;

/** To be forgotten once nobody waits for it. */
function whenAborted(signal: AbortSignal): { readonly aborted: Promise<void>; readonly forget: () => void } {
  let onAbort: () => void = nothing;
  const aborted = new Promise<void>((resolve) => (onAbort = resolve));
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  return { aborted, forget: () => signal.removeEventListener("abort", onAbort) };
}

/** The end of what was said, as much of it as an agent is given. */
function latest(said: Question["history"]): Question["history"] {
  let characters = 0;
  const from = said.findLastIndex(({ message }) => (characters += message.length) > HISTORY_CHARACTERS_MAX);
  return said.slice(from + 1);
}
