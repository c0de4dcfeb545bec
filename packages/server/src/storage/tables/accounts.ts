import type { Kysely, Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import type { AccountStore, Entitlement, Organization, User, UserKey, Workspace } from "../store.ts";

export function accountStore(dialect: Dialect): AccountStore {
  return {
    createOrganizationAndWorkspace: (partnerId, organization, workspace, nowMs) =>
      dialect
        .write(async (db) => {
          if (!(await insertOrganization(db, partnerId, organization, nowMs))) throw new Taken("external_org_id_taken");
          if (!(await insertWorkspace(db, partnerId, workspace, nowMs))) throw new Taken("external_workspace_id_taken");
          return "created" as const;
        })
        .catch((thrown: unknown) => {
          if (thrown instanceof Taken) return thrown.which;
          throw thrown;
        }),

    createUser: (partnerId, user, nowMs) =>
      dialect.write(async (db) => {
        const workspace = await db
          .selectFrom("workspaces")
          .select("org_id")
          .where("partner_id", "=", partnerId)
          .where("workspace_id", "=", user.workspaceId)
          .executeTakeFirst();
        if (workspace === undefined) return "workspace_absent";
        const inserted = await insertUser(db, partnerId, user, nowMs);
        return inserted ? { ...user, orgId: workspace.org_id } : "external_user_id_taken";
      }),

    findUser: (partnerId, key) => dialect.read((db) => findUser(db, partnerId, key)),
  };
}

/** Ends the transaction: what was written before it is rolled back. */
class Taken extends Error {
  readonly which: "external_org_id_taken" | "external_workspace_id_taken";
  constructor(which: Taken["which"]) {
    super(which);
    this.which = which;
  }
}

async function insertOrganization(db: Transaction<Schema>, partnerId: string, organization: Organization, nowMs: number): Promise<boolean> {
  const inserted = await db
    .insertInto("organizations")
    .values({
      partner_id: partnerId,
      org_id: organization.orgId,
      external_org_id: organization.externalOrgId,
      name: organization.name,
      email: organization.email,
      phone_number: organization.phoneNumber,
      support_email: organization.supportEmail,
      org_type: organization.orgType,
      ...commonColumns(organization.entitlements, nowMs),
    })
    .onConflict((conflict) => conflict.columns(["partner_id", "external_org_id"]).doNothing())
    .returning("org_id")
    .execute();
  return inserted.length > 0;
}

async function insertWorkspace(db: Transaction<Schema>, partnerId: string, workspace: Workspace, nowMs: number): Promise<boolean> {
  const inserted = await db
    .insertInto("workspaces")
    .values({
      partner_id: partnerId,
      workspace_id: workspace.workspaceId,
      external_workspace_id: workspace.externalWorkspaceId,
      org_id: workspace.orgId,
      name: workspace.name,
      ...commonColumns(workspace.entitlements, nowMs),
    })
    .onConflict((conflict) => conflict.columns(["partner_id", "external_workspace_id"]).doNothing())
    .returning("workspace_id")
    .execute();
  return inserted.length > 0;
}

async function insertUser(db: Transaction<Schema>, partnerId: string, user: Omit<User, "orgId">, nowMs: number): Promise<boolean> {
  const inserted = await db
    .insertInto("users")
    .values({
      partner_id: partnerId,
      user_id: user.userId,
      external_user_id: user.externalUserId,
      workspace_id: user.workspaceId,
      email: user.email,
      name: user.name,
      ...commonColumns(user.entitlements, nowMs),
    })
    .onConflict((conflict) => conflict.columns(["partner_id", "external_user_id"]).doNothing())
    .returning("user_id")
    .execute();
  return inserted.length > 0;
}

function commonColumns(entitlements: readonly Entitlement[], nowMs: number) {
  return { entitlements: JSON.stringify(entitlements), status: "active" as const, created_at: nowMs, updated_at: nowMs };
}

async function findUser(db: Kysely<Schema>, partnerId: string, key: UserKey): Promise<User | undefined> {
  const users = db
    .selectFrom("users as u")
    .innerJoin("workspaces as w", (join) => join.onRef("w.partner_id", "=", "u.partner_id").onRef("w.workspace_id", "=", "u.workspace_id"))
    .select(["u.user_id", "u.external_user_id", "u.workspace_id", "w.org_id", "u.email", "u.name", "u.entitlements"])
    .where("u.partner_id", "=", partnerId);
  const row = await (
    "userId" in key ? users.where("u.user_id", "=", key.userId) : users.where("u.external_user_id", "=", key.externalUserId)
  ).executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    userId: row.user_id,
    externalUserId: row.external_user_id,
    workspaceId: row.workspace_id,
    orgId: row.org_id,
    email: row.email,
    name: row.name,
    entitlements: JSON.parse(row.entitlements) as Entitlement[],
  };
}
