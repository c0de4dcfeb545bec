import type { Command } from "commander";
import { adminCommand, type AdminOptions, type Answer, openAdminClient } from "./admin-client.ts";
import { addSecretCommands } from "./client-secrets.ts";
import { UsageError } from "./failure.ts";
import { printFields, printJson, printLines, printTable } from "./output.ts";
import { printSecretNote, type SecretOptions, takeSecret } from "./secret-file.ts";

const RESOURCE_SERVERS = "/admin/v1/resource-servers";
const EXAMPLE_ID = "rs_0123456789abcdef0123456789abcdef";

interface Settings {
  readonly name?: string;
  readonly audience?: string;
}

/** The operator's own APIs by the admin API (contract §9). */
export function addResourceServerCommands(program: Command): void {
  const api = program.command("resource-server").description("your own APIs: who may introspect the tokens that are for them");
  adminCommand(api, "create", "make one, and its secret")
    .requiredOption("--name <name>", "how people call it")
    .requiredOption("--audience <uri>", "aud of the tokens that are for it: an absolute URI, as its own address is")
    .option("--secret-file <file>", "write the secret into this new file instead of showing it")
    .addHelpText(
      "after",
      "\nExample:\n  cambist resource-server create --name Files --audience https://files.example.com --secret-file files.secret",
    )
    .action(createResourceServer);
  adminCommand(api, "list", "all of them").addHelpText("after", "\nExample:\n  cambist resource-server list").action(listResourceServers);
  adminCommand(api, "show <id>", "one of them, with its secrets' ids and their last use")
    .addHelpText("after", `\nExample:\n  cambist resource-server show ${EXAMPLE_ID}`)
    .action(async (id: string, options: AdminOptions) => printOne(await openAdminClient(options).send("GET", pathOf(id)), options));
  adminCommand(api, "update <id>", "change what is given, and nothing else")
    .option("--name <name>", "how people call it")
    .option("--audience <uri>", "aud of the tokens that are for it")
    .addHelpText("after", `\nExample:\n  cambist resource-server update ${EXAMPLE_ID} --name Archive`)
    .action(updateResourceServer);
  adminCommand(api, "remove <id>", "refuse it everything, from the next request on; its scopes must be removed first")
    .addHelpText("after", `\nExample:\n  cambist resource-server remove ${EXAMPLE_ID}`)
    .action(removeResourceServer);
  const id = { name: "id", example: EXAMPLE_ID };
  addSecretCommands(api, "its secrets: two may live at once, and one stays", { command: "resource-server", id, pathOf });
}

async function createResourceServer({ name, audience, ...options }: AdminOptions & SecretOptions & Settings): Promise<void> {
  const client = openAdminClient(options);
  const answer = await takeSecret(options, () => client.send("POST", RESOURCE_SERVERS, { name, audience }));
  if (options.json) return printJson(answer);
  const { resource_server: created, ...rest } = answer;
  const { resource_server_id, name: shownName, audience: shownAudience } = created as Answer;
  printFields({ resource_server_id, name: shownName, audience: shownAudience, ...rest });
  printSecretNote(answer);
}

async function listResourceServers(options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("GET", RESOURCE_SERVERS);
  if (options.json) return printJson(answer);
  const all = answer["resource_servers"] as Answer[];
  if (all.length === 0) printLines("There is no resource server yet.");
  else printTable(["resource_server_id", "name", "audience"], all);
}

async function updateResourceServer(id: string, { name, audience, ...options }: AdminOptions & Settings): Promise<void> {
  if (name === undefined && audience === undefined) throw new UsageError("nothing to change was given: --name or --audience");
  printOne(await openAdminClient(options).send("PATCH", pathOf(id), { name, audience }), options);
}

async function removeResourceServer(id: string, options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("DELETE", pathOf(id));
  if (options.json) printJson(answer);
  else printLines(`${id} is removed.`);
}

function printOne(answer: Answer, { json }: AdminOptions): void {
  if (json) return printJson(answer);
  const { secrets, ...fields } = answer["resource_server"] as Answer;
  printFields(fields);
  printLines("");
  printTable(["secret_id", "created_at", "last_used_at"], secrets as Answer[]);
}

function pathOf(id: string): string {
  return `${RESOURCE_SERVERS}/${encodeURIComponent(id)}`;
}
