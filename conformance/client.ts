import * as oauth from "oauth4webapi";
import { makeTestKey, type TestAlgorithm, type TestKey } from "../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  createTestUser,
  GRANT_TYPE,
  ISSUER,
  JWT_TYPE,
  startTestServer,
  subjectToken,
  type TestOverrides,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../packages/server/src/testing/server.ts";

/** The other side of the wire: oauth4webapi, which knows nothing of this server but its issuer and the client's credentials. */

export const ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token";
/** The API of the harness's server, as its access tokens name it. */
export const RESOURCE = `${ISSUER}/v2`;

/** What most tests start from. */
export interface Setting {
  readonly server: TestServer;
  /** Authenticates with a secret, signs RS256. */
  readonly partner: TestPartner;
  readonly user: TestUser;
  readonly as: oauth.AuthorizationServer;
}

export async function openSetting(overrides: TestOverrides = {}): Promise<Setting> {
  const server = await startTestServer("sqlite", overrides);
  const partner = await createTestPartner(server);
  return { server, partner, user: await createTestUser(partner), as: await discover(server) };
}

/** The server thinks that it is https://cambist.test; the client is led to where it listens. */
export function ledTo(server: Pick<TestServer, "url">) {
  return { [oauth.customFetch]: (url: string, options: object) => fetch(url.replace(ISSUER, server.url), options) };
}

/** RFC 8414 §3, with every check that the client makes of the answer. */
export async function discover(server: Pick<TestServer, "url">, issuer: string = ISSUER): Promise<oauth.AuthorizationServer> {
  const identifier = new URL(issuer);
  const response = await oauth.discoveryRequest(identifier, { algorithm: "oauth2", ...ledTo(server) });
  return oauth.processDiscoveryResponse(identifier, response);
}

/** A key for an algorithm. Making an RSA pair costs a quarter of a second, so the harness's own serves for both RSA algorithms. */
export function keyFor(algorithm: TestAlgorithm, { partner: { key } }: Setting): TestKey {
  if (algorithm === "RS256") return key;
  return algorithm === "PS256" ? { ...key, algorithm, publicJwk: { ...key.publicJwk, alg: algorithm } } : makeTestKey(algorithm);
}

export interface ClientOptions {
  /** Over the parameters of an exchange that passes; `undefined` takes one away. */
  readonly parameters?: Record<string, string | undefined>;
  readonly grantType?: string;
  /** `client_secret_basic` unless told. */
  readonly authentication?: oauth.ClientAuth;
}

/** A token request as the client sends it, for the partner's service account unless the parameters say otherwise. */
export async function requestToken(partner: TestPartner, options: ClientOptions = {}): Promise<Response> {
  const as = await metadataOf(partner.server);
  const given = { subject_token: subjectToken(partner), subject_token_type: JWT_TYPE, ...options.parameters };
  const parameters = Object.entries(given).filter((pair): pair is [string, string] => pair[1] !== undefined);
  const authentication = options.authentication ?? oauth.ClientSecretBasic(partner.clientSecret);
  const client = { client_id: partner.clientId };
  return oauth.genericTokenEndpointRequest(
    as,
    client,
    authentication,
    options.grantType ?? GRANT_TYPE,
    new URLSearchParams(parameters),
    ledTo(partner.server),
  );
}

/** The answer as the client understands it. @throws what the client throws of a refusal, or of an answer that it cannot accept. */
export async function obtainToken(partner: TestPartner, options: ClientOptions = {}): Promise<oauth.TokenEndpointResponse> {
  const as = await metadataOf(partner.server);
  return oauth.processGenericTokenEndpointResponse(as, { client_id: partner.clientId }, await requestToken(partner, options));
}

/** A refusal as the client understands it. @throws when it is none. */
export async function obtainRefusal(partner: TestPartner, options: ClientOptions = {}): Promise<oauth.ResponseBodyError> {
  const thrown = await obtainToken(partner, options).then(
    () => new Error("the token was granted"),
    (error: unknown) => error,
  );
  if (thrown instanceof oauth.ResponseBodyError) return thrown;
  throw thrown;
}

/** A call of the API as the client sends it. */
export function callApi(server: Pick<TestServer, "url">, token: string, method = "GET", path = API_PATH): Promise<Response> {
  const options = { [oauth.allowInsecureRequests]: true };
  return oauth.protectedResourceRequest(token, method, new URL(path, server.url), undefined, undefined, options);
}

/** A user that is not there: whoever may ask gets a 404, so an answer of 404 means that the token was accepted. */
export const API_PATH = "/v2/account-management/user?user_id=00000000-0000-4000-8000-000000000000";

/** The challenge by which the API refused, as the client parsed it. @throws when it did not refuse. */
export async function obtainChallenge(
  server: Pick<TestServer, "url">,
  token: string,
): Promise<oauth.WWWAuthenticateChallenge & { readonly status: number }> {
  const thrown = await callApi(server, token).then(
    ({ status }) => new Error(`the API answered ${status} and no challenge`),
    (error: unknown) => error,
  );
  if (!(thrown instanceof oauth.WWWAuthenticateChallengeError)) throw thrown;
  const [challenge, ...others] = thrown.cause;
  if (challenge === undefined || others.length > 0) throw new Error(`${thrown.cause.length} challenges instead of one`);
  return { ...challenge, status: thrown.status };
}

const metadata = new WeakMap<TestServer["app"], Promise<oauth.AuthorizationServer>>();

function metadataOf(server: TestServer): Promise<oauth.AuthorizationServer> {
  const known = metadata.get(server.app) ?? discover(server);
  metadata.set(server.app, known);
  return known;
}
