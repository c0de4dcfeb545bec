/**
 * How often a test repeats what may go wrong only now and then: few times in `npm test`, as often as the attack cases ask in
 * `npm run test:faults` (vitest.faults.config.ts), where the same files run once more.
 */
export function repetitions({ short, long }: { readonly short: number; readonly long: number }): number {
  return process.env["TESTS_LONG"] === "1" ? long : short;
}
