import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import type { OpenApiDocument, Operation, Parameter } from "../../packages/server/src/http/openapi.ts";
import type { ResponseObject } from "../../packages/server/src/http/openapi-answers.ts";
import type { Reply } from "../../packages/server/src/testing/server.ts";
import type { Call } from "./call.ts";

export interface DescribedOperation {
  readonly operationId: string;
  readonly method: string;
  readonly path: string;
  readonly tag: string;
  /** The first way to authenticate. */
  readonly security: string | undefined;
  readonly statuses: readonly number[];
  readonly takesJson: boolean;
}

/** An OpenAPI document as the measure of requests and answers: all that they have too much, too little or otherwise, as sentences. */
export class ApiDescription {
  readonly operations: readonly DescribedOperation[];
  private readonly document: OpenApiDocument;
  private readonly ajv = new Ajv2020({ strict: true, allErrors: true, allowUnionTypes: true });

  constructor(document: OpenApiDocument) {
    this.document = document;
    formats.default(this.ajv);
    this.ajv.addVocabulary(Object.keys(document)).addSchema(document, "api");
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        operationId: operation.operationId,
        method: method.toUpperCase(),
        path,
        tag: operation.tags[0] ?? "",
        security: Object.keys(operation.security[0] ?? {})[0],
        statuses: Object.keys(operation.responses).map(Number),
        takesJson: operation.requestBody?.content["application/json"] !== undefined,
      })),
    );
  }

  answerFaults(operation: DescribedOperation, status: number, reply: Reply): string[] {
    if (reply.status !== status) return [`the status is ${reply.status}: ${reply.text.slice(0, 500)}`];
    const { node, pointer } = this.resolve([...pointerOf(operation), "responses", String(status)]);
    const response = node as ResponseObject;
    const missing = Object.keys(response.headers ?? {}).filter((name) => !reply.headers.has(name));
    return [...missing.map((name) => `there is no ${name}`), ...this.contentFaults(response, pointer, reply)];
  }

  /** The forms that the bodies of these answers to one request or several do not have, and are described to have. */
  unseenMediaTypes(operation: DescribedOperation, status: number, replies: readonly Reply[]): string[] {
    const { content = {} } = this.resolve([...pointerOf(operation), "responses", String(status)]).node as ResponseObject;
    const seen = new Set(replies.map(mediaTypeOf));
    return Object.keys(content).filter((mediaType) => !seen.has(mediaType));
  }

  private contentFaults({ content }: ResponseObject, pointer: Pointer, reply: Reply): string[] {
    const mediaType = mediaTypeOf(reply);
    if (content === undefined) return reply.text === "" ? [] : ["there is a body, and none is described"];
    if (content[mediaType] === undefined) return [`the content type is ${mediaType}`];
    const at = [...pointer, "content", mediaType, "schema"];
    const open = reply.status < 300 ? this.openObjects(content[mediaType].schema).map((name) => `its description leaves ${name} open`) : [];
    return [...open, ...this.schemaFaults(at, /[/+]json$/.test(mediaType) ? JSON.parse(reply.text) : reply.text)];
  }

  requestFaults(operation: DescribedOperation, call: Call): string[] {
    const at = pointerOf(operation);
    const { parameters = [], requestBody } = this.at(at) as Operation;
    const described = parameters.map((_, index) => this.resolve([...at, "parameters", String(index)]));
    const faults = described.flatMap(({ node, pointer }) => this.parameterFaults(node as Parameter, [...pointer, "schema"], call));
    const known = new Set(described.map(({ node }) => `${(node as Parameter).in} parameter ${(node as Parameter).name}`));
    const sent = Object.entries(parametersOf(call)).flatMap(([place, named = {}]) =>
      Object.keys(named).map((name) => `${place} parameter ${name}`),
    );
    faults.push(...sent.filter((parameter) => !known.has(parameter)).map((parameter) => `no ${parameter} is described`));
    if (requestBody === undefined) return call.json === undefined && call.form === undefined ? faults : [...faults, "no body is described"];
    if (call.multipart !== undefined) return [...faults, ...this.multipartFaults([...at, "requestBody", "content"], call.multipart.fields)];
    const [mediaType, body] = call.form === undefined ? ["application/json", call.json] : ["application/x-www-form-urlencoded", call.form];
    if (body === undefined || requestBody.content[mediaType] === undefined) return [...faults, `there is no body as ${mediaType}`];
    return [...faults, ...this.schemaFaults([...at, "requestBody", "content", mediaType, "schema"], body)];
  }

  /** Of which parts there are; what is in them is bytes, which a schema does not describe. */
  private multipartFaults(content: Pointer, fields: readonly string[]): string[] {
    const at = [...content, "multipart/form-data", "schema"];
    return this.schemaFaults(at, Object.fromEntries(fields.map((name) => [name, "bytes"])));
  }

  private parameterFaults({ name, in: place, required, schema }: Parameter, at: Pointer, call: Call): string[] {
    const value = parametersOf(call)[place]?.[name];
    if (value === undefined) return required ? [`the ${place} parameter ${name} is missing`] : [];
    return this.schemaFaults(at, schema["type"] === "integer" ? Number(value) : value).map((fault) => `${name}: ${fault}`);
  }

  private schemaFaults(at: Pointer, value: unknown): string[] {
    const validate = this.ajv.compile({ $ref: `api#${at.map((part) => `/${encodeURIComponent(escaped(part))}`).join("")}` });
    return validate(value) ? [] : [this.ajv.errorsText(validate.errors)];
  }

  /** Objects of a schema that may hold members which it does not name, without saying so. */
  private openObjects(schema: unknown, name = "the body"): string[] {
    if (typeof schema !== "object" || schema === null) return [];
    const { $ref, properties, additionalProperties } = schema as Record<string, unknown>;
    if (typeof $ref === "string") return this.openObjects(this.at($ref.slice(2).split("/")), $ref);
    const isOpen = properties !== undefined && additionalProperties === undefined;
    return [...(isOpen ? [name] : []), ...Object.entries(schema).flatMap(([key, value]) => this.openObjects(value, `${name}.${key}`))];
  }

  /** What stands there, or what it refers to, and where that stands. */
  private resolve(pointer: Pointer): { readonly node: unknown; readonly pointer: Pointer } {
    const node = this.at(pointer);
    const { $ref } = node as { readonly $ref?: string };
    return $ref === undefined ? { node, pointer } : this.resolve($ref.slice(2).split("/"));
  }

  private at(pointer: Pointer): unknown {
    let node: unknown = this.document;
    for (const part of pointer) node = (node as Record<string, unknown>)[part];
    if (node === undefined) throw new Error(`the description has no ${pointer.join("/")}`);
    return node;
  }
}

type Pointer = readonly string[];

/** Without its parameters. */
function mediaTypeOf({ headers }: Reply): string {
  return headers.get("content-type")?.split(";")[0] ?? "";
}

function parametersOf({ params, query, headers }: Call) {
  return { path: params, query, header: headers };
}

function pointerOf({ path, method }: DescribedOperation): Pointer {
  return ["paths", path, method.toLowerCase()];
}

/** RFC 6901 §3. */
function escaped(part: string): string {
  return part.replaceAll("~", "~0").replaceAll("/", "~1");
}
