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
  const { partner, privateKeyPem } = readDemoPartner(readDataDir(env));
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: partner.clientId,
    sub: options.user ?? partner.clientId,
    aud: partner.audience,
    iat: now,
    exp: now + LIFETIME_SECONDS,
    jti: randomUUID(),
  };
  const signingInput = `${encode({ alg: "RS256", kid: partner.kid })}.${encode(claims)}`;
  process.stdout.write(`${signingInput}.${signJws("RS256", createPrivateKey(privateKeyPem), signingInput)}\n`);
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
