export * from "./constants.ts";
export { decodeBase64url, encodeBase64url } from "./jwt/base64url.ts";
export { describeJwksFault, describeKeyFault, takeInJwks } from "./jwt/key-intake.ts";
export type { KeyIntake, VerificationKey } from "./jwt/key-intake.ts";
export { isJsonObject, parseStrictJson } from "./jwt/strict-json.ts";
export type { JsonFault, JsonObject, JsonValue } from "./jwt/strict-json.ts";
export { decodeUtf8 } from "./jwt/utf8.ts";
export { GRANTS } from "./grants/registry.ts";
export { authorizationServerMetadata } from "./metadata.ts";
export { StoreUnavailable } from "./ports.ts";
export type {
  Client,
  ClientAuthentication,
  ExchangeFacts,
  IssuedFor,
  IssueRequest,
  IssueVerdict,
  PartnerKey,
  Principal,
  Signer,
  Spend,
  TokenEndpointPorts,
} from "./ports.ts";
export { redact } from "./redact.ts";
export { REFUSAL_CODES, refusalPage, refusalToWire } from "./refusal-wire.ts";
export type { WireError } from "./refusal-wire.ts";
export type { Refusal, RefusalCode } from "./refusals.ts";
export type { Result } from "./result.ts";
export { isScope, SCOPES } from "./scope.ts";
export type { Scope } from "./scope.ts";
export { handleTokenRequest } from "./token-endpoint.ts";
export type { TokenOutcome, TokenRequest } from "./token-endpoint.ts";
export { validateAccessToken } from "./tokens/access-token.ts";
export type { AccessToken, AccessTokenKey } from "./tokens/access-token.ts";
