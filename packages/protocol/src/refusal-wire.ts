import { CLIENT_FORMS } from "./refusal-forms/client.ts";
import { REQUEST_FORMS } from "./refusal-forms/request.ts";
import { SUBJECT_TOKEN_FORMS } from "./refusal-forms/subject-token.ts";
import type { OAuthError, RefusalForm, WireForms } from "./refusal-forms/form.ts";
import type { Refusal, RefusalCode } from "./refusals.ts";

export interface WireError {
  readonly status: RefusalForm<never>["status"];
  readonly error: OAuthError;
  /** Only %x20-21 / %x23-5B / %x5D-7E (RFC 6749 §5.2). */
  readonly description: string;
}

/** A refusal without a wire form and a docs page does not compile; a form without a refusal does not either. */
const FORMS: WireForms<Refusal> = { ...REQUEST_FORMS, ...CLIENT_FORMS, ...SUBJECT_TOKEN_FORMS };

export const REFUSAL_CODES = Object.keys(FORMS) as readonly RefusalCode[];

/** The one place where a refusal becomes a status, an OAuth error and a description. */
export function refusalToWire(refusal: Refusal): WireError {
  const form = FORMS[refusal.code] as RefusalForm<Refusal>;
  return { status: form.status, error: form.error, description: descriptionText(form.describe(refusal)) };
}

/** What the docs say behind `error_uri`: what the refusal means, and what to do. */
export function refusalPage(code: RefusalCode): { readonly title: string; readonly meaning: string; readonly remedy: string } {
  return FORMS[code];
}

const DESCRIPTION_CHARACTERS_MAX = 500;

/** Quotes and backslashes become apostrophes and slashes, anything else outside the grammar a question mark: nothing that came with a request can forge a header, a log line or markup. */
function descriptionText(text: string): string {
  return text
    .replaceAll('"', "'")
    .replaceAll("\\", "/")
    .replaceAll(/[^\x20-\x7e]/gu, "?")
    .slice(0, DESCRIPTION_CHARACTERS_MAX);
}
