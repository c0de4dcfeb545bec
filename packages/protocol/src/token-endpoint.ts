import { parseClientCredentials } from "./client-auth.ts";
import { type Form, parseForm, requireParameter } from "./form.ts";
import type { Grant } from "./grants/grant.ts";
import { findGrant } from "./grants/registry.ts";
import {
  type Client,
  type ExchangeFacts,
  type IssuedFor,
  type IssueRequest,
  type IssueVerdict,
  type Spend,
  StoreUnavailable,
  type TokenEndpointPorts,
} from "./ports.ts";
import type { Refusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";
import { issueAccessToken } from "./tokens/access-token.ts";
import { parseClientAssertion, validateClientAssertion } from "./tokens/client-assertion.ts";
import { spendOf } from "./tokens/spend.ts";

export interface TokenRequest {
  readonly traceId: string;
  readonly address: string;
  readonly mediaType: string | undefined;
  /** Every Authorization header of the request, in order. */
  readonly authorization: readonly string[];
  readonly hasQuery: boolean;
  readonly hasDpopProof: boolean;
  /** One character per byte (latin1). */
  readonly body: string;
}

/** RFC 6749 §5.1 and RFC 8693 §2.2.1. Never a refresh token. */
export interface TokenAnswer {
  readonly access_token: string;
  readonly token_type: "Bearer";
  readonly expires_in: number;
  readonly scope: string;
}

export interface TokenOutcome {
  readonly result: Result<TokenAnswer, Refusal>;
  readonly facts: Readonly<ExchangeFacts>;
}

/** A partner that changes more often than this during one request is being edited in a loop. */
const TRIES_MAX = 3;
/** For the second of a cut-off to pass. More means that the clocks of two nodes are apart. */
const WAIT_MS_MAX = 2_000;

/**
 * A token request (RFC 6749 §3.2), each step one function, in this order: form → client credentials → client → grant → grant allowed
 * → decision of the grant → issue (the transaction that re-reads every enabled flag, spends and records) → answer. A refusal is
 * recorded too, before it is answered. Never throws for what a request holds.
 */
export async function handleTokenRequest(request: TokenRequest, ports: TokenEndpointPorts): Promise<TokenOutcome> {
  const facts: ExchangeFacts = { traceId: request.traceId, atMs: ports.nowMs(), address: request.address };
  try {
    const granted = await exchange(request, facts, ports);
    if (!granted.ok && !granted.fault.recorded) await ports.recordRefusal(facts, granted.fault.refusal);
    return { result: granted.ok ? granted : fail(granted.fault.refusal), facts };
  } catch (thrown) {
    if (!(thrown instanceof StoreUnavailable)) throw thrown;
    return { result: fail({ code: "temporarily_unavailable", retryAfterSeconds: thrown.retryAfterSeconds }), facts };
  }
}

/** A refusal, and whether the transaction that found it has recorded it already. */
interface Refused {
  readonly refusal: Refusal;
  readonly recorded: boolean;
}

function refuse(refusal: Refusal, recorded = false): Result<never, Refused> {
  return fail({ refusal, recorded });
}

async function exchange(request: TokenRequest, facts: ExchangeFacts, ports: TokenEndpointPorts): Promise<Result<TokenAnswer, Refused>> {
  const form = readForm(request);
  if (!form.ok) return refuse(form.fault);
  for (let attempt = 0; attempt < TRIES_MAX; attempt++) {
    const authenticated = await authenticate(request, form.value, facts, ports);
    if (!authenticated.ok) return refuse(authenticated.fault);
    const { client, spend } = authenticated.value;
    const grant = chooseGrant(form.value, client, facts);
    if (!grant.ok) return refuse(grant.fault);
    const decision = await grant.value.decide({ form: form.value, client, nowMs: facts.atMs, facts, ports });
    if (!decision.ok) return refuse(decision.fault);
    const spends = [spend, decision.value.spend].filter((each) => each !== undefined);
    const issuedAtSeconds = Math.floor(ports.nowMs() / 1000);
    const issuing: Issue = { client, principal: decision.value.principal, spends, issuedAtSeconds, facts };
    const issued = await issue(issuing, decision.value.scope, ports);
    if (issued.code === "issued") return ok(answer({ grant: grant.value, client, subject: issued.subject, issuedAtSeconds, facts }, ports));
    if (issued.code === "refused") return refuse(issued.refusal, true);
    if (issued.code === "too_early" && !(await waitUntil(issued.fromSeconds, ports))) break;
  }
  return refuse({ code: "temporarily_unavailable", retryAfterSeconds: 1 });
}

function readForm(request: TokenRequest): Result<Form, Refusal> {
  if (request.hasQuery) return fail({ code: "parameters_in_query" });
  const form = parseForm(request.mediaType, request.body);
  if (form.ok && request.hasDpopProof) return fail({ code: "dpop_unsupported" });
  return form;
}

interface Authenticated {
  readonly client: Client;
  /** Of the assertion by which it authenticated. */
  readonly spend: Spend | undefined;
}

async function authenticate(
  request: TokenRequest,
  form: Form,
  facts: ExchangeFacts,
  ports: TokenEndpointPorts,
): Promise<Result<Authenticated, Refusal>> {
  const credentials = parseClientCredentials(request.authorization, form);
  if (!credentials.ok) return credentials;
  if (credentials.value.method === "private_key_jwt") return authenticateByAssertion(credentials.value, facts, ports);
  const { clientId, secret } = credentials.value;
  facts.clientId = clientId;
  const authenticated = await ports.authenticateClient(clientId, secret);
  if (!authenticated.ok) return fail({ code: "client_not_authenticated", cause: authenticated.fault.cause });
  facts.partnerId = authenticated.value.client.clientId;
  facts.secretId = authenticated.value.secretId;
  return ok({ client: authenticated.value.client, spend: undefined });
}

/** `private_key_jwt`: the client is the one that the assertion names, and its keys decide whether that is true. */
async function authenticateByAssertion(
  credentials: { readonly assertion: string; readonly clientId: string | undefined },
  facts: ExchangeFacts,
  ports: TokenEndpointPorts,
): Promise<Result<Authenticated, Refusal>> {
  const assertion = parseClientAssertion(credentials.assertion);
  if (!assertion.ok) return assertion;
  const { clientId } = assertion.value;
  facts.clientId = clientId;
  if (credentials.clientId !== undefined && credentials.clientId !== clientId) return fail({ code: "client_id_mismatch" });
  const client = await ports.findClient(clientId);
  if (!client.ok) return fail({ code: "client_not_authenticated", cause: client.fault.cause });
  if (client.value.tokenEndpointAuthMethod !== "private_key_jwt") return fail({ code: "client_not_authenticated", cause: "wrong_method" });
  const validated = await validateClientAssertion(assertion.value, client.value, facts.atMs / 1000, ports);
  if (!validated.ok) return validated;
  facts.partnerId = clientId;
  return ok({ client: client.value, spend: spendOf("client_assertion", validated.value, ports) });
}

function chooseGrant(form: Form, client: Client, facts: ExchangeFacts): Result<Grant, Refusal> {
  const grantType = requireParameter(form, "grant_type");
  if (!grantType.ok) return grantType;
  const grant = findGrant(grantType.value);
  if (grant === undefined) return fail({ code: "grant_type_unsupported", got: grantType.value });
  facts.grant = grant.name;
  return client.allowedGrants.includes(grant.name) ? ok(grant) : fail({ code: "grant_not_allowed", grant: grant.name });
}

type Issue = IssueRequest & { readonly facts: ExchangeFacts };

function issue(request: Issue, scope: readonly string[], ports: TokenEndpointPorts): Promise<IssueVerdict> {
  request.facts.scope = scope.join(" ");
  request.facts.tokenId = ports.newTokenId();
  return ports.issue(request);
}

/** False where that is too far away. */
async function waitUntil(seconds: number, ports: TokenEndpointPorts): Promise<boolean> {
  const ms = seconds * 1000 - ports.nowMs();
  if (ms > WAIT_MS_MAX) return false;
  await ports.waitMs(Math.max(ms, 0));
  return true;
}

interface Granted {
  readonly grant: Grant;
  readonly client: Client;
  readonly subject: IssuedFor;
  readonly issuedAtSeconds: number;
  readonly facts: Readonly<ExchangeFacts>;
}

function answer({ grant, client, subject, issuedAtSeconds, facts }: Granted, ports: TokenEndpointPorts): TokenAnswer {
  const scope = facts.scope ?? "";
  const content = {
    issuer: ports.issuer,
    resource: ports.resource,
    client,
    subject,
    scope,
    tokenId: facts.tokenId ?? "",
    issuedAtSeconds,
  };
  return {
    access_token: issueAccessToken(content, ports.signer()),
    ...grant.responseMembers,
    token_type: "Bearer",
    expires_in: client.accessTokenLifetimeSeconds,
    scope,
  };
}
