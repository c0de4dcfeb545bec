import { REFUSAL_CODES } from "../packages/protocol/src/index.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  bearerChallenge,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  ISSUER,
  OPERATOR_TOKEN,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../packages/server/src/testing/server.ts";

/** What must hold of every route, taken from the list that the router itself reads. */
describe("every route", () => {
  let server: TestServer;
  let tokens: Record<"operator" | "service_account" | "user" | "analytics", string>;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    const partner = await createTestPartner(server);
    const user = await createTestUser(partner);
    const forUser = await exchange(partner, subjectToken(partner, { sub: user.userId }));
    const forAnalytics = await exchange(partner, subjectToken(partner), { form: { scope: "analytics" } });
    tokens = {
      operator: OPERATOR_TOKEN,
      service_account: await serviceAccountToken(partner),
      user: String(forUser.json["access_token"]),
      analytics: String(forAnalytics.json["access_token"]),
    };
  });
  afterAll(() => server.stop());

  const PUBLIC = [
    "createOpaqueToken",
    "exchangeToken",
    "getApiDescription",
    "getErrorPage",
    "getLiveness",
    "getMetrics",
    "getReadiness",
    "getResourceMetadata",
    "getResourceMetadataUnderPath",
    "getServerMetadata",
    "getSigningKeys",
    "introspectToken",
    "listErrorPages",
    "listRevocations",
    "revokeToken",
  ];

  const WRONG_KINDS = {
    operator: ["service_account", "user", "analytics"],
    service_account: ["operator", "user", "analytics"],
    user: ["operator", "service_account", "analytics"],
  } as const;

  test("that is open is on this list, and no other", () => {
    const open = server.app.routes.filter((route) => route.auth.kind === "public" || route.auth.kind === "oauth_client");
    expect(open.map((route) => route.operationId).toSorted()).toEqual(PUBLIC);
  });

  test("that is not open refuses no token, garbage, and every wrong kind of token", async () => {
    const guarded = server.app.routes.filter((route) => !PUBLIC.includes(route.operationId));
    expect(guarded.length).toBeGreaterThanOrEqual(9);
    for (const route of guarded) {
      const path = route.path.replaceAll(/:\w+/g, "x");
      const none = await send(server, route.method, path);
      expect(none.status, route.operationId).toBe(401);
      expect(none.headers.get("www-authenticate"), route.operationId).toBe(
        route.auth.kind === "operator" ? 'Bearer realm="cambist"' : bearerChallenge(),
      );
      expect(none.headers.get("cache-control"), route.operationId).toBe("no-store");
      for (const kind of WRONG_KINDS[route.auth.kind as keyof typeof WRONG_KINDS]) {
        const reply = await call(server, route.method, path, tokens[kind]);
        expect([401, 403], `${route.operationId} with the ${kind} token`).toContain(reply.status);
        expect(reply.headers.get("www-authenticate")).toMatch(/error="(?:invalid_token|insufficient_scope)"/);
      }
      for (const header of ["Bearer", "Bearer  ", "Bearer a b", "Basic eDp5", "garbage", `Bearer ${"x".repeat(8000)}`]) {
        expect(
          (await send(server, route.method, path, { headers: { authorization: header } })).status,
          `${route.operationId} ${header.slice(0, 20)}`,
        ).toBe(401);
      }
    }
  });

  test("keeps its answers out of caches, but for what is published", async () => {
    const published = new Set([
      "getApiDescription",
      "getErrorPage",
      "getResourceMetadata",
      "getResourceMetadataUnderPath",
      "getServerMetadata",
      "getSigningKeys",
      "listErrorPages",
    ]);
    for (const route of server.app.routes.filter(({ method }) => method === "GET")) {
      const path = route.operationId === "getErrorPage" ? "/docs/errors/scope_empty" : route.path.replaceAll(/:\w+/g, "x");
      const token = tokens[route.auth.kind as keyof typeof WRONG_KINDS] ?? "";
      const reply = await (token === "" ? send(server, "GET", path) : call(server, "GET", path, token));
      const kept = published.has(route.operationId) ? "public, max-age=300" : "no-store";
      expect(reply.headers.get("cache-control"), route.operationId).toBe(kept);
    }
  });

  test("refuses a method that it does not have, and says which it has", async () => {
    for (const path of new Set(server.app.routes.map((route) => route.path.replaceAll(/:\w+/g, "x")))) {
      const reply = await send(server, "OPTIONS", path);
      expect(reply.status, path).toBe(405);
      expect(reply.headers.get("allow"), path).toMatch(/^[A-Z]+(?:, [A-Z]+)*$/);
      expect(reply.headers.get("access-control-allow-origin"), path).toBeNull();
    }
  });

  test("of threads is for browsers, and no other: its preflight is granted to an origin that a partner lists, for its methods", async () => {
    const origin = "https://app.routes.example";
    await createTestPartner(server, { allowed_origins: [origin] });
    for (const path of new Set(server.app.routes.map((route) => route.path))) {
      const routes = server.app.routes.filter((route) => route.path === path);
      const headers = { origin, "access-control-request-method": routes[0]?.method ?? "" };
      const reply = await send(server, "OPTIONS", path.replaceAll(/:\w+/g, "x"), { headers });
      const isForBrowsers = path.startsWith("/v2/threads");
      expect(reply.status, path).toBe(isForBrowsers ? 204 : 405);
      expect(reply.headers.get("access-control-allow-origin"), path).toBe(isForBrowsers ? origin : null);
      const allowed = reply.headers.get("access-control-allow-methods")?.split(", ") ?? [];
      for (const { method } of isForBrowsers ? routes : []) expect(allowed, path).toContain(method);
    }
  });

  test("has an operation id of its own", () => {
    const ids = server.app.routes.map((route) => route.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("that does not exist is a 404 in the problem form", async () => {
    for (const path of [
      "/",
      "/oauth2",
      "/oauth2/token/x",
      "/admin/v1",
      "/v2/account-management",
      "/%zz",
      "/docs/errors/nothing",
      "/docs/errors/__proto__",
    ]) {
      const reply = await send(server, "GET", path);
      expect([400, 404], path).toContain(reply.status);
      expect(reply.headers.get("content-type"), path).toBe("application/problem+json");
    }
  });
});

describe("what is published", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
  });
  afterAll(() => server.stop());

  test("metadata: the issuer as configured, and only what is offered (RFC 8414)", async () => {
    const reply = await send(server, "GET", "/.well-known/oauth-authorization-server");
    expect(reply.headers.get("content-type")).toBe("application/json");
    expect(reply.json).toEqual({
      issuer: ISSUER,
      token_endpoint: `${ISSUER}/oauth2/token`,
      introspection_endpoint: `${ISSUER}/oauth2/introspect`,
      revocation_endpoint: `${ISSUER}/oauth2/revoke`,
      jwks_uri: `${ISSUER}/.well-known/jwks.json`,
      scopes_supported: ["thread", "account-management", "analytics"],
      response_types_supported: [],
      grant_types_supported: ["urn:ietf:params:oauth:grant-type:token-exchange", "client_credentials"],
      ...Object.fromEntries(
        ["token", "introspection", "revocation"].flatMap((endpoint) => [
          [`${endpoint}_endpoint_auth_methods_supported`, ["client_secret_basic", "client_secret_post", "private_key_jwt"]],
          [`${endpoint}_endpoint_auth_signing_alg_values_supported`, ["RS256", "PS256", "ES256", "ES384", "EdDSA"]],
        ]),
      ),
      service_documentation: `${ISSUER}/docs/errors`,
    });
  });

  test("keys: current and next, public members only", async () => {
    const reply = await send(server, "GET", "/.well-known/jwks.json");
    const keys = reply.json["keys"] as Record<string, unknown>[];
    expect(keys).toHaveLength(2);
    for (const key of keys) expect(Object.keys(key).toSorted()).toEqual(["alg", "crv", "kid", "kty", "use", "x", "y"]);
  });

  test("a page for each refusal, as HTML and as Markdown, and a list of all", async () => {
    const list = await send(server, "GET", "/docs/errors");
    for (const code of REFUSAL_CODES) {
      expect(list.text).toContain(`href="/docs/errors/${code}"`);
      const page = await send(server, "GET", `/docs/errors/${code}`);
      expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8");
      expect(page.text).toContain(`<code>${code}</code>`);
      const markdown = await send(server, "GET", `/docs/errors/${code}.md`);
      expect(markdown.headers.get("content-type")).toBe("text/markdown; charset=utf-8");
      expect(markdown.text).toMatch(/^# .+\n\n`[a-z0-9_]+`\n\n## What it means\n\n.+\n\n## What to do\n\n.+\n$/);
    }
  });

  test("metrics: exchanges by outcome and cause, with no more labels than there are causes", async () => {
    const partner = await createTestPartner(server);
    await exchange(partner, subjectToken(partner));
    await exchange(partner, "x");
    for (let i = 0; i < 200; i++) await exchange({ ...partner, clientId: `prt_${String(i).padStart(32, "0")}` }, "x");
    const { text } = await send(server, "GET", "/metrics");
    expect(text).toMatch(/cambist_exchanges_total\{outcome="granted",cause=""\} 1\n/);
    expect(text).toMatch(/cambist_exchanges_total\{outcome="refused",cause="jwt_malformed"\} 1\n/);
    expect(text).toMatch(/cambist_exchanges_total\{outcome="refused",cause="client_not_authenticated"\} 200\n/);
    expect(text).toMatch(/cambist_http_request_duration_seconds_count\{operation="exchangeToken",status="200"\} 1\n/);
    expect(text.split("\n").filter((line) => line.startsWith("cambist_exchanges_total")).length).toBe(3);
  });
});
