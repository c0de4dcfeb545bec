import { defineConfig } from "vitest/config";
import base from "./vitest.config.ts";

const seed = process.env["FUZZ_SEED"] ?? String(Date.now() % 0x7fff_ffff);

/** The fuzz targets with many cases and a new seed: `npm run test:fuzz`. They need no database and no build, and they have the machine. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: ["tests/**/*.fuzz.ts"],
    globalSetup: [],
    testTimeout: 1_800_000,
    env: { FUZZ_LONG: "1", FUZZ_SEED: seed },
    maxWorkers: "100%",
    disableConsoleIntercept: true,
  },
});
