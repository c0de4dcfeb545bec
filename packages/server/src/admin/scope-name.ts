import { z } from "zod";

const CHARACTERS_MAX = 100;

/** RFC 6749 §3.3. */
const SCOPE_TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

/** What a scope may be called. The two names that are steps in a path would lead elsewhere as part of a URL (RFC 3986 §5.2.4). */
export const scopeName = z
  .string()
  .max(CHARACTERS_MAX, `is over ${CHARACTERS_MAX} characters`)
  .regex(SCOPE_TOKEN, 'is not a scope (RFC 6749 §3.3): visible ASCII characters but " and \\')
  .refine((name) => name !== "." && name !== "..", "must not be . or ..");
