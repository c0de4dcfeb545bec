import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { isResourceServerId, newClientSecret, newResourceServerId, newSecretId } from "../ids.ts";
import type { AdminDeps } from "./partner-record.ts";
import { type FoundResourceServer, listedView, RESOURCE_SERVER_DOCS, resourceServerView } from "./resource-server-docs.ts";

const OPERATOR = { kind: "operator" } as const;
const NAME_CHARACTERS_MAX = 255;
const AUDIENCE_CHARACTERS_MAX = 255;

/** RFC 3986 §4.3 by its characters; what follows the scheme is for the URL parser to judge. */
const ABSOLUTE_URI = /^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?[\]@!$&'()*+,;=%]+$/;

const settings = {
  name: z
    .string()
    .min(1, "is empty")
    .max(NAME_CHARACTERS_MAX, `is over ${NAME_CHARACTERS_MAX} characters`)
    .regex(/^\P{Cc}*$/u, "has a control character"),
  audience: z
    .string()
    .max(AUDIENCE_CHARACTERS_MAX, `is over ${AUDIENCE_CHARACTERS_MAX} characters`)
    .refine((value) => !value.includes("#"), { error: "has a fragment (RFC 8707 §2)", abort: true })
    .refine(
      (value) => ABSOLUTE_URI.test(value) && URL.canParse(value),
      "is not an absolute URI, as https://api.example.com is one (RFC 8707 §2)",
    ),
};
const createBody = z.strictObject(settings);
const updateBody = z.strictObject(settings).partial();

/** What is not one of our ids names nothing: a 404 like any other absent id. */
export const resourceServerParams = z.object({ resource_server_id: z.string().transform((id) => (isResourceServerId(id) ? id : "")) });

export function resourceServerAbsent(): Problem {
  return new Problem(404, "There is no such resource server.");
}

/** The operator's own APIs (contract §4), by the operator token. */
export function resourceServerRoutes(deps: AdminDeps): Route[] {
  return [...collectionRoutes(deps), ...itemRoutes(deps)];
}

const COLLECTION = "/admin/v1/resource-servers";

function collectionRoutes(deps: AdminDeps): Route[] {
  return [
    defineRoute({
      operationId: "createResourceServer",
      method: "POST",
      path: COLLECTION,
      auth: OPERATOR,
      docs: RESOURCE_SERVER_DOCS.create,
      body: createBody,
      async handle({ body }) {
        const { created, clientSecret } = await createResourceServer(body, deps);
        return { status: 201, body: { resource_server: resourceServerView(created), client_secret: clientSecret } };
      },
    }),
    defineRoute({
      operationId: "listResourceServers",
      method: "GET",
      path: COLLECTION,
      auth: OPERATOR,
      docs: RESOURCE_SERVER_DOCS.list,
      handle: async () => ({ status: 200, body: { resource_servers: (await deps.resourceServers.list()).map(listedView) } }),
    }),
  ];
}

function itemRoutes(deps: AdminDeps): Route[] {
  const { resourceServers, nowMs, log } = deps;
  const item = { path: `${COLLECTION}/:resource_server_id`, auth: OPERATOR, params: resourceServerParams };
  async function shown(id: string): Promise<{ readonly status: 200; readonly body: object }> {
    const api = await resourceServers.find(id);
    if (api === undefined) throw resourceServerAbsent();
    return { status: 200, body: { resource_server: resourceServerView(api) } };
  }
  return [
    defineRoute({
      ...item,
      operationId: "getResourceServer",
      method: "GET",
      docs: RESOURCE_SERVER_DOCS.get,
      handle: ({ params }) => shown(params.resource_server_id),
    }),
    defineRoute({
      ...item,
      operationId: "updateResourceServer",
      method: "PATCH",
      docs: RESOURCE_SERVER_DOCS.update,
      body: updateBody,
      async handle({ params: { resource_server_id: id }, body: { name, audience } }) {
        if (audience !== undefined) requireForeign(audience, deps);
        const change = { ...(name === undefined ? {} : { name }), ...(audience === undefined ? {} : { audience }) };
        const updated = await resourceServers.update(id, change, nowMs());
        if (updated === "absent") throw resourceServerAbsent();
        if (updated === "audience_taken") throw audienceTaken();
        deps.onScopesChanged();
        log.info("resource server updated", { resource_server_id: id, fields: Object.keys(change).join(" "), audience: updated.audience });
        return shown(id);
      },
    }),
    defineRoute({
      ...item,
      operationId: "removeResourceServer",
      method: "DELETE",
      docs: RESOURCE_SERVER_DOCS.remove,
      async handle({ params: { resource_server_id: id } }) {
        const removed = await resourceServers.remove(id);
        if (removed === "absent") throw resourceServerAbsent();
        if (removed === "in_use") throw new Problem(409, "A scope still opens this resource server; remove its scopes first.");
        log.info("resource server removed", { resource_server_id: id });
        return { status: 200, body: { success: true } };
      },
    }),
  ];
}

/** The secret is given out here and nowhere else: only its keyed hash is kept. @throws Problem 409. */
async function createResourceServer(
  { name, audience }: z.output<typeof createBody>,
  deps: AdminDeps,
): Promise<{ readonly created: FoundResourceServer; readonly clientSecret: string }> {
  requireForeign(audience, deps);
  const now = deps.nowMs();
  const clientSecret = newClientSecret();
  const api = { resourceServerId: newResourceServerId(), name, audience, createdAtMs: now, updatedAtMs: now };
  const secret = { secretId: newSecretId(), ...deps.masterKeys.hashSecret(clientSecret), createdAtMs: now };
  if ((await deps.resourceServers.create(api, secret)) === "audience_taken") throw audienceTaken();
  deps.log.info("resource server created", { resource_server_id: api.resourceServerId, audience });
  return { created: { ...api, secrets: [{ ...secret, lastUsedAtMs: undefined }] }, clientSecret };
}

/**
 * A token for one of the operator's APIs must open nothing of ours (RFC 9068 §4): not our API, nor what takes the issuer for its audience. Other
 * spellings of the two are not taken either, for whoever compares URLs as URLs.
 */
function requireForeign(audience: string, { issuer, resource }: AdminDeps): void {
  const { href } = new URL(audience);
  if ([issuer, resource].some((own) => new URL(own).href === href)) {
    throw new Problem(409, "audience: belongs to this server itself; a resource server needs one of its own.");
  }
}

function audienceTaken(): Problem {
  return new Problem(409, "audience: belongs to another resource server; two with one audience would see each other's tokens.");
}
