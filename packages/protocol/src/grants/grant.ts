import type { Form } from "../form.ts";
import type { Client, ExchangeFacts, Principal, Spend, TokenEndpointPorts } from "../ports.ts";
import type { Refusal } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";
import { type GrantedScope, type PrincipalKind, resolveScope, type Target } from "../scope.ts";

/** What a grant may ask of the outside: less than the endpoint does, and nothing that issues or records. */
export type GrantPorts = Pick<TokenEndpointPorts, "sha256" | "partnerKeys" | "restoredAtSeconds" | "scopeCatalog">;

export interface GrantContext {
  readonly form: Form;
  /** Authenticated, and allowed this grant. */
  readonly client: Client;
  readonly nowMs: number;
  /** The grant adds what it learns, as soon as it is verified. */
  readonly facts: ExchangeFacts;
  readonly ports: GrantPorts;
}

/** To whom, for what, and what is used up by it. The decision is still subject to the enabled flags, read again where it is issued. */
export interface GrantDecision extends GrantedScope {
  readonly principal: Principal;
  readonly spend: Spend | undefined;
  /** Of the partner's key that brought it about. */
  readonly kid: string | undefined;
}

export interface Grant {
  /** The value of `grant_type`. */
  readonly grantType: string;
  /** As a partner's `allowed_grants` names it. */
  readonly name: string;
  /** Members of the answer that only this grant has. */
  readonly responseMembers: Readonly<Record<string, string>>;
  decide(context: GrantContext): Promise<Result<GrantDecision, Refusal>>;
}

/** What a request of any grant asks for by `scope`, `audience` and `resource` (RFC 6749 §3.3, RFC 8693 §2.1, RFC 8707 §2.2). */
export async function grantScope({ form, client, ports }: GrantContext, principal: PrincipalKind): Promise<Result<GrantedScope, Refusal>> {
  const target = readTarget(form);
  if (!target.ok) return target;
  const found = ports.scopeCatalog(client);
  const catalog = found instanceof Promise ? await found : found;
  return resolveScope({ requested: form.get("scope"), target: target.value, principal, allowed: client.allowedScopes, catalog });
}

function readTarget(form: Form): Result<Target | undefined, Refusal> {
  if (form.has("audience") && form.has("resource")) return fail({ code: "target_repeated" });
  for (const parameter of ["audience", "resource"] as const) {
    const value = form.get(parameter);
    if (value !== undefined) return ok({ parameter, value });
  }
  return ok(undefined);
}
