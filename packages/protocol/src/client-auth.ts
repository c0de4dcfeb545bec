import { CLIENT_ASSERTION_TYPE } from "./constants.ts";
import { type Form, decodeFormComponent, requireParameter } from "./form.ts";
import { decodeBase64url } from "./jwt/base64url.ts";
import { decodeUtf8 } from "./jwt/utf8.ts";
import type { AssertionRefusal, ClientRefusal, RequestRefusal } from "./refusals.ts";
import { fail, ok, type Result } from "./result.ts";

/** `clientId` beside an assertion is optional, and must be the one that the assertion is for (RFC 7521 §4.2). */
export type ClientCredentials =
  | { readonly method: "client_secret"; readonly clientId: string; readonly secret: string }
  | { readonly method: "private_key_jwt"; readonly clientId: string | undefined; readonly assertion: string };

/**
 * Who says it is calling, and by what: `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1), or `private_key_jwt`
 * (RFC 7523 §2.2), exactly one of them.
 * A second mechanism is refused and never ignored: ignoring it let a caller through with the weaker of the two (CVE-2026-16093).
 * Does NOT check that the client exists, that the secret is right, or anything of the assertion.
 */
export function parseClientCredentials(
  authorization: readonly string[],
  form: Form,
): Result<ClientCredentials, RequestRefusal | ClientRefusal | AssertionRefusal> {
  if (authorization.length > 1) return fail({ code: "authorization_repeated" });
  const [header] = authorization;
  const secret = form.get("client_secret");
  const hasAssertion = form.has("client_assertion") || form.has("client_assertion_type");
  if (Number(header !== undefined) + Number(secret !== undefined) + Number(hasAssertion) > 1) {
    return fail({ code: "client_authentication_multiple" });
  }
  if (hasAssertion) return readAssertion(form);
  if (header !== undefined) return parseBasic(header, form.get("client_id"));
  const clientId = form.get("client_id");
  if (secret === undefined) return missing({ client_id: clientId, client_secret: secret });
  if (clientId === undefined) return fail({ code: "parameter_missing", parameter: "client_id" });
  return ok({ method: "client_secret", clientId, secret });
}

function readAssertion(form: Form): Result<ClientCredentials, RequestRefusal | AssertionRefusal> {
  const type = requireParameter(form, "client_assertion_type");
  if (!type.ok) return type;
  if (type.value !== CLIENT_ASSERTION_TYPE) return fail({ code: "client_assertion_type_unsupported", got: type.value });
  const assertion = requireParameter(form, "client_assertion");
  if (!assertion.ok) return assertion;
  return ok({ method: "private_key_jwt", clientId: form.get("client_id"), assertion: assertion.value });
}

/** RFC 7617 §2 around RFC 6749 §2.3.1: both halves are form-encoded before they are joined and encoded. The scheme has any letter case. */
function parseBasic(header: string, bodyClientId: string | undefined): Result<ClientCredentials, ClientRefusal> {
  const space = header.indexOf(" ");
  const scheme = space < 0 ? header : header.slice(0, space);
  if (scheme.toLowerCase() !== "basic") return fail({ code: "client_authentication_unsupported", method: nameOfScheme(header) });
  const pair = space < 0 ? undefined : decodeBase64(header.slice(space + 1).trim());
  const colon = pair?.indexOf(":") ?? -1;
  if (pair === undefined || colon < 0) return fail({ code: "client_not_authenticated", cause: "malformed" });
  const clientId = decodeFormComponent(pair.slice(0, colon));
  const secret = decodeFormComponent(pair.slice(colon + 1));
  if (clientId === undefined || secret === undefined) return fail({ code: "client_not_authenticated", cause: "malformed" });
  if (clientId === "" || secret === "") return missing({ client_id: clientId, client_secret: secret });
  if (bodyClientId !== undefined && bodyClientId !== clientId) return fail({ code: "client_id_mismatch" });
  return ok({ method: "client_secret", clientId, secret });
}

/** What is empty is missing (RFC 6749 §3.2). */
function missing(given: Readonly<Record<"client_id" | "client_secret", string | undefined>>): Result<never, ClientRefusal> {
  const names = (["client_id", "client_secret"] as const).filter((name) => (given[name] ?? "") === "");
  return fail({ code: "client_authentication_missing", missing: names });
}

/** The scheme's name, to be shown. What has no name in front of its credentials is the credentials: it is not shown. */
function nameOfScheme(header: string): string {
  return /^([A-Za-z][A-Za-z0-9-]{0,19}) /.exec(header)?.[1] ?? "an unnamed scheme";
}

function decodeBase64(text: string): string | undefined {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  if (text.length % 4 !== 0 || /[-_]/.test(text)) return undefined;
  const unpadded = text.slice(0, text.length - padding);
  const bytes = decodeBase64url(unpadded.replaceAll("+", "-").replaceAll("/", "_"));
  return bytes === undefined ? undefined : decodeUtf8(bytes);
}
