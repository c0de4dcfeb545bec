import { StoreUnavailable } from "@cambist/protocol";
import type { EventBatch, LeaseState, TaskOutput, TaskStore } from "../storage/thread-store.ts";

/** No more often is anything written: a long answer is a row for each of these, and not for each of its chunks. */
const WRITE_EVERY_MS = 100;
const RETRY_MS = 250;

export interface EventWriterPorts {
  readonly tasks: Pick<TaskStore, "append">;
  /** What was written, once it is durable. */
  readonly publish: (batch: EventBatch) => void;
  readonly leaseMs: number;
  readonly nowMs: () => number;
  readonly onFault: (error: unknown) => void;
}

/** A task whose output is written. */
export interface OutputSource {
  /** What has come since the last time. */
  take(): TaskOutput;
  /** It is written. Undefined: it is not, the task is no longer ours. */
  written(state: LeaseState | undefined): void;
  /** It could not be written: to be given again. */
  putBack(output: TaskOutput): void;
}

/**
 * Writes what the tasks of this node bring about, all of it in one transaction at a time: at once where nothing was written lately, so that a first
 * word is not held up, else at most every WRITE_EVERY_MS. Only what is written is told to those who listen: whoever comes back with the id
 * of an event finds it.
 */
export class EventWriter {
  private readonly ports: EventWriterPorts;
  private waiting = new Set<OutputSource>();
  private writing = new Set<OutputSource>();
  private underWay: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private begunAtMs = -Infinity;

  constructor(ports: EventWriterPorts) {
    this.ports = ports;
  }

  /** To be called whenever a task has more to write. */
  add(source: OutputSource): void {
    this.waiting.add(source);
    this.schedule(this.begunAtMs + WRITE_EVERY_MS - performance.now());
  }

  /** Takes a task out, once what is being written is written: from then on its output is its own to write. */
  async remove(source: OutputSource): Promise<void> {
    this.waiting.delete(source);
    while (this.writing.has(source)) await this.underWay;
    this.waiting.delete(source);
  }

  private schedule(afterMs: number): void {
    if (this.timer !== undefined || this.underWay !== undefined) return;
    this.timer = setTimeout(
      () => {
        this.timer = undefined;
        this.underWay = this.write().finally(() => {
          this.underWay = undefined;
          this.writing.clear();
          if (this.waiting.size > 0) this.schedule(this.begunAtMs + WRITE_EVERY_MS - performance.now());
        });
      },
      Math.max(0, afterMs),
    );
  }

  private async write(): Promise<void> {
    this.begunAtMs = performance.now();
    this.writing = this.waiting;
    this.waiting = new Set();
    await this.append([...this.writing]);
  }

  /** What the store refuses, and not for being away, is found by writing each task's alone: one of them must not hold up the others. */
  private async append(sources: readonly OutputSource[]): Promise<void> {
    if (sources.length === 0) return; // whoever waited has ended since
    const outputs = sources.map((source) => source.take());
    const nowMs = this.ports.nowMs();
    let held: readonly LeaseState[];
    try {
      held = await this.ports.tasks.append(outputs, { nowMs, untilMs: nowMs + this.ports.leaseMs });
    } catch (thrown) {
      for (const [index, source] of sources.entries()) source.putBack(outputs[index] as TaskOutput);
      return this.goOnAfter(thrown, sources);
    }
    const states = new Map(held.map((state) => [state.taskId, state]));
    for (const [index, source] of sources.entries()) {
      const output = outputs[index] as TaskOutput;
      const state = states.get(output.taskId);
      source.written(state);
      if (state !== undefined && output.events.length > 0) this.ports.publish(output);
    }
  }

  private async goOnAfter(thrown: unknown, sources: readonly OutputSource[]): Promise<void> {
    if (thrown instanceof StoreUnavailable) {
      for (const source of sources) this.waiting.add(source);
      this.begunAtMs = performance.now() + RETRY_MS;
      return;
    }
    this.ports.onFault(thrown);
    const [only] = sources;
    if (only !== undefined && sources.length === 1) return only.written(undefined);
    for (const source of sources) await this.append([source]);
  }
}
