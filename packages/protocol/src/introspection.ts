import { admit, authenticateBy, type ClientRequest, readForm, tooManyWrong } from "./client-authentication.ts";
import { parseClientCredentials } from "./client-auth.ts";
import { type Form, requireParameter } from "./form.ts";
import { type Client, type ClientPorts, type ExchangeFacts, type Spend, StoreUnavailable, type TooManyWrong } from "./ports.ts";
import type { Refusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";
import type { AccessToken } from "./tokens/access-token.ts";

/** Who asks about tokens: a partner about its own, or an API of the operator about those that are for it. */
export type TokenCaller =
  | { readonly kind: "partner"; readonly client: Client }
  | { readonly kind: "resource_server"; readonly resourceServerId: string; readonly audience: string };

export interface TokenCallerPorts extends ClientPorts {
  nowMs(): number;
  /** Undefined for an unknown one as for a wrong secret, after the same time. */
  authenticateResourceServer(
    resourceServerId: string,
    secret: string,
    address: string,
  ): Promise<Extract<TokenCaller, { readonly kind: "resource_server" }> | TooManyWrong | undefined>;
  /** Spends the assertion, and writes down that the secret was used. False where the assertion was spent before. */
  noteCaller(clientId: string, used: { readonly spend: Spend | undefined; readonly facts: Readonly<ExchangeFacts> }): Promise<boolean>;
}

/** A token that works right now, whoever asks. */
export interface WorkingToken {
  readonly token: AccessToken;
  /** Of a user's token. */
  readonly user: { readonly workspaceId: string; readonly orgId: string } | undefined;
}

export interface IntrospectionPorts extends TokenCallerPorts {
  /** Undefined for one that is unknown, over, revoked, or whose partner or subject is no longer enabled. */
  findWorkingToken(token: string): Promise<WorkingToken | undefined>;
  /** What the user, its workspace and its organization hold together. */
  findEntitlements(clientId: string, userId: string): Promise<readonly object[]>;
}

/** RFC 7662 §2.2. `entitlements` is ours (contract §1). */
export type IntrospectionAnswer =
  | { readonly active: false }
  | {
      readonly active: true;
      readonly iss: string;
      readonly sub: string;
      readonly aud: string;
      readonly client_id: string;
      readonly scope: string;
      readonly token_type: "Bearer";
      readonly exp: number;
      readonly iat: number;
      readonly jti: string;
      readonly org_id?: string;
      readonly workspace_id?: string;
      readonly partner_kids?: readonly string[];
      readonly entitlements?: readonly object[];
    };

/**
 * Token introspection (RFC 7662 §2): form → client → token. Whatever is not the caller's to know reads like a token that never was (§2.2, §4).
 * `token_type_hint` is not needed, and any value of it is taken (§2.1). Never throws for what a request holds.
 */
export async function handleIntrospectionRequest(
  request: ClientRequest,
  ports: IntrospectionPorts,
): Promise<Result<IntrospectionAnswer, Refusal>> {
  return answering(async () => {
    const asked = await readTokenRequest(request, ports);
    if (!asked.ok) return asked;
    const found = await ports.findWorkingToken(asked.value.token);
    if (found === undefined || !mayKnow(asked.value.caller, found.token)) return ok({ active: false });
    return ok(await describe(found, ports));
  });
}

async function describe({ token, user }: WorkingToken, ports: IntrospectionPorts): Promise<IntrospectionAnswer> {
  const entitlements = user === undefined ? undefined : await ports.findEntitlements(token.clientId, token.subject);
  return {
    active: true,
    iss: ports.issuer,
    sub: token.subject,
    aud: token.audience,
    client_id: token.clientId,
    scope: token.scope,
    token_type: "Bearer",
    exp: token.expiresAtSeconds,
    iat: token.issuedAtSeconds,
    jti: token.tokenId,
    ...(user === undefined ? {} : { org_id: user.orgId, workspace_id: user.workspaceId }),
    ...(token.kids.length > 0 ? { partner_kids: token.kids } : {}),
    ...(entitlements === undefined ? {} : { entitlements }),
  };
}

function mayKnow(caller: TokenCaller, token: AccessToken): boolean {
  return caller.kind === "partner" ? token.clientId === caller.client.clientId : token.audience === caller.audience;
}

export interface RevocationPorts extends TokenCallerPorts {
  /** What the token says, if it is one of ours; it may be over, or revoked already. */
  findIssuedToken(token: string): Promise<AccessToken | undefined>;
  /** It stops working at once; durable before it resolves. Again is no fault. */
  revokeToken(token: AccessToken): Promise<void>;
}

/**
 * Token revocation (RFC 7009 §2): form → client → token. A token that is not the caller's, is unknown or is over is answered like one that was
 * revoked, and stays as it is (§2.2). `token_type_hint` is not needed, and any value of it is taken.
 */
export async function handleRevocationRequest(request: ClientRequest, ports: RevocationPorts): Promise<Result<undefined, Refusal>> {
  return answering(async () => {
    const asked = await readTokenRequest(request, ports);
    if (!asked.ok) return asked;
    const { caller, token } = asked.value;
    const issued = await ports.findIssuedToken(token);
    if (issued !== undefined && caller.kind === "partner" && issued.clientId === caller.client.clientId) await ports.revokeToken(issued);
    return ok(undefined);
  });
}

async function answering<A>(work: () => Promise<Result<A, Refusal>>): Promise<Result<A, Refusal>> {
  try {
    return await work();
  } catch (thrown) {
    if (!(thrown instanceof StoreUnavailable)) throw thrown;
    return fail({ code: "temporarily_unavailable", retryAfterSeconds: thrown.retryAfterSeconds });
  }
}

async function readTokenRequest(
  request: ClientRequest,
  ports: TokenCallerPorts,
): Promise<Result<{ readonly caller: TokenCaller; readonly token: string }, Refusal>> {
  const form = readForm(request);
  if (!form.ok) return form;
  const caller = await authenticateCaller(request, form.value, ports);
  if (!caller.ok) return caller;
  const token = requireParameter(form.value, "token");
  return token.ok ? ok({ caller: caller.value, token: token.value }) : token;
}

const RESOURCE_SERVER_ID_PREFIX = "rs_";

/** A partner in the one way that its record names, an API by its secret. The id says which of the two it is. */
export async function authenticateCaller(
  request: Pick<ClientRequest, "traceId" | "address" | "authorization">,
  form: Form,
  ports: TokenCallerPorts,
): Promise<Result<TokenCaller, Refusal>> {
  const credentials = parseClientCredentials(request.authorization, form);
  if (!credentials.ok) return credentials;
  if (credentials.value.method === "client_secret" && credentials.value.clientId.startsWith(RESOURCE_SERVER_ID_PREFIX)) {
    const { clientId, secret } = credentials.value;
    const api = await ports.authenticateResourceServer(clientId, secret, request.address);
    if (api === undefined) return fail({ code: "client_not_authenticated", cause: "unknown" });
    return "cause" in api ? fail(tooManyWrong(api)) : ok(api);
  }
  const facts: ExchangeFacts = { traceId: request.traceId, address: request.address, atMs: ports.nowMs() };
  const authenticated = await authenticateBy(credentials.value, facts, ports);
  const admitted = authenticated.ok ? await admit(authenticated.value, request, ports) : authenticated;
  if (!admitted.ok) return admitted;
  const { client, spend } = admitted.value;
  const isFirst = await ports.noteCaller(client.clientId, { spend, facts });
  return isFirst ? ok({ kind: "partner", client }) : fail({ code: "client_assertion_replayed" });
}
