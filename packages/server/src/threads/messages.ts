import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { newEntityId } from "../ids.ts";
import { requireFiles } from "./files.ts";
import { ABSENT_DOCS, absent, AUTH, HOME, ownerOf, requireOwnId, type ThreadDeps, threadParams } from "./thread.ts";
import { messageView } from "./thread-events.ts";

const MESSAGE_CHARACTERS_MAX = 100_000;
/** That wait in one thread for their answers. */
const WAITING_MAX = 20;
const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 200;
const FILES_MAX = 20;

const citation = z.strictObject({ title: z.string(), url: z.string().nullable(), snippet: z.string().nullable() }).meta({ id: "Citation" });

const message = z
  .strictObject({
    message_id: z.uuid(),
    message: z.string(),
    is_user_message: z.boolean(),
    message_time: z.iso.datetime(),
    citations: z.array(citation),
  })
  .meta({ id: "Message" });

export interface MessageRoutesDeps extends ThreadDeps {
  /** There is a task to be taken up. */
  readonly onSent: () => void;
}

/** List and send messages (contract §6). */
export function messageRoutes(deps: MessageRoutesDeps): Route[] {
  return [listRoute(deps), sendRoute(deps)];
}

/** RFC 3339, or a part of it: a time without an offset is UTC, a date its first moment. The year has four digits. */
const time = z
  .string()
  .regex(/^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?$/i, "is not an ISO 8601 time")
  .transform((text, context) => {
    const whole = text.length === 10 ? `${text}T00:00:00` : text.replace(" ", "T");
    const ms = Date.parse(/(?:Z|[+-]\d\d:\d\d)$/i.test(whole) ? whole : `${whole}Z`);
    const day = Date.parse(`${text.slice(0, 10)}T00:00:00Z`); // 30 February would be a day in March
    if (Number.isNaN(ms) || Number.isNaN(day) || new Date(day).toISOString().slice(0, 10) !== text.slice(0, 10))
      context.addIssue({ code: "custom", message: "is not a time that there is" });
    return ms;
  });

/** An empty text would be 0 for JavaScript, and `0x10` and `1e2` numbers. */
const DECIMAL = /^-?\d+(?:\.\d+)?$/;

const count = (least: number) =>
  z.preprocess(
    (text) => (typeof text === "string" && DECIMAL.test(text) ? Number(text) : Number.NaN),
    z.number("is not a number").int("is not a whole number").min(least, `is under ${least}`),
  );

const listQuery = z
  .strictObject({
    start: time.optional(),
    end: time.optional(),
    start_index: count(0).default(0),
    limit_num: count(1)
      .transform((limit) => Math.min(limit, LIMIT_MAX))
      .default(LIMIT_DEFAULT),
  })
  .refine(({ start = -Infinity, end = Infinity }) => start <= end, { message: "is after end", path: ["start"] });

function listRoute({ threads }: ThreadDeps): Route {
  return defineRoute({
    operationId: "listMessages",
    method: "GET",
    path: `${HOME}/:thread_id/messages`,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "List Messages",
      description:
        `Oldest first. start_index counts back from the newest: 0 is the page that ends with it, and the page before begins where this one did. At most ${LIMIT_MAX} come at once, also where limit_num asks for more, and of long ones fewer (about 2 MB, one at least): go on by the number that came. ` +
        "start and end are included; a time without an offset is UTC. total_message_count counts what lies between them.",
      tag: "threads",
      answers: {
        200: {
          description: "A page.",
          body: z.strictObject({ messages: z.array(message), total_message_count: z.int(), start_index: z.int() }),
        },
        404: ABSENT_DOCS,
      },
    },
    params: threadParams,
    query: listQuery,
    async handle({ params, query: { start: startMs, end: endMs, start_index: startIndex, limit_num: limit }, principal }) {
      const threadId = requireOwnId(params.thread_id, "thread");
      const page = await threads.listMessages(ownerOf(principal), threadId, { startMs, endMs, startIndex, limit });
      if (page === undefined) throw absent("thread");
      const { messages, totalCount } = page;
      return { status: 200, body: { messages: messages.map(messageView), total_message_count: totalCount, start_index: startIndex } };
    },
  });
}

const sendBody = z.strictObject({
  message: z.string().min(1, "is empty").max(MESSAGE_CHARACTERS_MAX, `is over ${MESSAGE_CHARACTERS_MAX} characters`),
  file_ids: z.array(z.string()).max(FILES_MAX, `are over ${FILES_MAX}`).nullish(),
});

function sendRoute({ threads, nowMs, onSent }: MessageRoutesDeps): Route {
  return defineRoute({
    operationId: "sendMessage",
    method: "POST",
    path: `${HOME}/:thread_id/messages`,
    auth: AUTH,
    browser: true,
    docs: {
      summary: "Send Message",
      description:
        "As JSON or as a form, which names one file at most. The message is stored, and its answer is worked on from now on, one message of a thread after the other. " +
        "A stream that is opened with the Last-Event-ID of this answer gets all events of the answer, however late it is opened.",
      tag: "threads",
      answers: {
        200: {
          description: "Stored; the answer comes.",
          body: z.strictObject({ message_id: z.uuid(), task_id: z.uuid() }),
          headers: { "Last-Event-ID": "Of the last event before those of the answer." },
        },
        404: ABSENT_DOCS,
        409: { description: `${WAITING_MAX} messages of the thread wait for their answers already; nothing was stored.` },
      },
    },
    takesForm: true,
    params: threadParams,
    body: sendBody,
    async handle({ params, body, principal }) {
      const threadId = requireOwnId(params.thread_id, "thread");
      const owner = ownerOf(principal);
      const fileIds = body.file_ids ?? [];
      await requireFiles(threads, owner, threadId, fileIds);
      const ids = { messageId: newEntityId(), taskId: newEntityId() };
      const at = { nowMs: nowMs(), waitingMax: WAITING_MAX };
      const sent = await threads.send(owner, threadId, { ...ids, message: body.message, fileIds }, at);
      if (sent === "absent") throw absent("thread");
      if (sent === "too_many_waiting") {
        throw new Problem(409, `${WAITING_MAX} messages of this thread wait for their answers; wait for one, or cancel it.`);
      }
      onSent();
      return {
        status: 200,
        headers: { "last-event-id": String(sent.lastEventId) },
        body: { message_id: ids.messageId, task_id: ids.taskId },
      };
    },
  });
}
