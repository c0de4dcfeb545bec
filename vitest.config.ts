import { defineConfig } from "vitest/config";

/** `source` makes a workspace import of another package resolve to its TypeScript, so that tests never run a stale build. */
const resolve = { conditions: ["source"] };
const ssr = { resolve: { conditions: ["source"], externalConditions: ["node", "default"] } };

export default defineConfig({
  resolve,
  ssr,
  test: {
    include: ["packages/*/src/**/*.test.ts", "tests/**/*.test.ts", "conformance/**/*.test.ts"],
    globalSetup: ["tests/build.mjs", "tests/postgres.ts"],
    testTimeout: 60_000, // for a busy machine: what a test promises of time, it measures itself
    hookTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2, // half of the time is the wait for a database, a disk or a clock
    isolate: false, // a process of its own for each file would load and warm up the server a hundred times; modules keep no state
  },
});
