import { z } from "zod";

/** A JSON Schema of the dialect that OpenAPI 3.1 has by default (draft 2020-12). */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** What a request may hold (a field with a default may be left out), or what an answer holds. */
export type Direction = "input" | "output";

/**
 * Schemas of the routes as JSON Schema. One with an id (`.meta({ id })`) is described once, under its name.
 * Does NOT say what only code checks (`refine`, `transform`): that stands in the route's description.
 */
export class SchemaCollector {
  readonly named = new Map<string, JsonSchema>();

  /** @throws where two schemas have one id: a description that says either would be wrong. */
  describe(schema: z.ZodType, direction: Direction): JsonSchema {
    const json: Record<string, unknown> = z.toJSONSchema(schema, {
      io: direction,
      target: "draft-2020-12",
      unrepresentable: "any",
      override: ({ zodSchema, jsonSchema }) => simplify(jsonSchema, zodSchema instanceof z.ZodUndefined),
    });
    const { $schema: _dialect, $defs = {}, ...described } = moveReferences(json) as Record<string, unknown>;
    for (const [name, definition] of Object.entries($defs as Record<string, JsonSchema>)) this.add(name, definition);
    return described;
  }

  private add(name: string, definition: JsonSchema): void {
    const known = this.named.get(name);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(definition)) throw new Error(`two schemas are named ${name}`);
    this.named.set(name, definition);
  }
}

/** Takes away what tells a reader nothing: the bounds of a JavaScript integer, the grammar behind a format, a field that nobody may send. */
function simplify(json: Record<string, unknown>, isNothing: boolean): void {
  if (json["minimum"] === Number.MIN_SAFE_INTEGER) delete json["minimum"];
  if (json["maximum"] === Number.MAX_SAFE_INTEGER) delete json["maximum"];
  if (json["format"] === "date-time" || json["format"] === "uuid") delete json["pattern"];
  if (isNothing) json["not"] = {};
  const { properties } = json as { properties?: Record<string, { readonly not?: unknown }> };
  for (const [name, property] of Object.entries(properties ?? {})) if (property.not !== undefined) delete properties?.[name];
}

function moveReferences(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(moveReferences);
  if (typeof node !== "object" || node === null) return node;
  return Object.fromEntries(
    Object.entries(node).map(([key, value]) => [
      key,
      key === "$ref" && typeof value === "string" ? value.replace("#/$defs/", "#/components/schemas/") : moveReferences(value),
    ]),
  );
}
