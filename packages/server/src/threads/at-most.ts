/** Has no more than so many works under way at once; the others wait for their turn, in order. */
export function atMost(countMax: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let count = 0;
  return async (work) => {
    if (count >= countMax) await new Promise<void>((resolve) => waiting.push(resolve));
    else count++;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) count--;
      else next(); // in its place
    }
  };
}
