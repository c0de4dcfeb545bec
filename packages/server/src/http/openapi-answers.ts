import { z } from "zod";
import type { SchemaCollector } from "./openapi-schema.ts";
import { listsFaults } from "./problem.ts";
import type { AnswerDocs, Route } from "./route.ts";

/** The form of every error that does not say otherwise (RFC 9457), as {@link problemAnswer} makes it. */
const problem = z
  .strictObject({
    type: z.literal("about:blank"),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string().describe("What to do."),
    errors: z
      .array(z.strictObject({ field: z.string().describe("Dotted path; empty for the body as a whole."), message: z.string() }))
      .optional(),
    message: z.string().describe("The detail again, for a client of the published envelope."),
    success: z.literal(false),
    trace_id: z.string(),
  })
  .meta({ id: "Problem", description: "An error answer (RFC 9457)." });

const fault = z.strictObject({
  loc: z.array(z.union([z.string(), z.int()])).describe("Where: body, query, path or header, and the way from there."),
  msg: z.string(),
  type: z.string(),
});

/** That of what is not valid, in the API whose reference has it so (contract §6), as {@link problemAnswer} makes it. */
const problemOfFaults = problem
  .extend({ status: z.literal(422), detail: z.array(fault) })
  .meta({ id: "ProblemOfFaults", description: "An error answer (RFC 9457), with a list where others have a sentence." });

export interface HeaderObject {
  readonly description: string;
  readonly required?: boolean;
  readonly schema: { readonly type: "string" | "integer" };
}

/** Headers that follow by themselves; each is always there. */
export const SHARED_HEADERS: Readonly<Record<string, HeaderObject>> = {
  "WWW-Authenticate": {
    description: "What kind of token is wanted, and what is wrong (RFC 6750 §3).",
    required: true,
    schema: { type: "string" },
  },
  "Retry-After": { description: "Seconds until it is worth trying again.", required: true, schema: { type: "integer" } },
};

interface ImpliedAnswer {
  /** In the components. */
  readonly name: string;
  readonly status: number;
  readonly description: string;
  readonly header?: keyof typeof SHARED_HEADERS;
  /** Where it is not the problem form. */
  readonly body?: z.ZodType;
  isOf(route: Route): boolean;
}

const takesToken = ({ auth }: Route) => auth.kind === "operator" || auth.kind === "service_account" || auth.kind === "user";
const takesBody = ({ schemas }: Route) => schemas.body !== undefined;
const takesInput = (route: Route) => takesBody(route) || route.schemas.query !== undefined || route.conditions.includes("idempotency_key");

/** The answers that no handler gives: they follow from what a route is. */
const IMPLIED: readonly ImpliedAnswer[] = [
  {
    name: "Malformed",
    status: 400,
    description:
      "Not JSON, nor a form, or a form of parts, where one is taken; a name twice in one object or form; a header twice that may be there once, or malformed.",
    isOf: (route) => takesToken(route) || takesBody(route) || route.conditions.length > 0,
  },
  { name: "NoToken", status: 401, description: "No token, or one that is not good.", header: "WWW-Authenticate", isOf: takesToken },
  {
    name: "TokenForOtherUse",
    status: 403,
    description: "The token is good, and is not of the kind or has not the scope that this needs.",
    header: "WWW-Authenticate",
    isOf: ({ auth }) => auth.kind === "service_account" || auth.kind === "user",
  },
  {
    name: "NotAsSeen",
    status: 412,
    description: "It has changed since the sender saw it (If-Match); nothing was done.",
    isOf: ({ conditions }) => conditions.includes("if_match"),
  },
  { name: "BodyTooLarge", status: 413, description: "The body is too large.", isOf: takesBody },
  {
    name: "NotJson",
    status: 415,
    description: "The body is not sent as application/json.",
    isOf: (route) => takesBody(route) && !route.takesForm && !route.takesMultipart,
  },
  {
    name: "NotJsonNorForm",
    status: 415,
    description: "The body is sent neither as application/json nor as application/x-www-form-urlencoded.",
    isOf: (route) => takesBody(route) && route.takesForm === true,
  },
  {
    name: "NotMultipart",
    status: 415,
    description: "The body is not sent as multipart/form-data.",
    isOf: (route) => route.takesMultipart === true,
  },
  {
    name: "Invalid",
    status: 422,
    description: "A field or parameter is missing, not valid or not known; `errors` names each.",
    isOf: (route) => takesInput(route) && !listsFaults(route.path),
  },
  {
    name: "InvalidListed",
    status: 422,
    description: "A field or parameter is missing, not valid or not known; `detail` and `errors` name each.",
    body: problemOfFaults,
    isOf: (route) => takesInput(route) && listsFaults(route.path),
  },
  {
    name: "RateLimited",
    status: 429,
    description: "The partner's limit is used up, by all that it and its users send together.",
    header: "Retry-After",
    isOf: ({ auth }) => auth.kind === "service_account" || auth.kind === "user",
  },
  {
    name: "StoreUnavailable",
    status: 503,
    description: "The store does not answer; try again.",
    header: "Retry-After",
    isOf: ({ auth }) => auth.kind !== "public",
  },
];

export interface ResponseObject {
  readonly description: string;
  readonly headers?: Readonly<Record<string, HeaderObject | Reference>>;
  readonly content?: Readonly<Record<string, { readonly schema?: unknown }>>;
}

export interface Reference {
  readonly $ref: string;
}

/** Of a route, by status: what its handler says of itself goes before what follows by itself. */
export function responsesOf(route: Route, schemas: SchemaCollector): Readonly<Record<string, ResponseObject | Reference>> {
  const responses: Record<string, ResponseObject | Reference> = {}; // integer keys: in order of the status, however they come
  for (const answer of IMPLIED) if (answer.isOf(route)) responses[answer.status] = { $ref: `#/components/responses/${answer.name}` };
  for (const [status, docs] of Object.entries(route.docs.answers)) responses[status] = responseOf(Number(status), docs, schemas);
  return responses;
}

export function sharedResponses(schemas: SchemaCollector): Readonly<Record<string, ResponseObject>> {
  return Object.fromEntries(
    IMPLIED.map(({ name, description, header, body }) => {
      const headers = header === undefined ? {} : { headers: { [header]: { $ref: `#/components/headers/${header}` } } };
      return [name, { description, ...headers, content: problemContent(schemas, body) }];
    }),
  );
}

function responseOf(status: number, docs: AnswerDocs, schemas: SchemaCollector): ResponseObject {
  const headers = Object.entries(docs.headers ?? {}).map(
    ([name, description]) => [name, { description, schema: { type: "string" } }] as const,
  );
  return {
    description: docs.description,
    ...(headers.length > 0 ? { headers: Object.fromEntries(headers) } : {}),
    ...contentOf(status, docs, schemas),
  };
}

function contentOf(status: number, { body, mediaType }: AnswerDocs, schemas: SchemaCollector): Pick<ResponseObject, "content"> {
  if (mediaType !== undefined) {
    const schema = body === undefined ? { type: "string" } : schemas.describe(body, "output");
    return { content: Object.fromEntries([mediaType].flat().map((type) => [type, { schema }])) };
  }
  if (body !== undefined) return { content: { "application/json": { schema: schemas.describe(body, "output") } } };
  return status < 400 ? {} : { content: problemContent(schemas) };
}

function problemContent(schemas: SchemaCollector, body: z.ZodType = problem): NonNullable<ResponseObject["content"]> {
  return { "application/problem+json": { schema: schemas.describe(body, "output") } };
}
