import { redact } from "@cambist/protocol";
import { Command } from "commander";
import { addChatCommand } from "./chat.ts";
import { addJwksCommands } from "./jwks.ts";
import { addKeyCommands } from "./keys.ts";
import { addPartnerCommands } from "./partner.ts";
import { addResourceServerCommands } from "./resource-server.ts";
import { addRevokeCommand } from "./revoke.ts";
import { addScopeCommands } from "./scope.ts";
import { addServerCommands } from "./server.ts";
import { addStoreCommands } from "./store.ts";

/** Every command of `cambist`, each with an example. None takes a secret as an argument or an option: those are kept by the shell's history. */
export function commands(): Command {
  const program = new Command("cambist")
    .description("The partner platform in a box.")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(redact(text.replace(/^error: /, "cambist: "))) });
  addServerCommands(program);
  addChatCommand(program);
  addPartnerCommands(program);
  addResourceServerCommands(program);
  addScopeCommands(program);
  addRevokeCommand(program);
  addKeyCommands(program);
  addJwksCommands(program);
  addStoreCommands(program);
  return program;
}
