import { ACCESS_TOKEN_ALGORITHMS, NODE_CLOCK_SKEW_SECONDS } from "../constants.ts";
import { validateClaims } from "../jwt/claims.ts";
import { type GateRules, parseClaims, parseJws } from "../jwt/gate.ts";
import type { JsonValue } from "../jwt/strict-json.ts";
import type { Client, CutOffs, IssuedFor, OpaqueToken, Signer } from "../ports.ts";
import type { ClaimFault, JwtFault } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";

export interface AccessTokenContent {
  readonly issuer: string;
  /** The resource identifier of the one API that it is for. */
  readonly audience: string;
  readonly client: Client;
  readonly subject: IssuedFor;
  readonly scope: string;
  readonly tokenId: string;
  /** Of the partner's keys that brought it about: what is revoked with such a key. */
  readonly kids: readonly string[];
  /** As the store was asked with it. */
  readonly issuedAtSeconds: number;
}

/**
 * A JWT access token (RFC 9068). Nothing in it comes out of the partner's JWT but the name of the key that signed it; `sub` is always our own
 * immutable id. `partner_kids` is a private claim of ours (RFC 7519 §4.3).
 */
export function issueAccessToken(content: AccessTokenContent, signer: Signer): string {
  const { client, subject, issuedAtSeconds, kids } = content;
  const claims = {
    iss: content.issuer,
    sub: subject.kind === "user" ? subject.userId : client.clientId,
    aud: content.audience,
    exp: issuedAtSeconds + client.accessTokenLifetimeSeconds,
    iat: issuedAtSeconds,
    jti: content.tokenId,
    client_id: client.clientId,
    scope: content.scope,
    ...(subject.kind === "user" ? { org_id: subject.organizationId, workspace_id: subject.workspaceId } : {}),
    ...(kids.length > 0 ? { partner_kids: kids } : {}),
  };
  return signer.sign(`{"alg":"${signer.algorithm}","typ":"at+jwt","kid":"${signer.kid}"}`, JSON.stringify(claims));
}

/** The public half of one of our signing keys. */
export interface AccessTokenKey {
  readonly algorithm: string;
  verify(signingInput: string, signature: Uint8Array): boolean;
}

/** What one of our access tokens says of itself, be it a JWT or opaque. */
export interface AccessToken {
  readonly tokenId: string;
  readonly clientId: string;
  readonly subject: string;
  /** A service account is the partner itself: `sub` is its client id (RFC 9068 §5). */
  readonly principal: "user" | "service_account";
  readonly audience: string;
  /** As it is written: names with single spaces between them. */
  readonly scope: string;
  readonly kids: readonly string[];
  readonly issuedAtSeconds: number;
  readonly expiresAtSeconds: number;
}

const RULES: GateRules = { algorithms: ACCESS_TOKEN_ALGORITHMS, typ: { name: "at+jwt", optional: false } };

/**
 * A JWT access token of our own (RFC 9068 §4): gate, our key by its kid, signature, claims.
 * Does NOT check that the audience is the caller's, that it is not over, that it was not revoked, or that its subject is still enabled: see
 * {@link accessTokenFault}, and ask the store.
 */
export function parseAccessToken(
  token: string,
  issuer: string,
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
  const { client_id: clientId, scope, aud: audience, iat, partner_kids: kids = [] } = payload.value;
  if (typeof audience !== "string") return fail({ code: "claim_missing", claim: "aud" });
  if (typeof clientId !== "string") return fail({ code: "claim_missing", claim: "client_id" });
  if (typeof scope !== "string") return fail({ code: "claim_missing", claim: "scope" });
  if (!isTextList(kids)) return fail({ code: "claim_malformed", claim: "partner_kids", expected: "a list of names" });
  const claims = validateClaims(payload.value, {
    issuer,
    audience,
    nowSeconds: typeof iat === "number" ? iat : 0, // times are judged at each use, and this only once
    clockSkewSeconds: 0,
    lifetimeSecondsMax: Number.MAX_SAFE_INTEGER,
    issuedAfterSeconds: undefined,
  });
  if (!claims.ok) return claims;
  const { jti: tokenId, subject, issuedAtSeconds, expiresAtSeconds } = claims.value;
  if (tokenId === undefined) return fail({ code: "claim_missing", claim: "jti" });
  const principal = subject === clientId ? "service_account" : "user";
  return ok({ tokenId, clientId, subject, principal, audience, scope, kids, issuedAtSeconds, expiresAtSeconds });
}

function isTextList(value: JsonValue): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

/** An opaque token is the partner's own: it is only issued to service accounts. */
export function accessTokenOf(opaque: OpaqueToken): AccessToken {
  const { tokenId, clientId, audience, scope, kids, issuedAtSeconds, expiresAtSeconds } = opaque;
  return { tokenId, clientId, subject: clientId, principal: "service_account", audience, scope, kids, issuedAtSeconds, expiresAtSeconds };
}

export type AccessTokenFault = Extract<ClaimFault, { readonly code: "token_expired" | "token_before_restore" | "token_not_yet_valid" }>;

/** What time has done to a token: at each use anew. */
export function accessTokenFault(
  token: AccessToken,
  nowSeconds: number,
  restoredAtSeconds: number | undefined,
): AccessTokenFault | undefined {
  const { issuedAtSeconds: iat, expiresAtSeconds: exp } = token;
  const skewSeconds = NODE_CLOCK_SKEW_SECONDS;
  if (nowSeconds >= exp + skewSeconds) return { code: "token_expired", secondsPast: Math.floor(nowSeconds - exp), skewSeconds };
  if (restoredAtSeconds !== undefined && iat <= restoredAtSeconds) {
    return { code: "token_before_restore", secondsBefore: Math.ceil(restoredAtSeconds - iat) };
  }
  if (iat > nowSeconds + skewSeconds) {
    return { code: "token_not_yet_valid", claim: "iat", secondsAhead: Math.ceil(iat - nowSeconds), skewSeconds };
  }
  return undefined;
}

/** No token of the client with one of these keys behind it and an `iat` at or before this is good. */
export function cutOffSecondsOf(cutOffs: CutOffs, kids: readonly string[]): number {
  let seconds = cutOffs.seconds;
  for (const key of cutOffs.keys) if (kids.includes(key.kid)) seconds = Math.max(seconds, key.seconds);
  return seconds;
}
