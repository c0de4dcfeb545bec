import { join } from "node:path";
import { root } from "../house/import-graph.ts";
import { CLI, type CliResult, ownEnvironment } from "./spawn.ts";

const MAIN = join(root, "packages/server/src/cli/main.ts");

/** Of before the first run. */
const write = { stdout: process.stdout.write.bind(process.stdout), stderr: process.stderr.write.bind(process.stderr) };
let runs = 0;
let last: Promise<unknown> = Promise.resolve();

/**
 * A command of the CLI to its end, in this process: a process of its own for each takes most of a second to start. It is given the same environment,
 * and what it prints and its exit code are caught; one command at a time, for these belong to the process. NOT for what reads standard input, takes
 * signals or starts a server, and that the program starts at all is shown by runCli.
 */
export function runCliHere(args: readonly string[], env: Record<string, string> = {}): Promise<CliResult> {
  const result = last.then(() => run(args, env));
  last = result.catch(() => undefined);
  return result;
}

async function run(args: readonly string[], env: Record<string, string>): Promise<CliResult> {
  const { argv, env: outer, exitCode } = process;
  const printed = { output: "", stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    process[name].write = (chunk: string | Uint8Array) => {
      const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
      printed.output += text;
      printed[name] += text;
      return true;
    };
  }
  process.argv = [process.execPath, CLI, ...args];
  process.env = ownEnvironment(env);
  process.exitCode = 0;
  runs++;
  try {
    await import(/* @vite-ignore */ `${MAIN}?run=${runs}`); // the module that is the program: with a query it is run anew
    return { code: process.exitCode, ...printed };
  } finally {
    for (const name of ["stdout", "stderr"] as const) process[name].write = write[name];
    Object.assign(process, { argv, env: outer, exitCode });
  }
}
