import { type Client, SCOPES, SUBJECT_TOKEN_ALGORITHMS } from "@cambist/protocol";

/** A partner without limits, so that a token is refused for what it is. */
export const UNLIMITED_CLIENT: Client = {
  clientId: "prt_unlimited",
  version: 1,
  issuer: "prt_unlimited",
  audience: "https://as.example",
  subjectNamespace: "user_id",
  replay: "single_use",
  assertionLifetimeSecondsMax: 3600,
  clockSkewSeconds: 30,
  accessTokenLifetimeSeconds: 3600,
  allowedAlgorithms: SUBJECT_TOKEN_ALGORITHMS,
  allowedGrants: ["token-exchange"],
  allowedScopes: SCOPES,
  tokenEndpointAuthMethod: "client_secret",
  provisioning: "off",
  homeWorkspaceId: null,
  provisioningHourlyMax: 1000,
  cutOffs: { seconds: 0, keys: [] },
};
