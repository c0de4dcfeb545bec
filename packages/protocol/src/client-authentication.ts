import { type ClientCredentials, parseClientCredentials } from "./client-auth.ts";
import { type Form, parseForm } from "./form.ts";
import type { Client, ClientPorts, ExchangeFacts, Spend, TooManyWrong } from "./ports.ts";
import type { Refusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";
import { parseClientAssertion, validateClientAssertion } from "./tokens/client-assertion.ts";
import { spendOf } from "./tokens/spend.ts";

/** A request of an OAuth client to one of our endpoints: a form, and the client's own authentication. */
export interface ClientRequest {
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

export function readForm(request: ClientRequest): Result<Form, Refusal> {
  if (request.hasQuery) return fail({ code: "parameters_in_query" });
  const form = parseForm(request.mediaType, request.body);
  if (form.ok && request.hasDpopProof) return fail({ code: "dpop_unsupported" });
  return form;
}

export interface AuthenticatedClient {
  readonly client: Client;
  /** Of the assertion by which it authenticated. */
  readonly spend: Spend | undefined;
  readonly kid: string | undefined;
}

/** Which partner calls, proved in the one way that its record names, and within its quota. What is learned on the way is added to `facts`. */
export async function authenticateClient(
  request: ClientRequest,
  form: Form,
  facts: ExchangeFacts,
  ports: ClientPorts,
): Promise<Result<AuthenticatedClient, Refusal>> {
  const credentials = parseClientCredentials(request.authorization, form);
  if (!credentials.ok) return credentials;
  const authenticated = await authenticateBy(credentials.value, facts, ports);
  return authenticated.ok ? admit(authenticated.value, request, ports) : authenticated;
}

/** Only for whom the client is proved to be: what is sent in its name by others is not its own use. */
export async function admit<A extends { readonly client: Client }>(
  authenticated: A,
  request: object,
  ports: Pick<ClientPorts, "admit">,
): Promise<Result<A, Refusal>> {
  const admission = await ports.admit(authenticated.client, request);
  return admission.ok ? ok(authenticated) : fail({ code: "rate_limited", ...admission.fault });
}

export function tooManyWrong({ retryAfterSeconds }: TooManyWrong): Refusal {
  return { code: "wrong_secrets_too_many", retryAfterSeconds };
}

export async function authenticateBy(
  credentials: ClientCredentials,
  facts: ExchangeFacts,
  ports: ClientPorts,
): Promise<Result<AuthenticatedClient, Refusal>> {
  if (credentials.method === "private_key_jwt") return authenticateByAssertion(credentials, facts, ports);
  const { clientId, secret } = credentials;
  facts.clientId = clientId;
  const authenticated = await ports.authenticateClient(clientId, secret, facts.address);
  if (!authenticated.ok) {
    const { fault } = authenticated;
    return fail(fault.cause === "too_many_wrong" ? tooManyWrong(fault) : { code: "client_not_authenticated", cause: fault.cause });
  }
  facts.partnerId = authenticated.value.client.clientId;
  facts.secretId = authenticated.value.secretId;
  return ok({ client: authenticated.value.client, spend: undefined, kid: undefined });
}

/** `private_key_jwt`: the client is the one that the assertion names, and its keys decide whether that is true. */
async function authenticateByAssertion(
  credentials: { readonly assertion: string; readonly clientId: string | undefined },
  facts: ExchangeFacts,
  ports: ClientPorts,
): Promise<Result<AuthenticatedClient, Refusal>> {
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
  return ok({ client: client.value, spend: spendOf("client_assertion", validated.value, ports), kid: validated.value.kid });
}
