import { CommanderError } from "commander";
import { processEnvironment } from "../config.ts";
import { commands } from "./commands.ts";
import { describeFailure, EXIT_USAGE } from "./failure.ts";

try {
  await commands().parseAsync();
} catch (thrown) {
  if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    const { text, exitCode } = describeFailure(thrown, processEnvironment()["CAMBIST_LOG_LEVEL"] === "debug");
    process.stderr.write(`cambist: ${text}\n`);
    process.exitCode = exitCode;
  }
}
