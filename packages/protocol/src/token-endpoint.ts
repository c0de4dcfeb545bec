import { authenticateClient, type AuthenticatedClient, type ClientRequest, readForm } from "./client-authentication.ts";
import { GRANT_CLIENT_CREDENTIALS } from "./constants.ts";
import { type Form, requireParameter } from "./form.ts";
import type { Grant, GrantDecision } from "./grants/grant.ts";
import { findGrant } from "./grants/registry.ts";
import { type Client, type ExchangeFacts, type IssuedFor, StoreUnavailable, type TokenEndpointPorts } from "./ports.ts";
import type { Refusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";
import { cutOffSecondsOf } from "./tokens/access-token.ts";
import { JWT_FORMAT, OPAQUE_FORMAT, type OpaqueTokenAnswer, type TokenAnswer, type TokenFormat } from "./tokens/token-format.ts";

export interface TokenOutcome<A> {
  readonly result: Result<A, Refusal>;
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
export function handleTokenRequest(request: ClientRequest, ports: TokenEndpointPorts): Promise<TokenOutcome<TokenAnswer>> {
  return handle(request, ports, { format: JWT_FORMAT, grantType: (form) => requireParameter(form, "grant_type") });
}

/** The same for the second published endpoint: client credentials only, which need not be named, and an opaque token. */
export function handleOpaqueTokenRequest(request: ClientRequest, ports: TokenEndpointPorts): Promise<TokenOutcome<OpaqueTokenAnswer>> {
  return handle(request, ports, { format: OPAQUE_FORMAT, grantType: opaqueGrantType });
}

function opaqueGrantType(form: Form): Result<string, Refusal> {
  const got = form.get("grant_type") ?? GRANT_CLIENT_CREDENTIALS;
  return got === GRANT_CLIENT_CREDENTIALS ? ok(got) : fail({ code: "grant_type_unsupported", got });
}

/** What tells one endpoint from the other. */
interface Endpoint<A> {
  readonly format: TokenFormat<A>;
  grantType(form: Form): Result<string, Refusal>;
}

async function handle<A>(request: ClientRequest, ports: TokenEndpointPorts, endpoint: Endpoint<A>): Promise<TokenOutcome<A>> {
  const facts: ExchangeFacts = { traceId: request.traceId, atMs: ports.nowMs(), address: request.address };
  try {
    const granted = await exchange(request, facts, ports, endpoint);
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

async function exchange<A>(
  request: ClientRequest,
  facts: ExchangeFacts,
  ports: TokenEndpointPorts,
  endpoint: Endpoint<A>,
): Promise<Result<A, Refused>> {
  const form = readForm(request);
  if (!form.ok) return refuse(form.fault);
  for (let attempt = 0; attempt < TRIES_MAX; attempt++) {
    const authenticated = await authenticateClient(request, form.value, facts, ports);
    if (!authenticated.ok) return refuse(authenticated.fault);
    const { client } = authenticated.value;
    const grantType = endpoint.grantType(form.value);
    const grant = grantType.ok ? chooseGrant(grantType.value, client, facts) : grantType;
    if (!grant.ok) return refuse(grant.fault);
    const decision = await grant.value.decide({ form: form.value, client, nowMs: facts.atMs, facts, ports });
    if (!decision.ok) return refuse(decision.fault);
    const issued = await issue({ ...authenticated.value, grant: grant.value, decision: decision.value, facts }, ports, endpoint.format);
    if (issued.code === "issued") return ok(issued.answer);
    if (issued.code === "refused") return refuse(issued.refusal, true);
    if (issued.code === "too_early" && !(await waitUntil(issued.fromSeconds, ports))) break;
  }
  return refuse({ code: "temporarily_unavailable", retryAfterSeconds: 1 });
}

function chooseGrant(grantType: string, client: Client, facts: ExchangeFacts): Result<Grant, Refusal> {
  const grant = findGrant(grantType);
  if (grant === undefined) return fail({ code: "grant_type_unsupported", got: grantType });
  facts.grant = grant.name;
  return client.allowedGrants.includes(grant.name) ? ok(grant) : fail({ code: "grant_not_allowed", grant: grant.name });
}

interface Decided extends AuthenticatedClient {
  readonly grant: Grant;
  readonly decision: GrantDecision;
  readonly facts: ExchangeFacts;
}

type Issued<A> =
  | { readonly code: "issued"; readonly answer: A }
  | { readonly code: "refused"; readonly refusal: Refusal }
  | { readonly code: "client_changed" }
  | { readonly code: "too_early"; readonly fromSeconds: number };

async function issue<A>(decided: Decided, ports: TokenEndpointPorts, format: TokenFormat<A>): Promise<Issued<A>> {
  const { client, decision, facts, grant } = decided;
  const kids = [...new Set([decision.kid, decided.kid].filter((kid) => kid !== undefined))];
  const issuedAtSeconds = Math.floor(ports.nowMs() / 1000);
  // what carries the second of a restore is taken for one from before it
  const cutOffSeconds = Math.max(cutOffSecondsOf(client.cutOffs, kids), Math.floor(ports.restoredAtSeconds ?? 0));
  if (issuedAtSeconds <= cutOffSeconds) return { code: "too_early", fromSeconds: cutOffSeconds + 1 };
  const { principal, audience } = decision;
  const scope = decision.scope.join(" ");
  const tokenId = ports.newTokenId();
  facts.scope = scope;
  facts.tokenId = tokenId;
  const token = format.make({ issuer: ports.issuer, client, audience, scope, tokenId, kids, issuedAtSeconds }, ports);
  const spends = [decided.spend, decision.spend].filter((spend) => spend !== undefined);
  const verdict = await ports.issue({ client, principal, spends, issuedAtSeconds, opaque: token.opaque, facts });
  if (verdict.code !== "issued") return verdict;
  const subject: IssuedFor = verdict.subject;
  return { code: "issued", answer: token.answer(subject, grant.responseMembers) };
}

/** False where that is too far away. */
async function waitUntil(seconds: number, ports: TokenEndpointPorts): Promise<boolean> {
  const ms = seconds * 1000 - ports.nowMs();
  if (ms > WAIT_MS_MAX) return false;
  await ports.waitMs(Math.max(ms, 0));
  return true;
}
