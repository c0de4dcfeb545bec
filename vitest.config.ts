import { defineConfig } from "vitest/config";
import { LongFirst } from "./tests/sequencer.ts";

/** `source` makes a workspace import of another package resolve to its TypeScript, so that tests never run a stale build. */
const resolve = { conditions: ["source"] };
const ssr = { resolve: { conditions: ["source"], externalConditions: ["node", "default"] } };

export default defineConfig({
  resolve,
  ssr,
  test: {
    include: ["packages/*/src/**/*.test.ts", "tests/**/*.test.ts", "conformance/**/*.test.ts"],
    globalSetup: ["tests/scratch.ts", "tests/build.mjs", "tests/postgres.ts"],
    testTimeout: 120_000, // for a busy machine: what a test promises of time, it measures itself
    hookTimeout: 120_000,
    expect: { poll: { timeout: 30_000, interval: 20 } }, // the same for what is waited for: a second is soon over there
    pool: "forks",
    maxWorkers: 3, // of two processors: a third of the time is the wait for a database, a disk or a clock
    sequence: { sequencer: LongFirst },
    isolate: false, // a process of its own for each file would load and warm up the server a hundred times; modules keep no state
  },
});
