import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../packages/server/src/testing/database.ts";
import { startTestServer, type TestServer } from "../packages/server/src/testing/server.ts";
import { COMMANDS, MUST_MEET } from "./accounts-model/commands.ts";
import { Model, WRONG_MODELS } from "./accounts-model/model.ts";
import { World } from "./accounts-model/world.ts";
import { seedOfRun, Tally } from "./fuzz/fuzz.ts";
import { repetitions } from "./repetitions.ts";

/*
 * The account API against a model of plain maps: three partners, each in turn, with the ids of the other two among what they ask for. Any
 * answer that is not the model's is a failure, and so is, at the end of each sequence, any row of the three that is not the model's.
 * FUZZ_SEED repeats a run, as of the fuzz targets.
 */

const STEPS_MIN = repetitions({ short: 600, long: 10_000 });
/** Sequences at once, each with partners of its own: writes share commits, as they would under load. */
const LANES = 8;
const COMMANDS_MAX = 250;

const countOf = (steps: Tally) => [...steps.counts.values()].reduce((sum, count) => sum + count, 0);

describe.each(DIALECTS)("the account API is what its model is, on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  const sequences = (steps: Tally, AnyModel: new () => Model = Model) =>
    fc.asyncProperty(fc.commands(COMMANDS, { maxCommands: COMMANDS_MAX, size: "max" }), async (commands) => {
      const [model, real] = [new AnyModel(), await World.open(server, steps)];
      await fc.asyncModelRun(() => ({ model, real }), commands);
      await real.expectRows(model);
    });

  /** A sequence after another, each from a seed of its own, until the steps are done, however long each turns out to be. */
  async function runLane(lane: number, steps: Tally): Promise<void> {
    const own = new Tally();
    for (let round = 0; countOf(own) < STEPS_MIN / LANES; round++) {
      await fc.assert(sequences(own), { seed: seedOfRun() + lane * 1_000 + round, numRuns: 1, unbiased: true });
    }
    for (const [outcome, count] of own.counts) steps.counts.set(outcome, (steps.counts.get(outcome) ?? 0) + count);
  }

  test(`${STEPS_MIN} steps`, { timeout: 240_000 }, async () => {
    const steps = new Tally();
    await Promise.all(Array.from({ length: LANES }, (_, lane) => runLane(lane, steps))).catch((thrown: unknown) => {
      throw new Error(`FUZZ_SEED=${seedOfRun()} repeats this: ${String(thrown)}`, { cause: thrown });
    });
    expect(countOf(steps)).toBeGreaterThanOrEqual(STEPS_MIN);
    for (const outcome of MUST_MEET)
      expect(steps.counts.get(outcome) ?? 0, `${outcome} of ${steps.text()}`).toBeGreaterThan(STEPS_MIN / 2_000);
  });

  test.each(WRONG_MODELS)("finds a model that is wrong: %s", async (_name, WrongModel) => {
    const steps = new Tally();
    const result = await fc.check(sequences(steps, WrongModel), { seed: seedOfRun(), numRuns: 20, endOnFailure: true });
    expect(result.failed, `after ${countOf(steps)} steps`).toBe(true);
  });
});
