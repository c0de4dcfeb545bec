import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import { isResourceServerId } from "../ids.ts";
import type { StoredScope } from "../storage/token-store.ts";
import type { AdminDeps } from "./partner-record.ts";
import { scopeName } from "./scope-name.ts";

const OPERATOR = { kind: "operator" } as const;
const DESCRIPTION_CHARACTERS_MAX = 500;

const description = z
  .string()
  .max(DESCRIPTION_CHARACTERS_MAX, `is over ${DESCRIPTION_CHARACTERS_MAX} characters`)
  .regex(/^\P{Cc}*$/u, "has a control character");
const createBody = z.strictObject({
  name: scopeName,
  principal: z.enum(["user", "service_account"]),
  resource_server_id: z.string().refine(isResourceServerId, "is not the id of a resource server"),
  description: description.default(""),
});
const updateBody = z.strictObject({ description });

/** What cannot be a scope names nothing: a 404 like any other absent name. */
const params = z.object({
  name: z
    .string()
    .transform((name) => (scopeName.safeParse(name).success ? name : ""))
    .describe("Percent-encoded, whatever is in it: `/` is `%2F`."),
});

const schema = z
  .strictObject({
    name: z.string(),
    principal: z.enum(["user", "service_account"]).describe("Who may have it: partners' users, or partners themselves."),
    resource_server_id: z.string().nullable().describe("null: this server's own API, which the built-in scopes open."),
    audience: z.string().describe("The `aud` of a token with this scope."),
    description: z.string(),
    created_at: z.iso.datetime().nullable().describe("null: built in."),
  })
  .meta({ id: "Scope" });
const oneBody = z.strictObject({ scope: schema });
const removedBody = z.strictObject({ success: z.literal(true) });

const ABSENT = { description: "There is no such scope." };

const DOCS = {
  create: {
    summary: "Create Scope",
    description: "It opens one resource server, to one kind of principal, of the partners whose `allowed_scopes` name it.",
    tag: "admin",
    answers: { 201: { description: "The scope.", body: oneBody }, 409: { description: "There is a scope of that name already." } },
  },
  list: {
    summary: "List Scopes",
    tag: "admin",
    answers: { 200: { description: "All of them, the built-in ones first.", body: z.strictObject({ scopes: z.array(schema) }) } },
  },
  get: { summary: "Get Scope", tag: "admin", answers: { 200: { description: "The scope.", body: oneBody }, 404: ABSENT } },
  update: {
    summary: "Update Scope",
    description: "Its description only: tokens are out with the rest. For another meaning, make another scope.",
    tag: "admin",
    answers: { 200: { description: "The scope as it is now.", body: oneBody }, 404: ABSENT },
  },
  remove: {
    summary: "Remove Scope",
    description: "Introspection names it no more. Whoever verifies offline takes a token that has it until that expires or is revoked.",
    tag: "admin",
    answers: {
      200: { description: "The scope was removed.", body: removedBody },
      404: ABSENT,
      409: { description: "A partner is still allowed it, or it is built in." },
    },
  },
} as const satisfies Record<string, RouteDocs>;

const COLLECTION = "/admin/v1/scopes";

/** Scopes (contract §4): the built-in ones, and the operator's own for its own APIs. */
export function scopeRoutes(deps: AdminDeps): Route[] {
  const { resourceServers, resource } = deps;
  const view = (scope: StoredScope) => scopeView(scope, resource);
  return [
    defineRoute({
      operationId: "createScope",
      method: "POST",
      path: COLLECTION,
      auth: OPERATOR,
      docs: DOCS.create,
      body: createBody,
      handle: async ({ body }) => ({ status: 201, body: { scope: view(await createScope(body, deps)) } }),
    }),
    defineRoute({
      operationId: "listScopes",
      method: "GET",
      path: COLLECTION,
      auth: OPERATOR,
      docs: DOCS.list,
      handle: async () => ({ status: 200, body: { scopes: (await resourceServers.listScopes()).map(view) } }),
    }),
    defineRoute({
      operationId: "getScope",
      method: "GET",
      path: `${COLLECTION}/:name`,
      auth: OPERATOR,
      docs: DOCS.get,
      params,
      handle: async ({ params: { name } }) => ({ status: 200, body: { scope: view(await findScope(name, deps)) } }),
    }),
    defineRoute({
      operationId: "updateScope",
      method: "PATCH",
      path: `${COLLECTION}/:name`,
      auth: OPERATOR,
      docs: DOCS.update,
      params,
      body: updateBody,
      async handle({ params: { name }, body }) {
        const updated = await resourceServers.updateScope(name, body);
        if (updated === "absent") throw scopeAbsent();
        return { status: 200, body: { scope: view(updated) } };
      },
    }),
    removeRoute(deps),
  ];
}

function removeRoute({ resourceServers, onScopesChanged, log }: AdminDeps): Route {
  return defineRoute({
    operationId: "removeScope",
    method: "DELETE",
    path: `${COLLECTION}/:name`,
    auth: OPERATOR,
    docs: DOCS.remove,
    params,
    async handle({ params: { name } }) {
      const removed = await resourceServers.removeScope(name);
      if (removed === "absent") throw scopeAbsent();
      if (removed === "built_in") throw new Problem(409, "This scope is built in, and stays.");
      if (removed === "in_use")
        throw new Problem(409, "The scope is allowed to a partner; take it out of the partner's allowed_scopes first.");
      onScopesChanged();
      log.info("scope removed", { scope: name });
      return { status: 200, body: { success: true } };
    },
  });
}

/** @throws Problem 409, 422. */
async function createScope(body: z.output<typeof createBody>, deps: AdminDeps): Promise<StoredScope> {
  const { name, principal, resource_server_id: resourceServerId } = body;
  const createdAtMs = deps.nowMs();
  const created = await deps.resourceServers.createScope({ name, principal, resourceServerId, description: body.description, createdAtMs });
  if (created === "name_taken") throw new Problem(409, "There is a scope of that name already.");
  if (created === "resource_server_absent") {
    const message = "there is no such resource server";
    throw new Problem(422, `resource_server_id: ${message}`, { fields: [{ field: "resource_server_id", message }] });
  }
  deps.onScopesChanged();
  deps.log.info("scope created", { scope: name, principal, resource_server_id: resourceServerId });
  return findScope(name, deps);
}

/** @throws Problem 404. */
async function findScope(name: string, { resourceServers }: AdminDeps): Promise<StoredScope> {
  const scope = (await resourceServers.listScopes()).find((candidate) => candidate.name === name);
  if (scope === undefined) throw scopeAbsent();
  return scope;
}

function scopeAbsent(): Problem {
  return new Problem(404, "There is no such scope.");
}

function scopeView(scope: StoredScope, resource: string): z.output<typeof schema> {
  return {
    name: scope.name,
    principal: scope.principal,
    resource_server_id: scope.resourceServerId,
    audience: scope.audience ?? resource,
    description: scope.description,
    created_at: scope.resourceServerId === null ? null : new Date(scope.createdAtMs).toISOString(),
  };
}
