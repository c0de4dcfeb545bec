import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SCOPE_TOKENS_MAX } from "./constants.ts";
import { BUILT_IN_SCOPES, type PrincipalKind, resolveScope, SCOPES, type Scope, type ScopeDefinition, type Target } from "./scope.ts";

const KINDS = ["user", "service_account"] as const satisfies readonly PrincipalKind[];
/** As the contract has it, written down a second time. */
const OF_KIND: Readonly<Record<PrincipalKind, readonly Scope[]>> = {
  user: ["thread"],
  service_account: ["account-management", "analytics"],
};

const OURS = "https://as.example/v2";
const OUR_CATALOG: readonly ScopeDefinition[] = BUILT_IN_SCOPES.map((scope) => ({ ...scope, audience: OURS }));

/** Where there are no scopes but ours, and no target is named. */
const resolve = (requested: string | undefined, principal: PrincipalKind, allowed: readonly string[]) =>
  resolveScope({ requested, target: undefined, principal, allowed, catalog: OUR_CATALOG });
const granted = (...scope: Scope[]) => ({ ok: true, value: { scope, audience: OURS } });
const refused = (fault: object) => ({ ok: false, fault });

test("three scopes are built in", () => {
  expect(SCOPES).toEqual(["thread", "account-management", "analytics"]);
  for (const name of ["toString", "__proto__", "constructor", "Thread"]) {
    expect(resolve(name, "user", SCOPES)).toEqual(refused({ code: "scope_unknown", scope: name }));
  }
});

describe("no scope requested", () => {
  test.each(KINDS)("everything that a %s may have, no more", (kind) => {
    expect(resolve(undefined, kind, SCOPES)).toEqual(granted(...OF_KIND[kind]));
  });

  test("only what the partner is allowed", () => {
    expect(resolve(undefined, "service_account", ["thread", "analytics"])).toEqual(granted("analytics"));
  });

  test("400: nothing is left", () => {
    expect(resolve(undefined, "user", ["analytics"])).toEqual(refused({ code: "scope_empty", principal: "user" }));
    expect(resolve(undefined, "service_account", [])).toEqual(refused({ code: "scope_empty", principal: "service_account" }));
  });
});

describe("scopes requested", () => {
  test("granted in the order of the table, each once", () => {
    expect(resolve("analytics account-management analytics", "service_account", SCOPES)).toEqual(
      granted("account-management", "analytics"),
    );
    expect(resolve("thread", "user", SCOPES)).toEqual(granted("thread"));
  });

  test("400: one that does not exist, however it is spelt", () => {
    for (const scope of ["admin", "Thread", "thread,analytics", "openid", "__proto__", "toString", "*"]) {
      expect(resolve(scope, "user", SCOPES)).toEqual(refused({ code: "scope_unknown", scope }));
    }
  });

  test("400: one for the other kind of principal", () => {
    expect(resolve("thread", "service_account", SCOPES)).toEqual(
      refused({ code: "scope_not_for_principal", scope: "thread", principal: "service_account" }),
    );
    expect(resolve("thread analytics", "user", SCOPES)).toEqual(
      refused({ code: "scope_not_for_principal", scope: "analytics", principal: "user" }),
    );
  });

  test("400: one that the partner is not allowed", () => {
    expect(resolve("analytics", "service_account", ["account-management"])).toEqual(
      refused({ code: "scope_not_allowed", scope: "analytics" }),
    );
  });

  test("400: the whole request, for one bad scope among good ones", () => {
    expect(resolve("analytics admin", "service_account", SCOPES)).toEqual(refused({ code: "scope_unknown", scope: "admin" }));
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
    expect(resolve(scope, "user", SCOPES)).toEqual(refused({ code: "scope_malformed" }));
  });

  test("32 names are read, 33 are refused, and a long text takes no time", () => {
    const names = (count: number) => Array.from({ length: count }, () => "thread").join(" ");
    expect(resolve(names(SCOPE_TOKENS_MAX), "user", SCOPES)).toEqual(granted("thread"));
    expect(resolve(names(SCOPE_TOKENS_MAX + 1), "user", SCOPES)).toEqual(refused({ code: "scope_malformed" }));
    expect(resolve(`${"a ".repeat(30_000)} `, "user", SCOPES)).toEqual(refused({ code: "scope_malformed" }));
  });
});

test("nothing is ever widened or narrowed: what is granted is what was asked for, allowed, and of this principal's kind", () => {
  const names = fc.option(fc.array(fc.constantFrom(...SCOPES, "admin"), { minLength: 1, maxLength: 4 }), { nil: undefined });
  fc.assert(
    fc.property(names, fc.constantFrom(...KINDS), fc.subarray([...SCOPES]), (requested, kind, allowed) => {
      const may = OF_KIND[kind].filter((scope) => allowed.includes(scope));
      const result = resolve(requested?.join(" "), kind, allowed);
      if (requested === undefined) expect(result.ok ? result.value.scope : []).toEqual(may);
      else if (result.ok) expect(new Set(result.value.scope)).toEqual(new Set(requested));
      else expect(requested.every((scope) => may.some((allowedScope) => allowedScope === scope))).toBe(false);
      if (result.ok) for (const scope of result.value.scope) expect(may).toContain(scope);
    }),
    { numRuns: 1000 },
  );
});

describe("scopes of other APIs", () => {
  const BILLING = "https://billing.example/api";
  const CATALOG: readonly ScopeDefinition[] = [
    ...OUR_CATALOG,
    { name: "invoices:read", principal: "service_account", audience: BILLING },
    { name: "invoices:pay", principal: "user", audience: BILLING },
    { name: "maps", principal: "service_account", audience: "https://maps.example" },
  ];
  const ALL = CATALOG.map(({ name }) => name).filter((name) => name !== "maps");
  const target = (value: string, parameter: Target["parameter"] = "resource"): Target => ({ parameter, value });
  const asks = (requested: string | undefined, aimedAt: Target | undefined, principal: PrincipalKind = "service_account", allowed = ALL) =>
    resolveScope({ requested, target: aimedAt, principal, allowed, catalog: CATALOG });

  test("without scope and target the token is for our own API", () => {
    expect(asks(undefined, undefined)).toEqual(granted("account-management", "analytics"));
  });

  test("a principal that may have nothing of ours gets the first API that it may have", () => {
    expect(asks(undefined, undefined, "service_account", ["thread", "invoices:read"])).toEqual({
      ok: true,
      value: { scope: ["invoices:read"], audience: BILLING },
    });
  });

  test("a target chooses the API, and without scope gives all of it that this principal may have", () => {
    expect(asks(undefined, target(BILLING))).toEqual({ ok: true, value: { scope: ["invoices:read"], audience: BILLING } });
    expect(asks(undefined, target(BILLING, "audience"), "user")).toEqual({
      ok: true,
      value: { scope: ["invoices:pay"], audience: BILLING },
    });
    expect(asks(undefined, target(OURS))).toEqual(granted("account-management", "analytics"));
  });

  test("a scope chooses it too", () => {
    expect(asks("invoices:read", undefined)).toEqual({ ok: true, value: { scope: ["invoices:read"], audience: BILLING } });
    expect(asks("invoices:read", target(BILLING))).toEqual({ ok: true, value: { scope: ["invoices:read"], audience: BILLING } });
  });

  test("no token for two APIs", () => {
    expect(asks("analytics invoices:read", undefined)).toEqual(refused({ code: "target_ambiguous" }));
    expect(asks("analytics invoices:read", target(BILLING))).toEqual(refused({ code: "scope_not_for_target", scope: "analytics" }));
    expect(asks("analytics", target(BILLING))).toEqual(refused({ code: "scope_not_for_target", scope: "analytics" }));
  });

  test("an API that the partner may not have reads like one that does not exist", () => {
    const expected = `${OURS} or ${BILLING}`;
    for (const unknown of ["https://maps.example", "https://nowhere.example", `${BILLING}/`]) {
      expect(asks(undefined, target(unknown, "audience"))).toEqual(refused({ code: "target_unknown", parameter: "audience", expected }));
    }
    expect(asks("maps", undefined)).toEqual(refused({ code: "scope_not_allowed", scope: "maps" }));
  });

  test("our own API is always a target, whatever of it the partner may have", () => {
    expect(asks(undefined, target(OURS), "service_account", ["invoices:read"])).toEqual(
      refused({ code: "scope_empty", principal: "service_account" }),
    );
  });
});
