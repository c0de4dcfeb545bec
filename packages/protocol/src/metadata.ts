import { SUBJECT_TOKEN_ALGORITHMS } from "./constants.ts";
import { GRANTS } from "./grants/registry.ts";
import { SCOPES } from "./scope.ts";

/**
 * Authorization server metadata (RFC 8414 §2): only what is offered. `response_types_supported` is required and empty: there is no
 * authorization endpoint.
 */
export function authorizationServerMetadata(issuer: string): Record<string, string | readonly string[]> {
  return {
    issuer,
    token_endpoint: `${issuer}/oauth2/token`,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    scopes_supported: SCOPES,
    response_types_supported: [],
    grant_types_supported: GRANTS.map((grant) => grant.grantType),
    token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
    token_endpoint_auth_signing_alg_values_supported: SUBJECT_TOKEN_ALGORITHMS,
    service_documentation: `${issuer}/docs/errors`,
  };
}
