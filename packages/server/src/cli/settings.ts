import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Config, ConfigError, type Environment, readConfig } from "../config.ts";

/**
 * The settings of a command that uses no secret of the server: those are filled in, and all others are as strict as at its start. A
 * misspelt variable would lead to another folder, or to another database.
 */
export function readSettings(env: Environment): Pick<Config, "dataDir" | "databaseUrl" | "publicUrl"> {
  return readConfig("sandbox", {
    ...env,
    CAMBIST_MASTER_KEY: randomBytes(32).toString("base64"),
    CAMBIST_OPERATOR_TOKEN: randomBytes(32).toString("hex"),
  });
}

export const OPERATOR_TOKEN_FILE = "operator-token";

/** The secret in a file of the data folder, if it is there. @throws ConfigError where others may read it. */
export function readKeptSecret(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  if ((statSync(path).mode & 0o077) !== 0) throw new ConfigError([`${path} can be read by others; close it: chmod 600 ${path}`]);
  return readFileSync(path, "utf8").trim();
}

export interface OperatorToken {
  readonly value: string;
  /** Where it is from, for whoever has to correct it. */
  readonly source: string;
}

/** Never from the command line: that is in the shell's history, and in the list of processes for all to see. */
export function readOperatorToken(env: Environment, dataDir: string): OperatorToken {
  const path = join(dataDir, OPERATOR_TOKEN_FILE);
  const given = env["CAMBIST_OPERATOR_TOKEN"];
  const value = given ?? readKeptSecret(path);
  if (value === undefined) {
    throw new ConfigError([
      `CAMBIST_OPERATOR_TOKEN is missing, and so is ${path}; set the one, or name the sandbox's folder in CAMBIST_DATA_DIR.`,
    ]);
  }
  const source = given === undefined ? path : "CAMBIST_OPERATOR_TOKEN";
  if (!/^[\x21-\x7e]+$/.test(value)) throw new ConfigError([`${source} does not hold an operator token.`]); // fetch would print it
  return { value, source };
}
