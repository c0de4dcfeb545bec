import { StoreUnavailable } from "@cambist/protocol";

const QUEUE_JOBS_MAX = 4096;

interface Waiting<J, V> {
  readonly job: J;
  readonly resolve: (verdict: V) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Jobs that arrive in one turn of the event loop, or while a commit is under way, share the next transaction: one fsync for all of
 * them. A verdict is given only after the commit. When the transaction fails, all of its jobs fail, and
 * when the store is away, those that wait fail with them.
 */
export class GroupCommit<J, V> {
  private readonly commit: (jobs: readonly J[]) => Promise<V[]>;
  private readonly jobsMax: number;
  private waiting: Waiting<J, V>[] = [];
  private running = false;

  constructor(commit: (jobs: readonly J[]) => Promise<V[]>, jobsMax: number) {
    this.commit = commit;
    this.jobsMax = jobsMax;
  }

  /** @throws StoreUnavailable when too many jobs wait, or what `commit` throws. */
  submit(job: J): Promise<V> {
    if (this.waiting.length >= QUEUE_JOBS_MAX) return Promise.reject(new StoreUnavailable("too many writes wait for the store"));
    return new Promise((resolve, reject) => {
      this.waiting.push({ job, resolve, reject });
      if (!this.running) {
        this.running = true;
        setImmediate(() => void this.run());
      }
    });
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.slice(0, this.jobsMax);
      this.waiting = this.waiting.slice(this.jobsMax);
      try {
        const verdicts = await this.commit(batch.map((entry) => entry.job));
        for (const [index, entry] of batch.entries()) entry.resolve(verdicts[index] as V);
      } catch (thrown) {
        // a store that is away for these is away for those that wait: they would only wait as long once more
        const failed = thrown instanceof StoreUnavailable ? [...batch, ...this.waiting.splice(0)] : batch;
        for (const entry of failed) entry.reject(thrown);
      }
      if (this.waiting.length > 0) await new Promise(setImmediate); // let answers out and requests in between two commits
    }
    this.running = false;
  }
}
