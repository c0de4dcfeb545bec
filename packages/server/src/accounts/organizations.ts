import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { newEntityId } from "../ids.ts";
import type { AccountStore, Organization, Workspace } from "../storage/store.ts";
import { email, entitlements, externalId, freeText } from "./fields.ts";

export interface AccountDeps {
  readonly accounts: AccountStore;
  readonly nowMs: () => number;
}

const createBody = z.strictObject({
  external_org_id: externalId,
  org_name: freeText,
  org_email: email,
  org_phone_number: freeText,
  org_support_email: email,
  org_type: freeText,
  org_entitlements: entitlements,
  external_workspace_id: externalId,
  workspace_name: freeText,
  workspace_entitlements: entitlements,
});

const CONFLICTS = {
  external_org_id_taken: "external_org_id",
  external_workspace_id_taken: "external_workspace_id",
} as const;

/** Organizations and their workspaces (contract §5). */
export function organizationRoutes({ accounts, nowMs }: AccountDeps): Route[] {
  return [
    defineRoute({
      operationId: "createOrganizationAndWorkspace",
      method: "PUT",
      path: "/v2/account-management/organization-and-workspace",
      auth: { kind: "service_account", scope: "account-management" },
      body: createBody,
      async handle({ body, partnerId }) {
        const { organization, workspace } = toEntities(body);
        const created = await accounts.createOrganizationAndWorkspace(partnerId, organization, workspace, nowMs());
        if (created !== "created") throw new Problem(409, `${CONFLICTS[created]} is taken; nothing was created.`);
        const message = "Organization and workspace created";
        const entities = { org: organizationView(organization), workspace: workspaceView(workspace) };
        return { status: 201, body: { message, success: true, ...entities } };
      },
    }),
  ];
}

function toEntities(body: z.output<typeof createBody>): { organization: Organization; workspace: Workspace } {
  const orgId = newEntityId();
  const organization: Organization = {
    orgId,
    externalOrgId: body.external_org_id ?? null,
    name: body.org_name ?? null,
    email: body.org_email ?? null,
    phoneNumber: body.org_phone_number ?? null,
    supportEmail: body.org_support_email ?? null,
    orgType: body.org_type ?? null,
    entitlements: body.org_entitlements ?? [],
  };
  const workspace: Workspace = {
    workspaceId: newEntityId(),
    externalWorkspaceId: body.external_workspace_id ?? null,
    orgId,
    name: body.workspace_name ?? null,
    entitlements: body.workspace_entitlements ?? [],
  };
  return { organization, workspace };
}

function organizationView(organization: Organization) {
  return {
    org_id: organization.orgId,
    external_org_id: organization.externalOrgId,
    name: organization.name,
    email: organization.email,
    phone_number: organization.phoneNumber,
    support_email: organization.supportEmail,
    org_type: organization.orgType,
    entitlements: organization.entitlements,
  };
}

function workspaceView(workspace: Workspace) {
  return {
    workspace_id: workspace.workspaceId,
    external_workspace_id: workspace.externalWorkspaceId,
    org_id: workspace.orgId,
    name: workspace.name,
    entitlements: workspace.entitlements,
  };
}
