import { randomUUID } from "node:crypto";
import { StoreUnavailable } from "@cambist/protocol";
import type { LeasedTask, TaskStore, ThreadKey } from "../storage/thread-store.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { atMost } from "./at-most.ts";
import { EventWriter } from "./event-writer.ts";
import { type TaskPorts, TaskRun } from "./task-run.ts";

/** At work on one node, of all partners together. */
const TASKS_MAX = 2_000;
/** With more than this at work, a partner that has a tenth of the places gets no more: slow answers of a few must not hold up those of all others. */
const CROWDED_MIN = TASKS_MAX / 2;
const SHARE_MAX = TASKS_MAX / 10;
const CLAIMED_AT_ONCE = 200;
/** Of them, what was said before is read at the same moment: it may be long. */
const BEGUN_AT_ONCE = 4;
/** For tasks that were sent to another node, which has no room, or has died. */
const LOOK_EVERY_MS = 1_000;
/** So long after a node died, another one takes up its tasks. */
const LEASE_MS = 10_000;
const RENEW_EVERY_MS = 2_000;
/** What was prolonged a moment ago, with what was written, needs no renewal. Both together are how late a cancellation may be heard. */
const PROLONGED_MS = 500;

export interface TaskRunnerPorts extends Omit<TaskPorts, "writer" | "tasks" | "metrics"> {
  readonly tasks: TaskStore;
  readonly metrics: Pick<Metrics, "countAnswer" | "changeRunningTasks">;
}

/**
 * Works on the tasks that wait in the store: takes them by a lease, so that of all nodes one works on each, and keeps the lease while it does. What a
 * node that died had taken is taken up by another one, or by the same one after its restart.
 */
export class TaskRunner {
  private readonly ports: TaskRunnerPorts;
  private readonly writer: EventWriter;
  private readonly taskPorts: TaskPorts;
  private readonly running = new Map<string, { readonly run: TaskRun; readonly done: Promise<void> }>();
  private readonly timers: NodeJS.Timeout[] = [];
  private looking: Promise<void> | undefined;
  /** Of a claim that nobody knows to have been committed: asked for again by the same id, it gives what it gave. */
  private unknownLeaseId: string | undefined;
  private isWoken = false;
  private isStopping = false;
  private isCutOff = false;

  constructor(ports: TaskRunnerPorts) {
    this.ports = ports;
    const onFault = (error: unknown) =>
      ports.log.error("what an agent said could not be written; its task is given up, and taken up again later", { error });
    this.writer = new EventWriter({ tasks: ports.tasks, publish: ports.publish, leaseMs: LEASE_MS, nowMs: ports.nowMs, onFault });
    const begin = atMost(BEGUN_AT_ONCE);
    const findQuestion: TaskStore["findQuestion"] = (task, countMax) => begin(() => ports.tasks.findQuestion(task, countMax));
    this.taskPorts = { ...ports, tasks: { ...ports.tasks, findQuestion }, writer: this.writer };
  }

  start(): void {
    this.timers.push(setInterval(() => this.wake(), LOOK_EVERY_MS).unref(), setInterval(() => void this.keep(), RENEW_EVERY_MS).unref());
    this.wake();
  }

  /** Looks for tasks now: one was sent, or one has made room. */
  wake(): void {
    this.isWoken = true;
    this.looking ??= this.look().finally(() => {
      this.looking = undefined;
      if (this.isWoken && !this.isStopping && this.running.size < TASKS_MAX) this.wake();
    });
  }

  /** The store has it marked already. Where another node has the task, that one finds the mark. */
  cancel(taskId: string): void {
    const known = this.running.get(taskId);
    if (known === undefined) this.wake();
    else known.run.abort("cancelled");
  }

  /** It is deleted, and its tasks with it. */
  giveUp({ partnerId, threadId }: ThreadKey): void {
    for (const { run } of this.running.values()) {
      if (run.task.threadId === threadId && run.task.partnerId === partnerId) run.note(undefined);
    }
  }

  /** Takes no more, lets what is at work finish until `graceMs`; what is not begun to be read goes back, the rest fails, and says so. */
  async stop(graceMs: number): Promise<void> {
    this.isStopping = true;
    for (const timer of this.timers) clearInterval(timer);
    const cutOff = setTimeout(() => {
      this.isCutOff = true;
      for (const { run } of this.running.values()) run.abort("stopping");
    }, graceMs);
    const renewing = setInterval(() => void this.keep(), RENEW_EVERY_MS);
    while (this.running.size > 0 || this.looking !== undefined) {
      await Promise.all([this.looking, ...[...this.running.values()].map(({ done }) => done)]);
      await new Promise(setImmediate);
    }
    clearTimeout(cutOff);
    clearInterval(renewing);
  }

  private async look(): Promise<void> {
    try {
      while (this.isWoken && !this.isStopping) {
        this.isWoken = false;
        const limit = Math.min(CLAIMED_AT_ONCE, TASKS_MAX - this.running.size);
        if (limit <= 0) return; // whoever ends wakes
        await this.renew(LEASE_MS / 2); // after a while without the store: what is at work here is not to be taken from itself
        const nowMs = this.ports.nowMs();
        this.unknownLeaseId ??= randomUUID();
        const lease = { leaseId: this.unknownLeaseId, untilMs: nowMs + LEASE_MS };
        const claimed = await this.ports.tasks.claim(lease, limit, nowMs, this.partnersWithTheirShare());
        this.unknownLeaseId = undefined;
        for (const task of claimed) this.begin(new TaskRun(task, this.taskPorts));
        if (claimed.length === limit) this.isWoken = true;
      }
    } catch (error) {
      const text = "tasks cannot be looked for; tried again";
      if (error instanceof StoreUnavailable) this.ports.log.debug(text, { error });
      else this.ports.log.error(text, { error });
    }
  }

  private partnersWithTheirShare(): readonly string[] {
    if (this.running.size < CROWDED_MIN) return [];
    const counts = new Map<string, number>();
    for (const { run } of this.running.values()) counts.set(run.task.partnerId, (counts.get(run.task.partnerId) ?? 0) + 1);
    return [...counts].filter(([, count]) => count >= SHARE_MAX).map(([partnerId]) => partnerId);
  }

  private begin(run: TaskRun): void {
    const { taskId } = run.task;
    this.running.get(taskId)?.run.note(undefined); // its lease was over without its having heard of it
    const done = run.work().then(({ isNextWaiting }) => {
      const wasFull = this.running.size >= TASKS_MAX;
      if (this.running.get(taskId)?.run === run) this.running.delete(taskId);
      this.ports.metrics.changeRunningTasks(-1);
      if (isNextWaiting || wasFull) this.wake();
    });
    this.running.set(taskId, { run, done });
    this.ports.metrics.changeRunningTasks(1);
    if (this.isCutOff) run.abort("stopping");
  }

  private async keep(): Promise<void> {
    try {
      await this.renew(PROLONGED_MS);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.ports.log.error("leases cannot be renewed", { error });
    }
  }

  /** Leases of tasks that have had nothing to write for so long. */
  private async renew(silentMs: number): Promise<void> {
    const nowMs = this.ports.nowMs();
    const runs = [...this.running.values()].map(({ run }) => run).filter((run) => Math.abs(nowMs - run.prolongedAtMs) >= silentMs); // or the clock was set back
    if (runs.length === 0) return;
    const held = await this.ports.tasks.renew(
      runs.map((run): LeasedTask => run.task),
      nowMs + LEASE_MS,
    );
    const states = new Map(held.map((state) => [state.taskId, state]));
    for (const run of runs) {
      if (this.running.get(run.task.taskId)?.run === run) run.note(states.get(run.task.taskId));
    }
  }
}
