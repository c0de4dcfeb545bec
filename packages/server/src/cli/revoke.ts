import { OPAQUE_TOKEN_FORM } from "@cambist/protocol";
import type { Command } from "commander";
import { adminCommand, type AdminOptions, type Answer, openAdminClient } from "./admin-client.ts";
import { UsageError } from "./failure.ts";
import { printFields, printJson } from "./output.ts";

interface Subjects {
  readonly jti?: string;
  readonly user?: string;
  readonly workspace?: string;
  readonly org?: string;
  readonly client?: string;
  readonly kid?: string;
}

/** Revocation by the admin API (contract §9). */
export function addRevokeCommand(program: Command): void {
  adminCommand(program, "revoke", "end all tokens of one subject that were issued until now")
    .option("--jti <jti>", "one token; introspection tells its jti")
    .option("--user <id>", "of this user")
    .option("--workspace <id>", "of the users of this workspace")
    .option("--org <id>", "of the users of this organization")
    .option("--client <client-id>", "of this partner: its own and its users'")
    .option("--kid <kid>", "with --client: those that this key of it brought about")
    .addHelpText(
      "after",
      "\nExamples:\n  cambist revoke --user 6f1c9f0e-3c4b-4a52-8a0d-0e5b8a0f3d11\n  cambist revoke --client prt_0123456789abcdef0123456789abcdef --kid 2026-11",
    )
    .action(revoke);
}

async function revoke({ jti, user, workspace, org, client, kid, ...options }: AdminOptions & Subjects): Promise<void> {
  const named = [jti, user, workspace, org, client].filter((id) => id !== undefined);
  if (named.length !== 1 || (kid !== undefined && client === undefined)) {
    throw new UsageError("give exactly one of --jti, --user, --workspace, --org and --client; --kid goes with --client");
  }
  if (jti !== undefined && (OPAQUE_TOKEN_FORM.test(jti) || jti.includes("."))) {
    throw new UsageError("that is a token, not the jti of one: it is in your shell's history now. Introspection tells its jti");
  }
  const body = { jti, user_id: user, workspace_id: workspace, org_id: org, client_id: client, kid };
  const answer = await openAdminClient(options).send("POST", "/admin/v1/revocations", body);
  if (options.json) printJson(answer);
  else printFields(answer["revocation"] as Answer);
}
