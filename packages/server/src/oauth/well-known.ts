import { authorizationServerMetadata, protectedResourceMetadata } from "@cambist/protocol";
import { z } from "zod";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { ScopeCatalog } from "./scope-catalog.ts";

/** Short enough for a key rotation to be seen well before the next key signs. */
const PUBLIC = { "cache-control": "public, max-age=300" };

const metadataBody = z
  .strictObject({
    issuer: z.url(),
    token_endpoint: z.url(),
    introspection_endpoint: z.url(),
    revocation_endpoint: z.url(),
    jwks_uri: z.url(),
    scopes_supported: z.array(z.string()),
    response_types_supported: z.array(z.string()).describe("Empty: there is no authorization endpoint."),
    grant_types_supported: z.array(z.string()),
    token_endpoint_auth_methods_supported: z.array(z.string()),
    token_endpoint_auth_signing_alg_values_supported: z.array(z.string()),
    introspection_endpoint_auth_methods_supported: z.array(z.string()),
    introspection_endpoint_auth_signing_alg_values_supported: z.array(z.string()),
    revocation_endpoint_auth_methods_supported: z.array(z.string()),
    revocation_endpoint_auth_signing_alg_values_supported: z.array(z.string()),
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

const resourceBody = z
  .strictObject({
    resource: z.string(),
    authorization_servers: z.array(z.url()),
    scopes_supported: z.array(z.string()),
    bearer_methods_supported: z.array(z.literal("header")),
    resource_name: z.string(),
    resource_documentation: z.url(),
  })
  .meta({ id: "ResourceMetadata" });

export interface WellKnownDeps {
  readonly issuer: string;
  /** Of our own API. */
  readonly resource: string;
  readonly scopes: ScopeCatalog;
  readonly keyring: Keyring;
}

/** Where the metadata of our own API is (RFC 9728 §3.1): the well-known part stands between the host and the resource's path. */
export function resourceMetadataUrl(resource: string): string {
  const { origin, pathname } = new URL(resource);
  return `${origin}/.well-known/oauth-protected-resource${pathname}`;
}

/** Server metadata (RFC 8414), that of our API (RFC 9728), and our public keys (RFC 7517). */
export function wellKnownRoutes({ issuer, resource, scopes, keyring }: WellKnownDeps): Route[] {
  const issuerPath = new URL(issuer).pathname.replace(/\/$/, "");
  const server: Document = {
    operationId: "getServerMetadata",
    // RFC 8414 §3.1: as above, and under the issuer's path too, for clients that append
    paths: ["/.well-known/oauth-authorization-server", `/.well-known/oauth-authorization-server${issuerPath}`],
    docs: metadataDocs("Get Server Metadata", "Of the authorization server (RFC 8414).", metadataBody),
    read: async () =>
      authorizationServerMetadata(
        issuer,
        (await scopes.list()).map(({ name }) => name),
      ),
  };
  const api: Document = {
    operationId: "getResourceMetadata",
    paths: ["/.well-known/oauth-protected-resource", new URL(resourceMetadataUrl(resource)).pathname],
    docs: metadataDocs("Get Resource Metadata", "Of this server's own API (RFC 9728).", resourceBody),
    async read() {
      const own = (await scopes.list()).filter(({ audience }) => audience === resource);
      return protectedResourceMetadata(
        issuer,
        resource,
        own.map(({ name }) => name),
      );
    },
  };
  return [
    ...[server, api].flatMap(documentRoutes),
    defineRoute({
      operationId: "getSigningKeys",
      method: "GET",
      path: "/.well-known/jwks.json",
      auth: { kind: "public" },
      docs: {
        summary: "Get Signing Keys",
        description: "What access tokens are verified by: the key that signs, the next one, and those that have signed what still lives.",
        tag: "discovery",
        answers: { 200: { description: "The keys.", body: jwksBody, mediaType: "application/jwk-set+json" } },
      },
      handle: () => ({ status: 200, headers: { ...PUBLIC, "content-type": "application/jwk-set+json" }, body: keyring.jwks() }),
    }),
  ];
}

interface Document {
  readonly operationId: string;
  readonly paths: readonly string[];
  readonly docs: RouteDocs;
  read(): Promise<object>;
}

function metadataDocs(summary: string, description: string, body: z.ZodType): RouteDocs {
  return { summary, description, tag: "discovery", answers: { 200: { description: "The metadata.", body } } };
}

function documentRoutes(document: Document): Route[] {
  const { operationId, paths, docs } = document;
  return [...new Set(paths)].map((path, index) =>
    defineRoute({
      operationId: index === 0 ? operationId : `${operationId}UnderPath`,
      method: "GET",
      path,
      auth: { kind: "public" },
      docs,
      handle: async () => ({ status: 200, headers: PUBLIC, body: await document.read() }),
    }),
  );
}
