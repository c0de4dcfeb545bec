import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { newEntityId } from "../ids.ts";
import type { User } from "../storage/store.ts";
import { email, entitlements, EXTERNAL_ID_CHARACTERS_MAX, entityId, externalId, freeText, isEntityId } from "./fields.ts";
import type { AccountDeps } from "./organizations.ts";

const PATH = "/v2/account-management/user";
const AUTH = { kind: "service_account", scope: "account-management" } as const;

const createBody = z.strictObject({
  workspace_id: entityId,
  external_user_id: externalId,
  email,
  name: freeText,
  entitlements,
});

/** Exactly one of the two, once: with both, a caller who controls one of them could reach the row of the other. */
const getQuery = z
  .strictObject({ user_id: z.string().min(1, "is empty").optional(), external_user_id: z.string().min(1, "is empty").optional() })
  .refine((query) => (query.user_id === undefined) !== (query.external_user_id === undefined), {
    message: "give exactly one of user_id and external_user_id",
    path: ["user_id"],
  });

/** Users (contract §5). */
export function userRoutes({ accounts, nowMs }: AccountDeps): Route[] {
  return [
    defineRoute({
      operationId: "createUser",
      method: "PUT",
      path: PATH,
      auth: AUTH,
      body: createBody,
      async handle({ body, partnerId }) {
        const user = {
          userId: newEntityId(),
          externalUserId: body.external_user_id ?? null,
          workspaceId: body.workspace_id,
          email: body.email ?? null,
          name: body.name ?? null,
          entitlements: body.entitlements ?? [],
        };
        const created = isEntityId(user.workspaceId) ? await accounts.createUser(partnerId, user, nowMs()) : "workspace_absent";
        if (created === "workspace_absent") throw new Problem(404, "There is no such workspace.");
        if (created === "external_user_id_taken") throw new Problem(409, "external_user_id is taken; nothing was created.");
        return { status: 201, body: { message: "User created", success: true, user: userView(created) } };
      },
    }),
    defineRoute({
      operationId: "getUser",
      method: "GET",
      path: PATH,
      auth: AUTH,
      query: getQuery,
      async handle({ query, partnerId }) {
        const { user_id: userId, external_user_id: externalUserId } = query;
        let user: User | undefined;
        if (userId !== undefined) user = isEntityId(userId) ? await accounts.findUser(partnerId, { userId }) : undefined;
        else if (externalUserId !== undefined && isStorable(externalUserId)) user = await accounts.findUser(partnerId, { externalUserId });
        if (user === undefined) throw new Problem(404, "There is no such user.");
        return { status: 200, body: { message: "User found", success: true, user: userView(user) } };
      },
    }),
  ];
}

/** No stored external id is longer or holds a NUL, and PostgreSQL refuses to be asked for one. */
function isStorable(id: string): boolean {
  return id.length <= EXTERNAL_ID_CHARACTERS_MAX && !id.includes("\0");
}

function userView(user: User) {
  return {
    user_id: user.userId,
    external_user_id: user.externalUserId,
    workspace_id: user.workspaceId,
    org_id: user.orgId,
    email: user.email,
    name: user.name,
    entitlements: user.entitlements,
  };
}
