import type { Command } from "commander";
import { adminCommand, type AdminOptions, type Answer, openAdminClient } from "./admin-client.ts";
import { printFields, printJson, printLines, printTable } from "./output.ts";

const SCOPES = "/admin/v1/scopes";

/** Scopes by the admin API (contract §9): the built-in ones, and the operator's own. */
export function addScopeCommands(program: Command): void {
  const scope = program.command("scope").description("what a token may do, and at which API");
  adminCommand(scope, "create <name>", "make a scope that opens one of your own APIs; then allow it: partner update --allowed-scopes")
    .requiredOption("--principal <kind>", "who may have it: user or service_account")
    .requiredOption("--resource-server <id>", "the API that it opens")
    .option("--description <text>", "what it is for")
    .addHelpText(
      "after",
      "\nExample:\n  cambist scope create files:read --principal user --resource-server rs_0123456789abcdef0123456789abcdef",
    )
    .action(createScope);
  adminCommand(scope, "list", "all scopes, the built-in ones first")
    .addHelpText("after", "\nExample:\n  cambist scope list")
    .action(listScopes);
  adminCommand(scope, "remove <name>", "remove a scope that no partner is allowed any more")
    .addHelpText("after", "\nExample:\n  cambist scope remove files:read")
    .action(removeScope);
}

interface ScopeOptions extends AdminOptions {
  readonly principal: string;
  readonly resourceServer: string;
  readonly description?: string;
}

async function createScope(name: string, { principal, resourceServer, description, ...options }: ScopeOptions): Promise<void> {
  const body = { name, principal, resource_server_id: resourceServer, description };
  const answer = await openAdminClient(options).send("POST", SCOPES, body);
  if (options.json) printJson(answer);
  else printFields(answer["scope"] as Answer);
}

async function listScopes(options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("GET", SCOPES);
  if (options.json) printJson(answer);
  else printTable(["name", "principal", "audience", "description"], answer["scopes"] as Answer[]);
}

async function removeScope(name: string, options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("DELETE", `${SCOPES}/${encodeURIComponent(name)}`);
  if (options.json) printJson(answer);
  else printLines(`${name} is removed.`);
}
