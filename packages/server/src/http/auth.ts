import { createHash, timingSafeEqual } from "node:crypto";
import { type AccessTokenKey, type Scope, validateAccessToken } from "@cambist/protocol";
import type { PartnerStore } from "../storage/store.ts";
import { Problem } from "./problem.ts";
import type { RouteAuth } from "./route.ts";

export interface AuthPorts {
  readonly issuer: string;
  readonly resource: string;
  readonly operatorToken: string;
  readonly partners: Pick<PartnerStore, "find">;
  readonly findKey: (kid: string) => AccessTokenKey | undefined;
  readonly nowMs: () => number;
  readonly restoredAtSeconds: number | undefined;
}

export type Authenticate = (auth: RouteAuth, authorization: readonly string[]) => Promise<{ readonly partnerId: string }>;

/** Who is calling, decided in this one place for every route (RFC 6750 §2.1 §3). @throws Problem 400, 401 or 403. */
export function authenticator(ports: AuthPorts): Authenticate {
  const operatorDigest = sha256(ports.operatorToken);
  return async (auth, authorization) => {
    switch (auth.kind) {
      case "public":
      case "oauth_client":
        return { partnerId: "" };
      case "operator":
        if (!timingSafeEqual(sha256(bearerToken(authorization)), operatorDigest)) throw invalidToken("This is not an operator token.");
        return { partnerId: "" };
      case "service_account":
        return { partnerId: await authenticateServiceAccount(bearerToken(authorization), auth.scope, ports) };
    }
  };
}

async function authenticateServiceAccount(token: string, scope: Scope, ports: AuthPorts): Promise<string> {
  const { issuer, resource, restoredAtSeconds } = ports;
  const expected = { issuer, resource, restoredAtSeconds, nowSeconds: ports.nowMs() / 1000 };
  const validated = validateAccessToken(token, expected, ports.findKey);
  if (!validated.ok) {
    throw invalidToken(
      ["token_expired", "token_before_restore"].includes(validated.fault.code)
        ? "The access token has expired; exchange for a new one."
        : "This is not an access token of this server, or it was changed on its way.",
    );
  }
  const { clientId, principal, scopes } = validated.value;
  const partner = await ports.partners.find(clientId);
  if (partner?.status !== "active") throw invalidToken("The access token's partner is no longer active.");
  if (principal !== "service_account" || !scopes.includes(scope) || !partner.allowedScopes.includes(scope)) {
    throw new Problem(403, `This needs a service-account token with the scope ${scope}.`, {
      headers: challenge(`, error="insufficient_scope", scope="${scope}"`),
    });
  }
  return clientId;
}

const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/** @throws Problem 401 without an error code where no token was sent (RFC 6750 §3.1). */
function bearerToken(authorization: readonly string[]): string {
  if (authorization.length > 1) {
    throw new Problem(400, "The request has more than one Authorization header; send one.", {
      headers: challenge(', error="invalid_request"'),
    });
  }
  const [header] = authorization;
  if (header === undefined || !/^bearer(?: |$)/i.test(header)) {
    throw new Problem(401, "Send an access token: Authorization: Bearer …", { headers: challenge("") });
  }
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) throw invalidToken("The Authorization header holds no bearer token.");
  return token;
}

function invalidToken(detail: string): Problem {
  return new Problem(401, detail, { headers: challenge(', error="invalid_token"') });
}

function challenge(parameters: string): Record<string, string> {
  return { "www-authenticate": `Bearer realm="cambist"${parameters}` };
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
