import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { leastCpuMs } from "./least-cpu-ms.ts";

/* A6, scopes: P6.11–P6.15. Left out: scopes that the operator defines, which do not exist yet. */

let server: TestServer;
let partner: TestPartner;
let userId: string;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  ({ userId } = await createTestUser(partner));
});
afterAll(() => server.stop());

type Principal = "user" | "service account";

function ask(principal: Principal, scope: string | undefined, by = partner) {
  return exchange(by, subjectToken(by, principal === "user" ? { sub: userId } : {}), { form: { scope } });
}

async function expectScope(principal: Principal, scope: string | undefined, granted: string): Promise<void> {
  const reply = await ask(principal, scope);
  expect(expectGranted(reply)["scope"]).toBe(granted);
  expect(reply.json["scope"]).toBe(granted);
}

async function expectScopeRefused(principal: Principal, scope: string, code: RefusalCode, by = partner): Promise<void> {
  await expectRefusal(server, await ask(principal, scope, by), { error: "invalid_scope", code });
}

test.each([
  ["user", "thread"],
  ["service account", "account-management analytics"],
] as const)("P6.11 200: a %s that asks for no scope gets all that it may have, echoed", async (principal, granted) => {
  await expectScope(principal, undefined, granted);
  await expectScope(principal, "", granted);
});

test("P6.11: what the partner may not have is not in the default either", async () => {
  const narrow = await createTestPartner(server, { allowed_scopes: ["analytics"] });
  const reply = await ask("service account", undefined, narrow);
  expect(reply.json["scope"]).toBe("analytics");
});

test("P6.11 400: a principal for whom nothing is left is refused, not given an empty scope", async () => {
  const threads = await createTestPartner(server, { allowed_scopes: ["thread"] });
  await expectRefusal(server, await ask("service account", undefined, threads), { error: "invalid_scope", code: "scope_empty" });
});

test.each(["analytics", "account-management"])("200: %s alone, asked for, is all that is granted", async (scope) => {
  await expectScope("service account", scope, scope);
});

test.each([
  "thread admin",
  "admin",
  "admin thread",
  "Thread",
  "thread,analytics",
  "threads",
  "__proto__",
  "constructor",
  "toString",
  "*",
  "thread:*",
  "openid",
])("P6.12 400: scope %j holds one that does not exist, so nothing is granted", async (scope) => {
  await expectScopeRefused("user", scope, "scope_unknown");
});

test.each([
  " thread",
  "thread ",
  "thread  thread",
  " ",
  "thread\tthread",
  "thread\n",
  'thread"',
  "thread\\",
  "thréad",
  "thread\0",
  "thread\u00a0analytics",
])("P6.12 400: scope %j is not in the grammar of RFC 6749 section 3.3", async (scope) => {
  await expectScopeRefused("user", scope, "scope_malformed");
});

test.each([
  ["user", "account-management"],
  ["user", "analytics"],
  ["user", "thread analytics"],
  ["service account", "thread"],
  ["service account", "analytics thread"],
] as const)("P6.12 400: a %s cannot have %j", async (principal, scope) => {
  await expectScopeRefused(principal, scope, "scope_not_for_principal");
});

describe("what the partner is allowed", () => {
  test("P6.13 400: a partner for threads only cannot ask for account management", async () => {
    const threads = await createTestPartner(server, { allowed_scopes: ["thread"] });
    await expectScopeRefused("service account", "account-management", "scope_not_allowed", threads);
    const analytics = await createTestPartner(server, { allowed_scopes: ["thread", "analytics"] });
    await expectScopeRefused("service account", "analytics account-management", "scope_not_allowed", analytics);
    expect((await ask("service account", "analytics", analytics)).json["scope"]).toBe("analytics");
  });

  test("P6.13 403: a scope that is taken from the partner is gone from its live tokens too", async () => {
    const own = await createTestPartner(server);
    const token = await serviceAccountToken(own);
    const get = () => call(server, "GET", `/v2/account-management/user?user_id=${userId}`, token);
    expect((await get()).status).toBe(404);
    expect((await admin(server, "PATCH", `/partners/${own.clientId}`, { allowed_scopes: ["thread", "analytics"] })).status).toBe(200);
    expect((await get()).status).toBe(403);
    await expectScopeRefused("service account", "account-management", "scope_not_allowed", own);
  });
});

test("P6.14 200: a scope asked for twice is granted once", async () => {
  await expectScope("user", "thread thread", "thread");
  await expectScope("service account", "analytics account-management analytics", "account-management analytics");
});

test.each(["thread", "x"])("P6.15 400: a scope of 5 000 times %j is refused at once", async (word) => {
  const scope = Array.from({ length: 5_000 }, () => word).join(" ");
  await expectScopeRefused("user", scope, "scope_malformed");
  expect(await leastCpuMs(() => ask("user", scope), 50)).toBeLessThan(50);
});
