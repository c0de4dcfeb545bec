// `npm test`: type check, lint, format, then every test on both databases. `npm test -- <vitest arguments>` runs the tests only.
// `npm run test:faults` runs the longer fault runs, `npm run test:fuzz` the fuzz targets with many cases (FUZZ_RUNS, FUZZ_SEED: tests/fuzz/fuzz.ts).
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./prepare.mjs";

const [mode, ...rest] = process.argv.slice(2);
const long = mode === "faults" || mode === "fuzz";
const vitestArguments = long ? ["--config", `vitest.${mode}.config.ts`, ...rest] : process.argv.slice(2);

/** Longer than the slowest machine needs: a test that blocks its thread cannot be ended by the test runner's own limits. */
const SUITE_MINUTES_MAX = 15;

/** Tools are started as Node programs: npm may have been told not to put node_modules/.bin on the path. */
function run(program, args) {
  const limit = long ? {} : { timeout: SUITE_MINUTES_MAX * 60_000, killSignal: "SIGKILL" };
  const result = spawnSync(process.execPath, [join(root, "node_modules", program), ...args], { cwd: root, stdio: "inherit", ...limit });
  if (result.status !== 0) {
    const why = result.error?.code === "ETIMEDOUT" ? `did not end within ${SUITE_MINUTES_MAX} minutes: something hangs` : "failed";
    console.error(`cambist: ${program} ${args.join(" ")} ${why}`);
    process.exit(result.status ?? 1);
  }
}

if (!long && vitestArguments.length === 0) {
  run("typescript/bin/tsc", ["-p", "tsconfig.check.json"]);
  run("oxlint/bin/oxlint", ["--deny-warnings"]);
  run("oxfmt/bin/oxfmt", ["--check"]);
  run("knip/bin/knip.js", []);
}
run("vitest/vitest.mjs", ["run", ...vitestArguments]);
