import { CLIENT_SECRET_PREFIX } from "./constants.ts";

const SECRET = new RegExp(`${CLIENT_SECRET_PREFIX}[A-Za-z0-9_-]+`, "g");
/** An opaque access token, also one with a character more or less. */
const OPAQUE = /(?<![A-Za-z0-9_-])sk-[0-9A-Fa-f]{16,}/g;
/**
 * `ey` is how base64url of `{"` begins: a JWS or JWE in compact form. It begins where no character of base64url stands before it, so that
 * a long text of `-ey-ey…` is looked at once and not once for each of them.
 */
const TOKEN = /(?<![A-Za-z0-9_-])ey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*/g;

/**
 * Takes secrets and tokens out of a text that is about to be logged, recorded or said: a developer who mixes up two parameters must not
 * find the secret in our log. Does NOT recognise a secret of somebody else's making.
 */
export function redact(text: string): string {
  return text
    .replaceAll(SECRET, `${CLIENT_SECRET_PREFIX}(redacted)`)
    .replaceAll(TOKEN, "(token redacted)")
    .replaceAll(OPAQUE, "(token redacted)");
}
