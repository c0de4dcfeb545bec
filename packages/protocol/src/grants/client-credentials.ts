import { GRANT_CLIENT_CREDENTIALS } from "../constants.ts";
import type { Refusal } from "../refusals.ts";
import { ok, type Result } from "../result.ts";
import { type Grant, type GrantContext, type GrantDecision, grantScope } from "./grant.ts";

/**
 * Client credentials (RFC 6749 §4.4): the partner's own authentication is all there is, so the token is for its service account. Off unless the
 * operator allows it to the partner, for a secret alone then opens account management. Never a refresh token (§4.4.3).
 */
export const clientCredentials: Grant = {
  grantType: GRANT_CLIENT_CREDENTIALS,
  name: "client_credentials",
  responseMembers: {},
  decide,
};

async function decide(context: GrantContext): Promise<Result<GrantDecision, Refusal>> {
  const granted = await grantScope(context, "service_account");
  if (!granted.ok) return granted;
  return ok({ ...granted.value, principal: { kind: "service_account" }, spend: undefined, kid: undefined });
}
