import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import { newEntityId } from "../ids.ts";
import { type AccountDeps, AUTH, describeEntity, HOME } from "./entity.ts";
import { entityRoutes } from "./entity-routes.ts";
import { commonMembers, email, entitlements, externalId, freeText, requireHeldFeatures, status } from "./fields.ts";
import { WORKSPACE } from "./workspaces.ts";
import { writeAccount } from "./write.ts";

const fields = {
  external_org_id: externalId,
  name: freeText,
  email,
  phone_number: freeText,
  support_email: email,
  org_type: freeText,
  entitlements,
};

export const ORGANIZATION = describeEntity({
  kind: "organization",
  name: "Organization",
  path: `${HOME}/organization`,
  id: "org_id",
  externalId: "external_org_id",
  member: "org",
  answer: z
    .strictObject({
      org_id: z.uuid(),
      external_org_id: z.string().nullable(),
      name: z.string().nullable(),
      email: z.string().nullable(),
      phone_number: z.string().nullable(),
      support_email: z.string().nullable(),
      org_type: z.string().nullable(),
      ...commonMembers,
    })
    .meta({ id: "Organization" }),
  createBody: z.strictObject(fields),
  updateBody: z.strictObject({ ...fields, status }),
  newEntity: (body) => ({
    org_id: newEntityId(),
    external_org_id: body.external_org_id ?? null,
    name: body.name ?? null,
    email: body.email ?? null,
    phone_number: body.phone_number ?? null,
    support_email: body.support_email ?? null,
    org_type: body.org_type ?? null,
    entitlements: body.entitlements ?? [],
  }),
});

const createBothBody = z.strictObject({
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

/** Organizations, and an organization with its first workspace in one step (contract §5). */
export function organizationRoutes(deps: AccountDeps): Route[] {
  return [...entityRoutes(ORGANIZATION, deps), createBothRoute(deps)];
}

function createBothRoute(deps: AccountDeps): Route {
  const operationId = "createOrganizationAndWorkspace";
  const both = z.strictObject({
    message: z.string(),
    success: z.literal(true),
    org: ORGANIZATION.answer,
    workspace: WORKSPACE.answer,
  });
  return defineRoute({
    operationId,
    method: "PUT",
    path: `${HOME}/organization-and-workspace`,
    auth: AUTH,
    docs: {
      summary: "Create Organization And Workspace",
      description: "Both or neither.",
      tag: "accounts",
      answers: { 201: { description: "Created, both.", body: both }, 409: { description: "One of the external ids is taken." } },
    },
    conditions: ["idempotency_key"],
    body: createBothBody,
    async handle(call) {
      const { body } = call;
      const { partner } = call.principal;
      return writeAccount(operationId, call, deps, async (writer) => {
        requireHeldFeatures(partner, "org_entitlements", body.org_entitlements);
        requireHeldFeatures(partner, "workspace_entitlements", body.workspace_entitlements);
        const { entity: org } = await writer.create("organization", partner.clientId, toOrganization(body), deps.nowMs());
        const { entity: workspace } = await writer.create("workspace", partner.clientId, toWorkspace(body, org.org_id), deps.nowMs());
        const { workspace_id: id } = workspace;
        const message = "Organization and workspace created";
        return { answer: { status: 201, body: { message, success: true, org, workspace }, entityId: id }, changedId: id };
      });
    },
  });
}

function toOrganization(body: z.output<typeof createBothBody>) {
  return ORGANIZATION.newEntity({
    external_org_id: body.external_org_id,
    name: body.org_name,
    email: body.org_email,
    phone_number: body.org_phone_number,
    support_email: body.org_support_email,
    org_type: body.org_type,
    entitlements: body.org_entitlements,
  });
}

function toWorkspace(body: z.output<typeof createBothBody>, orgId: string) {
  return WORKSPACE.newEntity({
    org_id: orgId,
    external_workspace_id: body.external_workspace_id,
    name: body.workspace_name,
    entitlements: body.workspace_entitlements,
  });
}
