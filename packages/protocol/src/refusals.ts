import type { SubjectTokenAlgorithm } from "./constants.ts";
import type { JsonFault } from "./jwt/strict-json.ts";

/**
 * Every reason for which the token endpoint says no, as data. One code = one cause = one page of the docs.
 * Fields hold what the description and the recorded exchange need; values that came with the request are escaped and cut where they
 * are rendered (refusal-wire.ts), never here. A field never holds a secret or a whole token.
 */
export type Refusal = RequestRefusal | ClientRefusal | AssertionRefusal | GrantRefusal | JwtFault | SubjectRefusal | ServerRefusal;
export type RefusalCode = Refusal["code"];

/** The request is not one that RFC 6749 §3.2 describes. */
export type RequestRefusal =
  | { readonly code: "media_type_unsupported"; readonly got: string | undefined }
  | { readonly code: "body_too_large"; readonly bytesMax: number }
  | { readonly code: "method_not_allowed" }
  | { readonly code: "form_malformed" }
  | { readonly code: "parameters_too_many"; readonly countMax: number }
  | { readonly code: "parameter_repeated"; readonly parameter: string }
  | { readonly code: "parameter_missing"; readonly parameter: string }
  | { readonly code: "parameters_in_query" }
  | { readonly code: "authorization_repeated" };

export type ClientRefusal =
  | { readonly code: "client_authentication_missing"; readonly missing: readonly ("client_id" | "client_secret")[] }
  | { readonly code: "client_authentication_multiple" }
  | { readonly code: "client_authentication_unsupported"; readonly method: string }
  | { readonly code: "client_id_mismatch" }
  /** By the client id as it was named, from this address; whether there is such a client is not looked at. */
  | { readonly code: "wrong_secrets_too_many"; readonly retryAfterSeconds: number }
  | { readonly code: "rate_limited"; readonly requestsPerMinute: number; readonly retryAfterSeconds: number }
  /** All of them read the same from outside: which it was is nobody's business but the operator's (the recorded exchange says it). */
  | {
      readonly code: "client_not_authenticated";
      readonly cause: "unknown" | "wrong_method" | "wrong_secret" | "disabled" | "malformed" | SignatureFault["code"];
    };

/** A client assertion (RFC 7523 §3) that is malformed, or that the client's key did sign but says something else than it must. */
export type AssertionRefusal =
  | { readonly code: "client_assertion_type_unsupported"; readonly got: string }
  | { readonly code: "client_assertion_invalid"; readonly fault: GateFault | ClaimFault }
  | { readonly code: "client_assertion_replayed" };

export type GrantRefusal =
  | { readonly code: "grant_type_unsupported"; readonly got: string }
  | { readonly code: "grant_not_allowed"; readonly grant: string }
  | { readonly code: "subject_token_type_unsupported"; readonly got: string }
  | { readonly code: "requested_token_type_unsupported"; readonly got: string }
  | { readonly code: "actor_token_incomplete"; readonly missing: "actor_token" | "actor_token_type" }
  | { readonly code: "delegation_not_allowed" }
  | { readonly code: "dpop_unsupported" }
  | { readonly code: "target_unknown"; readonly parameter: "audience" | "resource"; readonly expected: string }
  | { readonly code: "target_repeated" }
  | { readonly code: "target_ambiguous" }
  | { readonly code: "scope_malformed" }
  | { readonly code: "scope_unknown"; readonly scope: string }
  | { readonly code: "scope_not_for_principal"; readonly scope: string; readonly principal: "user" | "service_account" }
  | { readonly code: "scope_not_allowed"; readonly scope: string }
  | { readonly code: "scope_not_for_target"; readonly scope: string }
  | { readonly code: "scope_empty"; readonly principal: "user" | "service_account" };

export type JwtPart = "header" | "payload" | "signature";

/** The gate: what a compact JWS must look like before anything in it is believed (RFC 7515, RFC 8725). */
export type GateFault =
  | { readonly code: "jwt_too_large"; readonly bytesMax: number }
  | { readonly code: "jwt_malformed"; readonly segments: number }
  | { readonly code: "jwt_encrypted" }
  | { readonly code: "jwt_not_base64url"; readonly part: JwtPart }
  | { readonly code: "jwt_not_json"; readonly part: JwtPart; readonly fault: JsonFault | { readonly code: "not_utf8" | "not_an_object" } }
  | { readonly code: "jwt_header_member_unsupported"; readonly member: string }
  | { readonly code: "jwt_typ_unexpected"; readonly got: string }
  | { readonly code: "jwt_algorithm_unsupported"; readonly got: string }
  | { readonly code: "jwt_kid_malformed" };

/** Which key, and whether it signed this. */
export type SignatureFault =
  | { readonly code: "partner_keys_missing" }
  | { readonly code: "jwt_kid_missing"; readonly keys: number }
  | { readonly code: "jwt_kid_unknown"; readonly kid: string; readonly fetchFailure?: string | undefined }
  | { readonly code: "jwt_algorithm_not_of_key"; readonly got: string; readonly expected: SubjectTokenAlgorithm }
  | { readonly code: "jwt_algorithm_not_allowed"; readonly got: string }
  | { readonly code: "jwt_signature_invalid" };

export type ClaimFault =
  | { readonly code: "claim_missing"; readonly claim: string }
  | { readonly code: "claim_malformed"; readonly claim: string; readonly expected: string }
  | { readonly code: "issuer_mismatch"; readonly got: string; readonly expected: string }
  | { readonly code: "audience_mismatch"; readonly got: string; readonly expected: string }
  | { readonly code: "token_expired"; readonly secondsPast: number; readonly skewSeconds: number }
  | { readonly code: "token_not_yet_valid"; readonly claim: "nbf" | "iat"; readonly secondsAhead: number; readonly skewSeconds: number }
  | { readonly code: "token_lifetime_too_long"; readonly seconds: number; readonly secondsMax: number }
  | { readonly code: "token_times_contradict"; readonly claim: "iat" | "nbf" }
  | { readonly code: "token_before_restore"; readonly secondsBefore: number };

export type JwtFault = GateFault | SignatureFault | ClaimFault;

/** Decided inside the transaction that issues. */
export type SubjectRefusal =
  | { readonly code: "subject_unknown" }
  | { readonly code: "subject_disabled"; readonly entity: "user" | "workspace" | "organization" }
  | { readonly code: "token_replayed" }
  | { readonly code: "provisioning_quota_exceeded"; readonly hourlyMax: number; readonly retryAfterSeconds: number }
  | { readonly code: "provisioning_home_missing" };

export type ServerRefusal =
  | { readonly code: "temporarily_unavailable"; readonly retryAfterSeconds: number }
  | { readonly code: "partner_keys_unavailable"; readonly failure: string; readonly retryAfterSeconds: number }
  | { readonly code: "server_error" };
