import { createHash, timingSafeEqual } from "node:crypto";
import { type AccessToken, type AccessTokenKey, type Scope, validateAccessToken } from "@cambist/protocol";
import type { AccountStore } from "../storage/account-store.ts";
import type { Partner, PartnerStore } from "../storage/store.ts";
import { Problem } from "./problem.ts";
import type { Principal, RouteAuth } from "./route.ts";

export interface AuthPorts {
  readonly issuer: string;
  readonly resource: string;
  readonly operatorToken: string;
  readonly partners: Pick<PartnerStore, "find">;
  readonly accounts: Pick<AccountStore, "findLiveUser">;
  readonly findKey: (kid: string) => AccessTokenKey | undefined;
  readonly nowMs: () => number;
  readonly restoredAtSeconds: number | undefined;
}

export type Authenticate = (auth: RouteAuth, authorization: readonly string[]) => Promise<Principal>;

/** Who is calling, decided in this one place for every route (RFC 6750 §2.1 §3). @throws Problem 400, 401 or 403. */
export function authenticator(ports: AuthPorts): Authenticate {
  const operatorDigest = sha256(ports.operatorToken);
  return async (auth, authorization) => {
    switch (auth.kind) {
      case "public":
      case "oauth_client":
        return { kind: auth.kind };
      case "operator":
        if (!timingSafeEqual(sha256(bearerToken(authorization)), operatorDigest)) throw invalidToken("This is not an operator token.");
        return { kind: "operator" };
      case "service_account":
      case "user":
        return authenticateAccessToken(bearerToken(authorization), auth, ports);
    }
  };
}

/** One of our access tokens, of a partner that is active, for the kind of principal and the scope that the route asks for. */
async function authenticateAccessToken(token: string, auth: RouteAuth & { readonly scope: Scope }, ports: AuthPorts): Promise<Principal> {
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
  if (principal !== auth.kind || !scopes.includes(auth.scope) || !partner.allowedScopes.includes(auth.scope)) {
    const whose = auth.kind === "user" ? "a user's token" : "a service-account token";
    throw new Problem(403, `This needs ${whose} with the scope ${auth.scope}.`, {
      headers: challenge(`, error="insufficient_scope", scope="${auth.scope}"`),
    });
  }
  return principal === "user" ? liveUser(partner, validated.value, ports) : { kind: "service_account", partner };
}

/** Read anew at each request, so that what was disabled, erased or cut off stops at once, on every node. */
async function liveUser(partner: Partner, token: AccessToken, { accounts }: AuthPorts): Promise<Principal> {
  const user = await accounts.findLiveUser(partner.clientId, token.subject);
  if (user === undefined) throw invalidToken("The access token's user no longer exists.");
  if (user.disabled !== undefined) throw invalidToken(`The access token's ${user.disabled} is disabled.`);
  if (token.issuedAtSeconds <= user.tokensCutOffSeconds) throw invalidToken("The access token has been ended; exchange for a new one.");
  return { kind: "user", partner, userId: token.subject, workspaceId: user.workspaceId, orgId: user.orgId };
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
