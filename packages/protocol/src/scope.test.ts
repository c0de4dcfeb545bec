import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SCOPE_TOKENS_MAX } from "./constants.ts";
import { isScope, type PrincipalKind, resolveScope, SCOPES, type Scope } from "./scope.ts";

const KINDS = ["user", "service_account"] as const satisfies readonly PrincipalKind[];
/** As the contract has it, written down a second time. */
const OF_KIND: Readonly<Record<PrincipalKind, readonly Scope[]>> = {
  user: ["thread"],
  service_account: ["account-management", "analytics"],
};

const granted = (...value: Scope[]) => ({ ok: true, value });
const refused = (fault: object) => ({ ok: false, fault });

test("there are three scopes", () => {
  expect(SCOPES).toEqual(["thread", "account-management", "analytics"]);
  expect(["thread", "toString", "__proto__", "constructor", "", "Thread"].map(isScope)).toEqual([true, false, false, false, false, false]);
});

describe("no scope requested", () => {
  test.each(KINDS)("everything that a %s may have, no more", (kind) => {
    expect(resolveScope(undefined, kind, SCOPES)).toEqual(granted(...OF_KIND[kind]));
  });

  test("only what the partner is allowed", () => {
    expect(resolveScope(undefined, "service_account", ["thread", "analytics"])).toEqual(granted("analytics"));
  });

  test("400: nothing is left", () => {
    expect(resolveScope(undefined, "user", ["analytics"])).toEqual(refused({ code: "scope_empty", principal: "user" }));
    expect(resolveScope(undefined, "service_account", [])).toEqual(refused({ code: "scope_empty", principal: "service_account" }));
  });
});

describe("scopes requested", () => {
  test("granted in the order of the table, each once", () => {
    expect(resolveScope("analytics account-management analytics", "service_account", SCOPES)).toEqual(
      granted("account-management", "analytics"),
    );
    expect(resolveScope("thread", "user", SCOPES)).toEqual(granted("thread"));
  });

  test("400: one that does not exist, however it is spelt", () => {
    for (const scope of ["admin", "Thread", "thread,analytics", "openid", "__proto__", "toString", "*"]) {
      expect(resolveScope(scope, "user", SCOPES)).toEqual(refused({ code: "scope_unknown", scope }));
    }
  });

  test("400: one for the other kind of principal", () => {
    expect(resolveScope("thread", "service_account", SCOPES)).toEqual(
      refused({ code: "scope_not_for_principal", scope: "thread", principal: "service_account" }),
    );
    expect(resolveScope("thread analytics", "user", SCOPES)).toEqual(
      refused({ code: "scope_not_for_principal", scope: "analytics", principal: "user" }),
    );
  });

  test("400: one that the partner is not allowed", () => {
    expect(resolveScope("analytics", "service_account", ["account-management"])).toEqual(
      refused({ code: "scope_not_allowed", scope: "analytics" }),
    );
  });

  test("400: the whole request, for one bad scope among good ones", () => {
    expect(resolveScope("analytics admin", "service_account", SCOPES)).toEqual(refused({ code: "scope_unknown", scope: "admin" }));
  });

  test.each([
    "",
    " ",
    " thread",
    "thread ",
    "thread  thread",
    "thread\tthread",
    "thread\n",
    'thread"',
    "thr\\ead",
    "thr\u00e9ad",
    "thread\0",
    "thread\u00a0x",
    "thread\u007f",
  ])("400: %j is not in the grammar of RFC 6749 §3.3", (scope) => {
    expect(resolveScope(scope, "user", SCOPES)).toEqual(refused({ code: "scope_malformed" }));
  });

  test("32 names are read, 33 are refused, and a long text takes no time", () => {
    const names = (count: number) => Array.from({ length: count }, () => "thread").join(" ");
    expect(resolveScope(names(SCOPE_TOKENS_MAX), "user", SCOPES)).toEqual(granted("thread"));
    expect(resolveScope(names(SCOPE_TOKENS_MAX + 1), "user", SCOPES)).toEqual(refused({ code: "scope_malformed" }));
    expect(resolveScope(`${"a ".repeat(30_000)} `, "user", SCOPES)).toEqual(refused({ code: "scope_malformed" }));
  });
});

test("nothing is ever widened or narrowed: what is granted is what was asked for, allowed, and of this principal's kind", () => {
  const names = fc.option(fc.array(fc.constantFrom(...SCOPES, "admin"), { minLength: 1, maxLength: 4 }), { nil: undefined });
  fc.assert(
    fc.property(names, fc.constantFrom(...KINDS), fc.subarray([...SCOPES]), (requested, kind, allowed) => {
      const may = OF_KIND[kind].filter((scope) => allowed.includes(scope));
      const result = resolveScope(requested?.join(" "), kind, allowed);
      if (requested === undefined) expect(result.ok ? result.value : []).toEqual(may);
      else if (result.ok) expect(new Set(result.value)).toEqual(new Set(requested));
      else expect(requested.every((scope) => may.some((allowedScope) => allowedScope === scope))).toBe(false);
      if (result.ok) for (const scope of result.value) expect(may).toContain(scope);
    }),
    { numRuns: 1000 },
  );
});
