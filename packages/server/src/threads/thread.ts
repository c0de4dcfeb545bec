import { z } from "zod";
import { Problem } from "../http/problem.ts";
import type { Principal } from "../http/route.ts";
import { isEntityId } from "../ids.ts";
import type { ThreadOwner, ThreadStore } from "../storage/thread-store.ts";

/** What all routes of threads have in common (contract §6). */

export const AUTH = { kind: "user", scope: "thread" } as const;
export const HOME = "/v2/threads";

export interface ThreadDeps {
  readonly threads: ThreadStore;
  readonly nowMs: () => number;
}

export function ownerOf({ partner, userId }: Extract<Principal, { readonly kind: "user" }>): ThreadOwner {
  return { partnerId: partner.clientId, userId };
}

/** What can be no id of ours names nothing, and is a 404 like any other absent one. */
export const threadParams = z.strictObject({ thread_id: z.string() });

/** @throws Problem 404. */
export function requireOwnId(id: string, what: "thread" | "artifact"): string {
  if (!isEntityId(id)) throw absent(what);
  return id;
}

/** One that is another user's reads like one that never was. */
export function absent(what: "thread" | "artifact"): Problem {
  return new Problem(404, `There is no such ${what}.`);
}

export const ABSENT_DOCS = { description: "There is no such thread, or it is another user's." };
export const success = z.strictObject({ success: z.literal(true) });
export const SUCCESS = { status: 200, body: { success: true } } as const;
