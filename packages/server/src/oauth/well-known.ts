import { authorizationServerMetadata } from "@cambist/protocol";
import { defineRoute, type Route } from "../http/route.ts";
import type { Keyring } from "../keys/keyring.ts";

/** Short enough for a key rotation to be seen well before the next key signs. */
const PUBLIC = { "cache-control": "public, max-age=300" };

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
        handle: () => ({ status: 200, headers: PUBLIC, body: metadata }),
      }),
    ),
    defineRoute({
      operationId: "getSigningKeys",
      method: "GET",
      path: "/.well-known/jwks.json",
      auth: { kind: "public" },
      handle: () => ({ status: 200, headers: { ...PUBLIC, "content-type": "application/jwk-set+json" }, body: keyring.jwks() }),
    }),
  ];
}
