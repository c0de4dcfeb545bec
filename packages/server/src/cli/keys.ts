import type { Command } from "commander";
import { adminCommand, type AdminOptions, type Answer, openAdminClient } from "./admin-client.ts";
import { UsageError } from "./failure.ts";
import { printJson, printLines, printTable } from "./output.ts";

const KEYS = "/admin/v1/keys";

/** Our own signing keys by the admin API (contract §9). */
export function addKeyCommands(program: Command): void {
  const keys = adminCommand(program, "keys", "the server's own signing keys, and what hangs on which master key")
    .addHelpText("after", "\nExample:\n  cambist keys")
    .action(listKeys);
  adminCommand(keys, "rotate", "schedule the switch to the next key, for when it has been published for 24 hours")
    .option("--now", "switch at once; tokens of the former key stay good")
    .option("--emergency", "switch at once, and drop the former key: every token that it signed dies")
    .addHelpText("after", "\nExamples:\n  cambist keys rotate\n  cambist keys rotate --emergency")
    .action((_options: RotateOptions, command: Command) => rotateKeys(command.optsWithGlobals())); // `keys` takes --url and --json first
}

async function listKeys(options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("GET", KEYS);
  if (options.json) return printJson(answer);
  printKeys(answer);
  printLines("");
  printTable(["id", "newest", "listed", "signing_keys", "secrets", "tokens"], answer["master_keys"] as Answer[]);
}

interface RotateOptions extends AdminOptions {
  readonly now?: boolean;
  readonly emergency?: boolean;
}

async function rotateKeys({ now, emergency, ...options }: RotateOptions): Promise<void> {
  if (now === true && emergency === true) throw new UsageError("give --now or --emergency, not both");
  const body = { ...(now === true ? { now } : {}), ...(emergency === true ? { emergency } : {}) };
  const answer = await openAdminClient(options).send("POST", `${KEYS}/rotate`, body);
  if (options.json) return printJson(answer);
  printKeys(answer);
  const switchesAt = answer["switches_at"];
  printLines("", typeof switchesAt === "string" ? `The next key signs from ${switchesAt} on.` : "The keys are switched.");
}

function printKeys(answer: Answer): void {
  printTable(["kid", "algorithm", "state", "signs", "created_at", "signs_from", "drops_at"], answer["keys"] as Answer[]);
}
