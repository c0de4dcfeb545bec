import { newClientSecret, newResourceServerId, newSecretId } from "../../packages/server/src/ids.ts";
import type { TestServer } from "../../packages/server/src/testing/server.ts";

/** An API of the operator's own, and the two scopes that open it. */
export interface OwnApi {
  /** `rs_…` */
  readonly id: string;
  readonly secret: string;
  readonly audience: string;
  readonly userScope: string;
  readonly serviceScope: string;
}

/** @param name of one word; it tells the audiences and scopes of one server's APIs apart. */
export async function createOwnApi({ deps: { store, masterKeys, nowMs } }: TestServer, name: string): Promise<OwnApi> {
  const api: OwnApi = {
    id: newResourceServerId(),
    secret: newClientSecret(),
    audience: `https://${name}.example/api`,
    userScope: `${name}:read`,
    serviceScope: `${name}:manage`,
  };
  const at = { createdAtMs: nowMs() };
  const row = { resourceServerId: api.id, name, audience: api.audience, ...at, updatedAtMs: at.createdAtMs };
  await store.resourceServers.create(row, { secretId: newSecretId(), ...masterKeys.hashSecret(api.secret), ...at });
  const scopes = { [api.userScope]: "user", [api.serviceScope]: "service_account" } as const;
  for (const [scope, principal] of Object.entries(scopes)) {
    await store.resourceServers.createScope({ name: scope, principal, resourceServerId: api.id, description: "", ...at });
  }
  return api;
}

/** What a partner is allowed that may have tokens for our API and for these. */
export function allowedScopes(...apis: readonly OwnApi[]): string[] {
  return ["thread", "account-management", "analytics", ...apis.flatMap(({ userScope, serviceScope }) => [userScope, serviceScope])];
}
