import { handleTokenRequest, TOKEN_REQUEST_BYTES_MAX } from "@cambist/protocol";
import { z } from "zod";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import { CLIENT_NOT_AUTHENTICATED, oauthError, PRAGMA, refusalAnswer } from "./refusal-answer.ts";
import { answering, type TokenRouteDeps } from "./token-answers.ts";

const tokenForm = z.object({
  grant_type: z.enum(["urn:ietf:params:oauth:grant-type:token-exchange", "client_credentials"]),
  subject_token: z
    .string()
    .optional()
    .describe("Of a token exchange: the JWT that the partner signed, for one of its users or, with its client id as `sub`, for itself."),
  subject_token_type: z.literal("urn:ietf:params:oauth:token-type:jwt").optional().describe("With `subject_token`."),
  scope: z.string().optional().describe("Separated by spaces. Left out: everything that this principal may have."),
  requested_token_type: z.literal("urn:ietf:params:oauth:token-type:access_token").optional(),
  audience: z.string().optional().describe("The resource identifier of the API; left out, the scopes say which. Not beside `resource`."),
  resource: z.string().optional().describe("The resource identifier of the API; left out, the scopes say which. Not beside `audience`."),
  client_id: z.string().optional(),
  client_secret: z.string().optional().describe("With `client_id`, where the client authenticates by its secret and not by HTTP Basic."),
  client_assertion_type: z.literal("urn:ietf:params:oauth:client-assertion-type:jwt-bearer").optional(),
  client_assertion: z.string().optional().describe("With its type, where the client authenticates by private_key_jwt (RFC 7523)."),
});

const tokenBody = z.strictObject({
  access_token: z.string().describe("A JWT (RFC 9068)."),
  issued_token_type: z.literal("urn:ietf:params:oauth:token-type:access_token").optional().describe("Of a token exchange."),
  token_type: z.literal("Bearer"),
  expires_in: z.int().describe("Seconds."),
  scope: z.string(),
});

const TOKEN_DOCS: RouteDocs = {
  summary: "Exchange Token",
  description:
    "Token exchange (RFC 8693): a JWT of the partner in, an access token out. Client credentials (RFC 6749 §4.4): a token for the partner itself. No parameter twice; unknown ones are ignored.",
  tag: "token",
  form: tokenForm,
  answers: {
    200: { description: "An access token. There is never a refresh token.", body: tokenBody },
    400: oauthError("The request, the subject token, the grant, the scope or the target is refused."),
    401: CLIENT_NOT_AUTHENTICATED,
    413: oauthError(`The body is over ${TOKEN_REQUEST_BYTES_MAX} bytes.`),
    429: oauthError(
      "The partner's limit is used up, or there were too many wrong secrets from this address; or the subject is not a user yet, and the users that exchanges may make in an hour are made.",
      { retry: true },
    ),
    500: oauthError("The server failed."),
    503: oauthError("The store, or the URL of the partner's keys, does not answer.", { retry: true }),
  },
};

/** The token endpoint (RFC 6749 §3.2, RFC 8693 §2): HTTP around {@link handleTokenRequest}, which decides everything. */
export function tokenRoutes(deps: TokenRouteDeps): Route[] {
  return [
    defineRoute({
      operationId: "exchangeToken",
      method: "POST",
      path: "/oauth2/token",
      auth: { kind: "oauth_client" },
      docs: TOKEN_DOCS,
      bodyBytesMax: TOKEN_REQUEST_BYTES_MAX,
      ...answering(deps, {
        handle: handleTokenRequest,
        granted: (body) => ({ status: 200, headers: PRAGMA, body }),
        refused: (refusal, raw) => refusalAnswer(refusal, raw, deps.ports.issuer),
      }),
    }),
  ];
}
