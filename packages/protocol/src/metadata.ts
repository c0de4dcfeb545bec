import { SUBJECT_TOKEN_ALGORITHMS } from "./constants.ts";
import { GRANTS } from "./grants/registry.ts";

type Metadata = Record<string, string | readonly string[]>;

const AUTH_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/**
 * Authorization server metadata (RFC 8414 §2): only what is offered. `response_types_supported` is required and empty: there is no
 * authorization endpoint. @param scopes names, the operator's own among them.
 */
export function authorizationServerMetadata(issuer: string, scopes: readonly string[]): Metadata {
  const endpoint = { auth_methods_supported: AUTH_METHODS, auth_signing_alg_values_supported: SUBJECT_TOKEN_ALGORITHMS };
  return {
    issuer,
    token_endpoint: `${issuer}/oauth2/token`,
    introspection_endpoint: `${issuer}/oauth2/introspect`,
    revocation_endpoint: `${issuer}/oauth2/revoke`,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    scopes_supported: scopes,
    response_types_supported: [],
    grant_types_supported: GRANTS.map((grant) => grant.grantType),
    ...prefixed("token_endpoint", endpoint),
    ...prefixed("introspection_endpoint", endpoint),
    ...prefixed("revocation_endpoint", endpoint),
    service_documentation: `${issuer}/docs/errors`,
  };
}

function prefixed(endpoint: string, members: Metadata): Metadata {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [`${endpoint}_${name}`, value]));
}

/** Protected resource metadata (RFC 9728 §2) of our own API. @param scopes those that open it. */
export function protectedResourceMetadata(issuer: string, resource: string, scopes: readonly string[]): Metadata {
  return {
    resource,
    authorization_servers: [issuer],
    scopes_supported: scopes,
    bearer_methods_supported: ["header"],
    resource_name: "Cambist",
    resource_documentation: `${issuer}/openapi.json`,
  };
}
