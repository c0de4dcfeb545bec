import type { AssertionRefusal, ClientRefusal } from "../refusals.ts";
import { shown, type WireForms } from "./form.ts";
import { SUBJECT_TOKEN_FORMS } from "./subject-token.ts";

/** Refusals of the client and of the way in which it authenticates. */
export const CLIENT_FORMS: WireForms<ClientRefusal | AssertionRefusal> = {
  client_authentication_missing: {
    status: 401,
    error: "invalid_client",
    describe: () => "No client authentication; send client_id and client_secret, in the body or by HTTP Basic, or a client_assertion.",
    title: "No client authentication",
    meaning: "Only a partner's backend may exchange, and this request did not say which partner, or did not prove it.",
    remedy:
      "Send client_id and client_secret in the body or by HTTP Basic (RFC 6749 §2.3.1), or a client_assertion where the partner is set to private_key_jwt (RFC 7523 §2.2).",
  },
  client_authentication_multiple: {
    status: 400,
    error: "invalid_request",
    describe: () => "The request authenticates the client in more than one way; use exactly one.",
    title: "Two ways of client authentication",
    meaning: "RFC 6749 §2.3: a client must not use more than one way to authenticate in one request.",
    remedy: "Keep either the Authorization header or client_secret in the body, and no client_assertion beside it.",
  },
  client_authentication_unsupported: {
    status: 401,
    error: "invalid_client",
    describe: (refusal) =>
      `Client authentication by ${shown(refusal.method)} is not offered here; use client_secret in the body or HTTP Basic, or client_assertion.`,
    title: "Unknown client authentication",
    meaning: "The way in which the client tried to authenticate is not one that this server lists in its metadata.",
    remedy: "Use client_secret in the body or HTTP Basic, or a client_assertion where the partner is set to private_key_jwt.",
  },
  client_id_mismatch: {
    status: 400,
    error: "invalid_request",
    describe: () => "client_id in the body differs from the one in the Authorization header or the client_assertion.",
    title: "Two client ids",
    meaning: "The body names another client than the Authorization header or the client_assertion does.",
    remedy: "Leave client_id out of the body when you use HTTP Basic or a client_assertion.",
  },
  client_not_authenticated: {
    status: 401,
    error: "invalid_client",
    describe: () =>
      "The client could not be authenticated: check client_id and client_secret (or the key that signed the client_assertion), and that the partner is active and set to this way of authentication.",
    title: "The client could not be authenticated",
    meaning:
      "The client id is unknown, the secret is wrong, no key of the client verifies the assertion, the partner authenticates in another way, or it is disabled. The answer is the same for all of them, on purpose.",
    remedy:
      "Check both values for a missing or added character. With HTTP Basic, form-encode each before base64 (RFC 6749 §2.3.1). With a client_assertion, check that sub is your client id, and that kid and the key are those of your JWKS. The operator can see which it was in the recorded exchange, by its trace_id.",
  },
  wrong_secrets_too_many: {
    status: 429,
    error: "slow_down",
    describe: ({ retryAfterSeconds }) =>
      `Too many wrong secrets for this client_id from this address; try again in ${retryAfterSeconds} s, with the right one.`,
    title: "Too many wrong secrets",
    meaning:
      "Wrong secrets are counted for each client id and address. Beyond a few at once and a few in a minute, that pair is refused before its secret is looked at, so that nobody can guess. The client is served from every other address.",
    remedy:
      "Stop whatever sends the wrong secret, a job with an old one for instance; after Retry-After seconds the right one is taken from this address too. Each further wrong one makes it longer.",
  },
  rate_limited: {
    status: 429,
    error: "slow_down",
    describe: ({ requestsPerMinute, retryAfterSeconds }) =>
      `The client has used up its ${requestsPerMinute} requests in a minute; try again in ${retryAfterSeconds} s.`,
    title: "Too many requests",
    meaning:
      "The partner has a limit for all that it and its users send, over all of the server's nodes. It is used up. The headers RateLimit-Policy and RateLimit of each answer say what the limit is and how much of it is left. No token was issued, and nothing was spent: the same subject token can be sent again.",
    remedy:
      "Wait Retry-After seconds. Keep access tokens until shortly before they expire, instead of exchanging for each request. Ask the operator for higher rate_limits if that is not enough.",
  },
  client_assertion_type_unsupported: {
    status: 400,
    error: "invalid_request",
    describe: (refusal) =>
      `client_assertion_type ${shown(refusal.got)} is not offered; send urn:ietf:params:oauth:client-assertion-type:jwt-bearer.`,
    title: "Unknown client assertion type",
    meaning: "A client can authenticate with a JWT that it signed (RFC 7523 §2.2), and with no other kind of assertion.",
    remedy: "Send client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer.",
  },
  client_assertion_invalid: {
    status: 401,
    error: "invalid_client",
    describe: (refusal) => `Client assertion: ${assertionSentence(refusal)}`,
    title: "The client assertion is not acceptable",
    meaning:
      "A client assertion (RFC 7523 §3) is a signed JWT with typ client-authentication+jwt, whose iss and sub are the client id and whose aud is this server's issuer and nothing else, with exp and iat.",
    remedy:
      "Correct what the description names. The token endpoint's URL is not accepted as aud, nor a list of several; a subject token cannot serve as an assertion.",
  },
  client_assertion_replayed: {
    status: 401,
    error: "invalid_client",
    describe: () => "This client assertion was used before; sign a new one for each request.",
    title: "The client assertion is spent",
    meaning:
      "An assertion authenticates one exchange: its jti (or its content, where it has none) was seen before. Subject tokens and assertions of a partner share one space of jtis.",
    remedy: "Sign a new assertion with a new jti for each request, other than the subject token's.",
  },
};

function assertionSentence({ fault }: Extract<AssertionRefusal, { readonly code: "client_assertion_invalid" }>): string {
  if (fault.code === "jwt_typ_unexpected") return `typ is ${shown(fault.got)}; send client-authentication+jwt.`;
  const form = SUBJECT_TOKEN_FORMS[fault.code] as { describe(fault: unknown): string };
  return form.describe(fault).replaceAll("subject token", "assertion");
}
