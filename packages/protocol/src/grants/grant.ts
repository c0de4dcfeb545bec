import type { Form } from "../form.ts";
import type { Client, ExchangeFacts, Principal, Spend, TokenEndpointPorts } from "../ports.ts";
import type { Refusal } from "../refusals.ts";
import type { Result } from "../result.ts";
import type { Scope } from "../scope.ts";

/** What a grant may ask of the outside: less than the endpoint does, and nothing that issues or records. */
export type GrantPorts = Pick<TokenEndpointPorts, "resource" | "sha256" | "partnerKeys" | "restoredAtSeconds">;

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
export interface GrantDecision {
  readonly principal: Principal;
  readonly scope: readonly Scope[];
  readonly spend: Spend | undefined;
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
