import { authenticateCaller, type TokenCallerPorts } from "@cambist/protocol";
import { z } from "zod";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import type { Log } from "../telemetry/log.ts";
import type { Revocation, RevocationPosition, TokenStore } from "../storage/token-store.ts";
import { CLIENT_NOT_AUTHENTICATED, noteRefusal, oauthError, refusalAnswer, TURNED_AWAY } from "./refusal-answer.ts";

export interface RevocationFeedDeps {
  readonly caller: TokenCallerPorts;
  readonly tokens: Pick<TokenStore, "listRevocations">;
  readonly issuer: string;
  readonly log: Log;
  readonly nowMs: () => number;
}

const PAGE = 1_000;
/** A node may commit what it began this long ago, and its clock be off: the list is read again from there, and lines come twice. */
const OVERLAP_MS = 30_000;

const KINDS = ["token", "user", "workspace", "organization", "partner", "partner_key"] as const;

const text = z
  .string()
  .max(1_000)
  .regex(/^\P{Cc}*$/u);
const position = z.tuple([z.int(), text, z.enum(KINDS), text, z.int().nullable()]);

interface Cursor {
  readonly position: RevocationPosition;
  /** When the first of these pages was read: at the end of the list it is read again from before then. null: the next page is the first. */
  readonly beganMs: number | null;
}

const query = z.strictObject({
  cursor: z
    .string()
    .max(2_000)
    .transform((cursor, context): Cursor => {
      const parsed = position.safeParse(parseCursor(cursor));
      if (parsed.success) {
        const [revokedAtMs, subjectId, kind, kid, beganMs] = parsed.data;
        return { position: { revokedAtMs, subjectId, kind, kid }, beganMs };
      }
      context.addIssue({ code: "custom", message: "is none of ours; leave it out to begin anew" });
      return z.NEVER;
    })
    .optional(),
});

function parseCursor(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, "base64url").toString());
  } catch {
    return undefined;
  }
}

function toCursor({ position: { revokedAtMs, subjectId, kind, kid }, beganMs }: Cursor): string {
  return Buffer.from(JSON.stringify([revokedAtMs, subjectId, kind, kid, beganMs])).toString("base64url");
}

const feedBody = z.strictObject({
  revocations: z.array(
    z.strictObject({
      match: z
        .strictObject({
          jti: z.string().optional(),
          sub: z.string().optional(),
          workspace_id: z.string().optional(),
          org_id: z.string().optional(),
          client_id: z.string().optional(),
          partner_kid: z.string().optional(),
        })
        .describe(
          "Claims of the tokens that it is about: all that are named must be equal; `partner_kid` must be among their `partner_kids`.",
        ),
      issued_until: z.int().describe("Seconds since 1970: tokens with an `iat` up to and with it are dead."),
      revoked_at: z.iso.datetime(),
      forget_after: z.iso.datetime().describe("No token that it is about lives longer."),
    }),
  ),
  next_cursor: z.string().describe("Where to go on, at once or later. It goes back a little: lines come again, which changes nothing."),
  has_more: z.boolean(),
});

const DOCS: RouteDocs = {
  summary: "List Revocations",
  description:
    "For an API that verifies tokens offline: what was revoked, disabled or erased, in order, as long as a token that it ended could live. An API of the operator sees all of it, a partner its own.",
  tag: "token",
  answers: {
    200: { description: "A part of the feed.", body: feedBody },
    400: oauthError("The request is malformed."),
    401: CLIENT_NOT_AUTHENTICATED,
    429: TURNED_AWAY,
  },
};

/** The revocation feed (contract §4): read with the client's own credentials by HTTP Basic (RFC 6749 §2.3.1). */
export function revocationFeedRoutes({ caller, tokens, issuer, log, nowMs }: RevocationFeedDeps): Route[] {
  return [
    defineRoute({
      operationId: "listRevocations",
      method: "GET",
      path: "/oauth2/revocations",
      auth: { kind: "oauth_client" },
      docs: DOCS,
      query,
      async handle({ query: { cursor }, raw }) {
        const asking = await authenticateCaller(raw, NO_FORM, caller);
        if (!asking.ok) {
          noteRefusal(log, "token request refused", asking.fault, { raw });
          return refusalAnswer(asking.fault, raw, issuer);
        }
        const beganMs = cursor?.beganMs ?? nowMs();
        const partnerId = asking.value.kind === "partner" ? asking.value.client.clientId : undefined;
        const lines = await tokens.listRevocations(partnerId, cursor?.position, PAGE);
        const last = lines.at(-1);
        const hasMore = lines.length === PAGE;
        const next: Cursor =
          hasMore && last !== undefined
            ? { position: last, beganMs }
            : { position: { ...START, revokedAtMs: beganMs - OVERLAP_MS }, beganMs: null };
        return { status: 200, body: { revocations: lines.map(toLine), next_cursor: toCursor(next), has_more: hasMore } };
      },
    }),
  ];
}

const NO_FORM: ReadonlyMap<string, string> = new Map();
const START = { subjectId: "", kind: "organization", kid: "" } as const;

function toLine(revocation: Revocation): z.output<typeof feedBody>["revocations"][number] {
  const { cutOffSeconds, revokedAtMs, expiresAtMs } = revocation;
  return {
    match: claimsOf(revocation),
    issued_until: cutOffSeconds,
    revoked_at: new Date(revokedAtMs).toISOString(),
    forget_after: new Date(expiresAtMs).toISOString(),
  };
}

function claimsOf({ kind, subjectId, kid }: Revocation): Record<string, string> {
  switch (kind) {
    case "token":
      return { jti: subjectId };
    case "user":
      return { sub: subjectId };
    case "workspace":
      return { workspace_id: subjectId };
    case "organization":
      return { org_id: subjectId };
    case "partner":
      return { client_id: subjectId };
    case "partner_key":
      return { client_id: subjectId, partner_kid: kid };
  }
}
