import { ACCESS_TOKEN_ALGORITHMS } from "../constants.ts";
import { validateClaims } from "../jwt/claims.ts";
import { type GateRules, parseClaims, parseJws } from "../jwt/gate.ts";
import type { Client, IssuedFor, Signer } from "../ports.ts";
import type { JwtFault } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";

export interface AccessTokenContent {
  readonly issuer: string;
  readonly resource: string;
  readonly client: Client;
  readonly subject: IssuedFor;
  readonly scope: string;
  readonly tokenId: string;
  /** As the store was asked with it. */
  readonly issuedAtSeconds: number;
}

/** A JWT access token (RFC 9068). Nothing in it comes out of the partner's JWT; `sub` is always our own immutable id. */
export function issueAccessToken(content: AccessTokenContent, signer: Signer): string {
  const { client, subject, issuedAtSeconds } = content;
  const claims = {
    iss: content.issuer,
    sub: subject.kind === "user" ? subject.userId : client.clientId,
    aud: content.resource,
    exp: issuedAtSeconds + client.accessTokenLifetimeSeconds,
    iat: issuedAtSeconds,
    jti: content.tokenId,
    client_id: client.clientId,
    scope: content.scope,
    ...(subject.kind === "user" ? { org_id: subject.organizationId, workspace_id: subject.workspaceId } : {}),
  };
  return signer.sign(`{"alg":"${signer.algorithm}","typ":"at+jwt","kid":"${signer.kid}"}`, JSON.stringify(claims));
}

/** The public half of one of our signing keys. */
export interface AccessTokenKey {
  readonly algorithm: string;
  verify(signingInput: string, signature: Uint8Array): boolean;
}

export interface AccessToken {
  readonly tokenId: string;
  readonly clientId: string;
  readonly subject: string;
  /** A service account is the partner itself: `sub` is its client id (RFC 9068 §5). */
  readonly principal: "user" | "service_account";
  readonly scopes: readonly string[];
  readonly issuedAtSeconds: number;
  readonly expiresAtSeconds: number;
}

export interface AccessTokenExpectation {
  readonly issuer: string;
  readonly resource: string;
  readonly nowSeconds: number;
  readonly restoredAtSeconds: number | undefined;
}

const RULES: GateRules = { algorithms: ACCESS_TOKEN_ALGORITHMS, typ: { name: "at+jwt", optional: false } };

/** Between our own nodes; a partner's skew is its own setting. */
const NODE_CLOCK_SKEW_SECONDS = 5;

/**
 * One of our own access tokens (RFC 9068 §4): gate, our key by its kid, signature, claims.
 * Does NOT know whether it was revoked, or whether its subject is still enabled: ask the store.
 */
export function validateAccessToken(
  token: string,
  expected: AccessTokenExpectation,
  findKey: (kid: string) => AccessTokenKey | undefined,
): Result<AccessToken, JwtFault> {
  const jws = parseJws(token, RULES);
  if (!jws.ok) return jws;
  const { kid, alg } = jws.value.header;
  const key = findKey(kid ?? "");
  if (key === undefined || key.algorithm !== alg) return fail({ code: "jwt_kid_unknown", kid: kid ?? "" });
  if (!key.verify(jws.value.signingInput, jws.value.signature)) return fail({ code: "jwt_signature_invalid" });
  const payload = parseClaims(jws.value);
  if (!payload.ok) return payload;
  const claims = validateClaims(payload.value, {
    issuer: expected.issuer,
    audience: expected.resource,
    nowSeconds: expected.nowSeconds,
    clockSkewSeconds: NODE_CLOCK_SKEW_SECONDS,
    lifetimeSecondsMax: Number.MAX_SAFE_INTEGER,
    issuedAfterSeconds: expected.restoredAtSeconds,
  });
  if (!claims.ok) return claims;
  const { client_id: clientId, scope } = payload.value;
  if (claims.value.jti === undefined) return fail({ code: "claim_missing", claim: "jti" });
  if (typeof clientId !== "string") return fail({ code: "claim_missing", claim: "client_id" });
  if (typeof scope !== "string") return fail({ code: "claim_missing", claim: "scope" });
  return ok({
    tokenId: claims.value.jti,
    clientId,
    subject: claims.value.subject,
    principal: claims.value.subject === clientId ? "service_account" : "user",
    scopes: scope.split(" "),
    issuedAtSeconds: claims.value.issuedAtSeconds,
    expiresAtSeconds: claims.value.expiresAtSeconds,
  });
}
