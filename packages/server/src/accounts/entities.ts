import { createHash } from "node:crypto";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import type { EntityFilter, EntityKind, EntityPosition, LevelFilter } from "../storage/account-store.ts";
import { type AccountDeps, AUTH, HOME } from "./entity.ts";
import { anyId } from "./fields.ts";
import { ORGANIZATION } from "./organizations.ts";
import { USER } from "./users.ts";
import { WORKSPACE } from "./workspaces.ts";

const LIMIT_MAX = 200;
const LIMIT_DEFAULT = 100;
const IDS_MAX = 100;
const CURSOR_CHARACTERS_MAX = 500;

const KINDS = ["organization", "workspace", "user"] as const satisfies readonly EntityKind[];

/** An empty list is refused: it could as well mean all as none. */
const ids = z.array(anyId).min(1, "is empty; leave it out for no filter").max(IDS_MAX, `are over ${IDS_MAX}`).nullish();

const body = z.strictObject({
  entity_types: z.array(z.enum(KINDS)).min(1, "is empty; leave it out for no filter").max(KINDS.length, "names one twice").nullish(),
  org_ids: ids,
  external_org_ids: ids,
  workspace_ids: ids,
  external_workspace_ids: ids,
  user_ids: ids,
  external_user_ids: ids,
  cursor: z.string().max(CURSOR_CHARACTERS_MAX, `is over ${CURSOR_CHARACTERS_MAX} characters`).nullish(),
  limit: z.int().min(1, "is under 1").max(LIMIT_MAX, `is over ${LIMIT_MAX}`).nullish(),
});

/** Get Entities (contract §5): organizations, then workspaces, then users, a page at a time. */
export function entityListRoutes({ accounts }: AccountDeps): Route[] {
  return [
    defineRoute({
      operationId: "getEntities",
      method: "POST",
      path: `${HOME}/entities`,
      auth: AUTH,
      docs: {
        summary: "Get Entities",
        description:
          "Every filter that is given must hold: org_ids leaves the organizations that it names and what lies in them; workspace_ids leaves no organizations, user_ids only users. " +
          "Ids and external ids of one kind count together. Go on with next_cursor and the same filters until it is null. What is there all the while comes exactly once; what is made or erased meanwhile may come or not.",
        tag: "accounts",
        answers: {
          200: {
            description: "A page.",
            body: z.strictObject({
              message: z.string(),
              success: z.literal(true),
              organizations: z.array(ORGANIZATION.answer),
              workspaces: z.array(WORKSPACE.answer),
              users: z.array(USER.answer),
              next_cursor: z.string().nullable(),
            }),
          },
        },
      },
      body,
      async handle({ body: asked, principal: { partner } }) {
        const filter = toFilter(asked);
        const list = listName(partner.clientId, filter);
        const { cursor } = asked;
        const after = cursor === null || cursor === undefined ? undefined : parseCursor(cursor, list);
        const { next, ...entities } = await accounts.list(partner.clientId, filter, { after, limit: asked.limit ?? LIMIT_DEFAULT });
        const nextCursor = next === undefined ? null : toCursor(next, list);
        return { status: 200, body: { message: "Entities found", success: true, ...entities, next_cursor: nextCursor } };
      },
    }),
  ];
}

function toFilter(asked: z.output<typeof body>): EntityFilter {
  return {
    kinds: asked.entity_types ?? KINDS,
    organizations: toLevel(asked.org_ids, asked.external_org_ids),
    workspaces: toLevel(asked.workspace_ids, asked.external_workspace_ids),
    users: toLevel(asked.user_ids, asked.external_user_ids),
  };
}

function toLevel(own: readonly string[] | null | undefined, external: readonly string[] | null | undefined): LevelFilter | undefined {
  return own || external ? { ids: own ?? [], externalIds: external ?? [] } : undefined;
}

/** A cursor holds in this list only: another partner's, or one with other filters, is another list. */
function listName(partnerId: string, filter: EntityFilter): string {
  return createHash("sha256")
    .update(JSON.stringify([partnerId, filter]))
    .digest("base64url")
    .slice(0, 16);
}

const cursorParts = z.tuple([z.string(), z.enum(KINDS), anyId.or(z.literal("")), anyId]);

function toCursor({ kind, parentId, id }: EntityPosition, list: string): string {
  return Buffer.from(JSON.stringify([list, kind, parentId, id])).toString("base64url");
}

/** @throws Problem 422. A forged one is no danger: it is a place in a list of the partner's own rows. */
function parseCursor(cursor: string, list: string): EntityPosition {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, "base64url").toString());
  } catch {
    // no cursor of ours: refused below
  }
  const parsed = cursorParts.safeParse(parts);
  if (!parsed.success || parsed.data[0] !== list) {
    const message = "is not the next_cursor of this list; send the filters that it came with, or start again without a cursor";
    throw new Problem(422, `cursor: ${message}`, { fields: [{ field: "cursor", message }] });
  }
  const [, kind, parentId, id] = parsed.data;
  return { kind, parentId, id };
}
