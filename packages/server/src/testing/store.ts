import { randomBytes, randomUUID } from "node:crypto";
import type { ExchangeFacts, IssueRequest, Principal } from "@cambist/protocol";
import { newClientId, newSecretId, newTraceId } from "../ids.ts";
import { openStore } from "../storage/kysely-store.ts";
import type { NewPartner, Organization, Partner, Store, Workspace } from "../storage/store.ts";
import { createTestDatabase, type DialectName, type TestDatabase } from "./database.ts";

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
  const database = await createTestDatabase(dialect);
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
    secret: { secretId: newSecretId(), hash: randomBytes(32), pepperId: "pepper" },
    ...changes,
  };
}

export function newHome(external: { org?: string; workspace?: string } = {}): { organization: Organization; workspace: Workspace } {
  const organization = {
    orgId: randomUUID(),
    externalOrgId: external.org ?? null,
    name: "Org",
    email: null,
    phoneNumber: null,
    supportEmail: null,
    orgType: null,
    entitlements: [],
  };
  const workspace = {
    workspaceId: randomUUID(),
    externalWorkspaceId: external.workspace ?? null,
    orgId: organization.orgId,
    name: null,
    entitlements: [],
  };
  return { organization, workspace };
}

export const newUser = (workspaceId: string, externalUserId: string | null = null) => ({
  userId: randomUUID(),
  externalUserId,
  workspaceId,
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
    facts: facts({ clientId: partner.clientId, partnerId: partner.clientId }),
  };
}

export const SERVICE_ACCOUNT: Principal = { kind: "service_account" };
