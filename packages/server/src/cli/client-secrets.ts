import { CLIENT_SECRET_PREFIX } from "@cambist/protocol";
import type { Command } from "commander";
import { adminCommand, type AdminOptions, openAdminClient } from "./admin-client.ts";
import { UsageError } from "./failure.ts";
import { printFields, printJson, printLines } from "./output.ts";
import { printSecretNote, type SecretOptions, takeSecret } from "./secret-file.ts";

/** Whose secrets they are: partners and resource servers have theirs alike. */
export interface SecretOwner {
  /** Its command, as it is typed. */
  readonly command: string;
  /** What its id is called in a usage line, and one for the examples. */
  readonly id: { readonly name: string; readonly example: string };
  /** Of the owner in the admin API. */
  readonly pathOf: (id: string) => string;
}

/** `secret add` and `secret remove`: two may live at once. */
export function addSecretCommands(parent: Command, description: string, owner: SecretOwner): void {
  const secret = parent.command("secret").description(description);
  const { command, id, pathOf } = owner;
  adminCommand(secret, `add <${id.name}>`, "make a second secret beside the first")
    .option("--secret-file <file>", "write the secret into this new file instead of showing it")
    .addHelpText("after", `\nExample:\n  cambist ${command} secret add ${id.example} --secret-file acme.secret`)
    .action((ownerId: string, options: AdminOptions & SecretOptions) => addSecret(pathOf(ownerId), options));
  adminCommand(secret, `remove <${id.name}> <secret-id>`, `end a secret; its id is in \`cambist ${command} show\``)
    .option("--force", "also where it was used within the last 24 hours")
    .addHelpText("after", `\nExample:\n  cambist ${command} secret remove ${id.example} sec_0123456789abcdef`)
    .action((ownerId: string, secretId: string, options: AdminOptions & { readonly force?: boolean }) => {
      if (secretId.startsWith(CLIENT_SECRET_PREFIX)) {
        throw new UsageError(
          `that is a secret, not the id of one: it is in your shell's history now. Its id is in \`cambist ${command} show\``,
        );
      }
      return removeSecret(pathOf(ownerId), secretId, options);
    });
}

async function addSecret(path: string, options: AdminOptions & SecretOptions): Promise<void> {
  const client = openAdminClient(options);
  const answer = await takeSecret(options, () => client.send("POST", `${path}/secrets`));
  if (options.json) return printJson(answer);
  printFields(answer);
  printSecretNote(answer);
}

async function removeSecret(path: string, secretId: string, options: AdminOptions & { readonly force?: boolean }): Promise<void> {
  const query = options.force ? "?force=true" : "";
  const answer = await openAdminClient(options).send("DELETE", `${path}/secrets/${encodeURIComponent(secretId)}${query}`);
  if (options.json) printJson(answer);
  else printLines(`${secretId} is removed.`);
}
