import { authorizationServerMetadata } from "@cambist/protocol";
import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import type { Keyring } from "../keys/keyring.ts";

/** Short enough for a key rotation to be seen well before the next key signs. */
const PUBLIC = { "cache-control": "public, max-age=300" };

const metadataBody = z
  .strictObject({
    issuer: z.url(),
    token_endpoint: z.url(),
    jwks_uri: z.url(),
    scopes_supported: z.array(z.string()),
    response_types_supported: z.array(z.string()).describe("Empty: there is no authorization endpoint."),
    grant_types_supported: z.array(z.string()),
    token_endpoint_auth_methods_supported: z.array(z.string()),
    token_endpoint_auth_signing_alg_values_supported: z.array(z.string()),
    service_documentation: z.url(),
  })
  .meta({ id: "ServerMetadata" });

/** What a key set may hold by RFC 7517 §4 is open; what ours hold is not. */
const signingKey = z.strictObject({
  kty: z.enum(["EC", "RSA"]),
  kid: z.string(),
  alg: z.enum(["ES256", "RS256"]),
  use: z.literal("sig"),
  crv: z.literal("P-256").optional(),
  x: z.string().optional(),
  y: z.string().optional(),
  n: z.string().optional(),
  e: z.string().optional(),
});
const jwksBody = z.strictObject({ keys: z.array(signingKey) }).meta({ id: "SigningKeys", description: "A JWK Set, public members only." });

/** Server metadata (RFC 8414) and our public keys (RFC 7517). */
export function wellKnownRoutes({ issuer, keyring }: { readonly issuer: string; readonly keyring: Keyring }): Route[] {
  const metadata = authorizationServerMetadata(issuer);
  const issuerPath = new URL(issuer).pathname.replace(/\/$/, "");
  // RFC 8414 §3.1: the well-known part stands between the host and the issuer's path
  const paths = new Set(["/.well-known/oauth-authorization-server", `/.well-known/oauth-authorization-server${issuerPath}`]);
  return [
    ...[...paths].map((path, index) =>
      defineRoute({
        operationId: index === 0 ? "getServerMetadata" : "getServerMetadataUnderPath",
        method: "GET",
        path,
        auth: { kind: "public" },
        docs: {
          summary: "Get Server Metadata",
          description: "Of the authorization server (RFC 8414).",
          tag: "discovery",
          answers: { 200: { description: "The metadata.", body: metadataBody } },
        },
        handle: () => ({ status: 200, headers: PUBLIC, body: metadata }),
      }),
    ),
    defineRoute({
      operationId: "getSigningKeys",
      method: "GET",
      path: "/.well-known/jwks.json",
      auth: { kind: "public" },
      docs: {
        summary: "Get Signing Keys",
        description: "What access tokens are verified by: the key that signs, and the next one.",
        tag: "discovery",
        answers: { 200: { description: "The keys.", body: jwksBody, mediaType: "application/jwk-set+json" } },
      },
      handle: () => ({ status: 200, headers: { ...PUBLIC, "content-type": "application/jwk-set+json" }, body: keyring.jwks() }),
    }),
  ];
}
