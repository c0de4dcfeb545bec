import type { Authenticate } from "../http/auth.ts";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import type { StreamRequest } from "./event-stream.ts";
import type { EventStreams } from "./event-streams.ts";
import { absent, ABSENT_DOCS, AUTH, HOME, ownerOf, requireOwnId, type ThreadDeps, threadParams } from "./thread.ts";

/** Of a partner, on each node, where the operator sets nothing else. */
const STREAMS_MAX_DEFAULT = 2_000;

export interface StreamRoutesDeps extends Pick<ThreadDeps, "threads"> {
  readonly streams: Pick<EventStreams, "open" | "requireRoom">;
  readonly authenticate: Authenticate;
}

/** Stream Thread Events (contract §6; HTML standard, §9.2). */
export function streamRoutes({ threads, streams, authenticate }: StreamRoutesDeps): Route[] {
  return [
    defineRoute({
      operationId: "streamThreadEvents",
      method: "GET",
      path: `${HOME}/stream/:thread_id`,
      auth: AUTH,
      browser: true,
      docs: {
        summary: "Stream Thread Events",
        description:
          "Stays open. Begins with the events of the answer that is under way, and else with the next one to come; with the `Last-Event-ID` of an earlier event (a header, as a browser's EventSource sends it), behind that one: nothing is lost, and nothing comes twice. `0` is the beginning. " +
          "Chunks are kept for a day; after that only the message that they add up to. Ends with the event `stream_end`, whose `reason` says why: `token_expired`, `token_ended`, `thread_deleted`, `server_stopping`, `store_unavailable`, `too_many_streams`. A reader that takes nothing for 30 s is cut off.",
        tag: "threads",
        headers: { "Last-Event-ID": "Of the last event that was read, or 0." },
        answers: {
          200: { description: "The events.", mediaType: "text/event-stream" },
          400: { description: "The Last-Event-ID is not the id of an event of this thread; or the request is malformed." },
          404: ABSENT_DOCS,
          429: {
            description: "The partner's limit is used up, or as many streams of it, or of its user, are open on this node as may be.",
            headers: { "Retry-After": "Seconds until it is worth trying again." },
          },
        },
      },
      params: threadParams,
      async handle({ params, principal, raw }) {
        const threadId = requireOwnId(params.thread_id, "thread");
        const owner = ownerOf(principal);
        const start = await threads.findStreamStart(owner, threadId);
        if (start === undefined) throw absent("thread");
        const lastEventId = parseLastEventId(raw.lastEventId, start.lastEventId) ?? start.taskFrom;
        const streamsMax = principal.partner.rateLimits?.streams ?? STREAMS_MAX_DEFAULT;
        streams.requireRoom(owner, streamsMax);
        const { workspaceId, orgId, token } = principal;
        const { authorization, standing } = raw;
        // as every other request, but for the quota, which it was charged to when it came
        const again = standing === undefined ? { authorization } : { authorization, standing };
        const request: StreamRequest = {
          owner,
          workspaceId,
          orgId,
          threadId,
          lastEventId,
          tokenId: token.tokenId,
          tokenExpiresAtMs: token.expiresAtMs,
          streamsMax,
          authenticate: async () => authenticate(AUTH, again),
        };
        return {
          status: 200,
          headers: { "content-type": "text/event-stream" },
          body: "",
          stream: (sink) => streams.open(request, start.lastEventId, sink),
        };
      },
    }),
  ];
}

/** @throws Problem 400 for one that this thread has not given out: what lies behind it is not known. */
function parseLastEventId(header: string | undefined, lastEventId: number): number | undefined {
  if (header === undefined || header === "") return undefined;
  const id = /^\d{1,15}$/.test(header) ? Number(header) : NaN;
  if (id <= lastEventId) return id;
  throw new Problem(400, "Last-Event-ID is not the id of an event of this thread; leave it out, or send 0 for all that is kept.");
}
