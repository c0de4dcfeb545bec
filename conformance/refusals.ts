import type { RefusalCode } from "../packages/protocol/src/index.ts";
import { ISSUER } from "../packages/server/src/testing/server.ts";

/**
 * What a refusal of the token endpoint looks like, to be matched: the OAuth error that the RFC asks for and, by the page behind
 * `error_uri`, that it was refused for this cause and not for another.
 */
interface Expected {
  readonly status: number;
  readonly error: string;
}

const INVALID_REQUEST: Expected = { status: 400, error: "invalid_request" };
export const INVALID_CLIENT: Expected = { status: 401, error: "invalid_client" };
export const INVALID_SCOPE: Expected = { status: 400, error: "invalid_scope" };
export const INVALID_TARGET: Expected = { status: 400, error: "invalid_target" };

/** As a reply to a raw request. */
export function replyOf(code: RefusalCode, { status, error }: Expected = INVALID_REQUEST) {
  return { status, json: { error, error_uri: pageOf(code) } };
}

/** As oauth4webapi throws it. */
export function refusalOf(code: RefusalCode, { status, error }: Expected = INVALID_REQUEST) {
  return { status, error, cause: { error, error_uri: pageOf(code) } };
}

function pageOf(code: RefusalCode): string {
  return `${ISSUER}/docs/errors/${code}`;
}
