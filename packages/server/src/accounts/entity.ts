import { z } from "zod";
import { entityTag } from "../http/if-match.ts";
import { Problem } from "../http/problem.ts";
import type { AnswerDocs } from "../http/route.ts";
import {
  type AccountAnswer,
  AccountRefusal,
  type AccountStore,
  type Entities,
  type EntityKey,
  type EntityKind,
  type NewEntity,
  type StoredEntity,
} from "../storage/account-store.ts";
import { isEntityId } from "../ids.ts";
import type { Log } from "../telemetry/log.ts";
import { toEntityKey } from "./fields.ts";

export interface AccountDeps {
  readonly accounts: AccountStore;
  readonly nowMs: () => number;
  readonly log: Log;
}

export const AUTH = { kind: "service_account", scope: "account-management" } as const;
export const HOME = "/v2/account-management";

/** What makes a kind of entity what it is; all else is the same for the three of them. */
export interface EntityDescription<K extends EntityKind> {
  readonly kind: K;
  /** As in an operation id: `User`. */
  readonly name: string;
  readonly path: string;
  readonly id: string;
  readonly externalId: string;
  /** The entity's name in an answer. */
  readonly member: string;
  readonly answer: z.ZodObject;
  readonly createBody: z.ZodObject;
  readonly updateBody: z.ZodObject;
  /** @throws AccountRefusal where the parent cannot be one. */
  newEntity(fields: unknown): NewEntity<K>;
}

export function describeEntity<K extends EntityKind, C extends z.ZodObject>(
  description: Omit<EntityDescription<K>, "createBody" | "newEntity"> & {
    readonly createBody: C;
    newEntity(fields: z.output<C>): NewEntity<K>;
  },
): EntityDescription<K> {
  return description;
}

export const ONE_OF_TWO = "By exactly one of the two ids.";

/** Exactly one of the two ids, once: with both, a caller who controls one of them could reach the row of the other. */
export function oneOfTwoIds(
  { id, externalId }: Pick<EntityDescription<EntityKind>, "id" | "externalId">,
  more: z.ZodRawShape,
): z.ZodType<Readonly<Record<string, unknown>>> {
  return z
    .strictObject({ [id]: anyIdText.optional(), [externalId]: anyIdText.optional(), ...more })
    .refine((query: Readonly<Record<string, unknown>>) => (query[id] === undefined) !== (query[externalId] === undefined), {
      message: `give exactly one of ${id} and ${externalId}`,
      path: [id],
    });
}

/** What can be no id names nothing, and is a 404 like any other absent one. */
const anyIdText = z.string().min(1, "is empty");

export function keyOf({ kind, id, externalId }: EntityDescription<EntityKind>, query: Readonly<Record<string, unknown>>): EntityKey {
  const key = toEntityKey({ id: query[id], externalId: query[externalId] });
  if (key === undefined) throw refusalProblem(new AccountRefusal(kind, "absent"));
  return key;
}

export function requireParentId(kind: EntityKind, id: string): string {
  if (!isEntityId(id)) throw new AccountRefusal(kind, "parent_absent");
  return id;
}

export function idOf<K extends EntityKind>({ id }: EntityDescription<K>, entity: Entities[K]): string {
  return (entity as unknown as Record<string, string>)[id] ?? "";
}

export function entityAnswer<K extends EntityKind>(
  description: EntityDescription<K>,
  status: number,
  done: string,
  { entity, revision }: StoredEntity<K>,
): AccountAnswer {
  const { member, kind } = description;
  return {
    status,
    headers: { etag: entityTag(revision) },
    body: { message: `${capitalized(kind)} ${done}`, success: true, [member]: entity },
    entityId: idOf(description, entity),
  };
}

function capitalized(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

export function answerDocs({ member, answer }: EntityDescription<EntityKind>, description: string): AnswerDocs {
  const body = z.strictObject({ message: z.string(), success: z.literal(true), [member]: answer });
  return { description, body, headers: { ETag: "For If-Match." } };
}

const EXTERNAL_IDS = { organization: "external_org_id", workspace: "external_workspace_id", user: "external_user_id" } as const;
const PARENTS = { organization: "partner", workspace: "organization", user: "workspace" } as const;

/** The one place where a refusal of the store becomes an answer. A foreign id reads as an absent one. */
export function refusalProblem({ kind, code }: AccountRefusal): Problem {
  switch (code) {
    case "absent":
      return new Problem(404, `There is no such ${kind}.`);
    case "parent_absent":
      return new Problem(404, `There is no such ${PARENTS[kind]}.`);
    case "external_id_taken":
      return new Problem(409, `${EXTERNAL_IDS[kind]} is taken; nothing was changed.`, {
        fields: [{ field: EXTERNAL_IDS[kind], message: "is taken" }],
      });
    case "revision_stale":
      return new Problem(412, `The ${kind} has changed since; get it again, and send its ETag as If-Match.`);
    case "has_children":
      return new Problem(409, `The ${kind} is not empty; erase what it holds first, or all of it with cascade=true.`);
  }
}
