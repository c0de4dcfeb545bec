/** Names and bounds of the wire. Units stand last in a name: seconds, bytes, count. */

export const GRANT_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const GRANT_CLIENT_CREDENTIALS = "client_credentials";

/** Lets a secret scanner find one that leaked, and us keep it out of logs. */
export const CLIENT_SECRET_PREFIX = "cambist_secret_";

/** Of an opaque access token: 128 random bits behind it. */
export const OPAQUE_TOKEN_FORM = /^sk-[0-9a-f]{32}$/;
/** As the published endpoint says, whatever the partner's JWT access tokens live. */
export const OPAQUE_TOKEN_LIFETIME_SECONDS = 3600;

/** Of ids that the server makes for clients: no user's external id may look like one. */
export const CLIENT_ID_FORM = /^(?:prt|rs)_/;

/** RFC 8693 §3. */
export const TOKEN_TYPE_JWT = "urn:ietf:params:oauth:token-type:jwt";
export const TOKEN_TYPE_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

/** RFC 7523 §2.2. */
export const CLIENT_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** How a partner may authenticate: one of these, as its record says. */
export const CLIENT_AUTH_METHODS = ["client_secret", "private_key_jwt"] as const;
export type ClientAuthMethod = (typeof CLIENT_AUTH_METHODS)[number];

/** What a partner may sign with. Asymmetric only: a shared secret would let the server, or anyone who reads it, sign as the partner. */
export const SUBJECT_TOKEN_ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA"] as const;
export type SubjectTokenAlgorithm = (typeof SUBJECT_TOKEN_ALGORITHMS)[number];

/** What we sign with. */
export const ACCESS_TOKEN_ALGORITHMS = ["ES256", "RS256"] as const;
export type AccessTokenAlgorithm = (typeof ACCESS_TOKEN_ALGORITHMS)[number];

export const JWT_BYTES_MAX = 16 * 1024;
export const JSON_DEPTH_MAX = 32;
export const FORM_PARAMETERS_MAX = 64;
export const TOKEN_REQUEST_BYTES_MAX = 64 * 1024;

/** RFC 7519 does not bound `sub`; OpenID Connect Core §2 says 255 ASCII characters, and so do our external ids. */
export const SUBJECT_CHARACTERS_MAX = 255;
export const JTI_CHARACTERS_MAX = 255;
export const KID_CHARACTERS_MAX = 255;
export const SCOPE_TOKENS_MAX = 32;

export const JWKS_KEYS_MAX = 50;
export const RSA_MODULUS_BITS_MIN = 2048;
export const RSA_MODULUS_BITS_MAX = 8192;
export const RSA_PUBLIC_EXPONENT_MIN = 65537n;

export const CLOCK_SKEW_SECONDS_MAX = 60;
export const CLOCK_SKEW_SECONDS_DEFAULT = 30;
export const ASSERTION_LIFETIME_SECONDS_DEFAULT = 3600;
export const ASSERTION_LIFETIME_SECONDS_MIN = 60;
export const ASSERTION_LIFETIME_SECONDS_MAX = 3600;
export const ACCESS_TOKEN_LIFETIME_SECONDS_DEFAULT = 3600;
export const ACCESS_TOKEN_LIFETIME_SECONDS_MAX = 86_400;
/** Between our own nodes, where our own tokens are checked; a partner's skew is its own setting. */
export const NODE_CLOCK_SKEW_SECONDS = 5;

/** Users that exchanges may create for a partner in one hour. */
export const PROVISIONING_HOURLY_DEFAULT = 1000;
