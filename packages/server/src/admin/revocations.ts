import { KID_CHARACTERS_MAX, redact } from "@cambist/protocol";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import { isClientId } from "../ids.ts";
import type { RevocationTarget } from "../storage/token-store.ts";
import type { AdminDeps } from "./partner-record.ts";

/** Of every token that this server has issued. A whole token, pasted in its place, must not get into a row and a log line. */
const TOKEN_ID = /^[A-Za-z0-9_-]{22}$/;

const SEND_ONE = "send exactly one of jti, user_id, workspace_id, org_id and client_id; kid goes with client_id";

const body = z
  .strictObject({
    jti: z
      .string()
      .regex(TOKEN_ID, "is not the jti of a token of this server; introspection tells it")
      .optional()
      .describe("One token, JWT or opaque."),
    user_id: z.string().optional().describe("All tokens of this user."),
    workspace_id: z.string().optional().describe("All tokens of the users in it."),
    org_id: z.string().optional().describe("All tokens of the users in it."),
    client_id: z.string().optional().describe("All tokens of this partner: its own and its users'."),
    kid: z
      .string()
      .min(1, "is empty")
      .max(KID_CHARACTERS_MAX, `is over ${KID_CHARACTERS_MAX} characters`)
      .regex(/^\P{Cc}*$/u, "has a control character")
      .refine((kid) => redact(kid) === kid, "is not the name of a key: it holds a secret or a token")
      .optional()
      .describe("With `client_id`: only those that this key of the partner brought about."),
  })
  .refine(({ kid, ...subjects }) => {
    const named = Object.values(subjects).filter((value) => value !== undefined);
    return named.length === 1 && (kid === undefined || subjects.client_id !== undefined);
  }, SEND_ONE);

const KINDS = ["token", "user", "workspace", "organization", "partner", "partner_key"] as const;

const revokedBody = z.strictObject({
  revocation: z.strictObject({
    kind: z.enum(KINDS),
    jti: z.string().optional(),
    user_id: z.string().optional(),
    workspace_id: z.string().optional(),
    org_id: z.string().optional(),
    client_id: z.string().optional(),
    kid: z.string().optional(),
    cut_off_at: z.iso.datetime().describe("The second up to and with which tokens of the subject are dead, by their `iat`."),
  }),
});

const DOCS: RouteDocs = {
  summary: "Revoke Tokens",
  description:
    "Everything issued until now, for exactly one of: a token (`jti`), a user, a workspace, an organization, a partner (`client_id`), what a key of a partner brought about " +
    "(`client_id` and `kid`). It stops working at once on this node and at its next use on every other; tokens that are issued from the next second on are good. " +
    "Whether there is, or was, a token with that `jti` or a key with that `kid` is not checked: the answer is the same. " +
    "An API that verifies tokens offline sees it by introspection or by the revocation feed only.",
  tag: "admin",
  answers: {
    200: { description: "The tokens are dead.", body: revokedBody },
    404: { description: "There is no such user, workspace, organization or partner." },
  },
};

/** Revocation by the operator (contract §9). */
export function revocationRoutes({ tokens, nowMs, log }: AdminDeps): Route[] {
  return [
    defineRoute({
      operationId: "revokeTokens",
      method: "POST",
      path: "/admin/v1/revocations",
      auth: { kind: "operator" },
      docs: DOCS,
      body,
      async handle({ body: subject }) {
        const target = targetOf(subject);
        const revoked = target === undefined ? "absent" : await tokens.revoke(target, nowMs);
        if (target === undefined || revoked === "absent")
          throw new Problem(404, "There is no such user, workspace, organization or partner.");
        log.info("tokens revoked", { kind: target.kind, ...subject });
        const cutOffAt = new Date(revoked.cutOffSeconds * 1000).toISOString();
        return { status: 200, body: { revocation: { kind: target.kind, ...subject, cut_off_at: cutOffAt } } };
      },
    }),
  ];
}

/** What is not one of our ids names nothing: undefined. */
function targetOf({
  jti,
  user_id: userId,
  workspace_id: workspaceId,
  org_id: orgId,
  client_id: clientId,
  kid,
}: z.output<typeof body>): RevocationTarget | undefined {
  if (jti !== undefined) return { kind: "token", tokenId: jti, partnerId: null };
  if (userId !== undefined) return entityTarget("user", userId);
  if (workspaceId !== undefined) return entityTarget("workspace", workspaceId);
  if (orgId !== undefined) return entityTarget("organization", orgId);
  if (clientId === undefined || !isClientId(clientId)) return undefined;
  return kid === undefined ? { kind: "partner", clientId } : { kind: "partner_key", clientId, kid };
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function entityTarget(kind: "user" | "workspace" | "organization", id: string): RevocationTarget | undefined {
  return UUID.test(id) ? { kind, id } : undefined;
}
