import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { text } from "../http/text.ts";
import { newEntityId } from "../ids.ts";
import type { Thread, ThreadKey, ThreadPosition } from "../storage/thread-store.ts";
import { ABSENT_DOCS, absent, AUTH, HOME, ownerOf, requireOwnId, SUCCESS, success, type ThreadDeps, threadParams } from "./thread.ts";

const NAME_CHARACTERS_MAX = 255;
const LIMIT_MAX = 200;
const LIMIT_DEFAULT = 50;
const CURSOR_CHARACTERS_MAX = 200;

const name = text(NAME_CHARACTERS_MAX).min(1, "is empty");

const thread = z
  .strictObject({ thread_id: z.uuid(), thread_name: z.string(), created_at: z.iso.datetime(), updated_at: z.iso.datetime() })
  .meta({ id: "Thread" });

export interface ThreadRoutesDeps extends ThreadDeps {
  /** What this node streams or works on of it ends. */
  readonly onDeleted: (thread: ThreadKey) => void;
}

/** List, create, rename and delete threads (contract §6). */
export function threadRoutes(deps: ThreadRoutesDeps): Route[] {
  return [listRoute(deps), createRoute(deps), updateRoute(deps), deleteRoute(deps)];
}

function listRoute({ threads }: ThreadDeps): Route {
  return defineRoute({
    operationId: "listThreads",
    method: "GET",
    path: HOME,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "List Threads",
      description: "The user's own, those that were made last first. Go on with next_cursor until it is null.",
      tag: "threads",
      answers: {
        200: { description: "A page.", body: z.strictObject({ threads: z.array(thread), next_cursor: z.string().nullable() }) },
      },
    },
    query: z.strictObject({
      cursor: z.string().max(CURSOR_CHARACTERS_MAX, `is over ${CURSOR_CHARACTERS_MAX} characters`).optional(),
      limit: z.coerce
        .number("is not a number")
        .int("is not a whole number")
        .min(1, "is under 1")
        .max(LIMIT_MAX, `is over ${LIMIT_MAX}`)
        .optional(),
    }),
    async handle({ query: { cursor, limit = LIMIT_DEFAULT }, principal }) {
      const after = cursor === undefined ? undefined : parseCursor(cursor);
      const { items, next } = await threads.list(ownerOf(principal), { after, limit });
      return { status: 200, body: { threads: items.map(threadView), next_cursor: next === undefined ? null : toCursor(next) } };
    },
  });
}

function threadView({ threadId, name: threadName, createdAtMs, updatedAtMs }: Thread) {
  return {
    thread_id: threadId,
    thread_name: threadName,
    created_at: new Date(createdAtMs).toISOString(),
    updated_at: new Date(updatedAtMs).toISOString(),
  };
}

function toCursor({ createdAtMs, threadId }: ThreadPosition): string {
  return Buffer.from(`${createdAtMs}.${threadId}`).toString("base64url");
}

const CURSOR = /^(\d{1,15})\.([0-9a-f-]{36})$/;

/** Says where in the list, and not in whose: a foreign cursor leads nowhere else. @throws Problem 422. */
function parseCursor(cursor: string): ThreadPosition {
  const [, createdAtMs, threadId] = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1")) ?? [];
  if (createdAtMs !== undefined && threadId !== undefined) return { createdAtMs: Number(createdAtMs), threadId };
  const message = "is not the next_cursor of a list of threads";
  throw new Problem(422, `cursor: ${message}`, { fields: [{ field: "cursor", message, place: "query" }] });
}

function createRoute({ threads, nowMs }: ThreadDeps): Route {
  return defineRoute({
    operationId: "createThread",
    method: "POST",
    path: HOME,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "Create Thread",
      tag: "threads",
      answers: { 200: { description: "Created.", body: z.strictObject({ thread_id: z.uuid() }) } },
    },
    body: z.strictObject({ thread_name: name }),
    async handle({ body, principal }) {
      const threadId = newEntityId();
      const created = await threads.create(ownerOf(principal), { threadId, name: body.thread_name }, nowMs());
      if (created === "absent") throw new Problem(401, "The access token's user no longer exists.");
      return { status: 200, body: { thread_id: threadId } };
    },
  });
}

function updateRoute({ threads, nowMs }: ThreadDeps): Route {
  return defineRoute({
    operationId: "updateThread",
    method: "PATCH",
    path: `${HOME}/:thread_id`,
    auth: AUTH,
    browser: true,
    docs: { summary: "Update Thread", tag: "threads", answers: { 200: { description: "Renamed.", body: success }, 404: ABSENT_DOCS } },
    params: threadParams,
    body: z.strictObject({ name }),
    async handle({ params, body, principal }) {
      const threadId = requireOwnId(params.thread_id, "thread");
      if (!(await threads.rename(ownerOf(principal), threadId, body.name, nowMs()))) throw absent("thread");
      return SUCCESS;
    },
  });
}

function deleteRoute({ threads, onDeleted }: ThreadRoutesDeps): Route {
  return defineRoute({
    operationId: "deleteThread",
    method: "DELETE",
    path: `${HOME}/:thread_id`,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "Delete Thread",
      description: "With its messages, files, artifacts and events. An answer that is under way is given up, and open streams end.",
      tag: "threads",
      answers: { 200: { description: "Deleted.", body: success }, 404: ABSENT_DOCS },
    },
    params: threadParams,
    async handle({ params, principal }) {
      const threadId = requireOwnId(params.thread_id, "thread");
      const owner = ownerOf(principal);
      if (!(await threads.delete(owner, threadId))) throw absent("thread");
      onDeleted({ partnerId: owner.partnerId, threadId });
      return SUCCESS;
    },
  });
}
