import { decodeUtf8, parseForm, parseStrictJson } from "@cambist/protocol";
import type { z } from "zod";
import { type FieldError, Problem } from "./problem.ts";
import type { RawRequest, Route } from "./route.ts";

/** As strict as the form's: an odd spelling of a media type is an attempt to slip by a check (CVE-2025-32442 and its kin). */
const JSON_MEDIA_TYPE = /^application\/json(?:; ?charset="?utf-8"?)?$/i;

const FORM_MEDIA_TYPE = /^application\/x-www-form-urlencoded/i;

/** @throws Problem 415 or 400. */
export function parseBody(route: Pick<Route, "takesForm">, raw: RawRequest): unknown {
  return route.takesForm && FORM_MEDIA_TYPE.test(raw.mediaType ?? "") ? parseFormBody(raw) : parseJsonBody(raw);
}

/** A name that ends in `[]` is a list. */
function parseFormBody(raw: RawRequest): Readonly<Record<string, string | readonly string[]>> {
  const form = parseForm(raw.mediaType, raw.body);
  if (!form.ok) throw new Problem(400, "The form is malformed, or names a field twice.");
  return Object.fromEntries([...form.value].map(([name, value]) => (name.endsWith("[]") ? [name.slice(0, -2), [value]] : [name, value])));
}

/** @throws Problem 415 or 400. */
function parseJsonBody(raw: RawRequest): unknown {
  if (!JSON_MEDIA_TYPE.test(raw.mediaType ?? "")) throw new Problem(415, "Send the body as Content-Type: application/json.");
  const text = decodeUtf8(Buffer.from(raw.body, "latin1"));
  if (text === undefined) throw new Problem(400, "The body is not UTF-8.");
  const parsed = parseStrictJson(text);
  if (parsed.ok) return parsed.value;
  switch (parsed.fault.code) {
    case "syntax":
      throw new Problem(400, `The body is not JSON (at character ${parsed.fault.at}).`);
    case "name_repeated":
      throw new Problem(400, `The body has the name ${JSON.stringify(parsed.fault.name.slice(0, 80))} twice in one object.`);
    case "too_deep":
      throw new Problem(400, "The body is nested too deep.");
    case "number_not_finite":
      throw new Problem(400, "The body has a number that is not finite.");
    case "lone_surrogate":
      throw new Problem(400, "The body has half a surrogate pair.");
  }
}

/** Query and path parameters and the body by the route's schemas. @throws Problem 422 that names each field. */
export function validateInput(route: Route, input: { body: unknown; query: unknown; params: unknown }): typeof input {
  return {
    body: route.schemas.body ? validate(route.schemas.body, input.body, "body") : undefined,
    query: route.schemas.query ? validate(route.schemas.query, input.query, "query") : undefined,
    params: route.schemas.params ? validate(route.schemas.params, input.params, "path") : undefined,
  };
}

const FIELDS_SHOWN_MAX = 20;

function validate(schema: z.ZodType, value: unknown, place: "body" | "query" | "path"): unknown {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const fields = result.error.issues.flatMap((issue): FieldError[] => {
    const at = issue.path.map(String);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        field: [...at, key.slice(0, 80)].join("."),
        message: "is not a known field",
        place,
        type: "unknown_field",
      }));
    }
    const isMissing = issue.message.endsWith("received undefined");
    return [{ field: at.join("."), message: isMissing ? "is missing" : issue.message, place, type: isMissing ? "missing" : issue.code }];
  });
  const [first] = fields;
  const detail = first === undefined ? "The request is not valid." : `${first.field === "" ? "body" : first.field}: ${first.message}`;
  throw new Problem(422, detail, { fields: fields.slice(0, FIELDS_SHOWN_MAX) });
}
