import { randomBytes, randomUUID } from "node:crypto";
import type { ExchangeFacts, IssueRequest, Principal } from "@cambist/protocol";
import { newClientId, newSecretId, newTraceId } from "../ids.ts";
import { openStore } from "../storage/kysely-store.ts";
import type { NewEntity, User } from "../storage/account-store.ts";
import type { NewPartner, Partner, Store } from "../storage/store.ts";
import { createMigratedDatabase, type DialectName, type TestDatabase } from "./database.ts";

/** Two nodes on one database. */
export interface TestStore {
  readonly database: TestDatabase;
  readonly nodes: readonly [Store, Store];
  createPartner(changes?: Partial<NewPartner>): Promise<Partner>;
  /** The same operation, started by CALLERS callers at once on both nodes. */
  race<T>(operation: (node: Store, caller: number) => Promise<T>): Promise<T[]>;
  close(): Promise<void>;
}

export async function openTestStore(dialect: DialectName): Promise<TestStore> {
  const database = await createMigratedDatabase(dialect);
  const open = () => openStore(database.location, () => undefined);
  const nodes = [await open(), await open()] as const;
  return {
    database,
    nodes,
    async createPartner(changes = {}) {
      const created = await nodes[0].partners.create(newPartner(changes), NOW);
      if (typeof created === "string") throw new Error(created);
      return created;
    },
    race: (operation) =>
      Promise.all(Array.from({ length: CALLERS }, (_, caller) => operation(caller % 2 === 0 ? nodes[0] : nodes[1], caller))),
    async close() {
      for (const node of nodes) await node.close();
      await database.drop();
    },
  };
}

export const CALLERS = 16;
export const NOW = 1_800_000_000_000;

export function newPartner(changes: Partial<NewPartner> = {}): NewPartner {
  const clientId = newClientId();
  return {
    clientId,
    name: "Partner",
    issuer: clientId,
    audience: "https://cambist.test",
    jwks: { keys: [] },
    jwksUri: null,
    subjectNamespace: "user_id",
    replay: "single_use",
    assertionLifetimeSecondsMax: 3600,
    clockSkewSeconds: 30,
    accessTokenLifetimeSeconds: 3600,
    allowedAlgorithms: ["RS256"],
    allowedGrants: ["token-exchange"],
    allowedScopes: ["thread"],
    tokenEndpointAuthMethod: "client_secret",
    provisioning: "off",
    homeWorkspaceId: null,
    provisioningHourlyMax: 1000,
    billingFeatures: null,
    rateLimits: null,
    allowedOrigins: [],
    secret: { secretId: newSecretId(), hash: randomBytes(32), pepperId: "pepper" },
    ...changes,
  };
}

export interface TestHome {
  readonly orgId: string;
  readonly workspaceId: string;
}

/** An organization with a workspace. */
export function createHome(
  store: Store,
  partnerId: string,
  external: { readonly org?: string; readonly workspace?: string } = {},
): Promise<TestHome> {
  return store.accounts.write(async (writer) => {
    const org = await writer.create("organization", partnerId, newOrganization(external.org), NOW);
    const workspace = await writer.create("workspace", partnerId, newWorkspace(org.entity.org_id, external.workspace), NOW);
    return { orgId: org.entity.org_id, workspaceId: workspace.entity.workspace_id };
  });
}

export async function createUser(store: Store, partnerId: string, workspaceId: string, externalId?: string): Promise<User> {
  const user = newUser(workspaceId, externalId);
  return (await store.accounts.write((writer) => writer.create("user", partnerId, user, NOW))).entity;
}

export const newOrganization = (externalId: string | null = null): NewEntity<"organization"> => ({
  org_id: randomUUID(),
  external_org_id: externalId,
  name: "Org",
  email: null,
  phone_number: null,
  support_email: null,
  org_type: null,
  entitlements: [],
});

export const newWorkspace = (orgId: string, externalId: string | null = null): NewEntity<"workspace"> => ({
  workspace_id: randomUUID(),
  external_workspace_id: externalId,
  org_id: orgId,
  name: null,
  entitlements: [],
});

export const newUser = (workspaceId: string, externalId: string | null = null): NewEntity<"user"> => ({
  user_id: randomUUID(),
  external_user_id: externalId,
  workspace_id: workspaceId,
  email: null,
  name: "Ada",
  entitlements: [],
});

export function facts(changes: Partial<ExchangeFacts> = {}): ExchangeFacts {
  return { traceId: newTraceId(NOW), atMs: NOW, address: "127.0.0.1", ...changes };
}

export function issueRequest(partner: Partner, principal: Principal, key: Uint8Array | undefined): IssueRequest {
  return {
    client: partner,
    principal,
    spends: key === undefined ? [] : [{ token: "subject_token", key, expiresAtMs: NOW + 60_000 }],
    issuedAtSeconds: NOW / 1000,
    opaque: undefined,
    facts: facts({ clientId: partner.clientId, partnerId: partner.clientId }),
  };
}

export const SERVICE_ACCOUNT: Principal = { kind: "service_account" };
