import { expect } from "vitest";
import {
  basic,
  call,
  createTestPartner,
  exchange,
  type Reply,
  send,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import type { OwnApi } from "./own-api.ts";

/** What a test of introspection and revocation asks, of either node, and the tokens that it asks about. */

type Node = Pick<TestServer, "url">;
export type Endpoint = "/oauth2/introspect" | "/oauth2/revoke";
export const ENDPOINTS: readonly Endpoint[] = ["/oauth2/introspect", "/oauth2/revoke"];

/** The whole body about a token that does not work, whatever the reason. */
export const INACTIVE = '{"active":false}';
export const GRANTS = { allowed_grants: ["token-exchange", "client_credentials"] };

export function post(at: Node, path: string, form: Record<string, string>, headers: Record<string, string> = {}): Promise<Reply> {
  return send(at, "POST", path, { body: new URLSearchParams(form), headers });
}

export function credentialsOf(caller: TestPartner | OwnApi): Record<string, string> {
  return "clientId" in caller
    ? { client_id: caller.clientId, client_secret: caller.clientSecret }
    : { client_id: caller.id, client_secret: caller.secret };
}

export function basicOf(caller: TestPartner | OwnApi): Record<string, string> {
  const { client_id = "", client_secret = "" } = credentialsOf(caller);
  return { authorization: basic(client_id, client_secret) };
}

export function introspect(at: Node, caller: TestPartner | OwnApi, token: string): Promise<Reply> {
  return post(at, "/oauth2/introspect", { ...credentialsOf(caller), token });
}

export function revoke(at: Node, caller: TestPartner | OwnApi, token: string, more: Record<string, string> = {}): Promise<Reply> {
  return post(at, "/oauth2/revoke", { ...credentialsOf(caller), token, ...more });
}

export async function expectActive(at: Node, caller: TestPartner | OwnApi, token: string): Promise<void> {
  const reply = await introspect(at, caller, token);
  expect(reply.json["active"], reply.text).toBe(true);
}

/** To the byte, for the body must not tell one reason from another (RFC 7662 §2.2). */
export async function expectInactive(at: Node, caller: TestPartner | OwnApi, token: string, why = ""): Promise<void> {
  const { status, text, headers } = await introspect(at, caller, token);
  const head = ["content-type", "content-length", "cache-control"].map((name) => headers.get(name));
  expect([status, text, ...head], why).toEqual([200, INACTIVE, "application/json", String(INACTIVE.length), "no-store"]);
}

/** Whether our own API takes the token: it looks for a user that is not there. */
export async function isTaken(at: Node, token: string): Promise<boolean> {
  const { status } = await call(at, "GET", "/v2/account-management/user?user_id=00000000-0000-4000-8000-000000000000", token);
  expect([401, 404]).toContain(status);
  return status === 404;
}

export async function exchangeFor(partner: TestPartner, sub = partner.clientId, form: Record<string, string> = {}): Promise<string> {
  const reply = await exchange(partner, subjectToken(partner, { sub }), { form });
  expectGranted(reply);
  return reply.json["access_token"] as string;
}

export async function opaqueTokenOf(partner: TestPartner): Promise<string> {
  const reply = await post(partner.server, "/v1/auth/token", credentialsOf(partner));
  expect(reply.status, reply.text).toBe(200);
  return (reply.json as { data: { access_token: string } }).data.access_token;
}

/** One of each form, for the partner itself. */
export async function serviceTokensOf(partner: TestPartner): Promise<readonly [jwt: string, opaque: string]> {
  return [await exchangeFor(partner), await opaqueTokenOf(partner)];
}

/** Authenticates by its keys alone. */
export function createKeyPartner(server: TestServer): Promise<TestPartner> {
  return createTestPartner(server, { ...GRANTS, token_endpoint_auth_method: "private_key_jwt" });
}

/** A fresh client assertion, as the form has it. */
export function assertionOf(partner: TestPartner): Record<string, string> {
  return {
    client_assertion: subjectToken(partner, {}, { typ: "client-authentication+jwt" }),
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  };
}
