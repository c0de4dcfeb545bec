/**
 * One read for all that ask for the same in one turn of the event loop: under load, dozens of requests begin with the same small read. Nothing is
 * remembered beyond the turn, and nothing beyond a write of this process, which has to say so by {@link forget}.
 */
export class PerTurn<T> {
  private reads: Map<string, Promise<T>> | undefined;

  get(key: string, read: () => Promise<T>): Promise<T> {
    if (this.reads === undefined) {
      this.reads = new Map();
      setImmediate(() => this.forget());
    }
    const known = this.reads.get(key);
    if (known !== undefined) return known;
    const begun = read();
    this.reads.set(key, begun);
    return begun;
  }

  forget(): void {
    this.reads = undefined;
  }
}
