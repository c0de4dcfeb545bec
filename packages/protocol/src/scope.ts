import { SCOPE_TOKENS_MAX } from "./constants.ts";
import type { GrantRefusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";

export type PrincipalKind = "user" | "service_account";

/** A scope, the one kind of principal that may have it, and the API that it opens. */
export interface ScopeDefinition {
  readonly name: string;
  readonly principal: PrincipalKind;
  /** The resource identifier of that API: the `aud` of a token with this scope. */
  readonly audience: string;
}

/** Of our own API. The operator defines more, for its own. */
export const BUILT_IN_SCOPES = [
  { name: "thread", principal: "user" },
  { name: "account-management", principal: "service_account" },
  { name: "analytics", principal: "service_account" },
] as const satisfies readonly Omit<ScopeDefinition, "audience">[];

export type Scope = (typeof BUILT_IN_SCOPES)[number]["name"];
export const SCOPES: readonly Scope[] = BUILT_IN_SCOPES.map(({ name }) => name);

/** RFC 6749 §3.3: scope-token *( SP scope-token ). */
const SCOPE_GRAMMAR = /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/;

/** One of `audience` and `resource`, as the request had it. */
export interface Target {
  readonly parameter: "audience" | "resource";
  readonly value: string;
}

export interface ScopeRequest {
  readonly requested: string | undefined;
  readonly target: Target | undefined;
  readonly principal: PrincipalKind;
  /** Names. */
  readonly allowed: readonly string[];
  /** Every scope there is, ours first. */
  readonly catalog: readonly ScopeDefinition[];
}

export interface GrantedScope {
  readonly scope: readonly string[];
  /** The one API that all of it is for. */
  readonly audience: string;
}

/**
 * What is granted, and for which API: the requested scopes, or, where none is requested, all that this principal may have there. Each scope must
 * exist, be for this kind of principal, be allowed to the partner and open the API that the target names, or the whole request is refused: nothing
 * is narrowed in silence, nothing ever widened. Without a target the scopes say which API it is, and without either it is ours, or else the first
 * one that the principal may have. A token is for one API (RFC 8707 §2.2): scopes of two are refused. No scope twice, in the order of the catalog.
 */
export function resolveScope(request: ScopeRequest): Result<GrantedScope, GrantRefusal> {
  const { requested, target, principal, allowed, catalog } = request;
  const candidates = catalog.filter((scope) => allowed.includes(scope.name));
  const audiences = audiencesOf([...catalog.slice(0, 1), ...candidates]);
  if (target !== undefined && !audiences.includes(target.value)) {
    return fail({ code: "target_unknown", parameter: target.parameter, expected: audiences.join(" or ") });
  }
  if (requested !== undefined) return resolveRequested(requested, request);
  const own = candidates.filter((scope) => scope.principal === principal);
  const audience = target?.value ?? own[0]?.audience;
  const all = own.filter((scope) => scope.audience === audience);
  if (audience === undefined || all.length === 0) return fail({ code: "scope_empty", principal });
  return ok({ scope: all.map((scope) => scope.name), audience });
}

function resolveRequested(requested: string, { target, principal, allowed, catalog }: ScopeRequest): Result<GrantedScope, GrantRefusal> {
  if (!SCOPE_GRAMMAR.test(requested)) return fail({ code: "scope_malformed" });
  const names = requested.split(" ");
  if (names.length > SCOPE_TOKENS_MAX) return fail({ code: "scope_malformed" });
  for (const name of names) {
    const scope = catalog.find((candidate) => candidate.name === name);
    if (scope === undefined) return fail({ code: "scope_unknown", scope: name });
    if (scope.principal !== principal) return fail({ code: "scope_not_for_principal", scope: name, principal });
    if (!allowed.includes(name)) return fail({ code: "scope_not_allowed", scope: name });
    if (target !== undefined && scope.audience !== target.value) return fail({ code: "scope_not_for_target", scope: name });
  }
  const granted = catalog.filter((scope) => names.includes(scope.name));
  const [audience, ...others] = audiencesOf(granted);
  if (audience === undefined) return fail({ code: "scope_malformed" });
  return others.length > 0 ? fail({ code: "target_ambiguous" }) : ok({ scope: granted.map((scope) => scope.name), audience });
}

function audiencesOf(scopes: readonly ScopeDefinition[]): string[] {
  return [...new Set(scopes.map((scope) => scope.audience))];
}
