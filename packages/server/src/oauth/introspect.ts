import {
  handleIntrospectionRequest,
  handleRevocationRequest,
  type IntrospectionPorts,
  type Refusal,
  type RevocationPorts,
  TOKEN_REQUEST_BYTES_MAX,
} from "@cambist/protocol";
import { z } from "zod";
import { type Answer, defineRoute, type RawRequest, type Route, type RouteDocs } from "../http/route.ts";
import type { Log } from "../telemetry/log.ts";
import { CLIENT_NOT_AUTHENTICATED, noteRefusal, oauthError, refusalAnswer, TURNED_AWAY, unreadRefusal } from "./refusal-answer.ts";

export interface TokenStatusDeps {
  readonly introspection: IntrospectionPorts;
  readonly revocation: RevocationPorts;
  readonly issuer: string;
  readonly log: Log;
}

const tokenForm = z.object({
  token: z.string(),
  token_type_hint: z.string().optional().describe("Not needed; any value is taken."),
  client_id: z.string().optional(),
  client_secret: z.string().optional().describe("With `client_id`, where the client authenticates by its secret and not by HTTP Basic."),
  client_assertion_type: z.literal("urn:ietf:params:oauth:client-assertion-type:jwt-bearer").optional(),
  client_assertion: z.string().optional().describe("With its type, where the client authenticates by private_key_jwt (RFC 7523)."),
});

const inactive = z.strictObject({ active: z.literal(false) });
const active = z.strictObject({
  active: z.literal(true),
  iss: z.string(),
  sub: z.string().describe("The user's id, or the client id where it is the partner itself."),
  aud: z.string(),
  client_id: z.string(),
  scope: z.string(),
  token_type: z.literal("Bearer"),
  exp: z.int(),
  iat: z.int(),
  jti: z.string(),
  org_id: z.string().optional().describe("Of a user's token."),
  workspace_id: z.string().optional().describe("Of a user's token."),
  partner_kids: z.array(z.string()).optional().describe("The partner's keys that brought it about."),
  entitlements: z
    .array(z.strictObject({ billing_feature_id: z.string() }))
    .optional()
    .describe("Of a user's token: what the user, its workspace and its organization hold together."),
});

const REFUSED: RouteDocs["answers"] = {
  400: oauthError("The request is malformed."),
  401: CLIENT_NOT_AUTHENTICATED,
  413: oauthError(`The body is over ${TOKEN_REQUEST_BYTES_MAX} bytes.`),
  429: TURNED_AWAY,
  500: oauthError("The server failed."),
  503: oauthError("The store, or the URL of the partner's keys, does not answer.", { retry: true }),
};

const INTROSPECT_DOCS: RouteDocs = {
  summary: "Introspect Token",
  description:
    "RFC 7662. A partner asks about its own tokens, an API of the operator about those that are for it; of any other, `active` is false.",
  tag: "token",
  form: tokenForm,
  answers: {
    200: { description: "Whether the token works at this moment, and what it is for.", body: z.union([active, inactive]) },
    ...REFUSED,
  },
};

const REVOKE_DOCS: RouteDocs = {
  summary: "Revoke Token",
  description: "RFC 7009. A partner revokes its own tokens; of any other, or an unknown one, nothing happens.",
  tag: "token",
  form: tokenForm,
  answers: { 200: { description: "The token does not work any more, if it was the caller's.", body: z.strictObject({}) }, ...REFUSED },
};

/** Token introspection (RFC 7662) and revocation (RFC 7009), for JWT and opaque tokens alike. */
export function tokenStatusRoutes({ introspection, revocation, issuer, log }: TokenStatusDeps): Route[] {
  const refused = (refusal: Refusal, raw: RawRequest): Answer => {
    noteRefusal(log, "token request refused", refusal, { raw });
    return refusalAnswer(refusal, raw, issuer);
  };
  const endpoint = (work: (raw: RawRequest) => Promise<Answer>): Required<Pick<Route, "handle" | "refuseUnread">> => ({
    async handle({ raw }) {
      try {
        return await work(raw);
      } catch (thrown) {
        log.error("token request failed", { trace_id: raw.traceId, error: thrown });
        return refused({ code: "server_error" }, raw);
      }
    },
    refuseUnread: (raw, why) => Promise.resolve(refused(unreadRefusal(why), raw)),
  });
  const common = { method: "POST", auth: { kind: "oauth_client" }, bodyBytesMax: TOKEN_REQUEST_BYTES_MAX } as const;
  return [
    defineRoute({
      operationId: "introspectToken",
      path: "/oauth2/introspect",
      docs: INTROSPECT_DOCS,
      ...common,
      ...endpoint(async (raw) => {
        const result = await handleIntrospectionRequest(raw, introspection);
        return result.ok ? { status: 200, body: result.value } : refused(result.fault, raw);
      }),
    }),
    defineRoute({
      operationId: "revokeToken",
      path: "/oauth2/revoke",
      docs: REVOKE_DOCS,
      ...common,
      ...endpoint(async (raw) => {
        const result = await handleRevocationRequest(raw, revocation);
        return result.ok ? { status: 200, body: {} } : refused(result.fault, raw);
      }),
    }),
  ];
}
