import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import { isSecretId, newClientSecret, newSecretId } from "../ids.ts";
import type { StoredSecret } from "../storage/token-store.ts";
import { type AdminDeps, partnerAbsent } from "./partner-record.ts";
import { clientIdParams } from "./partners.ts";
import { resourceServerAbsent, resourceServerParams } from "./resource-servers.ts";
import { SECRETS_MAX } from "./secret-view.ts";

/** A secret that was used within this is in use. */
const IN_USE_MS = 24 * 60 * 60 * 1000;

const OPERATOR = { kind: "operator" } as const;

const secretParams = z.object({ secret_id: z.string().transform((id) => (isSecretId(id) ? id : "")) });
const removeQuery = z.strictObject({ force: z.enum(["true", "false"]).default("false") });

const addedBody = z.strictObject({ secret_id: z.string(), client_secret: z.string().describe("Shown here and never again.") });
const removedBody = z.strictObject({ success: z.literal(true) });

/** A client whose secrets are rotated: the new one is added, the client moves over, and the old one is removed. */
interface SecretOwner {
  /** In sentences. */
  readonly noun: string;
  /** Who moves over from one secret to the next. */
  readonly user: string;
  /** In the names of the operations, and in their summaries. */
  readonly operation: string;
  readonly title: string;
  readonly path: string;
  readonly params: z.ZodObject<Record<string, z.ZodType<string, string>>>;
  /** The one parameter of `params`, and the member of a log line. */
  readonly idName: string;
  /** Why a secret may be refused to go. */
  readonly stays: string;
  absent(): Problem;
  add(id: string, secret: StoredSecret): Promise<"added" | "absent" | "too_many">;
  /** See PartnerStore.removeSecret. */
  remove(id: string, secretId: string, unusedSinceMs: number | undefined): Promise<"removed" | "absent" | "in_use" | "last">;
}

/** The secrets of partners (contract §9). */
export function partnerSecretRoutes(deps: AdminDeps): Route[] {
  const { partners } = deps;
  const owner: SecretOwner = {
    noun: "partner",
    user: "the partner",
    operation: "PartnerSecret",
    title: "Secret",
    path: "/admin/v1/partners/:client_id/secrets",
    params: clientIdParams,
    idName: "client_id",
    stays: "The secret was used within the last 24 hours; `force=true` removes it all the same.",
    absent: partnerAbsent,
    add: (id, secret) => partners.addSecret(id, secret, SECRETS_MAX),
    remove: (id, secretId, unusedSinceMs) => partners.removeSecret(id, secretId, unusedSinceMs),
  };
  return [addRoute(owner, deps), removeRoute(owner, deps)];
}

/** The secrets of resource servers, which have no other way to authenticate, so that the last one stays. */
export function resourceServerSecretRoutes(deps: AdminDeps): Route[] {
  const { resourceServers } = deps;
  const owner: SecretOwner = {
    noun: "resource server",
    user: "the API",
    operation: "ResourceServerSecret",
    title: "Resource Server Secret",
    path: "/admin/v1/resource-servers/:resource_server_id/secrets",
    params: resourceServerParams,
    idName: "resource_server_id",
    stays: "It is the only one, which stays; or it was used within the last 24 hours: `force=true` removes that all the same.",
    absent: resourceServerAbsent,
    add: (id, secret) => resourceServers.addSecret(id, secret, SECRETS_MAX),
    remove: (id, secretId, unusedSinceMs) => resourceServers.removeSecret(id, secretId, unusedSinceMs),
  };
  return [addRoute(owner, deps), removeRoute(owner, deps)];
}

function addRoute(owner: SecretOwner, { masterKeys, nowMs, log }: AdminDeps): Route {
  const { noun, user, operation, title, path, params, idName } = owner;
  const docs: RouteDocs = {
    summary: `Add ${title}`,
    description: `A second secret, so that ${user} can move over before the first one is removed.`,
    tag: "admin",
    answers: {
      201: { description: "The secret was added.", body: addedBody },
      404: { description: `There is no such ${noun}.` },
      409: { description: `The ${noun} has ${SECRETS_MAX} secrets already.` },
    },
  };
  return defineRoute({
    operationId: `add${operation}`,
    method: "POST",
    path,
    auth: OPERATOR,
    docs,
    params,
    async handle({ params: { [idName]: id = "" } }) {
      const clientSecret = newClientSecret();
      const secretId = newSecretId();
      const added = await owner.add(id, { secretId, ...masterKeys.hashSecret(clientSecret), createdAtMs: nowMs() });
      if (added === "absent") throw owner.absent();
      if (added === "too_many") throw new Problem(409, `The ${noun} has ${SECRETS_MAX} secrets; remove one first.`);
      log.info(`${noun} secret added`, { [idName]: id, secret_id: secretId });
      return { status: 201, body: { secret_id: secretId, client_secret: clientSecret } };
    },
  });
}

function removeRoute(owner: SecretOwner, { nowMs, log }: AdminDeps): Route {
  const { noun, user, operation, title, path, params, idName } = owner;
  const docs: RouteDocs = {
    summary: `Remove ${title}`,
    description: "It stops working at once.",
    tag: "admin",
    answers: {
      200: { description: "The secret was removed.", body: removedBody },
      404: { description: `The ${noun} has no such secret.` },
      409: { description: owner.stays },
    },
  };
  return defineRoute({
    operationId: `remove${operation}`,
    method: "DELETE",
    path: `${path}/:secret_id`,
    auth: OPERATOR,
    docs,
    params: secretParams.extend(params.shape),
    query: removeQuery,
    async handle({ params: given, query }) {
      const { [idName]: id = "", secret_id: secretId } = given as Readonly<Record<string, string>> & z.output<typeof secretParams>;
      const unusedSinceMs = query.force === "true" ? undefined : nowMs() - IN_USE_MS;
      const removed = await owner.remove(id, secretId, unusedSinceMs);
      if (removed === "absent") throw new Problem(404, "There is no such secret.");
      if (removed === "last") throw new Problem(409, `It is the only secret of the ${noun}; add another one first.`);
      if (removed === "in_use") {
        throw new Problem(
          409,
          `The secret was used within the last 24 hours; ${user} is cut off without it. Add ?force=true to remove it all the same.`,
        );
      }
      log.info(`${noun} secret removed`, { [idName]: id, secret_id: secretId });
      return { status: 200, body: { success: true } };
    },
  });
}
