import * as fc from "fast-check";
import { expect, test } from "vitest";
import { CASES_MIN, casesOf, LONG, seedOfRun } from "../fuzz/fuzz.ts";
import { Report } from "./compare.ts";
import { plan, questionOf } from "./generate.ts";

/*
 * Our verification of a partner's token beside that of jose, an independent library, over generated and mutated tokens. jose has OpenSSL's
 * arithmetic below it, as we have: it is a second opinion on everything around the arithmetic, for which there are the vectors.
 * `npm run test:fuzz` runs 100,000; `npm test` runs a few (tests/fuzz/short.test.ts). Keys, and signatures with a random part, are new in each
 * run: FUZZ_SEED repeats how the tokens are made, and a failure prints its token and keys.
 */

const CASES = { short: 1200, long: 100_000 };

test("every difference between our verdict on a token and jose's is explained, and nothing unsigned passes", async () => {
  const [seed, numRuns, started] = [seedOfRun(), casesOf(CASES), performance.now()];
  const report = new Report();
  let right = 0;
  await fc.assert(
    fc.asyncProperty(plan, async (made) => {
      const { question, isRight, isSigned } = questionOf(made);
      const { stage } = await report.ask(question);
      // Of what both pass, jose says nothing: whoever made the token knows.
      if (stage !== "refused") expect(isSigned(question.token), `signed: ${question.token}`).toBe(true);
      if (!isRight) return;
      right++;
      expect(stage).toBe("accepted");
    }),
    { seed, numRuns },
  );
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (LONG) console.log(`fuzz: second opinion: ${numRuns} cases in ${seconds} s, FUZZ_SEED=${seed}: ${report.text()}`);
  if (numRuns < CASES_MIN) return;
  // Were nearly all tokens refused for their shape, agreement would mean nothing.
  for (const stage of ["refused", "verified", "accepted"] as const)
    expect(report.agreed.get(stage) ?? 0, stage).toBeGreaterThan(numRuns / 20);
  expect(right).toBeGreaterThan(numRuns / 100);
  // An explanation for what never happens is a hole that waits for a difference to fall into.
  if (numRuns >= CASES.long) expect(await report.unused()).toEqual([]);
});
