import { z } from "zod";
import type { RouteDocs } from "../http/route.ts";
import type { ResourceServer, ResourceServerStore } from "../storage/token-store.ts";
import { secretSchema, secretView } from "./secret-view.ts";

/** What the API description says of the routes of resource servers, and the form of their answers. */

const listedSchema = z
  .strictObject({
    resource_server_id: z.string().describe("Its client id at introspection."),
    name: z.string(),
    audience: z.string().describe("The `aud` of the tokens that are for it."),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: "ListedResourceServer" });
const schema = z
  .strictObject({
    ...listedSchema.shape,
    secrets: z.array(secretSchema),
  })
  .meta({ id: "ResourceServer" });
const oneBody = z.strictObject({ resource_server: schema });
const createdBody = oneBody.extend({ client_secret: z.string().describe("Shown here and never again.") });
const removedBody = z.strictObject({ success: z.literal(true) });

const ABSENT = { description: "There is no such resource server." };
const TAKEN = { description: "The audience belongs to another resource server, or to this server itself." };
const AUDIENCE_HINT =
  "The `audience` is an absolute URI without a fragment (RFC 8707 §2), and is compared character by character: the address of the API is a good one.";

export const RESOURCE_SERVER_DOCS = {
  create: {
    summary: "Create Resource Server",
    description: `An API of the operator's own, which may introspect the tokens that are for it. ${AUDIENCE_HINT}`,
    tag: "admin",
    answers: { 201: { description: "The resource server, and its secret.", body: createdBody }, 409: TAKEN },
  },
  list: {
    summary: "List Resource Servers",
    tag: "admin",
    answers: {
      200: { description: "All of them, in order of their creation.", body: z.strictObject({ resource_servers: z.array(listedSchema) }) },
    },
  },
  get: {
    summary: "Get Resource Server",
    tag: "admin",
    answers: { 200: { description: "The resource server, and when each of its secrets was last used.", body: oneBody }, 404: ABSENT },
  },
  update: {
    summary: "Update Resource Server",
    description: `What is left out does not change. Another audience is in tokens within 5 seconds; the API does not see those with the former one any more. ${AUDIENCE_HINT}`,
    tag: "admin",
    answers: { 200: { description: "The resource server as it is now.", body: oneBody }, 404: ABSENT, 409: TAKEN },
  },
  remove: {
    summary: "Remove Resource Server",
    description: "It can introspect nothing from then on.",
    tag: "admin",
    answers: {
      200: { description: "The resource server was removed.", body: removedBody },
      404: ABSENT,
      409: { description: "A scope still opens it." },
    },
  },
} as const satisfies Record<string, RouteDocs>;

export function listedView({ resourceServerId, name, audience, createdAtMs, updatedAtMs }: ResourceServer): z.output<typeof listedSchema> {
  return { resource_server_id: resourceServerId, name, audience, created_at: time(createdAtMs), updated_at: time(updatedAtMs) };
}

export type FoundResourceServer = NonNullable<Awaited<ReturnType<ResourceServerStore["find"]>>>;

export function resourceServerView(api: FoundResourceServer): z.output<typeof schema> {
  return { ...listedView(api), secrets: api.secrets.map(secretView) };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
