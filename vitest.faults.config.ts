import { defineConfig } from "vitest/config";
import base from "./vitest.config.ts";

/** The longer fault runs: `npm run test:faults`. */
export default defineConfig({ ...base, test: { ...base.test, include: ["tests/**/*.fault.ts"], testTimeout: 600_000 } });
