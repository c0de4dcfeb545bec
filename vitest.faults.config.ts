import { defineConfig } from "vitest/config";
import base from "./vitest.config.ts";

/** Tests of `npm test` that are run here with more repetitions (tests/repetitions.ts). */
const REPEATED = ["accounts-model", "attacks/a6-races", "attacks/a9-conditions", "threads-agents"];

/** The longer fault runs: `npm run test:faults`. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: ["tests/**/*.fault.ts", ...REPEATED.map((name) => `tests/${name}.test.ts`)],
    env: { TESTS_LONG: "1" },
    testTimeout: 600_000,
  },
});
