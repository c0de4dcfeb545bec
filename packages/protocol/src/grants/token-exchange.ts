import { CLIENT_ID_FORM, GRANT_TOKEN_EXCHANGE, TOKEN_TYPE_ACCESS_TOKEN, TOKEN_TYPE_JWT } from "../constants.ts";
import { type Form, requireParameter } from "../form.ts";
import type { Client, ExchangeFacts, Principal, Provisioning } from "../ports.ts";
import type { Refusal } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";
import type { PartnerJwt } from "../tokens/partner-jwt.ts";
import { spendOf } from "../tokens/spend.ts";
import { validateSubjectToken } from "../tokens/subject-token.ts";
import { type Grant, type GrantContext, type GrantDecision, grantScope } from "./grant.ts";

/** OAuth 2.0 Token Exchange (RFC 8693): a partner's signed JWT in, an access token for its user or for the partner itself out. */
export const tokenExchange: Grant = {
  grantType: GRANT_TOKEN_EXCHANGE,
  name: "token-exchange",
  responseMembers: { issued_token_type: TOKEN_TYPE_ACCESS_TOKEN },
  decide,
};

async function decide(context: GrantContext): Promise<Result<GrantDecision, Refusal>> {
  const { form, client, facts, ports } = context;
  const parameters = readParameters(form);
  if (!parameters.ok) return parameters;
  const token = await validateSubjectToken(parameters.value, client, context.nowMs / 1000, ports);
  if (!token.ok) return token;
  recordToken(facts, token.value);
  const principal = toPrincipal(token.value.subject, client);
  const granted = await grantScope(context, principal.kind);
  if (!granted.ok) return granted;
  const spend = client.replay === "single_use" ? spendOf("subject_token", token.value, ports) : undefined;
  return ok({ ...granted.value, principal, spend, kid: token.value.kid });
}

/** Everything in the form but the token's content (RFC 8693 §2.1). What is not supported is refused by name, never ignored. */
function readParameters(form: Form): Result<string, Refusal> {
  const subjectToken = requireParameter(form, "subject_token");
  if (!subjectToken.ok) return subjectToken;
  const subjectTokenType = requireParameter(form, "subject_token_type");
  if (!subjectTokenType.ok) return subjectTokenType;
  if (subjectTokenType.value !== TOKEN_TYPE_JWT) return fail({ code: "subject_token_type_unsupported", got: subjectTokenType.value });
  const requestedType = form.get("requested_token_type") ?? TOKEN_TYPE_ACCESS_TOKEN;
  if (requestedType !== TOKEN_TYPE_ACCESS_TOKEN) return fail({ code: "requested_token_type_unsupported", got: requestedType });
  const refusal = actorRefusal(form);
  return refusal === undefined ? subjectToken : fail(refusal);
}

function actorRefusal(form: Form): Refusal | undefined {
  const hasToken = form.has("actor_token");
  const hasType = form.has("actor_token_type");
  if (hasToken !== hasType) return { code: "actor_token_incomplete", missing: hasToken ? "actor_token_type" : "actor_token" };
  return hasToken ? { code: "delegation_not_allowed" } : undefined;
}

function recordToken(facts: ExchangeFacts, token: PartnerJwt): void {
  facts.subject = token.subject;
  if (token.kid !== undefined) facts.kid = token.kid;
  if (token.jti !== undefined) facts.jti = token.jti;
}

/** `sub` is the client id, which the server made and no user can have, or it is a user in the ONE namespace of this partner. */
function toPrincipal(subject: string, client: Client): Principal {
  if (subject === client.clientId) return { kind: "service_account" };
  return { kind: "user", namespace: client.subjectNamespace, id: subject, provisioning: provisioningOf(subject, client) };
}

/** A `sub` has the form of an external id (length, no control characters), unless it looks like a client id. */
function provisioningOf(subject: string, client: Client): Provisioning | undefined {
  const { provisioning, subjectNamespace, homeWorkspaceId, provisioningHourlyMax: hourlyMax } = client;
  if (provisioning === "off" || subjectNamespace === "user_id" || homeWorkspaceId === null) return undefined;
  return CLIENT_ID_FORM.test(subject) ? undefined : { homeWorkspaceId, hourlyMax };
}
