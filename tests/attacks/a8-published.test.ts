import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  GRANT_TYPE,
  ISSUER,
  OPERATOR_TOKEN,
  send,
  sendRaw,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { createOwnApi } from "./own-api.ts";
import { freshForm, parseRawReply } from "./raw.ts";

/*
 * A8, what anybody can read, and what a browser may: P8.7, P8.13–P8.15. P8.14 at large: a1-random-requests.test.ts. Introspection and revocation
 * (P8.8–P8.12): a8-introspection.test.ts, a8-revocation.test.ts.
 * What allowed_origins allow: packages/server/src/http/cors.test.ts. Not tested, since the feature does not exist yet: DPoP (P8.16).
 */

let server: TestServer;
let partner: TestPartner;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
});
afterAll(() => server.stop());

/** RFC 7638 §3: the required members, in their order, without white space. */
function thumbprintOf(jwk: Record<string, unknown>): string {
  const members = jwk["kty"] === "RSA" ? ["e", "kty", "n"] : ["crv", "kty", "x", "y"];
  const json = JSON.stringify(Object.fromEntries(members.map((name) => [name, jwk[name]])));
  return createHash("sha256").update(json).digest("base64url");
}

describe("P8.7 our key set", () => {
  test.each([
    ["ES256", ["alg", "crv", "kid", "kty", "use", "x", "y"]],
    ["RS256", ["alg", "e", "kid", "kty", "n", "use"]],
  ] as const)("200: %s: the current and the next key, public members only, kid = thumbprint", async (signingAlgorithm, members) => {
    const own = await startTestServer("sqlite", { signingAlgorithm });
    try {
      const reply = await send(own, "GET", "/.well-known/jwks.json");
      expect(reply.headers.get("content-type")).toBe("application/jwk-set+json");
      expect(Object.keys(reply.json)).toEqual(["keys"]);
      const keys = reply.json["keys"] as Record<string, unknown>[];
      expect(keys).toHaveLength(2);
      for (const key of keys) {
        expect(Object.keys(key).toSorted()).toEqual(members);
        expect(key).toMatchObject({ kid: thumbprintOf(key), use: "sig", alg: signingAlgorithm });
      }
      expect(new Set(keys.map(({ kid }) => kid)).size).toBe(2);
      const of = await createTestPartner(own);
      const { header } = decodeJwt((await exchange(of, subjectToken(of))).json["access_token"] as string);
      const states = await own.database.query("SELECT kid, state FROM signing_keys");
      expect(states.find(({ kid }) => kid === header["kid"])).toMatchObject({ state: "current" });
      expect(new Set(keys.map(({ kid }) => kid))).toEqual(new Set(states.map(({ kid }) => kid)));
    } finally {
      await own.stop();
    }
  });

  test("200: the same keys after a start and on a second node, for a cache of at most five minutes", async () => {
    const second = await server.startSecondNode();
    try {
      const replies = [await send(server, "GET", "/.well-known/jwks.json"), await send(second, "GET", "/.well-known/jwks.json")];
      expect(replies[0]?.json).toEqual(replies[1]?.json);
      for (const reply of replies) expect(reply.headers.get("cache-control")).toBe("public, max-age=300");
    } finally {
      await second.stop();
    }
  });
});

describe("P8.13 our metadata", () => {
  const PATH = "/.well-known/oauth-authorization-server";
  const ENDPOINTS = ["token_endpoint", "introspection_endpoint", "revocation_endpoint"];

  test("200: issuer is the configured one, character by character, and the one that tokens and refusals carry", async () => {
    const { json, headers } = await send(server, "GET", PATH);
    expect(headers.get("content-type")).toBe("application/json");
    expect(json["issuer"]).toBe(ISSUER);
    const granted = await exchange(partner, subjectToken(partner));
    expect(decodeJwt(granted.json["access_token"] as string).payload["iss"]).toBe(ISSUER);
    expect((await exchange(partner, "x")).json["error_uri"]).toBe(`${ISSUER}/docs/errors/jwt_malformed`);
  });

  test("200: each grant and method that it lists works, and none that it does not list does", async () => {
    const { json } = await send(server, "GET", PATH);
    expect(json["grant_types_supported"]).toEqual([GRANT_TYPE, "client_credentials"]);
    const both = await createTestPartner(server, { allowed_grants: ["token-exchange", "client_credentials"] });
    expect((await exchange(both, "x", { form: { grant_type: "client_credentials" } })).status).toBe(200);
    for (const grant of ["authorization_code", "password", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"]) {
      const reply = await exchange(partner, subjectToken(partner), { form: { grant_type: grant } });
      await expectRefusal(server, reply, { error: "unsupported_grant_type", code: "grant_type_unsupported" });
    }
    for (const endpoint of ENDPOINTS) {
      const methods = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
      expect(json[`${endpoint}_auth_methods_supported`], endpoint).toEqual(methods);
      expect(json[`${endpoint}_auth_signing_alg_values_supported`], endpoint).not.toContain("none");
    }
    for (const auth of ["basic", "post"] as const) expect((await exchange(partner, subjectToken(partner), { auth })).status).toBe(200);
    expect((await exchange(partner, subjectToken(partner), { auth: "none" })).status).toBe(401);
    const byKey = await createTestPartner(server, { token_endpoint_auth_method: "private_key_jwt" });
    const form = {
      client_assertion: subjectToken(byKey, {}, { typ: "client-authentication+jwt" }),
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    };
    expect((await exchange(byKey, subjectToken(byKey), { auth: "none", form })).status).toBe(200);
    const absent = ["registration_endpoint", "authorization_endpoint", "dpop_signing_alg_values_supported"];
    for (const member of absent) expect(json).not.toHaveProperty(member);
  });

  test("200: every URL in it is of this server and answers", async () => {
    const { json } = await send(server, "GET", PATH);
    for (const member of ["jwks_uri", "service_documentation"]) {
      const url = json[member] as string;
      expect(url.startsWith(`${ISSUER}/`)).toBe(true);
      expect((await send(server, "GET", url.slice(ISSUER.length))).status, member).toBe(200);
    }
    for (const endpoint of ENDPOINTS) {
      const url = json[endpoint] as string;
      expect(url.startsWith(`${ISSUER}/oauth2/`), endpoint).toBe(true);
      expect((await send(server, "POST", url.slice(ISSUER.length))).status, endpoint).toBe(400);
    }
  });

  test("200: an issuer with a path has its metadata under the well-known part and then the path (RFC 8414 §3.1)", async () => {
    const issuer = "https://cambist.test/tenants/one";
    const own = await startTestServer("sqlite", { publicUrl: issuer });
    try {
      const reply = await send(own, "GET", `${PATH}/tenants/one`);
      expect(reply.json).toMatchObject({ issuer, token_endpoint: `${issuer}/oauth2/token`, jwks_uri: `${issuer}/.well-known/jwks.json` });
      expect((await send(own, "GET", `${PATH}/tenants`)).status).toBe(404);
    } finally {
      await own.stop();
    }
    expect((await send(server, "GET", `${PATH}/tenants/one`)).status).toBe(404);
  });
});

describe("P8.13 the metadata of our API (RFC 9728)", () => {
  const PATH = "/.well-known/oauth-protected-resource";

  test("200: the aud of our tokens, our issuer, the scopes that open it, on every node and whatever host is asked for", async () => {
    const second = await server.startSecondNode();
    try {
      for (const at of [server, second]) {
        for (const path of [PATH, `${PATH}/v2`]) {
          const { status, json, headers } = await send(at, "GET", path, { headers: { "x-forwarded-host": "attacker.example" } });
          expect(status).toBe(200);
          expect(headers.get("cache-control")).toBe("public, max-age=300");
          expect(json).toMatchObject({ resource: `${ISSUER}/v2`, authorization_servers: [ISSUER], bearer_methods_supported: ["header"] });
          expect(json["scopes_supported"]).toEqual(["thread", "account-management", "analytics"]);
        }
      }
    } finally {
      await second.stop();
    }
    const granted = await exchange(partner, subjectToken(partner));
    expect(decodeJwt(granted.json["access_token"] as string).payload["aud"]).toBe(`${ISSUER}/v2`);
  });

  test("404: no API but our own is described here: neither the operator's, nor another path", async () => {
    const { audience } = await createOwnApi(server, "reports");
    for (const path of [new URL(audience).pathname, "/v2/", "/v3", "/v2/account-management"]) {
      expect((await send(server, "GET", `${PATH}${path}`)).status, path).toBe(404);
    }
  });
});

test.each(["a\r\nSet-Cookie: x=y\r\n\r\nb", '"', "\\", "\u{1f4a9}", "\u2028", "\0", "\x7f", '"}\r\n{"'])(
  "P8.14 400: a grant_type of %j is said again in harmless characters only, and forges no header",
  async (value) => {
    const reply = await exchange(partner, subjectToken(partner), { form: { grant_type: value } });
    await expectRefusal(server, reply, { error: "unsupported_grant_type", code: "grant_type_unsupported" });
    expect(reply.headers.has("set-cookie")).toBe(false);
    expect(Object.keys(reply.json)).toEqual(["error", "error_description", "error_uri", "trace_id"]);
  },
);

describe("P8.15 a browser of a foreign origin", () => {
  const CORS = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
  ];
  const ORIGINS = ["https://attacker.example", "null", ISSUER, "http://localhost:3000"];

  test("405, or 204 with leave for nothing where a page may call: no preflight is granted, on any route", async () => {
    await createTestPartner(server, { allowed_origins: ["https://app.acme.example"] });
    for (const route of server.app.routes) {
      const path = route.path.replaceAll(/:\w+/g, "x");
      for (const origin of ORIGINS) {
        const headers = {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization, content-type",
          "access-control-request-private-network": "true",
        };
        const reply = await send(server, "OPTIONS", path, { headers });
        expect(reply.status, path).toBe(route.browser ? 204 : 405);
        for (const name of CORS) expect(reply.headers.has(name), `${path} ${name}`).toBe(false);
      }
    }
  });

  test("an answer, granted or refused, is for no origin to read", async () => {
    for (const origin of ORIGINS) {
      const lines = `Origin: ${origin}\r\nCookie: a=b\r\n`;
      const form = freshForm(partner).toString();
      const type = "Content-Type: application/x-www-form-urlencoded\r\n";
      const requests = [
        `POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines}${type}Content-Length: ${form.length}\r\n\r\n${form}`,
        `POST /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines}${type}Content-Length: 0\r\n\r\n`,
        `GET /admin/v1/partners HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines}Authorization: Bearer ${OPERATOR_TOKEN}\r\n\r\n`,
        `GET /admin/v1/partners HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines}\r\n`,
      ];
      const replies = await Promise.all(requests.map(async (request) => parseRawReply(await sendRaw(server, request))));
      expect(replies.map(({ status }) => status)).toEqual([200, 401, 200, 401]);
      for (const reply of replies) for (const name of [...CORS, "set-cookie"]) expect(reply.headers.has(name), name).toBe(false);
    }
  });
});
