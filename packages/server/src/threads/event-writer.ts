import { StoreUnavailable } from "@cambist/protocol";
import type { EventBatch, LeaseState, TaskOutput, TaskStore } from "../storage/thread-store.ts";

/** No more often is anything of an answer written but its first words: a long one is a row for each of these, and not for each of its chunks. */
const WRITE_EVERY_MS = 100;
/**
 * Where a write takes long, since much is at work here or the store is slow, the next one comes later: it writes more in each row, which costs little,
 * in fewer rows, which cost most. Without that, a node that is nearly busy would fall behind for good.
 */
const WRITING_SHARE_MAX = 1 / 2;
const WRITE_EVERY_MS_MAX = 300;
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
  /** Nothing of it was taken yet: somebody waits for its first words. */
  readonly isNew: boolean;
  /** What has come since the last time. */
  take(): TaskOutput;
  /** It is written. Undefined: it is not, the task is no longer ours. */
  written(state: LeaseState | undefined): void;
  /** It could not be written: to be given again. */
  putBack(output: TaskOutput): void;
}

/**
 * Writes what the tasks of this node bring about, all of it in one transaction at a time, every WRITE_EVERY_MS; the first words of an answer at once. Only
 * what is written is told to those who listen: whoever comes back with the id of an event finds it.
 */
export class EventWriter {
  private readonly ports: EventWriterPorts;
  private fresh = new Set<OutputSource>();
  private waiting = new Set<OutputSource>();
  private writing = new Set<OutputSource>();
  private underWay: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private timerAtMs = Infinity;
  /** When what waits is written. */
  private dueAtMs = -Infinity;

  constructor(ports: EventWriterPorts) {
    this.ports = ports;
  }

  /** To be called whenever a task has more to write. */
  add(source: OutputSource): void {
    if (source.isNew) this.fresh.add(source);
    else this.waiting.add(source);
    this.schedule();
  }

  /** Takes a task out, once what is being written is written: from then on its output is its own to write. */
  async remove(source: OutputSource): Promise<void> {
    while (this.writing.has(source)) await this.underWay;
    this.fresh.delete(source);
    this.waiting.delete(source);
  }

  private schedule(): void {
    if (this.underWay !== undefined || this.fresh.size + this.waiting.size === 0) return;
    if (this.timerAtMs <= this.dueAtMs && this.fresh.size === 0) return; // as it is for nearly every word
    const nowMs = performance.now();
    const atMs = this.fresh.size > 0 ? nowMs : Math.max(nowMs, this.dueAtMs);
    if (atMs >= this.timerAtMs) return;
    clearTimeout(this.timer);
    this.timerAtMs = atMs;
    this.timer = setTimeout(() => {
      this.timerAtMs = Infinity;
      this.underWay = this.write().finally(() => {
        this.underWay = undefined;
        this.writing.clear();
        this.schedule();
      });
    }, atMs - nowMs);
  }

  private async write(): Promise<void> {
    const nowMs = performance.now();
    this.writing = this.fresh;
    this.fresh = new Set();
    if (nowMs < this.dueAtMs) return this.append([...this.writing]);
    for (const source of this.waiting) this.writing.add(source);
    this.waiting.clear();
    this.dueAtMs = nowMs + WRITE_EVERY_MS;
    await this.append([...this.writing]);
    const tookMs = performance.now() - nowMs;
    this.dueAtMs = Math.max(this.dueAtMs, nowMs + Math.min(tookMs / WRITING_SHARE_MAX, WRITE_EVERY_MS_MAX));
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
      this.dueAtMs = performance.now() + RETRY_MS;
      return;
    }
    this.ports.onFault(thrown);
    const [only] = sources;
    if (only !== undefined && sources.length === 1) return only.written(undefined);
    for (const source of sources) await this.append([source]);
  }
}
