import type { Command } from "commander";
import { adminCommand, type AdminOptions, type Answer, openAdminClient } from "./admin-client.ts";
import { printJson, printTable } from "./output.ts";

/** Our own signing keys by the admin API (contract §9). */
export function addKeyCommands(program: Command): void {
  adminCommand(program, "keys", "the server's own signing keys")
    .addHelpText("after", "\nExample:\n  cambist keys")
    .action(async (options: AdminOptions) => {
      const answer = await openAdminClient(options).send("GET", "/admin/v1/keys");
      if (options.json) printJson(answer);
      else printTable(["kid", "algorithm", "state", "signs", "created_at"], answer["keys"] as Answer[]);
    });
}
