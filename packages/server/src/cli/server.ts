import type { Command } from "commander";
import { processEnvironment, readConfig } from "../config.ts";

/** The commands that run a server, and the sandbox's helper. The server is loaded when it is asked for. */
export function addServerCommands(program: Command): void {
  program
    .command("sandbox")
    .description("run a server to try things out: embedded store, keys and a demo partner made at the first start")
    .addHelpText("after", "\nExample:\n  PORT=9090 cambist sandbox")
    .action(async () => (await import("./sandbox.ts")).runSandbox(processEnvironment()));
  program
    .command("serve")
    .description("run a server for production: refuses to start on a missing or default secret")
    .addHelpText(
      "after",
      "\nExample:\n  set -a; . /etc/cambist.env; set +a  # settings and secrets, in a file of mode 0600\n  cambist serve",
    )
    .action(async () => (await import("./run-server.ts")).runServer(readConfig("serve", processEnvironment())));
  program
    .command("sandbox-token")
    .description("print a subject token that the sandbox's demo partner signed")
    .option("--user <id>", "for this user of the demo partner")
    .option("--service-account", "for the demo partner itself")
    .addHelpText("after", "\nExample:\n  cambist sandbox-token --service-account")
    .action(async (options: { user?: string; serviceAccount?: boolean }) =>
      (await import("./sandbox-token.ts")).printSandboxToken(processEnvironment(), options),
    );
}
