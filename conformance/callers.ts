import * as oauth from "oauth4webapi";
import {
  createTestPartner,
  GRANT_TYPE,
  JWT_TYPE,
  send,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../packages/server/src/testing/server.ts";
import { createOwnApi, type OwnApi } from "../tests/attacks/own-api.ts";
import { privateKeyJwt } from "./assertions.ts";
import { ledTo, type Setting } from "./client.ts";

/** Whoever asks an endpoint of the authorization server, by a method of authentication that its metadata names. */
export interface Caller {
  readonly method: "client_secret_basic" | "client_secret_post" | "private_key_jwt";
  readonly server: TestServer;
  readonly as: oauth.AuthorizationServer;
  readonly client: oauth.Client;
  readonly auth: oauth.ClientAuth;
}

export interface PartnerCaller extends Caller {
  readonly partner: TestPartner;
}

/** By client_secret_basic, client_secret_post and private_key_jwt. */
export type PartnerCallers = readonly [PartnerCaller, PartnerCaller, PartnerCaller];

/** Of a partner: the grants that there are. */
export const BOTH_GRANTS = { allowed_grants: ["token-exchange", "client_credentials"] };

/** Three partners, one for each way to authenticate, that may have tokens by either grant. */
export async function openCallers(setting: Setting, fields: Record<string, unknown> = {}): Promise<PartnerCallers> {
  const all = { ...BOTH_GRANTS, ...fields };
  const [first, second] = [await createTestPartner(setting.server, all), await createTestPartner(setting.server, all)];
  const byKey = await createTestPartner(setting.server, { ...all, token_endpoint_auth_method: "private_key_jwt" });
  return [
    partnerCaller(setting, first),
    { ...partnerCaller(setting, second), method: "client_secret_post", auth: oauth.ClientSecretPost(second.clientSecret) },
    { ...setting, partner: byKey, client: { client_id: byKey.clientId }, method: "private_key_jwt", auth: await privateKeyJwt(byKey.key) },
  ];
}

/** By client_secret_basic. */
export function partnerCaller({ server, as }: Pick<Setting, "server" | "as">, partner: TestPartner): PartnerCaller {
  const auth = oauth.ClientSecretBasic(partner.clientSecret);
  return { method: "client_secret_basic", server, as, partner, client: { client_id: partner.clientId }, auth };
}

/** An API of the operator's own, in both ways that a secret is sent. */
export async function openApi(
  setting: Setting,
  name: string,
): Promise<{ readonly api: OwnApi; readonly callers: readonly [Caller, Caller] }> {
  const { server, as } = setting;
  const api = await createOwnApi(server, name);
  const caller = { server, as, client: { client_id: api.id } };
  return {
    api,
    callers: [
      { ...caller, method: "client_secret_basic", auth: oauth.ClientSecretBasic(api.secret) },
      { ...caller, method: "client_secret_post", auth: oauth.ClientSecretPost(api.secret) },
    ],
  };
}

type Parameters = Record<string, string>;

/** RFC 6749 §4.4, as the client sends it. */
export function requestByCredentials({ as, client, auth, server }: Caller, parameters: Parameters = {}): Promise<Response> {
  return oauth.clientCredentialsGrantRequest(as, client, auth, parameters, ledTo(server));
}

/** The answer as the client understands it. @throws what the client throws of a refusal, or of an answer that it cannot accept. */
export async function obtainByCredentials(caller: Caller, parameters: Parameters = {}): Promise<oauth.TokenEndpointResponse> {
  return oauth.processClientCredentialsResponse(caller.as, caller.client, await requestByCredentials(caller, parameters));
}

/** A token of the partner by exchange: for its service account, unless `sub` says otherwise. */
export async function obtainByExchange(
  caller: PartnerCaller,
  parameters: Parameters = {},
  sub?: string,
): Promise<oauth.TokenEndpointResponse> {
  const { as, client, auth, server, partner } = caller;
  const subject = { subject_token: subjectToken(partner, sub === undefined ? {} : { sub }), subject_token_type: JWT_TYPE };
  const form = new URLSearchParams({ ...subject, ...parameters });
  const response = await oauth.genericTokenEndpointRequest(as, client, auth, GRANT_TYPE, form, ledTo(server));
  return oauth.processGenericTokenEndpointResponse(as, client, response);
}

/** An opaque token of a partner that has a secret. */
export async function obtainOpaque({ server, partner }: PartnerCaller): Promise<string> {
  const body = new URLSearchParams({ client_id: partner.clientId, client_secret: partner.clientSecret });
  const { status, json, text } = await send(server, "POST", "/v1/auth/token", { body });
  if (status !== 200) throw new Error(`no opaque token: ${text}`);
  return (json as { data: { access_token: string } }).data.access_token;
}

/** RFC 7662 §2.1, as the client sends it. */
export function requestIntrospection(
  { as, client, auth, server }: Caller,
  token: string,
  additionalParameters: Parameters = {},
): Promise<Response> {
  return oauth.introspectionRequest(as, client, auth, token, { additionalParameters, ...ledTo(server) });
}

/** The answer as the client understands it. @throws as {@link obtainByCredentials} does. */
export async function introspect(caller: Caller, token: string, parameters: Parameters = {}): Promise<oauth.IntrospectionResponse> {
  return oauth.processIntrospectionResponse(caller.as, caller.client, await requestIntrospection(caller, token, parameters));
}

/** RFC 7009 §2.1, as the client sends it. */
export function requestRevocation(
  { as, client, auth, server }: Caller,
  token: string,
  additionalParameters: Parameters = {},
): Promise<Response> {
  return oauth.revocationRequest(as, client, auth, token, { additionalParameters, ...ledTo(server) });
}

/** @throws as {@link obtainByCredentials} does. */
export async function revoke(caller: Caller, token: string, parameters: Parameters = {}): Promise<void> {
  await oauth.processRevocationResponse(await requestRevocation(caller, token, parameters));
}

/** What the client threw. @throws where it did not. */
export async function refusedWith(work: Promise<unknown>): Promise<unknown> {
  const done = Symbol("done");
  const thrown = await work.then(
    () => done,
    (error: unknown) => error,
  );
  if (thrown === done) throw new Error("it was not refused");
  return thrown;
}
