export * from "./constants.ts";
export { describeJwksFault, describeKeyFault, jwkOf, takeInJwks } from "./jwt/key-intake.ts";
export type { KeyIntake } from "./jwt/key-intake.ts";
export { parseStrictJson } from "./jwt/strict-json.ts";
export { decodeUtf8 } from "./jwt/utf8.ts";
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
  PartnerKeySet,
  Principal,
  Provisioning,
  Signer,
  Spend,
  TokenEndpointPorts,
} from "./ports.ts";
export { redact } from "./redact.ts";
export { REFUSAL_CODES, refusalPage, refusalToWire } from "./refusal-wire.ts";
export type { Refusal, RefusalCode } from "./refusals.ts";
export { SCOPES } from "./scope.ts";
export type { Scope } from "./scope.ts";
export { handleTokenRequest } from "./token-endpoint.ts";
export { validateAccessToken } from "./tokens/access-token.ts";
export type { AccessToken, AccessTokenKey } from "./tokens/access-token.ts";
