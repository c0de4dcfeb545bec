import { describe, expect, test } from "vitest";
import { z } from "zod";
import { openApiDocument } from "./openapi.ts";
import { defineRoute, type Route } from "./route.ts";

const ISSUER = "https://cambist.test";
const answers = { 200: { description: "Found.", body: z.strictObject({ id: z.uuid() }) } };
const docs = { summary: "A thing", tag: "accounts", answers } as const;
const handle = () => ({ status: 200, body: {} });
const AUTH = { kind: "service_account", scope: "account-management" } as const;

const getThing = defineRoute({
  operationId: "getThing",
  method: "GET",
  path: "/things/:thing_id",
  auth: AUTH,
  docs: { ...docs, answers: { ...answers, 404: { description: "Absent." } } },
  params: z.object({ thing_id: z.string().transform((id) => id) }),
  query: z.strictObject({ a: z.string().optional(), limit: z.coerce.number().int().max(9).default(3) }).refine(() => true),
  handle,
});
const putThing = defineRoute({
  operationId: "putThing",
  method: "PUT",
  path: "/things",
  auth: AUTH,
  docs: { ...docs, answers: { 201: { ...answers[200], headers: { ETag: "For If-Match." } } } },
  conditions: ["idempotency_key", "if_match"],
  body: z.strictObject({ name: z.string().default("x"), gone: z.undefined().optional() }).superRefine(() => undefined),
  handle,
});
const getOpen = defineRoute({ operationId: "getOpen", method: "GET", path: "/open", auth: { kind: "public" }, docs, handle });
const getToken = defineRoute({
  operationId: "getToken",
  method: "POST",
  path: "/token",
  auth: { kind: "oauth_client" },
  docs: { ...docs, form: z.object({ grant_type: z.string() }) },
  handle,
});

const describeRoutes = (...routes: Route[]) => openApiDocument(routes, { publicUrl: ISSUER });

describe("a route's description", () => {
  const { paths, servers, components } = describeRoutes(getThing, putThing, getOpen, getToken);

  test("has its path, and its parameters whatever stands around their schema", () => {
    expect(servers).toEqual([{ url: ISSUER }]);
    expect(Object.keys(paths)).toEqual(["/things/{thing_id}", "/things", "/open", "/token"]);
    expect(paths["/things/{thing_id}"]?.["get"]?.parameters).toEqual([
      { name: "thing_id", in: "path", required: true, schema: { type: "string" } },
      { name: "a", in: "query", required: false, schema: { type: "string" } },
      { name: "limit", in: "query", required: false, schema: { type: "integer", maximum: 9, default: 3 } },
    ]);
    expect(paths["/things"]?.["put"]?.parameters).toEqual([
      { $ref: "#/components/parameters/Idempotency-Key" },
      { $ref: "#/components/parameters/If-Match" },
    ]);
    expect(components.parameters["If-Match"]).toMatchObject({ name: "If-Match", in: "header", required: false });
    expect(paths["/open"]?.["get"]?.parameters).toBeUndefined();
  });

  test("has its body as it may be sent: a default may be left out, and what nobody may send is not there", () => {
    const schema = { type: "object", properties: { name: { type: "string", default: "x" } }, additionalProperties: false };
    expect(paths["/things"]?.["put"]?.requestBody).toEqual({ required: true, content: { "application/json": { schema } } });
    expect(Object.keys(paths["/token"]?.["post"]?.requestBody?.content ?? {})).toEqual(["application/x-www-form-urlencoded"]);
  });

  test("has the answers of its handler, and those that follow by themselves", () => {
    const statuses = (path: string, method: string) => Object.keys(paths[path]?.[method]?.responses ?? {});
    expect(statuses("/things/{thing_id}", "get")).toEqual(["200", "400", "401", "403", "404", "422", "429", "503"]);
    expect(statuses("/things", "put")).toEqual(["201", "400", "401", "403", "412", "413", "415", "422", "429", "503"]);
    expect(statuses("/open", "get")).toEqual(["200"]);
    expect(statuses("/token", "post")).toEqual(["200", "503"]);
    expect(paths["/things/{thing_id}"]?.["get"]?.responses["404"]).toEqual({
      description: "Absent.",
      content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
    });
    expect(Object.keys(components.schemas)).toEqual(["Problem", "ProblemOfFaults"]);
  });

  test("has a body that may also be a form in both forms, a list under its name in a form", () => {
    const post = defineRoute({
      operationId: "postThing",
      method: "POST",
      path: "/v2/threads/x",
      auth: { kind: "user", scope: "thread" },
      docs: { ...docs, headers: { "Last-Event-ID": "Of an event." } },
      takesForm: true,
      body: z.strictObject({ text: z.string(), ids: z.array(z.string()).nullish(), tags: z.array(z.string().max(9)).optional() }),
      handle,
    });
    const operation = describeRoutes(post).paths["/v2/threads/x"]?.["post"];
    const { "application/json": json, "application/x-www-form-urlencoded": form } = operation?.requestBody?.content ?? {};
    expect(Object.keys(json?.schema["properties"] ?? {})).toEqual(["text", "ids", "tags"]);
    expect(form?.schema).toEqual({
      type: "object",
      properties: { text: { type: "string" }, "ids[]": { type: "string" }, "tags[]": { type: "string", maxLength: 9 } },
      required: ["text"],
      additionalProperties: false,
    });
    expect(operation?.parameters).toEqual([
      { name: "Last-Event-ID", in: "header", required: false, description: "Of an event.", schema: { type: "string" } },
    ]);
    expect(operation?.responses["415"]).toEqual({ $ref: "#/components/responses/NotJsonNorForm" });
  });

  test("of the threads API says that what is not valid is listed in the place of the sentence", () => {
    const { paths: described, components: shared } = describeRoutes({ ...putThing, path: "/v2/threads" }, putThing);
    expect(described["/v2/threads"]?.["put"]?.responses["422"]).toEqual({ $ref: "#/components/responses/InvalidListed" });
    expect(described["/things"]?.["put"]?.responses["422"]).toEqual({ $ref: "#/components/responses/Invalid" });
    expect(shared.schemas["ProblemOfFaults"]).toMatchObject({ properties: { detail: { type: "array" }, status: { const: 422 } } });
  });

  test("says who may call", () => {
    const operation = paths["/things"]?.["put"];
    expect(operation?.security).toEqual([{ serviceAccount: ["account-management"] }]);
    expect(operation?.description).toBe("Needs a service-account token with the scope `account-management`.");
    expect(paths["/open"]?.["get"]?.security).toEqual([]);
    expect(paths["/token"]?.["post"]?.security).toEqual([{ client: [] }, {}]);
  });

  test("has a schema with an id once, and no two with one id", () => {
    const thing = (schema: z.ZodType) => ({ ...getOpen, docs: { ...docs, answers: { 200: { description: "", body: schema } } } });
    const named = z.strictObject({ id: z.string() }).meta({ id: "Thing" });
    const document = describeRoutes(thing(named), { ...thing(z.strictObject({ things: z.array(named) })), path: "/others" });
    expect(Object.keys(document.components.schemas)).toEqual(["Thing", "Problem", "ProblemOfFaults"]);
    expect(JSON.stringify(document.paths)).not.toContain("$defs");
    const other = z.strictObject({ id: z.int() }).meta({ id: "Thing" });
    expect(() => describeRoutes(thing(named), { ...thing(other), path: "/others" })).toThrow("two schemas are named Thing");
  });
});
