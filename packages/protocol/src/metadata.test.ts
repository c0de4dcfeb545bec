import { describe, expect, test } from "vitest";
import { GRANT_CLIENT_CREDENTIALS, GRANT_TOKEN_EXCHANGE } from "./constants.ts";
import { GRANTS } from "./grants/registry.ts";
import { authorizationServerMetadata, protectedResourceMetadata } from "./metadata.ts";
import { SCOPES } from "./scope.ts";

const ISSUER = "https://auth.example.com";
const METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
const ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
const metadata = authorizationServerMetadata(ISSUER, SCOPES);

describe("authorization server metadata (RFC 8414 §2)", () => {
  test("is what it says, member by member", () => {
    expect(metadata).toEqual({
      issuer: ISSUER,
      token_endpoint: `${ISSUER}/oauth2/token`,
      introspection_endpoint: `${ISSUER}/oauth2/introspect`,
      revocation_endpoint: `${ISSUER}/oauth2/revoke`,
      jwks_uri: `${ISSUER}/.well-known/jwks.json`,
      scopes_supported: ["thread", "account-management", "analytics"],
      response_types_supported: [],
      grant_types_supported: [GRANT_TOKEN_EXCHANGE, GRANT_CLIENT_CREDENTIALS],
      token_endpoint_auth_methods_supported: METHODS,
      token_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
      introspection_endpoint_auth_methods_supported: METHODS,
      introspection_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
      revocation_endpoint_auth_methods_supported: METHODS,
      revocation_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
      service_documentation: `${ISSUER}/docs/errors`,
    });
  });

  test("names its issuer character by character, as a client compares it (§3.3)", () => {
    expect(authorizationServerMetadata("http://localhost:8080", SCOPES)["issuer"]).toBe("http://localhost:8080");
  });

  test("offers every grant of the registry, and no other", () => {
    expect(metadata["grant_types_supported"]).toEqual(GRANTS.map(({ grantType }) => grantType));
    expect(new Set(GRANTS.map(({ grantType }) => grantType)).size).toBe(GRANTS.length);
    expect(new Set(GRANTS.map(({ name }) => name)).size).toBe(GRANTS.length);
  });

  test("has every URL under the issuer", () => {
    const urls = Object.entries(metadata).filter(([name]) => /_endpoint$|_uri$|_documentation$/.test(name));
    expect(urls.length).toBeGreaterThanOrEqual(3);
    for (const [name, url] of urls) expect(url, name).toMatch(/^https:\/\/auth\.example\.com\/[a-z0-9./-]+$/);
  });

  test("offers nothing that is refused: no authorization endpoint, no secret-less client, no DPoP", () => {
    expect(metadata).not.toHaveProperty("authorization_endpoint");
    expect(metadata["token_endpoint_auth_methods_supported"]).not.toContain("none");
    expect(metadata).not.toHaveProperty("dpop_signing_alg_values_supported");
  });

  test("survives JSON: nothing in it is undefined", () => {
    expect(JSON.parse(JSON.stringify(metadata))).toStrictEqual({ ...metadata });
  });
});

test("protected resource metadata (RFC 9728 §2) is what it says, member by member", () => {
  expect(protectedResourceMetadata(ISSUER, `${ISSUER}/v2`, ["thread"])).toEqual({
    resource: `${ISSUER}/v2`,
    authorization_servers: [ISSUER],
    scopes_supported: ["thread"],
    bearer_methods_supported: ["header"],
    resource_name: "Cambist",
    resource_documentation: `${ISSUER}/openapi.json`,
  });
});
