import type { Command } from "commander";
import { adminCommand, type AdminOptions, type Answer, openAdminClient } from "./admin-client.ts";
import { addSecretCommands } from "./client-secrets.ts";
import { UsageError } from "./failure.ts";
import { printFields, printJson, printLines, printTable } from "./output.ts";
import { addPartnerOptions, partnerFields, type PartnerOptions } from "./partner-fields.ts";
import { printSecretNote, type SecretOptions, takeSecret } from "./secret-file.ts";

const PARTNERS = "/admin/v1/partners";
const PAGE = 200;

/** Partners by the admin API (contract §9). */
export function addPartnerCommands(program: Command): void {
  const partner = program.command("partner").description("partners: who may exchange tokens");
  addPartnerOptions(adminCommand(partner, "create", "make a partner, and its secret").requiredOption("--name <name>", "how people call it"))
    .option("--secret-file <file>", "write the secret into this new file instead of showing it")
    .addHelpText(
      "after",
      "\nExample:\n  cambist partner create --name Acme --jwks-uri https://acme.example/jwks.json --secret-file acme.secret",
    )
    .action(createPartner);
  adminCommand(partner, "list", "all partners").addHelpText("after", "\nExample:\n  cambist partner list").action(listPartners);
  adminCommand(partner, "show <client-id>", "one partner, with its secrets' ids and their last use")
    .addHelpText("after", "\nExample:\n  cambist partner show prt_0123456789abcdef0123456789abcdef")
    .action(showPartner);
  addPartnerOptions(adminCommand(partner, "update <client-id>", "change what is given, and nothing else"))
    .option("--name <name>", "how people call it")
    .option("--status <status>", "active or disabled")
    .addHelpText("after", "\nExample:\n  cambist partner update prt_0123456789abcdef0123456789abcdef --allowed-scopes thread,analytics")
    .action(updatePartner);
  adminCommand(partner, "disable <client-id>", "refuse it everything, from the next request on")
    .addHelpText("after", "\nExample:\n  cambist partner disable prt_0123456789abcdef0123456789abcdef")
    .action((clientId: string, options: AdminOptions) => patchPartner(clientId, { status: "disabled" }, options));
  adminCommand(partner, "keys <client-id>", "its keys: used, or refused and why")
    .option("--refresh", "fetch them from its jwks_uri now; exit code 1 where that fails")
    .addHelpText("after", "\nExample:\n  cambist partner keys prt_0123456789abcdef0123456789abcdef --refresh")
    .action(showKeys);
  const id = { name: "client-id", example: "prt_0123456789abcdef0123456789abcdef" };
  addSecretCommands(partner, "a partner's secrets: two may live at once", { command: "partner", id, pathOf });
}

async function createPartner(options: AdminOptions & SecretOptions & PartnerOptions): Promise<void> {
  const body = partnerFields(options);
  if (!("jwks" in body) && !("jwks_uri" in body)) throw new UsageError("give the partner's keys by --jwks-uri or --jwks-file");
  const client = openAdminClient(options);
  const answer = await takeSecret(options, () => client.send("POST", PARTNERS, body));
  if (options.json) return printJson(answer);
  const { partner, ...rest } = answer;
  printFields({ ...summary(partner as Answer), ...rest });
  printSecretNote(answer);
}

async function listPartners(options: AdminOptions): Promise<void> {
  const client = openAdminClient(options);
  const partners: Answer[] = [];
  let cursor = "";
  do {
    const page = await client.send("GET", `${PARTNERS}?limit=${PAGE}${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
    partners.push(...(page["partners"] as Answer[]));
    cursor = (page["next_cursor"] as string | null) ?? "";
  } while (cursor !== "");
  if (options.json) printJson({ partners });
  else if (partners.length === 0) printLines("There is no partner yet.");
  else printTable(["client_id", "status", "name", "issuer"], partners);
}

async function showPartner(clientId: string, options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("GET", pathOf(clientId));
  if (options.json) printJson(answer);
  else printPartner(answer["partner"] as Answer);
}

async function updatePartner(clientId: string, options: AdminOptions & PartnerOptions): Promise<void> {
  const body = partnerFields(options);
  if (Object.keys(body).length === 0) throw new UsageError("nothing to change was given; see cambist partner update --help");
  await patchPartner(clientId, body, options);
}

async function patchPartner(clientId: string, body: Readonly<Record<string, unknown>>, options: AdminOptions): Promise<void> {
  const answer = await openAdminClient(options).send("PATCH", pathOf(clientId), body);
  if (options.json) printJson(answer);
  else printPartner(answer["partner"] as Answer);
}

async function showKeys(clientId: string, options: AdminOptions & { readonly refresh?: boolean }): Promise<void> {
  const client = openAdminClient(options);
  const report = options.refresh
    ? await client.send("POST", `${pathOf(clientId)}/keys/refresh`)
    : await client.send("GET", `${pathOf(clientId)}/keys`);
  if (options.refresh && report["failing"] === true) process.exitCode = 1;
  if (options.json) return printJson(report);
  const { keys, ...rest } = report as { readonly keys: readonly Answer[] };
  printFields(rest);
  if (keys.length === 0) return printLines("", "No key is known.");
  printLines("");
  printTable(["kid", "algorithm", "state", "reason"], keys);
}

function pathOf(clientId: string): string {
  return `${PARTNERS}/${encodeURIComponent(clientId)}`;
}

/** What a partner has to be told. */
function summary({ client_id, name, issuer, audience, token_endpoint_auth_method }: Answer): Answer {
  return { client_id, name, issuer, audience, token_endpoint_auth_method };
}

function printPartner({ jwks, secrets, ...fields }: Answer): void {
  const { keys } = (jwks ?? {}) as { readonly keys?: readonly { readonly kid?: string; readonly alg: string }[] };
  printFields({ ...fields, keys: keys?.map(({ kid = "(no kid)", alg }) => `${kid} ${alg}`) });
  if (!Array.isArray(secrets)) return;
  printLines("");
  if (secrets.length === 0) printLines("It has no secret.");
  else printTable(["secret_id", "created_at", "last_used_at"], secrets as Answer[]);
}
