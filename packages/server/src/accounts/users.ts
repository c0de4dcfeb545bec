import { z } from "zod";
import type { Route } from "../http/route.ts";
import { newEntityId } from "../ids.ts";
import { type AccountDeps, describeEntity, HOME, requireParentId } from "./entity.ts";
import { entityRoutes } from "./entity-routes.ts";
import { commonMembers, email, entitlements, externalId, freeText, ownId, status } from "./fields.ts";

const fields = { external_user_id: externalId, email, name: freeText, entitlements };

export const USER = describeEntity({
  kind: "user",
  name: "User",
  path: `${HOME}/user`,
  id: "user_id",
  externalId: "external_user_id",
  member: "user",
  answer: z
    .strictObject({
      user_id: z.uuid(),
      external_user_id: z.string().nullable(),
      workspace_id: z.uuid(),
      org_id: z.uuid(),
      email: z.string().nullable(),
      name: z.string().nullable(),
      ...commonMembers,
    })
    .meta({ id: "User" }),
  createBody: z.strictObject({ workspace_id: ownId, ...fields }),
  updateBody: z.strictObject({ ...fields, status }),
  newEntity: (body) => ({
    user_id: newEntityId(),
    external_user_id: body.external_user_id ?? null,
    workspace_id: requireParentId("user", body.workspace_id),
    email: body.email ?? null,
    name: body.name ?? null,
    entitlements: body.entitlements ?? [],
  }),
});

/** Users (contract §5). One belongs to a workspace, and never moves. */
export function userRoutes(deps: AccountDeps): Route[] {
  return entityRoutes(USER, deps);
}
