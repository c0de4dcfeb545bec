/** What comes and goes, as a Map and a Set have it. */
interface Changing<T> {
  readonly size: number;
  values(): Iterator<T>;
}

/**
 * Goes round and round in what comes and goes, as far as is wanted each time: everything has its turn, whatever number there is of it and however much
 * is taken at once. (An iterator of a Map or a Set goes on rightly where something was added or removed meanwhile.)
 */
export class Turns<T> {
  private readonly all: Changing<T>;
  private rest: Iterator<T>;

  constructor(all: Changing<T>) {
    this.all = all;
    this.rest = all.values();
  }

  /** What is next, once round at most. Whoever stops begins there the next time, behind what it was given last. */
  *next(): Generator<T> {
    for (let left = this.all.size; left > 0; left--) {
      let following = this.rest.next();
      if (following.done === true) {
        this.rest = this.all.values();
        following = this.rest.next();
      }
      if (following.done === true) return;
      yield following.value;
    }
  }

  take(countMax: number): readonly T[] {
    const taken: T[] = [];
    if (countMax > 0)
      for (const one of this.next()) {
        if (taken.push(one) === countMax) break;
      }
    return taken;
  }
}
