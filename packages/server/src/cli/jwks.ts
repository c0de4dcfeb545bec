import { createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { describeJwksFault, describeKeyFault, jwkOf, takeInJwks } from "@cambist/protocol";
import type { Command } from "commander";
import { thumbprint } from "../keys/thumbprint.ts";
import { UsageError } from "./failure.ts";
import { printJson, printLines } from "./output.ts";

interface FromPemOptions {
  readonly kid?: string;
  readonly alg?: string;
  readonly json?: boolean;
}

/** For a partner's developer, whose keys are in PEM files: needs neither server nor store. */
export function addJwksCommands(program: Command): void {
  program
    .command("jwks")
    .description("key sets (RFC 7517)")
    .command("from-pem [files...]")
    .description("print the JWK set of keys in PEM: public keys, certificates, or the public halves of private keys; - for standard input")
    .option("--kid <kid>", "the key's name; its RFC 7638 thumbprint unless given")
    .option("--alg <alg>", "the algorithm that it signs with; RS256, ES256, ES384 or EdDSA by its kind unless given")
    .option("--json", "print it in one line")
    .addHelpText("after", "\nExample:\n  openssl pkey -in key.pem -pubout | cambist jwks from-pem --kid 2026-11 > jwks.json")
    .action(printJwks);
}

function printJwks(files: readonly string[], options: FromPemOptions): void {
  if (options.kid !== undefined && files.length > 1) throw new UsageError("--kid names one key; give one file with it");
  const sources = files.length === 0 ? ["-"] : files;
  const keys = sources.map((path) => toJwk(readKey(path), options));
  const intake = takeInJwks({ keys });
  if (!intake.ok) throw new Error(describeJwksFault(intake.fault));
  const refused = intake.value.refused.map(({ index, fault }) => `${nameOf(sources[index])}: ${describeKeyFault(fault)}`);
  if (refused.length > 0) throw new Error(refused.join("\n"));
  const jwks = { keys: intake.value.used.map((key) => ({ ...jwkOf(key), use: "sig" })) };
  if (options.json) printJson(jwks);
  else printLines(JSON.stringify(jwks, null, 2));
}

type Jwk = Parameters<typeof thumbprint>[0];

function toJwk({ path, key }: { readonly path: string; readonly key: KeyObject }, { kid, alg }: FromPemOptions): Jwk {
  let jwk: Jwk;
  try {
    jwk = key.export({ format: "jwk" });
  } catch (thrown) {
    throw new Error(
      `${nameOf(path)}: a key of the kind ${key.asymmetricKeyType ?? "unknown"} cannot be used; use RSA, P-256, P-384 or Ed25519.`,
      {
        cause: thrown,
      },
    );
  }
  return { ...jwk, kid: kid ?? thumbprint(jwk), ...(alg === undefined ? {} : { alg }) } as Jwk;
}

const STANDARD_INPUT = 0;
const PEM_BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^]+?-----END \1-----/g;

/** A file is one key: of a chain of certificates, which one signs would be a guess. A key beside its own certificate is still one. */
function readKey(path: string): { readonly path: string; readonly key: KeyObject } {
  const text = readFileSync(path === "-" ? STANDARD_INPUT : path, "latin1");
  const blocks = [...text.matchAll(PEM_BLOCK)].filter(([, kind]) => kind !== "EC PARAMETERS");
  const keys = blocks.map(([pem, kind = ""]) => publicKeyOf(nameOf(path), pem, kind));
  const [key] = keys;
  if (key === undefined) throw new Error(`${nameOf(path)} holds no key in PEM, which begins with -----BEGIN …-----.`);
  if (keys.some((other) => !der(other).equals(der(key))))
    throw new Error(`${nameOf(path)} holds several keys; give each in a file of its own.`);
  return { path, key };
}

/** Of two kinds of keys, KeyObject.equals leaves an error with OpenSSL, which the next key that is read is refused for (Node 20). */
function der(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "spki" });
}

function publicKeyOf(name: string, pem: string, kind: string): KeyObject {
  if (kind === "ENCRYPTED PRIVATE KEY" || pem.includes("Proc-Type: 4,ENCRYPTED")) {
    throw new Error(`${name} is encrypted; give its public half: openssl pkey -in key.pem -pubout`);
  }
  try {
    return createPublicKey(pem);
  } catch (thrown) {
    throw new Error(`${name}: its ${kind.toLowerCase()} cannot be read.`, { cause: thrown });
  }
}

function nameOf(path: string | undefined): string {
  return path === undefined || path === "-" ? "standard input" : path;
}
