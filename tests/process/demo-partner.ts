import { createPrivateKey, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { signJwt, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import { GRANT_TYPE, JWT_TYPE } from "../../packages/server/src/testing/server.ts";

/** The sandbox's demo partner, driven from outside with what stands in the data folder. */
export interface DemoClient {
  readonly clientId: string;
  readonly clientSecret: string;
  sign(subject: string): string;
  exchange(url: string, token: string): Promise<{ status: number; json: Record<string, unknown> }>;
}

export function readDemoClient(dataDir: string): DemoClient {
  const partner = JSON.parse(readFileSync(join(dataDir, "demo-partner.json"), "utf8")) as Record<
    "clientId" | "clientSecret" | "audience" | "kid",
    string
  >;
  const privateKey = createPrivateKey(readFileSync(join(dataDir, "demo-partner-key.pem"), "utf8"));
  const key: TestKey = { kid: partner.kid, algorithm: "RS256", privateKey, publicJwk: {} };
  return {
    clientId: partner.clientId,
    clientSecret: partner.clientSecret,
    sign(subject) {
      const now = Math.floor(Date.now() / 1000);
      const claims = { iss: partner.clientId, sub: subject, aud: partner.audience, iat: now, exp: now + 600, jti: randomUUID() };
      return signJwt({ alg: "RS256", kid: partner.kid }, claims, key);
    },
    async exchange(url, token) {
      const body = new URLSearchParams({
        grant_type: GRANT_TYPE,
        subject_token_type: JWT_TYPE,
        subject_token: token,
        client_id: partner.clientId,
        client_secret: partner.clientSecret,
      });
      const response = await fetch(`${url}/oauth2/token`, { method: "POST", body });
      return { status: response.status, json: (await response.json()) as Record<string, unknown> };
    },
  };
}
