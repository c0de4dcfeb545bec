import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import { isSecretId, newClientSecret, newSecretId } from "../ids.ts";
import { type AdminDeps, partnerAbsent } from "./partner-record.ts";
import { clientIdParams } from "./partners.ts";

/** One in use and its successor. */
const SECRETS_MAX = 2;
/** A secret that was used within this is in use. */
const IN_USE_MS = 24 * 60 * 60 * 1000;

const OPERATOR = { kind: "operator" } as const;

const removeQuery = z.strictObject({ force: z.enum(["true", "false"]).default("false") });

const addedBody = z.strictObject({ secret_id: z.string(), client_secret: z.string().describe("Shown here and never again.") });
const removedBody = z.strictObject({ success: z.literal(true) });

const ADD_DOCS: RouteDocs = {
  summary: "Add Secret",
  description: "A second secret, so that the partner can move over before the first one is removed.",
  tag: "admin",
  answers: {
    201: { description: "The secret was added.", body: addedBody },
    404: { description: "There is no such partner." },
    409: { description: `The partner has ${SECRETS_MAX} secrets already.` },
  },
};

const REMOVE_DOCS: RouteDocs = {
  summary: "Remove Secret",
  description: "It stops working at once.",
  tag: "admin",
  answers: {
    200: { description: "The secret was removed.", body: removedBody },
    404: { description: "The partner has no such secret." },
    409: { description: "The secret was used within the last 24 hours; `force=true` removes it all the same." },
  },
};

/** The secrets of a partner (contract §9): rotated by adding the new one, moving the partner over, and removing the old one. */
export function partnerSecretRoutes({ partners, masterKeys, nowMs, log }: AdminDeps): Route[] {
  return [
    defineRoute({
      operationId: "addPartnerSecret",
      method: "POST",
      path: "/admin/v1/partners/:client_id/secrets",
      auth: OPERATOR,
      docs: ADD_DOCS,
      params: clientIdParams,
      async handle({ params }) {
        const clientSecret = newClientSecret();
        const secretId = newSecretId();
        const secret = { secretId, ...masterKeys.hashSecret(clientSecret), createdAtMs: nowMs() };
        const added = await partners.addSecret(params.client_id, secret, SECRETS_MAX);
        if (added === "absent") throw partnerAbsent();
        if (added === "too_many") throw new Problem(409, `The partner has ${SECRETS_MAX} secrets; remove one first.`);
        log.info("partner secret added", { client_id: params.client_id, secret_id: secretId });
        return { status: 201, body: { secret_id: secretId, client_secret: clientSecret } };
      },
    }),
    defineRoute({
      operationId: "removePartnerSecret",
      method: "DELETE",
      path: "/admin/v1/partners/:client_id/secrets/:secret_id",
      auth: OPERATOR,
      docs: REMOVE_DOCS,
      params: clientIdParams.extend({ secret_id: z.string().transform((id) => (isSecretId(id) ? id : "")) }),
      query: removeQuery,
      async handle({ params, query }) {
        const unusedSinceMs = query.force === "true" ? undefined : nowMs() - IN_USE_MS;
        const removed = await partners.removeSecret(params.client_id, params.secret_id, unusedSinceMs);
        if (removed === "absent") throw new Problem(404, "There is no such secret.");
        if (removed === "in_use") {
          throw new Problem(
            409,
            "The secret was used within the last 24 hours; the partner is cut off without it. Add ?force=true to remove it all the same.",
          );
        }
        log.info("partner secret removed", { client_id: params.client_id, secret_id: params.secret_id });
        return { status: 200, body: { success: true } };
      },
    }),
  ];
}
