import { FORM_PARAMETERS_MAX } from "./constants.ts";
import type { GrantRefusal, RequestRefusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";

/** The parameters of a token request. A parameter without a value is not there (RFC 6749 §3.2). */
export type Form = ReadonlyMap<string, string>;

/**
 * Only the media type itself and charset=UTF-8. Stricter than the grammar of RFC 9110 §8.3.1, on purpose: what is odd here is an
 * attempt to have one layer parse the body and another skip its checks (CVE-2025-32442 and its kin).
 */
const MEDIA_TYPE = /^application\/x-www-form-urlencoded(?:; ?charset=(?:utf-8|"utf-8"))?$/i;

/** RFC 8693 §2.1 lets these two repeat, so a second one is a target that is not offered, and no malformed request. */
const TARGETS = new Set(["audience", "resource"]);

/**
 * Media type → decoding → repeated names. `body` holds one character per byte (latin1).
 * Does NOT know which parameters a grant needs; unknown ones are kept, and ignored by whoever reads (RFC 6749 §3.2).
 */
export function parseForm(mediaType: string | undefined, body: string): Result<Form, RequestRefusal | GrantRefusal> {
  if (mediaType === undefined || !MEDIA_TYPE.test(mediaType)) return fail({ code: "media_type_unsupported", got: mediaType });
  const form = new Map<string, string>();
  const named = new Set<string>();
  let start = 0;
  for (let count = 0; start < body.length; count++) {
    if (count >= FORM_PARAMETERS_MAX) return fail({ code: "parameters_too_many", countMax: FORM_PARAMETERS_MAX });
    const ampersand = body.indexOf("&", start);
    const end = ampersand < 0 ? body.length : ampersand;
    const pair = body.slice(start, end);
    start = end + 1;
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const name = decodeFormComponent(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? "" : decodeFormComponent(pair.slice(equals + 1));
    if (name === undefined || value === undefined) return fail({ code: "form_malformed" });
    if (named.has(name)) return fail(TARGETS.has(name) ? { code: "target_repeated" } : { code: "parameter_repeated", parameter: name });
    named.add(name);
    if (value !== "") form.set(name, value);
  }
  return ok(form);
}

const OUTSIDE_ASCII = /[^\x00-\x7f]/;

/** RFC 6749 appendix B: `+` is a space, percent-escapes are strict UTF-8; undefined for anything else. */
export function decodeFormComponent(text: string): string | undefined {
  if (OUTSIDE_ASCII.test(text)) return undefined;
  const spaced = text.includes("+") ? text.replaceAll("+", " ") : text;
  if (!spaced.includes("%")) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    return undefined;
  }
}

/** The value of a required parameter. */
export function requireParameter(form: Form, parameter: string): Result<string, RequestRefusal> {
  const value = form.get(parameter);
  return value === undefined ? fail({ code: "parameter_missing", parameter }) : ok(value);
}
