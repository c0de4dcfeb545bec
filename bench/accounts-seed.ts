import { createHash } from "node:crypto";

/** How many accounts a partner has, and how they hang together. */
export interface Size {
  readonly organizations: number;
  readonly workspacesPerOrganization: number;
  readonly users: number;
}

/** Which ids they have follows from whose they are and from their numbers. */
export interface Holding extends Size {
  readonly clientId: string;
}

export type Row = Readonly<Record<string, unknown>>;

/** Into a database that no server has open: rows as the schema has them, in one big transaction. */
export interface BulkWriter {
  read(sql: string): Promise<Row[]>;
  insert(table: string, rows: Iterable<Row>): Promise<void>;
}

/** More than a page of 200 of them are in every workspace that has any. */
const USERS_PER_WORKSPACE_MIN = 240;

export const workspaceCount = (holding: Size) => holding.organizations * holding.workspacesPerOrganization;

/** The first workspaces share the users; the others of a partner with few users are empty. */
export function filledWorkspaces(holding: Size): number {
  return Math.max(1, Math.min(workspaceCount(holding), Math.floor(holding.users / USERS_PER_WORKSPACE_MIN)));
}

type Kind = "org" | "workspace" | "user";

/** Random to look at, like the server's own, so that neighbours in time are not neighbours in an index. */
export function seededId(kind: Kind, clientId: string, n: number): string {
  const hex = hash(`${kind} ${clientId} ${n}`);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

export function seededExternalId(kind: Kind, clientId: string, n: number): string {
  return `${kind}-${hash(`external ${kind} ${clientId} ${n}`).slice(0, 20)}`;
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

export function organizationOf(holding: Holding, workspace: number): number {
  return Math.floor(workspace / holding.workspacesPerOrganization);
}

/** All partners are copies of the demo partner: they sign with its key and authenticate with its secret. */
export async function seed(writer: BulkWriter, demo: Holding, others: readonly Holding[]): Promise<void> {
  const nowMs = Date.now();
  const [partner = {}] = await writer.read(`SELECT * FROM partners WHERE client_id = '${demo.clientId}'`);
  const secrets = await writer.read(`SELECT * FROM partner_secrets WHERE partner_id = '${demo.clientId}'`);
  await writer.insert(
    "partners",
    others.map(({ clientId }) => ({ ...partner, client_id: clientId, issuer: clientId })),
  );
  await writer.insert(
    "partner_secrets",
    others.flatMap(({ clientId }) => secrets.map((secret) => ({ ...secret, partner_id: clientId }))),
  );
  const holdings = [demo, ...others];
  await writer.insert(
    "organizations",
    rows(holdings, (holding) => holding.organizations, organizationRow, nowMs),
  );
  await writer.insert("workspaces", rows(holdings, workspaceCount, workspaceRow, nowMs));
  await writer.insert(
    "users",
    rows(holdings, (holding) => holding.users, userRow, nowMs),
  );
}

const STEPS = 500;

/** Partners that have grown side by side: their rows come in turns, as many of each as it has. */
function* rows(
  holdings: readonly Holding[],
  count: (holding: Holding) => number,
  row: (holding: Holding, n: number) => Row & { readonly id: string },
  nowMs: number,
): Generator<Row> {
  for (let step = 0; step < STEPS; step++) {
    for (const holding of holdings) {
      const upTo = (steps: number) => Math.floor((count(holding) * steps) / STEPS);
      for (let n = upTo(step); n < upTo(step + 1); n++) {
        const { id, ...columns } = row(holding, n);
        const common = { partner_id: holding.clientId, entitlements: "[]", status: "active", revision: id };
        yield { ...columns, ...common, created_at: nowMs, updated_at: nowMs };
      }
    }
  }
}

function organizationRow({ clientId }: Holding, n: number) {
  const id = seededId("org", clientId, n);
  const contact = { email: `office@${n}.example`, phone_number: "+41 44 000 00 00", support_email: `help@${n}.example`, org_type: "bank" };
  return { id, org_id: id, external_org_id: seededExternalId("org", clientId, n), name: `Organization ${n}`, ...contact };
}

function workspaceRow(holding: Holding, n: number) {
  const { clientId } = holding;
  const id = seededId("workspace", clientId, n);
  const org = seededId("org", clientId, organizationOf(holding, n));
  return { id, workspace_id: id, external_workspace_id: seededExternalId("workspace", clientId, n), org_id: org, name: `Workspace ${n}` };
}

function userRow(holding: Holding, n: number) {
  const { clientId } = holding;
  const id = seededId("user", clientId, n);
  const workspace = n % filledWorkspaces(holding);
  return {
    id,
    user_id: id,
    external_user_id: seededExternalId("user", clientId, n),
    workspace_id: seededId("workspace", clientId, workspace),
    org_id: seededId("org", clientId, organizationOf(holding, workspace)),
    email: `user.${n}@company.example`,
    name: `User Number ${n}`,
  };
}
