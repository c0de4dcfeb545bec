import { Command, CommanderError } from "commander";
import { ConfigError, processEnvironment, readConfig } from "../config.ts";
import { runServer } from "./run-server.ts";
import { runSandbox } from "./sandbox.ts";
import { printSandboxToken } from "./sandbox-token.ts";

const EXIT_USAGE = 2;

function commands(): Command {
  const program = new Command("cambist").description("The partner platform in a box.").exitOverride();
  program
    .command("sandbox")
    .description("run a server to try things out: embedded store, keys and a demo partner made at the first start")
    .addHelpText("after", "\nExample:\n  PORT=9090 cambist sandbox")
    .action(() => runSandbox(processEnvironment()));
  program
    .command("serve")
    .description("run a server for production: refuses to start on a missing or default secret")
    .addHelpText(
      "after",
      "\nExample:\n  CAMBIST_PUBLIC_URL=https://auth.example.com CAMBIST_MASTER_KEY=… CAMBIST_OPERATOR_TOKEN=… cambist serve",
    )
    .action(() => runServer(readConfig("serve", processEnvironment())));
  program
    .command("sandbox-token")
    .description("print a subject token that the sandbox's demo partner signed")
    .option("--user <id>", "for this user of the demo partner")
    .option("--service-account", "for the demo partner itself")
    .addHelpText("after", "\nExample:\n  cambist sandbox-token --service-account")
    .action((options: { user?: string; serviceAccount?: boolean }) => printSandboxToken(processEnvironment(), options));
  return program;
}

try {
  await commands().parseAsync();
} catch (thrown) {
  if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    // a stack helps nobody who has to correct a setting; a fault of ours needs it
    const expected = thrown instanceof ConfigError || processEnvironment()["CAMBIST_LOG_LEVEL"] !== "debug";
    process.stderr.write(`cambist: ${thrown instanceof Error ? (expected ? thrown.message : thrown.stack) : String(thrown)}\n`);
    process.exitCode = 1;
  }
}
