import { randomUUID } from "node:crypto";
import { StoreUnavailable } from "@cambist/protocol";
import type { LeasedTask, TaskStore } from "../storage/thread-store.ts";
import { EventWriter } from "./event-writer.ts";
import { type TaskPorts, TaskRun } from "./task-run.ts";

/** At work on one node, of all partners together. */
const TASKS_MAX = 2_000;
const CLAIMED_AT_ONCE = 200;
/** For tasks that were sent to another node, which has no room, or has died. */
const LOOK_EVERY_MS = 1_000;
/** So long after a node died, another one takes up its tasks. */
const LEASE_MS = 10_000;
const RENEW_EVERY_MS = 2_500;

export interface TaskRunnerPorts extends Omit<TaskPorts, "writer" | "tasks"> {
  readonly tasks: TaskStore;
}

/**
 * Works on the tasks that wait in the store: takes them by a lease, so that of all nodes one works on each, and keeps the lease while it does. What a
 * node that died had taken is taken up by another one, or by the same one after its restart.
 */
export class TaskRunner {
  private readonly ports: TaskRunnerPorts;
  private readonly writer: EventWriter;
  private readonly running = new Map<string, { readonly run: TaskRun; readonly done: Promise<void> }>();
  private readonly timers: NodeJS.Timeout[] = [];
  private isLooking = false;
  private isWoken = false;
  private isStopping = false;

  constructor(ports: TaskRunnerPorts) {
    this.ports = ports;
    const onFault = (error: unknown) => ports.log.error("what agents said could not be written; tried again", { error });
    this.writer = new EventWriter({ tasks: ports.tasks, publish: ports.publish, leaseMs: LEASE_MS, nowMs: ports.nowMs, onFault });
  }

  start(): void {
    this.timers.push(setInterval(() => this.wake(), LOOK_EVERY_MS).unref(), setInterval(() => void this.renew(), RENEW_EVERY_MS).unref());
    this.wake();
  }

  /** Looks for tasks now: one was sent, or one has made room. */
  wake(): void {
    this.isWoken = true;
    if (!this.isLooking) void this.look();
  }

  /** The store has it marked already. Where another node has the task, that one finds the mark. */
  cancel(taskId: string): void {
    const known = this.running.get(taskId);
    if (known === undefined) this.wake();
    else known.run.abort("cancelled");
  }

  /** Takes no more, lets what is at work finish until `graceMs`; what is not begun to be read goes back, the rest fails, and says so. */
  async stop(graceMs: number): Promise<void> {
    this.isStopping = true;
    for (const timer of this.timers) clearInterval(timer);
    const cutOff = setTimeout(() => {
      for (const { run } of this.running.values()) run.abort("stopping");
    }, graceMs);
    const renewing = setInterval(() => void this.renew(), RENEW_EVERY_MS);
    while (this.running.size > 0 || this.isLooking) {
      await Promise.all([...this.running.values()].map(({ done }) => done));
      await new Promise(setImmediate);
    }
    clearTimeout(cutOff);
    clearInterval(renewing);
  }

  private async look(): Promise<void> {
    this.isLooking = true;
    try {
      while (this.isWoken && !this.isStopping) {
        this.isWoken = false;
        const limit = Math.min(CLAIMED_AT_ONCE, TASKS_MAX - this.running.size);
        if (limit <= 0) return; // whoever ends wakes
        const nowMs = this.ports.nowMs();
        const lease = { leaseId: randomUUID(), untilMs: nowMs + LEASE_MS };
        const claimed = await this.ports.tasks.claim(lease, limit, nowMs);
        for (const task of claimed) this.begin(new TaskRun(task, { ...this.ports, writer: this.writer }));
        if (claimed.length === limit) this.isWoken = true;
      }
    } catch (error) {
      const text = "tasks cannot be looked for; tried again";
      if (error instanceof StoreUnavailable) this.ports.log.debug(text, { error });
      else this.ports.log.error(text, { error });
    } finally {
      this.isLooking = false;
    }
  }

  private begin(run: TaskRun): void {
    const { taskId } = run.task;
    const done = run.work().then(({ isNextWaiting }) => {
      if (isNextWaiting || this.running.size >= TASKS_MAX) this.wake();
      this.running.delete(taskId);
    });
    this.running.set(taskId, { run, done });
  }

  /** Of tasks that have had nothing to write for a while. */
  private async renew(): Promise<void> {
    const nowMs = this.ports.nowMs();
    const runs = [...this.running.values()].map(({ run }) => run).filter((run) => nowMs - run.prolongedAtMs >= RENEW_EVERY_MS / 2);
    if (runs.length === 0) return;
    try {
      const held = await this.ports.tasks.renew(
        runs.map((run): LeasedTask => run.task),
        nowMs + LEASE_MS,
      );
      const states = new Map(held.map((state) => [state.taskId, state]));
      for (const run of runs) {
        if (this.running.has(run.task.taskId)) run.note(states.get(run.task.taskId));
      }
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.ports.log.error("leases cannot be renewed", { error });
    }
  }
}
