import { z } from "zod";
import type { Route } from "../http/route.ts";
import { newEntityId } from "../ids.ts";
import { type AccountDeps, describeEntity, HOME, requireParentId } from "./entity.ts";
import { entityRoutes } from "./entity-routes.ts";
import { commonMembers, entitlements, externalId, freeText, ownId, status } from "./fields.ts";

const fields = { external_workspace_id: externalId, name: freeText, entitlements };

export const WORKSPACE = describeEntity({
  kind: "workspace",
  name: "Workspace",
  path: `${HOME}/workspace`,
  id: "workspace_id",
  externalId: "external_workspace_id",
  member: "workspace",
  answer: z
    .strictObject({
      workspace_id: z.uuid(),
      external_workspace_id: z.string().nullable(),
      org_id: z.uuid(),
      name: z.string().nullable(),
      ...commonMembers,
    })
    .meta({ id: "Workspace" }),
  createBody: z.strictObject({ org_id: ownId, ...fields }),
  updateBody: z.strictObject({ ...fields, status }),
  newEntity: (body) => ({
    workspace_id: newEntityId(),
    external_workspace_id: body.external_workspace_id ?? null,
    org_id: requireParentId("workspace", body.org_id),
    name: body.name ?? null,
    entitlements: body.entitlements ?? [],
  }),
});

/** Workspaces (contract §5). One belongs to an organization, and never moves. */
export function workspaceRoutes(deps: AccountDeps): Route[] {
  return entityRoutes(WORKSPACE, deps);
}
