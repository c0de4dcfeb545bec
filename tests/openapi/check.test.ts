import { describe, expect, test } from "vitest";
import type { OpenApiDocument } from "../../packages/server/src/http/openapi.ts";
import type { Reply } from "../../packages/server/src/testing/server.ts";
import { ApiDescription, type DescribedOperation } from "./description.ts";
import { coverageFaults } from "./scenarios.ts";

const idSchema = { type: "object", properties: { id: { type: "string", format: "uuid" } }, required: ["id"], additionalProperties: false };
const found = { description: "Found.", content: { "application/json": { schema: { $ref: "#/components/schemas/Id" } } } };

const DOCUMENT: OpenApiDocument = {
  openapi: "3.1.0",
  info: { title: "Hand-made", version: "1", description: "" },
  servers: [],
  tags: [],
  paths: {
    "/things/{thing_id}": {
      get: {
        operationId: "getThing",
        summary: "",
        tags: [],
        security: [{ user: [] }],
        parameters: [
          { name: "thing_id", in: "path", required: true, schema: { type: "string" } },
          { name: "limit", in: "query", required: false, schema: { type: "integer", maximum: 9 } },
        ],
        responses: { 200: found, 401: { $ref: "#/components/responses/NoToken" } },
      },
    },
    "/things": {
      put: {
        operationId: "putThing",
        summary: "",
        tags: [],
        security: [],
        parameters: [{ $ref: "#/components/parameters/If-Match" }],
        requestBody: {
          required: true,
          content: { "application/json": { schema: { type: "object", properties: { name: {} }, additionalProperties: false } } },
        },
        responses: { 201: { ...found, headers: { ETag: { description: "", schema: { type: "string" } } } } },
      },
      get: {
        operationId: "getOpen",
        summary: "",
        tags: [],
        security: [],
        responses: {
          200: {
            description: "",
            content: {
              "application/json": {
                schema: { type: "object", properties: { of: { $ref: "#/components/schemas/Open" } }, additionalProperties: false },
              },
            },
          },
        },
      },
    },
  },
  components: {
    schemas: { Id: idSchema, Open: { type: "object", properties: { a: {} } } },
    responses: {
      NoToken: {
        description: "",
        headers: { "WWW-Authenticate": { $ref: "#/components/headers/WWW-Authenticate" } },
        content: {
          "application/problem+json": { schema: { type: "object", properties: { success: { const: false } }, required: ["success"] } },
        },
      },
    },
    headers: { "WWW-Authenticate": { description: "", required: true, schema: { type: "string" } } },
    parameters: { "If-Match": { name: "If-Match", in: "header", required: false, schema: { type: "string" } } },
    securitySchemes: {},
  },
};

describe("the check of answers and requests", () => {
  const description = new ApiDescription(DOCUMENT);
  const [thing, put, open] = description.operations as [DescribedOperation, DescribedOperation, DescribedOperation];
  const ID = "00000000-0000-4000-8000-000000000000";
  const replied = (status: number, headers: Record<string, string>, text: string): Reply => ({
    status,
    headers: new Headers(headers),
    text,
    json: {},
  });
  const json = (body: unknown, headers = {}) => replied(200, { "content-type": "application/json", ...headers }, JSON.stringify(body));

  test("passes what fits", () => {
    expect(description.answerFaults(thing, 200, json({ id: ID }))).toEqual([]);
    expect(description.requestFaults(thing, { params: { thing_id: "1" }, query: { limit: "9" } })).toEqual([]);
    expect(description.requestFaults(put, { json: {}, headers: { "If-Match": "*" } })).toEqual([]);
    expect(description.requestFaults(open, {})).toEqual([]);
  });

  test.each([
    ["another status", replied(404, {}, ""), /the status is 404/],
    ["another content type", replied(200, { "content-type": "text/html" }, `{"id":"${ID}"}`), /the content type is text\/html/],
    ["no content type", replied(200, {}, ""), /the content type is/],
    ["a member that is not described", json({ id: ID, secret: "x" }), /additional properties/],
    ["a member that is missing", json({}), /required property 'id'/],
    ["a member of another form", json({ id: "x" }), /format "uuid"/],
  ])("finds an answer with %s", (_case, reply, fault) => {
    expect(description.answerFaults(thing, 200, reply).join("; ")).toMatch(fault);
  });

  test("finds an answer without a header that is described, be it its own or a shared one", () => {
    const problem = (body: object, headers = {}) =>
      replied(401, { "content-type": "application/problem+json", ...headers }, JSON.stringify(body));
    expect(description.answerFaults(thing, 401, problem({ success: false }))).toEqual(["there is no WWW-Authenticate"]);
    expect(description.answerFaults(thing, 401, problem({ success: true }, { "www-authenticate": "Bearer" })).join()).toMatch(/success/);
    expect(description.answerFaults(thing, 401, problem({ success: false, more: 1 }, { "www-authenticate": "Bearer" }))).toEqual([]);
    expect(description.answerFaults(put, 201, { ...json({ id: ID }), status: 201 })).toEqual(["there is no ETag"]);
  });

  test("finds a media type that no answer had", () => {
    expect(description.unseenMediaTypes(thing, 200, [json({ id: ID })])).toEqual([]);
    expect(description.unseenMediaTypes(thing, 200, [replied(200, { "content-type": "text/html" }, "")])).toEqual(["application/json"]);
  });

  test("finds a success whose description would let any member pass", () => {
    expect(description.answerFaults(open, 200, json({ of: { a: 1 } }))).toEqual(["its description leaves #/components/schemas/Open open"]);
  });

  test.each([
    ["a path parameter missing", { query: {} }, /thing_id is missing/],
    ["a parameter that is not described", { params: { thing_id: "1" }, query: { b: "1" } }, /no query parameter b/],
    ["a header that is not described", { params: { thing_id: "1" }, headers: { "If-Match": "*" } }, /no header parameter If-Match/],
    ["a parameter out of bounds", { params: { thing_id: "1" }, query: { limit: "10" } }, /limit: data must be <= 9/],
    ["a body where none is described", { params: { thing_id: "1" }, json: {} }, /no body is described/],
  ])("finds a request with %s", (_case, call, fault) => {
    expect(description.requestFaults(thing, call).join("; ")).toMatch(fault);
  });

  test("finds a request without its body, with another one, and with a member that is not described", () => {
    expect(description.requestFaults(put, {})).toEqual(["there is no body as application/json"]);
    expect(description.requestFaults(put, { form: { name: "x" } })).toEqual(["there is no body as application/x-www-form-urlencoded"]);
    expect(description.requestFaults(put, { json: { role: "admin" } }).join()).toMatch(/additional properties/);
  });

  test("finds an operation and a status without a scenario, and a scenario without either", () => {
    const scenario = () => ({});
    expect(coverageFaults(description, { getThing: { 200: scenario, 409: scenario }, getNothing: { sample: scenario } })).toEqual([
      "putThing 201 has no scenario",
      "getOpen 200 has no scenario",
      "getThing 409 is not described",
      "getNothing is not described",
    ]);
  });
});
