import { redact } from "../redact.ts";

/** RFC 6749 §5.2; RFC 8693 §2.2.2 and RFC 8707 §2 (`invalid_target`); RFC 9449 §5; RFC 8628 §3.5 (`slow_down`); `temporarily_unavailable` as RFC 6749 §4.1.2.1 names it. */
export type OAuthError =
  | "invalid_request"
  | "invalid_client"
  | "unauthorized_client"
  | "unsupported_grant_type"
  | "invalid_scope"
  | "invalid_target"
  | "invalid_dpop_proof"
  | "slow_down"
  | "temporarily_unavailable"
  | "server_error";

/** How one refusal reads on the wire (status, error, describe) and in the docs (title, meaning, remedy). */
export interface RefusalForm<R> {
  readonly status: 400 | 401 | 405 | 413 | 429 | 500 | 503;
  readonly error: OAuthError;
  describe(refusal: R): string;
  readonly title: string;
  readonly meaning: string;
  readonly remedy: string;
}

/** One form for each code of the union, no more and no fewer. */
export type WireForms<U extends { readonly code: string }> = {
  readonly [C in U["code"]]: RefusalForm<Extract<U, { readonly code: C }>>;
};

const SHOWN_CHARACTERS_MAX = 80;

/** A value that came with the request, cut so that it cannot drown the sentence around it. */
export function shown(value: string | undefined): string {
  if (value === undefined || value === "") return "empty";
  const safe = redact(value); // before the cut, which could leave most of a secret
  return `'${safe.length > SHOWN_CHARACTERS_MAX ? `${safe.slice(0, SHOWN_CHARACTERS_MAX)}...` : safe}'`;
}
