import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import type { Answer } from "./admin-client.ts";
import { printLines } from "./output.ts";

export interface SecretOptions {
  readonly secretFile?: string;
}

/**
 * Asks for a secret, and puts it where it was asked to go. The file is made first: were it refused afterwards, the server would have
 * made a secret that nobody has. Gives the answer, without the secret where that is in the file.
 */
export async function takeSecret({ secretFile }: SecretOptions, ask: () => Promise<Answer>): Promise<Answer> {
  if (secretFile === undefined) return ask();
  const file = openNew(secretFile);
  let isKept = false;
  try {
    const { client_secret: secret, ...rest } = await ask();
    if (typeof secret !== "string") return { ...rest, client_secret: null };
    try {
      writeSync(file, `${secret}\n`);
      fsyncSync(file);
    } catch (thrown) {
      const made = (rest["partner"] ?? rest["resource_server"]) as Answer | undefined;
      const id = rest["secret_id"] ?? made?.["client_id"] ?? made?.["resource_server_id"];
      throw new Error(
        `${String(id)} was made, but its secret could not be written to ${secretFile}, and is lost; remove it and add another.`,
        {
          cause: thrown,
        },
      );
    }
    isKept = true;
    return { ...rest, secret_file: secretFile };
  } finally {
    closeSync(file);
    if (!isKept) rmSync(secretFile, { force: true });
  }
}

function openNew(path: string): number {
  try {
    return openSync(path, "wx", 0o600);
  } catch (thrown) {
    const isTaken = thrown instanceof Error && "code" in thrown && thrown.code === "EEXIST";
    const why = isTaken
      ? "exists, and is not written over"
      : `cannot be made (${thrown instanceof Error ? thrown.message : String(thrown)})`;
    throw new Error(`${path} ${why}; nothing was made on the server.`, { cause: thrown });
  }
}

/** Where the secret is, for people. */
export function printSecretNote({ client_secret: secret, secret_file: file }: Answer): void {
  if (typeof secret === "string") printLines("", "The secret is not shown again: keep it now.");
  else if (typeof file === "string") printLines("", `The secret is in ${file}, and nowhere else.`);
  else printLines("", "It has no secret: it authenticates by tokens that it signs.");
}
