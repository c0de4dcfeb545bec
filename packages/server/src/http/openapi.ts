import { type HeaderObject, type Reference, type ResponseObject, responsesOf, SHARED_HEADERS, sharedResponses } from "./openapi-answers.ts";
import { type JsonSchema, SchemaCollector } from "./openapi-schema.ts";
import type { Route, RouteAuth } from "./route.ts";

/** The parts of an OpenAPI 3.1 document that this server makes. */
export interface OpenApiDocument {
  readonly openapi: "3.1.0";
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly servers: readonly { readonly url: string }[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonSchema>>;
    readonly responses: Readonly<Record<string, ResponseObject>>;
    readonly headers: Readonly<Record<string, HeaderObject>>;
    readonly parameters: Readonly<Record<string, Parameter>>;
    readonly securitySchemes: Readonly<Record<string, object>>;
  };
}

export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters?: readonly (Parameter | Reference)[];
  readonly requestBody?: { readonly required: true; readonly content: Readonly<Record<string, { readonly schema: JsonSchema }>> };
  readonly responses: Readonly<Record<string, ResponseObject | Reference>>;
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
}

/** Of this package. */
const VERSION = "0.1.0";

const DESCRIPTION =
  "Token exchange, accounts, conversations and administration. Errors are problem details (RFC 9457); those of the endpoints under `/oauth2` are OAuth errors (RFC 6749 §5.2), and all under `/v1`, also of a path or a method that is not there, are an `EnvelopeError`. " +
  "Any operation may also answer 400 to a malformed request line, 413 or 415 to a body that it does not take, and 500. A method that a path does not have is answered with 405 and `Allow`; GET has HEAD beside it. Answers to a partner, or to one of its users, say in RateLimit-Policy and RateLimit how it stands with its limit.";

const TAGS: Readonly<Record<Route["docs"]["tag"], string>> = {
  token: "Tokens for partners' users and for partners themselves.",
  accounts: "Organizations, workspaces and users of a partner.",
  admin: "Partners, their keys and secrets, and the server's own keys, for the operator.",
  threads: "Conversations of a partner's user with the agent.",
  discovery: "What an API or a client reads before it begins.",
  operation: "Health and metrics.",
  documentation: "What the refusals mean, and this description.",
};

/** The routes as OpenAPI 3.1, out of the values that the router itself reads, and the same for the same routes. */
export function openApiDocument(routes: readonly Route[], { publicUrl }: { readonly publicUrl: string }): OpenApiDocument {
  const schemas = new SchemaCollector();
  const paths: Record<string, Record<string, Operation>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route, schemas) };
  }
  const responses = sharedResponses(schemas);
  return {
    openapi: "3.1.0",
    info: { title: "Cambist", version: VERSION, description: DESCRIPTION },
    servers: [{ url: publicUrl }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      schemas: Object.fromEntries(schemas.named),
      responses,
      headers: SHARED_HEADERS,
      parameters: Object.fromEntries(Object.values(CONDITION_HEADERS).map((header) => [header.name, header])),
      securitySchemes: SECURITY_SCHEMES,
    },
  };
}

function operationOf(route: Route, schemas: SchemaCollector): Operation {
  const { docs, auth } = route;
  const description = [docs.description, needOf(auth)].filter((sentence) => sentence !== undefined).join(" ");
  const parameters = parametersOf(route, schemas);
  return {
    operationId: route.operationId,
    summary: docs.summary,
    ...(description === "" ? {} : { description }),
    tags: [docs.tag],
    security: securityOf(auth),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...requestBodyOf(route, schemas),
    responses: responsesOf(route, schemas),
  };
}

const SECURITY_SCHEMES = {
  serviceAccount: { type: "http", scheme: "bearer", bearerFormat: "JWT", description: "An access token of a partner's service account." },
  user: { type: "http", scheme: "bearer", bearerFormat: "JWT", description: "An access token of a partner's user." },
  operator: { type: "http", scheme: "bearer", description: "The operator token." },
  client: { type: "http", scheme: "basic", description: "Client id and client secret, each form-encoded (RFC 6749 §2.3.1)." },
} as const;

function securityOf(auth: RouteAuth): Operation["security"] {
  switch (auth.kind) {
    case "public":
      return [];
    case "oauth_client":
      return [{ client: [] }, {}]; // or by what the form holds
    case "operator":
      return [{ operator: [] }];
    case "service_account":
      return [{ serviceAccount: [auth.scope] }];
    case "user":
      return [{ user: [auth.scope] }];
  }
}

function needOf(auth: RouteAuth): string | undefined {
  switch (auth.kind) {
    case "public":
      return undefined;
    case "oauth_client":
      return "The client authenticates by HTTP Basic or by what the form holds, never by both.";
    case "operator":
      return "Needs the operator token.";
    case "service_account":
      return `Needs a service-account token with the scope \`${auth.scope}\`.`;
    case "user":
      return `Needs a user's token with the scope \`${auth.scope}\`.`;
  }
}

/** By the condition of a route. */
const CONDITION_HEADERS: Readonly<Record<Route["conditions"][number], Parameter>> = {
  idempotency_key: {
    name: "Idempotency-Key",
    in: "header",
    required: false,
    description:
      "1 to 255 visible ASCII characters, quoted or bare. For 24 hours the same request with the same key is done once and answered alike; another request with it is a 422.",
    schema: { type: "string" },
  },
  if_match: {
    name: "If-Match",
    in: "header",
    required: false,
    description: "ETags as they were read, or `*`: the write is done only if one of them still holds (RFC 9110 §13.1.1).",
    schema: { type: "string" },
  },
};

function parametersOf({ schemas: { params, query }, conditions, docs }: Route, schemas: SchemaCollector): (Parameter | Reference)[] {
  const headers = Object.entries(docs.headers ?? {});
  return [
    ...(params === undefined ? [] : parametersIn("path", schemas.describe(params, "input"))),
    ...(query === undefined ? [] : parametersIn("query", schemas.describe(query, "input"))),
    ...headers.map(([name, description]) => ({ name, in: "header", required: false, description, schema: { type: "string" } }) as const),
    ...conditions.map((condition) => ({ $ref: `#/components/parameters/${CONDITION_HEADERS[condition].name}` })),
  ];
}

function parametersIn(place: "path" | "query", object: JsonSchema): Parameter[] {
  const { properties = {}, required = [] } = object as { properties?: Record<string, JsonSchema>; required?: readonly string[] };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: place,
    required: place === "path" || required.includes(name),
    ...(typeof description === "string" ? { description } : {}),
    schema,
  }));
}

const FORM = "application/x-www-form-urlencoded";

function requestBodyOf(
  { schemas: { body }, docs: { form }, takesForm, takesMultipart }: Route,
  schemas: SchemaCollector,
): Pick<Operation, "requestBody"> {
  if (form !== undefined) return inBody({ [FORM]: schemas.describe(form, "input") });
  if (body === undefined) return {};
  if (takesMultipart) return inBody({ "multipart/form-data": schemas.describe(body, "input") });
  const json = schemas.describe(body, "input");
  return inBody({ "application/json": json, ...(takesForm ? { [FORM]: asForm(json) } : {}) });
}

/** The same as a form, as input.ts reads it: a list has a name with `[]` at its end, and one element. */
function asForm(json: JsonSchema): JsonSchema {
  const properties = Object.entries((json as { readonly properties?: Record<string, JsonSchema> }).properties ?? {});
  return { ...json, properties: Object.fromEntries(properties.map(([name, schema]) => formField(name, schema))) };
}

function formField(name: string, schema: JsonSchema): [name: string, schema: unknown] {
  const { anyOf = [schema] } = schema as { readonly anyOf?: readonly JsonSchema[] };
  const list = anyOf.find(({ type }) => type === "array");
  return list === undefined ? [name, schema] : [`${name}[]`, list["items"]];
}

function inBody(byMediaType: Readonly<Record<string, JsonSchema>>): Pick<Operation, "requestBody"> {
  const content = Object.entries(byMediaType).map(([mediaType, schema]) => [mediaType, { schema }]);
  return { requestBody: { required: true, content: Object.fromEntries(content) as Record<string, { schema: JsonSchema }> } };
}
