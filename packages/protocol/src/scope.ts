import { SCOPE_TOKENS_MAX } from "./constants.ts";
import type { GrantRefusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";

export type PrincipalKind = "user" | "service_account";

/** Each scope and the one kind of principal that may have it. */
const SCOPE_TABLE = { thread: "user", "account-management": "service_account", analytics: "service_account" } as const satisfies Record<
  string,
  PrincipalKind
>;
export type Scope = keyof typeof SCOPE_TABLE;
export const SCOPES = Object.keys(SCOPE_TABLE) as readonly Scope[];

/** RFC 6749 §3.3: scope-token *( SP scope-token ). */
const SCOPE_GRAMMAR = /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/;

/**
 * What is granted: the requested scopes, or, where none is requested, all that this principal may have. Each scope must exist, be for
 * this kind of principal and be allowed to the partner, or the whole request is refused: nothing is narrowed in silence, nothing ever
 * widened. No scope twice, in the order of the table.
 */
export function resolveScope(
  requested: string | undefined,
  principal: PrincipalKind,
  allowed: readonly Scope[],
): Result<readonly Scope[], GrantRefusal> {
  if (requested === undefined) {
    const all = SCOPES.filter((scope) => SCOPE_TABLE[scope] === principal && allowed.includes(scope));
    return all.length === 0 ? fail({ code: "scope_empty", principal }) : ok(all);
  }
  if (!SCOPE_GRAMMAR.test(requested)) return fail({ code: "scope_malformed" });
  const names = requested.split(" ");
  if (names.length > SCOPE_TOKENS_MAX) return fail({ code: "scope_malformed" });
  for (const scope of names) {
    if (!isScope(scope)) return fail({ code: "scope_unknown", scope });
    if (SCOPE_TABLE[scope] !== principal) return fail({ code: "scope_not_for_principal", scope, principal });
    if (!allowed.includes(scope)) return fail({ code: "scope_not_allowed", scope });
  }
  return ok(SCOPES.filter((scope) => names.includes(scope)));
}

export function isScope(name: string): name is Scope {
  return Object.hasOwn(SCOPE_TABLE, name);
}
