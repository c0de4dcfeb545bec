import { createPrivateKey, randomUUID } from "node:crypto";
import { type Environment, readDataDir } from "../config.ts";
import { signJws } from "../keys/signature.ts";
import { readDemoPartner } from "./demo-partner.ts";
import { UsageError } from "./failure.ts";

const LIFETIME_SECONDS = 300;

/** Prints a fresh subject token of the demo partner, as its backend would sign one. Each can be exchanged once. */
export function printSandboxToken(env: Environment, options: { user?: string; serviceAccount?: boolean }): void {
  if ((options.user === undefined) === (options.serviceAccount !== true)) {
    throw new UsageError("give exactly one of --user ID and --service-account");
  }
  const signer = readDemoPartner(readDataDir(env));
  process.stdout.write(`${signSubjectToken(signer, options.user ?? signer.partner.clientId)}\n`);
}

export type DemoSigner = ReturnType<typeof readDemoPartner>;

/** A subject token of the demo partner for one of its users, or for its client id. */
export function signSubjectToken({ partner, privateKeyPem }: DemoSigner, subject: string): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: partner.clientId,
    sub: subject,
    aud: partner.audience,
    iat: now,
    exp: now + LIFETIME_SECONDS,
    jti: randomUUID(),
  };
  const signingInput = `${encode({ alg: "RS256", kid: partner.kid })}.${encode(claims)}`;
  return `${signingInput}.${signJws("RS256", createPrivateKey(privateKeyPem), signingInput)}`;
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
