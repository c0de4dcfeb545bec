import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { ConfigError, type Environment, readConfig, readDataDir } from "../config.ts";
import { DATABASE_FILE, prepareDataDir } from "../data-dir.ts";
import { ensureDemoPartner, type DemoPartner } from "./demo-partner.ts";
import { runServer } from "./run-server.ts";
import { OPERATOR_TOKEN_FILE, readKeptSecret } from "./settings.ts";

/** A server for trying out: what `serve` wants from outside is made in the data folder at the first start, and lines to try are printed. */
export async function runSandbox(env: Environment): Promise<void> {
  const dataDir = readDataDir(env);
  prepareDataDir(dataDir);
  const config = readConfig("sandbox", {
    ...env,
    CAMBIST_MASTER_KEY: env["CAMBIST_MASTER_KEY"] ?? keptSecret(dataDir, "master-key", () => newMasterKey(dataDir, env)),
    CAMBIST_OPERATOR_TOKEN:
      env["CAMBIST_OPERATOR_TOKEN"] ?? keptSecret(dataDir, OPERATOR_TOKEN_FILE, () => randomBytes(32).toString("hex")),
  });
  await runServer(config, async (deps) => {
    process.stdout.write(sandboxGuide(await ensureDemoPartner(deps), config.publicUrl, dataDir));
  });
}

/** Reads a secret that an earlier start made, or makes it. @throws ConfigError where others may read it. */
function keptSecret(dataDir: string, name: string, make: () => string): string {
  const path = join(dataDir, name);
  if (!existsSync(path)) writeFileSync(path, `${make()}\n`, { mode: 0o600, flag: "wx" });
  return readKeptSecret(path) ?? "";
}

/** A new key for a store that was made with another one would open nothing in it. */
function newMasterKey(dataDir: string, env: Environment): string {
  if (env["DATABASE_URL"] === undefined && existsSync(join(dataDir, DATABASE_FILE))) {
    throw new ConfigError([
      `${join(dataDir, "master-key")} is missing, and the store beside it was made with it; put it back, or start in an empty folder: CAMBIST_DATA_DIR=./other`,
    ]);
  }
  return randomBytes(32).toString("base64");
}

/** For a POSIX shell. */
const quoted = (path: string) => `'${path.replaceAll("'", String.raw`'\''`)}'`;

const pick = (variable: string, member: string) => `${variable}=$(echo "$ANSWER" | sed 's/.*"${member}":"\\([^"]*\\)".*/\\1/')`;

/** Lines with real values, each of which works when pasted. */
export function sandboxGuide(partner: DemoPartner, publicUrl: string, dataDir: string): string {
  const inDefaultFolder = relative(process.cwd(), dataDir) === "data";
  const cambist = `${inDefaultFolder ? "" : `CAMBIST_DATA_DIR=${quoted(dataDir)} `}npx cambist`;
  const exchange = (subject: string) =>
    `ANSWER=$(curl -sS ${publicUrl}/oauth2/token -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange -d subject_token_type=urn:ietf:params:oauth:token-type:jwt -d client_id=${partner.clientId} -d client_secret=${partner.clientSecret} -d subject_token=$(${cambist} sandbox-token ${subject})); echo "$ANSWER"`;
  const byItsSecret = (path: string, more = "") =>
    `ANSWER=$(curl -sS ${publicUrl}${path} -d client_id=${partner.clientId} -d client_secret=${partner.clientSecret}${more}); echo "$ANSWER"`;
  const put = (path: string, body: string) =>
    `ANSWER=$(curl -sS -X PUT ${publicUrl}/v2/account-management/${path} -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d ${body}); echo "$ANSWER"`;
  return `
Cambist sandbox, ready at ${publicUrl}. Its keys, its demo partner and its data are in ${dataDir}.
Paste these lines one by one into another terminal, in this folder:

# 1. The demo partner signs a JWT as itself and swaps it for an access token of its service account.
${exchange("--service-account")}
${pick("TOKEN", "access_token")}

# 2. With that it creates an organization with a workspace, and a user in it.
${put("organization-and-workspace", `'{"org_name":"Demo organization","workspace_name":"Demo workspace"}'`)}
${pick("WORKSPACE_ID", "workspace_id")}
${put("user", `"{\\"workspace_id\\":\\"$WORKSPACE_ID\\",\\"name\\":\\"Ada\\"}"`)}
${pick("USER_ID", "user_id")}

# 3. It signs a JWT that names the user, and swaps it for an access token of that user.
${exchange("--user $USER_ID")}

# 4. Its secret alone gets it tokens of its service account too, where the operator allows it: a JWT, and an opaque one.
${byItsSecret("/oauth2/token", " -d grant_type=client_credentials")}
${byItsSecret("/v1/auth/token")}

# 5. A whole conversation in the terminal, as a user of its own. Without --message it goes on line by line, until Ctrl-C.
${cambist} chat --message 'What can you do?'

# The operator's view of the demo partner:
${cambist} partner show ${partner.clientId} --url ${publicUrl} --json

`;
}
