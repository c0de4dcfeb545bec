const TRIES = 5;

/**
 * The milliseconds of the processor that this process takes for the work, the least of some tries, or of the first below `enoughMs`: what else the
 * machine does counts for nothing, nor does what is done once only (a compilation, a collection of garbage). Time spent waiting is NOT counted.
 */
export function leastCpuMs(work: () => unknown, enoughMs: number): number {
  let leastMs = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < TRIES && leastMs >= enoughMs; tries++) {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    leastMs = Math.min(leastMs, (user + system) / 1_000);
  }
  return leastMs;
}
