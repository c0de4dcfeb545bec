export * from "./constants.ts";
export { describeJwksFault, describeKeyFault, jwkOf, takeInJwks } from "./jwt/key-intake.ts";
export type { KeyIntake } from "./jwt/key-intake.ts";
export { parseForm } from "./form.ts";
export { parseStrictJson } from "./jwt/strict-json.ts";
export { decodeUtf8 } from "./jwt/utf8.ts";
export type { ClientRequest } from "./client-authentication.ts";
export { authenticateCaller, handleIntrospectionRequest, handleRevocationRequest } from "./introspection.ts";
export type {
  IntrospectionAnswer,
  IntrospectionPorts,
  RevocationPorts,
  TokenCaller,
  TokenCallerPorts,
  WorkingToken,
} from "./introspection.ts";
export { authorizationServerMetadata, protectedResourceMetadata } from "./metadata.ts";
export { ExpectedError } from "./expected-error.ts";
export { StoreUnavailable } from "./ports.ts";
export type {
  Admission,
  Client,
  ClientAuthentication,
  ClientPorts,
  CutOffs,
  ExchangeFacts,
  HashedToken,
  IssuedFor,
  IssueRequest,
  IssueVerdict,
  OpaqueToken,
  PartnerKey,
  PartnerKeySet,
  Principal,
  Provisioning,
  Signer,
  Spend,
  TokenEndpointPorts,
  TooManyWrong,
} from "./ports.ts";
export { redact } from "./redact.ts";
export { REFUSAL_CODES, refusalPage, refusalToWire } from "./refusal-wire.ts";
export type { Refusal, RefusalCode } from "./refusals.ts";
export { BUILT_IN_SCOPES, SCOPES } from "./scope.ts";
export type { PrincipalKind, Scope, ScopeDefinition } from "./scope.ts";
export { handleOpaqueTokenRequest, handleTokenRequest } from "./token-endpoint.ts";
export type { TokenOutcome } from "./token-endpoint.ts";
export { accessTokenFault, accessTokenOf, cutOffSecondsOf, parseAccessToken } from "./tokens/access-token.ts";
export type { AccessToken, AccessTokenFault, AccessTokenKey } from "./tokens/access-token.ts";
