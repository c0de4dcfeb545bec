import {
  handleOpaqueTokenRequest,
  OPAQUE_TOKEN_LIFETIME_SECONDS,
  type Refusal,
  refusalToWire,
  TOKEN_REQUEST_BYTES_MAX,
} from "@cambist/protocol";
import { z } from "zod";
import { envelopeAnswer, envelopeErrorBody } from "../http/envelope.ts";
import { type Answer, type AnswerDocs, defineRoute, type RawRequest, type Route, type RouteDocs } from "../http/route.ts";
import { BASIC_CHALLENGE, PRAGMA } from "./refusal-answer.ts";
import { answering, type TokenRouteDeps } from "./token-answers.ts";

const form = z.object({
  client_id: z.string(),
  client_secret: z.string(),
  grant_type: z.literal("client_credentials").optional(),
  scope: z.string().optional().describe("Separated by spaces. Left out: everything that the partner itself may have."),
});

const tokenBody = z.strictObject({
  data: z.strictObject({
    access_token: z
      .string()
      .regex(/^sk-[0-9a-f]{32}$/)
      .describe("Opaque."),
    token_type: z.literal("Bearer"),
    expires_in: z.literal(OPAQUE_TOKEN_LIFETIME_SECONDS),
  }),
});

const refusedWith = (description: string, headers?: AnswerDocs["headers"]): AnswerDocs => ({
  description,
  body: envelopeErrorBody,
  ...(headers === undefined ? {} : { headers }),
});
const RETRY_AFTER = { "Retry-After": "Seconds until it is worth trying again." };

const DOCS: RouteDocs = {
  summary: "Create Token",
  description: "Client credentials in the second published form: an opaque token for the partner itself, in an envelope.",
  tag: "token",
  form,
  answers: {
    200: { description: "An opaque access token.", body: tokenBody },
    400: refusedWith("A parameter is missing or invalid; `error_trace` says which and why."),
    401: refusedWith("The client is not authenticated.", { "WWW-Authenticate": "Where the request had an Authorization header." }),
    403: refusedWith("The partner is not allowed client credentials."),
    413: refusedWith(`The body is over ${TOKEN_REQUEST_BYTES_MAX} bytes.`),
    415: refusedWith("The body is not a form."),
    500: refusedWith("The server failed."),
    503: refusedWith("The store does not answer.", RETRY_AFTER),
  },
};

/** The second published token endpoint (contract §3): the same rules as at the first one, and other words. */
export function v1AuthTokenRoutes(deps: TokenRouteDeps): Route[] {
  return [
    defineRoute({
      operationId: "createOpaqueToken",
      method: "POST",
      path: "/v1/auth/token",
      auth: { kind: "oauth_client" },
      docs: DOCS,
      bodyBytesMax: TOKEN_REQUEST_BYTES_MAX,
      ...answering(deps, {
        handle: handleOpaqueTokenRequest,
        granted: (data) => ({ status: 200, headers: PRAGMA, body: { data } }),
        refused: refusedAnswer,
      }),
    }),
  ];
}

function refusedAnswer(refusal: Refusal, raw: RawRequest): Answer {
  const headers = {
    ...PRAGMA,
    ...(refusalToWire(refusal).status === 401 && raw.authorization.length > 0 ? { "www-authenticate": BASIC_CHALLENGE } : {}),
    ...("retryAfterSeconds" in refusal ? { "retry-after": String(refusal.retryAfterSeconds) } : {}),
  };
  return envelopeAnswer(statusOf(refusal), headers, errorTrace(refusal));
}

/** Where the two published endpoints differ. */
function statusOf(refusal: Refusal): number {
  switch (refusal.code) {
    case "client_authentication_missing":
      return 400;
    case "grant_not_allowed":
      return 403;
    case "media_type_unsupported":
      return 415;
    default:
      return refusalToWire(refusal).status;
  }
}

/** Which field a refusal is about, if it is about one. */
function errorTrace(refusal: Refusal): Record<string, string> {
  const { error, description } = refusalToWire(refusal);
  switch (refusal.code) {
    case "client_authentication_missing":
      return { client_id: "is missing", client_secret: "is missing" };
    case "parameter_missing":
      return { [refusal.parameter]: "is missing" };
    case "parameter_repeated":
      return { [shownName(refusal.parameter)]: description };
    case "grant_type_unsupported":
      return { grant_type: "must be client_credentials, or left out" };
    case "target_unknown":
      return { [refusal.parameter]: description };
    default:
      return error === "invalid_scope" ? { scope: description } : {};
  }
}

const NAME_CHARACTERS_MAX = 80;

function shownName(name: string): string {
  return name.replaceAll(/[^\x20-\x7e]/gu, "?").slice(0, NAME_CHARACTERS_MAX);
}
