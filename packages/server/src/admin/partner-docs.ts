import { CLIENT_AUTH_METHODS, SUBJECT_TOKEN_ALGORITHMS } from "@cambist/protocol";
import { z } from "zod";
import type { RouteDocs } from "../http/route.ts";
import { secretSchema } from "./secret-view.ts";

/** What the API description says of the partner routes, and the form of their answers. */

const registeredKey = z.strictObject({
  kty: z.enum(["RSA", "EC", "OKP"]),
  kid: z.string().optional(),
  alg: z.enum(SUBJECT_TOKEN_ALGORITHMS),
  crv: z.enum(["P-256", "P-384", "Ed25519"]).optional(),
  x: z.string().optional(),
  y: z.string().optional(),
  n: z.string().optional(),
  e: z.string().optional(),
});
const partnerSchema = z
  .strictObject({
    client_id: z.string(),
    name: z.string(),
    status: z.enum(["active", "disabled"]),
    issuer: z.string(),
    audience: z.string(),
    jwks: z
      .strictObject({ keys: z.array(registeredKey) })
      .nullable()
      .describe("Public members only; null where the keys are behind jwks_uri."),
    jwks_uri: z.url().nullable(),
    subject_namespace: z.enum(["user_id", "external_user_id"]),
    replay: z.enum(["single_use", "reusable"]),
    assertion_lifetime_seconds_max: z.int(),
    clock_skew_seconds: z.int(),
    access_token_lifetime_seconds: z.int(),
    allowed_algorithms: z.array(z.enum(SUBJECT_TOKEN_ALGORITHMS)),
    allowed_grants: z.array(z.enum(["token-exchange", "client_credentials"])),
    allowed_scopes: z.array(z.string()),
    token_endpoint_auth_method: z.enum(CLIENT_AUTH_METHODS),
    provisioning: z.enum(["off", "create"]),
    home_workspace_id: z.uuid().nullable(),
    provisioning_hourly_max: z.int(),
    billing_features: z.array(z.string()).nullable(),
    rate_limits: z
      .strictObject({
        requests_per_minute: z.int(),
        burst: z.int().describe("How many may come at once after a rest."),
        streams: z
          .int()
          .optional()
          .describe("Streams of threads that may be open at once on each node; absent: as many as the server allows."),
      })
      .nullable()
      .describe("Over all nodes; null: the server's own."),
    allowed_origins: z.array(z.string()).describe("Web origins whose pages may call the threads API from a browser."),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: "Partner" });
const createdBody = z.strictObject({
  partner: partnerSchema,
  client_secret: z.string().nullable().describe("Shown here and never again; null for a partner that authenticates by private_key_jwt."),
  token_endpoint: z.url(),
});
const KEYS_HINT = "`jwks` is a JWK Set (RFC 7517 §5) in which each key can be used; `jwks_uri` is the https URL of one.";
const ABSENT = { description: "There is no such partner." };
const TAKEN = { description: "The issuer or the jwks_uri belongs to another partner." };

/** As {@link partnerSchema} says; a member that only one of the two has does not compile. */
export type PartnerView = z.output<typeof partnerSchema>;

export const PARTNER_DOCS = {
  create: {
    summary: "Create Partner",
    description: `The keys are given by exactly one of \`jwks\` and \`jwks_uri\`. ${KEYS_HINT}`,
    tag: "admin",
    answers: { 201: { description: "The partner, and its secret.", body: createdBody }, 409: TAKEN },
  },
  list: {
    summary: "List Partners",
    tag: "admin",
    answers: {
      200: {
        description: "A page of the list; `next_cursor` is the `cursor` of the next one, null at the end.",
        body: z.strictObject({ partners: z.array(partnerSchema), next_cursor: z.string().nullable() }),
      },
    },
  },
  get: {
    summary: "Get Partner",
    tag: "admin",
    answers: {
      200: {
        description: "The partner, and when each of its secrets was last used.",
        body: z.strictObject({ partner: partnerSchema.extend({ secrets: z.array(secretSchema) }) }),
      },
      404: ABSENT,
    },
  },
  update: {
    summary: "Update Partner",
    description: `What is left out does not change. ${KEYS_HINT}`,
    tag: "admin",
    answers: {
      200: { description: "The partner as it is now.", body: z.strictObject({ partner: partnerSchema }) },
      404: ABSENT,
      409: TAKEN,
    },
  },
} as const satisfies Record<string, RouteDocs>;
