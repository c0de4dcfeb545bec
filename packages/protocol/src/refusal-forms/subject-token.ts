import type { JwtFault, JwtPart, SubjectRefusal } from "../refusals.ts";
import type { JsonFault } from "../jwt/strict-json.ts";
import { shown, type WireForms } from "./form.ts";

/** Every fault of the subject token is `invalid_request`, whatever the cause (RFC 8693 §2.2.2); the description says which. */
const fault = { status: 400, error: "invalid_request" } as const;

export const SUBJECT_TOKEN_FORMS: WireForms<JwtFault | SubjectRefusal> = {
  jwt_too_large: {
    ...fault,
    describe: (refusal) => `The subject token is over ${refusal.bytesMax} bytes.`,
    title: "The subject token is too large",
    meaning: "A subject token needs seven registered claims, a few hundred bytes.",
    remedy: "Leave out everything else: no other claim is read.",
  },
  jwt_malformed: {
    ...fault,
    describe: (refusal) => `The subject token has ${refusal.segments} dot-separated parts; a signed JWT has 3, none of them empty.`,
    title: "The subject token is not a signed JWT",
    meaning: "A signed JWT in compact form is header.payload.signature (RFC 7515 §7.1). The JSON serialization is not accepted.",
    remedy: "Send the compact form, whole: look for a token that was cut, or quoted, on its way.",
  },
  jwt_encrypted: {
    ...fault,
    describe: () => "The subject token is encrypted (5 parts); send a signed JWT.",
    title: "The subject token is encrypted",
    meaning: "A token of five parts is a JWE. Nothing is decrypted here.",
    remedy: "Sign the claims (JWS) and leave confidentiality to TLS.",
  },
  jwt_not_base64url: {
    ...fault,
    describe: (refusal) =>
      `The ${refusal.part} of the subject token is not canonical base64url (no padding, no white space, no spare bits).`,
    title: "A part of the subject token is not base64url",
    meaning: "RFC 7515 §2: base64url without padding. A second spelling of the same bytes would be a second token.",
    remedy: "Let a JWT library assemble the token; look for a line break or = signs added on the way.",
  },
  jwt_not_json: {
    ...fault,
    describe: (refusal) => `The ${refusal.part} of the subject token ${jsonSentence(refusal.fault, refusal.part)}.`,
    title: "A part of the subject token is not strict JSON",
    meaning:
      "Header and payload must each be one JSON object in UTF-8, no name twice, numbers finite, no byte order mark (RFC 7519 §4, RFC 8725 §2.6).",
    remedy: "Let a JWT library serialize the claims.",
  },
  jwt_header_member_unsupported: {
    ...fault,
    describe: (refusal) => `The subject token's header has ${shown(refusal.member)}; only alg, kid and typ are accepted.`,
    title: "Unsupported header parameter",
    meaning:
      "The header may name alg, kid and typ. A key or a URL inside a token (jwk, jku, x5c) is never trusted, and crit and b64 change what is signed.",
    remedy: "Configure your JWT library to write alg, kid and typ only.",
  },
  jwt_typ_unexpected: {
    ...fault,
    describe: (refusal) => `The subject token's typ is ${shown(refusal.got)}; leave typ out, or send JWT.`,
    title: "The token is of another type",
    meaning:
      "typ keeps one kind of token from serving as another (RFC 8725 §3.11): an access token, a client assertion or a logout token is not a subject token.",
    remedy: "Leave typ out of the header, or set it to JWT. One of our access tokens cannot be exchanged: sign a new JWT instead.",
  },
  jwt_algorithm_unsupported: {
    ...fault,
    describe: (refusal) => `alg ${shown(refusal.got)} is not accepted; sign with RS256, PS256, ES256, ES384 or EdDSA.`,
    title: "Unsupported algorithm",
    meaning: "Only asymmetric signatures are accepted: never none, never a shared secret (RFC 8725 §3.1).",
    remedy: "Sign with RS256, PS256, ES256, ES384 or EdDSA.",
  },
  jwt_kid_malformed: {
    ...fault,
    describe: () => "The subject token's kid is not a string of 1 to 255 characters.",
    title: "kid cannot be read",
    meaning: "kid names one of the keys in the partner's JWKS, and is compared character by character.",
    remedy: "Use the kid of your JWKS, for instance the key's RFC 7638 thumbprint.",
  },
  partner_keys_missing: {
    ...fault,
    describe: () => "This partner has no usable key: its JWKS holds none, or each was refused; the operator sees why.",
    title: "The partner has no usable key",
    meaning:
      "There is no public key to verify the subject token with: the key set that the operator has, or that was fetched, holds none that can be used.",
    remedy:
      "Publish, or give the operator, at least one RSA-2048, P-256, P-384 or Ed25519 public key. The operator's report of your keys gives the reason for each that was refused.",
  },
  jwt_kid_missing: {
    ...fault,
    describe: (refusal) => `The subject token has no kid, and the partner has ${refusal.keys} keys; name the one that signed.`,
    title: "kid is missing",
    meaning: "With two keys or more the token must name the one that signed it: keys are not tried one after the other.",
    remedy: "Put the kid of the signing key into the header.",
  },
  jwt_kid_unknown: {
    ...fault,
    describe: ({ kid, fetchFailure }) =>
      `No key of this partner has the kid ${shown(kid)}${fetchFailure === undefined ? "" : ` (its keys are the last good ones: jwks_uri cannot be fetched, ${fetchFailure})`}.`,
    title: "Unknown kid",
    meaning:
      "The token names a key that is not in the partner's JWKS. Keys behind a jwks_uri are fetched again for an unknown kid, once in 30 seconds.",
    remedy: "Publish the key before you sign with it, and keep the old one until its last token has expired.",
  },
  jwt_algorithm_not_of_key: {
    ...fault,
    describe: (refusal) => `alg is ${shown(refusal.got)}, but the key is for ${refusal.expected}.`,
    title: "The algorithm is not the key's",
    meaning: "One key, one algorithm (RFC 8725 §3.1). An RSA key without alg in the JWKS is for RS256.",
    remedy: "Sign with the key's algorithm, or set alg in the JWKS to the one that you use.",
  },
  jwt_algorithm_not_allowed: {
    ...fault,
    describe: (refusal) => `alg ${shown(refusal.got)} is not among this partner's allowed algorithms.`,
    title: "The algorithm is not allowed for this partner",
    meaning: "The operator has limited this partner's algorithms.",
    remedy: "Sign with an allowed one, or ask the operator to extend allowed_algorithms.",
  },
  jwt_signature_invalid: {
    ...fault,
    describe: () => "The subject token's signature does not fit its content and key.",
    title: "The signature is invalid",
    meaning: "The token was signed by another key than the one it names, or was changed after it was signed.",
    remedy:
      "Check that the private key in use belongs to the public key that the operator has. ECDSA signatures are raw r||s, not DER (RFC 7518 §3.4).",
  },
  claim_missing: {
    ...fault,
    describe: (refusal) => `The claim ${refusal.claim} is missing.`,
    title: "A claim is missing",
    meaning: "iss, sub, aud, exp and iat are required in a subject token.",
    remedy: "Add the claim that the description names.",
  },
  claim_malformed: {
    ...fault,
    describe: (refusal) => `The claim ${refusal.claim} must be ${refusal.expected}.`,
    title: "A claim has the wrong form",
    meaning: "A claim of the wrong type is never treated as absent.",
    remedy: "Times are numbers of seconds since 1970 (RFC 7519 §2), not strings and not milliseconds; sub and jti are strings.",
  },
  issuer_mismatch: {
    ...fault,
    describe: (refusal) => `iss is ${shown(refusal.got)}; expected ${shown(refusal.expected)}.`,
    title: "Wrong issuer",
    meaning: "iss must be the issuer that is registered for the partner that authenticated: by default its client id.",
    remedy: "Set iss to the value in the description, character by character.",
  },
  audience_mismatch: {
    ...fault,
    describe: (refusal) => `aud is ${shown(refusal.got)}; expected ${shown(refusal.expected)}, alone.`,
    title: "Wrong audience",
    meaning:
      "aud must be exactly the audience that was handed to the partner, as a string or an array of that one string: a token for two servers could be replayed by one at the other.",
    remedy: "Set aud to the value in the description: no slash added, no other letter case.",
  },
  token_expired: {
    ...fault,
    describe: (refusal) => `exp is ${refusal.secondsPast} s in the past (skew allowed: ${refusal.skewSeconds} s); is your clock right?`,
    title: "The subject token has expired",
    meaning: "exp had passed, the allowed clock skew included.",
    remedy: "Sign a token for each exchange, and synchronise the clock of the machine that signs (NTP).",
  },
  token_not_yet_valid: {
    ...fault,
    describe: (refusal) =>
      `${refusal.claim} is ${refusal.secondsAhead} s in the future (skew allowed: ${refusal.skewSeconds} s); is your clock right, and is it seconds?`,
    title: "The subject token is not valid yet",
    meaning: "nbf or iat lies in the future, beyond the allowed clock skew.",
    remedy: "Synchronise the clock of the machine that signs; check that times are seconds, not milliseconds.",
  },
  token_lifetime_too_long: {
    ...fault,
    describe: (refusal) =>
      `exp is too far: ${refusal.seconds} s after iat, at most ${refusal.secondsMax} s are allowed${refusal.seconds > 1e11 ? "; exp looks like milliseconds, it counts seconds" : ""}.`,
    title: "The subject token lives too long",
    meaning: "exp - iat is over the partner's limit.",
    remedy: "Sign with a lifetime of a few minutes: the token is used once, at once.",
  },
  token_times_contradict: {
    ...fault,
    describe: (refusal) => `exp is not after ${refusal.claim}.`,
    title: "The times contradict each other",
    meaning: "exp must be after iat, and after nbf where there is one.",
    remedy: "Compute iat, nbf and exp from one reading of the clock.",
  },
  token_before_restore: {
    ...fault,
    describe: (refusal) =>
      `The subject token was issued before the server's store was put back from a backup (iat is ${refusal.secondsBefore} s too early); sign a new one.`,
    title: "The token is older than the store",
    meaning:
      "The store was restored from a backup, which does not know what was spent since. Nothing that was signed before that moment is taken.",
    remedy: "Sign a new JWT. Nothing that was signed within a minute after the restore passes either, for clocks may be apart.",
  },
  subject_unknown: {
    ...fault,
    describe: () => "sub is not a user of this partner.",
    title: "Unknown subject",
    meaning:
      "sub is neither the partner's client id nor one of its users, in the one namespace that is set for the partner (user_id, or external_user_id).",
    remedy: "Create the user first and sign its user_id (or its external id, if the operator set the partner so).",
  },
  subject_disabled: {
    ...fault,
    describe: (refusal) => `The ${refusal.entity === "user" ? "user" : `user's ${refusal.entity}`} is disabled.`,
    title: "The subject is disabled",
    meaning: "The user, its workspace or its organization is disabled, so no token is issued.",
    remedy: "Enable it through the account-management API.",
  },
  token_replayed: {
    ...fault,
    describe: () => "This subject token was exchanged before; sign a new one for each exchange.",
    title: "The subject token is spent",
    meaning: "A subject token is exchanged once: its jti (or its content, where it has none) was seen before.",
    remedy: "Sign a new JWT with a new jti for each exchange, also when you retry after a timeout.",
  },
  provisioning_quota_exceeded: {
    status: 429,
    error: "slow_down",
    describe: ({ hourlyMax, retryAfterSeconds }) =>
      `sub is not a user yet, and this hour's quota of new users (${hourlyMax}) is used up; try again in ${retryAfterSeconds} s, or create the user through the API.`,
    title: "Too many new users in this hour",
    meaning:
      "The partner is set so that an exchange creates a user that does not exist (provisioning), up to a number in each hour. It is reached. Users that exist are not affected.",
    remedy:
      "Try again after Retry-After seconds with a newly signed JWT, create the user through the account-management API, or ask the operator for a higher provisioning_hourly_max.",
  },
  provisioning_home_missing: {
    ...fault,
    describe: () => "sub is not a user yet, and cannot be made one: the partner's home workspace does not exist any more.",
    title: "There is no home workspace",
    meaning:
      "The partner is set so that an exchange creates a user that does not exist, in its home workspace, but that workspace has been erased.",
    remedy: "Create the user through the account-management API, or ask the operator to set another home_workspace_id.",
  },
};

function jsonSentence(problem: JsonFault | { readonly code: "not_utf8" | "not_an_object" }, part: JwtPart): string {
  switch (problem.code) {
    case "syntax":
      return `is not JSON (at character ${problem.at})`;
    case "name_repeated":
      return `has the name ${shown(problem.name)} twice`;
    case "too_deep":
      return "is nested too deep";
    case "number_not_finite":
      return "has a number that is not finite";
    case "lone_surrogate":
      return "has half a surrogate pair";
    case "not_utf8":
      return "is not UTF-8";
    case "not_an_object":
      return `is not a JSON object, as a JWT's ${part} must be`;
  }
}
