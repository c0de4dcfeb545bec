import * as fc from "fast-check";
import { expect, test } from "vitest";

/**
 * How a fuzz target is run. `npm run test:fuzz` runs each with many cases and a new seed, which it prints; `npm test` runs the same targets
 * with few cases and a fixed seed, so that a commit is never refused for what it did not change. FUZZ_SEED repeats a run; FUZZ_RUNS sets the
 * number of cases of each target of a long run.
 */
export const LONG = process.env["FUZZ_LONG"] === "1";
const FIXED_SEED = 20_260_101;

export interface Budget {
  readonly short: number;
  readonly long: number;
}

/** The same for all targets of a run (vitest.fuzz.config.ts). */
export function seedOfRun(): number {
  return numberFrom("FUZZ_SEED") ?? FIXED_SEED;
}

export function casesOf({ short, long }: Budget): number {
  return LONG ? (numberFrom("FUZZ_RUNS") ?? long) : short;
}

/** @throws for a knob that is no number: a run must not silently be another than the one asked for. */
function numberFrom(name: string): number | undefined {
  const text = process.env[name];
  if (text === undefined || text === "") return undefined;
  const value = Number(text);
  if (!Number.isInteger(value)) throw new Error(`${name} is ${text}, which is no whole number`);
  return value;
}

/**
 * Counts how often each outcome was met. A property says "if it is accepted, then …": were nothing ever accepted, it would hold and mean
 * nothing, so a target names the outcomes that it must have met, each in one case of a hundred.
 */
export class Tally {
  readonly counts = new Map<string, number>();
  count(outcome: string): void {
    this.counts.set(outcome, (this.counts.get(outcome) ?? 0) + 1);
  }
  text(): string {
    return [...this.counts]
      .toSorted(([, a], [, b]) => b - a)
      .map(([outcome, count]) => `${outcome} ${count}`)
      .join(", ");
  }
}

/** Of fewer cases nothing can be said, whatever they met. */
export const CASES_MIN = 250;

/** One target: any value of the arbitrary has the property, and all of `mustMeet` were met. */
export function fuzz<T>(
  name: string,
  budget: Budget,
  mustMeet: readonly string[],
  arbitrary: fc.Arbitrary<T>,
  property: (value: T, tally: Tally) => void,
): void {
  test(`fuzz: ${name}`, () => {
    const tally = new Tally();
    const [seed, numRuns, started] = [seedOfRun(), casesOf(budget), performance.now()];
    fc.assert(
      fc.property(arbitrary, (value) => property(value, tally)),
      { seed, numRuns },
    );
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    if (LONG) console.log(`fuzz: ${name}: ${numRuns} cases in ${seconds} s, FUZZ_SEED=${seed}: ${tally.text()}`);
    if (numRuns < CASES_MIN) return;
    for (const outcome of mustMeet)
      expect(tally.counts.get(outcome) ?? 0, `cases with outcome "${outcome}"`).toBeGreaterThan(numRuns / 100);
  });
}
