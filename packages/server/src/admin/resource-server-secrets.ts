import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { isSecretId, newClientSecret, newSecretId } from "../ids.ts";
import type { AdminDeps } from "./partner-record.ts";
import { RESOURCE_SERVER_DOCS, SECRETS_MAX } from "./resource-server-docs.ts";
import { resourceServerAbsent, resourceServerParams } from "./resource-servers.ts";

const OPERATOR = { kind: "operator" } as const;
const PATH = "/admin/v1/resource-servers/:resource_server_id/secrets";
/** A secret that was used within this is in use. */
const IN_USE_MS = 24 * 60 * 60 * 1000;

const removeQuery = z.strictObject({ force: z.enum(["true", "false"]).default("false") });

/** The secrets of a resource server, rotated as a partner's are. It has no other way to authenticate, so that the last one stays. */
export function resourceServerSecretRoutes({ resourceServers, masterKeys, nowMs, log }: AdminDeps): Route[] {
  return [
    defineRoute({
      operationId: "addResourceServerSecret",
      method: "POST",
      path: PATH,
      auth: OPERATOR,
      docs: RESOURCE_SERVER_DOCS.addSecret,
      params: resourceServerParams,
      async handle({ params: { resource_server_id: id } }) {
        const clientSecret = newClientSecret();
        const secretId = newSecretId();
        const secret = { secretId, ...masterKeys.hashSecret(clientSecret), createdAtMs: nowMs() };
        const added = await resourceServers.addSecret(id, secret, SECRETS_MAX);
        if (added === "absent") throw resourceServerAbsent();
        if (added === "too_many") throw new Problem(409, `The resource server has ${SECRETS_MAX} secrets; remove one first.`);
        log.info("resource server secret added", { resource_server_id: id, secret_id: secretId });
        return { status: 201, body: { secret_id: secretId, client_secret: clientSecret } };
      },
    }),
    defineRoute({
      operationId: "removeResourceServerSecret",
      method: "DELETE",
      path: `${PATH}/:secret_id`,
      auth: OPERATOR,
      docs: RESOURCE_SERVER_DOCS.removeSecret,
      params: resourceServerParams.extend({ secret_id: z.string().transform((id) => (isSecretId(id) ? id : "")) }),
      query: removeQuery,
      async handle({ params: { resource_server_id: id, secret_id: secretId }, query }) {
        const unusedSinceMs = query.force === "true" ? undefined : nowMs() - IN_USE_MS;
        const removed = await resourceServers.removeSecret(id, secretId, unusedSinceMs);
        if (removed === "absent") throw new Problem(404, "There is no such secret.");
        if (removed === "last") throw new Problem(409, "It is the only secret of the resource server; add another one first.");
        if (removed === "in_use") {
          throw new Problem(
            409,
            "The secret was used within the last 24 hours; the API is cut off without it. Add ?force=true to remove it all the same.",
          );
        }
        log.info("resource server secret removed", { resource_server_id: id, secret_id: secretId });
        return { status: 200, body: { success: true } };
      },
    }),
  ];
}
