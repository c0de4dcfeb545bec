import { createHash, timingSafeEqual } from "node:crypto";
import type { LiveTokens } from "./live-token.ts";
import { Problem } from "./problem.ts";
import type { Quotas } from "./quotas.ts";
import type { Principal, RawRequest, RouteAuth } from "./route.ts";

export interface AuthPorts {
  /** The resource identifier of our own API: the `aud` of a token that opens it. */
  readonly resource: string;
  /** RFC 9728 §3.1. */
  readonly resourceMetadataUrl: string;
  readonly operatorToken: string;
  readonly tokens: Pick<LiveTokens, "findLive">;
  readonly quotas: Pick<Quotas, "admit">;
}

export type Authenticate = (auth: RouteAuth, request: Caller) => Principal | Promise<Principal>;

type Caller = Pick<RawRequest, "authorization" | "standing">;

/** Who is calling, decided in this one place for every route (RFC 6750 §2.1 §3), and whether its partner has not used up its quota. @throws Problem 400, 401, 403 or 429. */
export function authenticator(ports: AuthPorts): Authenticate {
  const operatorDigest = sha256(ports.operatorToken);
  const challenge: Challenge = (parameters = "") => `Bearer realm="cambist"${parameters}, resource_metadata="${ports.resourceMetadataUrl}"`;
  return (auth, request) => {
    switch (auth.kind) {
      case "public":
      case "oauth_client":
        return { kind: auth.kind };
      case "operator": {
        if (timingSafeEqual(sha256(bearerToken(request.authorization, operatorChallenge)), operatorDigest)) return { kind: "operator" };
        throw invalidToken("This is not an operator token.", operatorChallenge);
      }
      case "service_account":
      case "user":
        return authenticateAccessToken(request, auth, ports, challenge);
    }
  };
}

/** The value of `WWW-Authenticate`, with these parameters behind the realm. */
type Challenge = (parameters?: string) => string;

/** Without a word of where to get one: no token of this server opens it. */
const operatorChallenge: Challenge = (parameters = "") => `Bearer realm="cambist"${parameters}`;

/** An access token that works, for our own API, for the kind of principal and the scope that the route asks for. */
async function authenticateAccessToken(
  request: Caller,
  auth: Extract<RouteAuth, { readonly kind: "service_account" | "user" }>,
  ports: AuthPorts,
  challenge: Challenge,
): Promise<Principal> {
  const live = await ports.tokens.findLive(bearerToken(request.authorization, challenge));
  if ("dead" in live) throw invalidToken(live.dead, challenge);
  const { token, partner, user } = live;
  if (token.audience !== ports.resource) throw invalidToken("The access token is for another API.", challenge);
  const { isAdmitted, limits, resetSeconds } = await ports.quotas.admit(partner, request);
  if (!isAdmitted) {
    const quota = `${limits.requestsPerMinute} requests in a minute`; // Retry-After and the others follow from how the caller stands
    throw new Problem(429, `The partner has used up its ${quota}; try again in ${resetSeconds} s.`);
  }
  if (token.principal !== auth.kind || !token.scope.split(" ").includes(auth.scope) || !partner.allowedScopes.includes(auth.scope)) {
    const whose = auth.kind === "user" ? "a user's token" : "a service-account token";
    throw new Problem(403, `This needs ${whose} with the scope ${auth.scope}.`, {
      headers: { "www-authenticate": challenge(`, error="insufficient_scope", scope="${auth.scope}"`) },
    });
  }
  if (user === undefined) return { kind: "service_account", partner };
  return { kind: "user", partner, ...user, token: { tokenId: token.tokenId, expiresAtMs: token.expiresAtSeconds * 1000 } };
}

const BEARER = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/** @throws Problem 401 without an error code where no token was sent (RFC 6750 §3.1). */
function bearerToken(authorization: readonly string[], challenge: Challenge): string {
  if (authorization.length > 1) {
    throw new Problem(400, "The request has more than one Authorization header; send one.", {
      headers: { "www-authenticate": challenge(', error="invalid_request"') },
    });
  }
  const [header] = authorization;
  if (header === undefined || !/^bearer(?: |$)/i.test(header)) {
    throw new Problem(401, "Send an access token: Authorization: Bearer …", { headers: { "www-authenticate": challenge() } });
  }
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) throw invalidToken("The Authorization header holds no bearer token.", challenge);
  return token;
}

function invalidToken(detail: string, challenge: Challenge): Problem {
  return new Problem(401, detail, { headers: { "www-authenticate": challenge(', error="invalid_token"') } });
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
