import { expect } from "vitest";
import { admin, createTestPartner, type Reply, type TestServer } from "../../packages/server/src/testing/server.ts";

/** The operator, who registers a `jwks_uri` for a new partner, and for one that has its keys in its record. */
export interface Registrar {
  register(jwksUri: unknown): Promise<Reply>;
  change(jwksUri: unknown): Promise<Reply>;
  /** The latter, as it is now. */
  changed(): Promise<Reply>;
}

export async function registrar(server: TestServer): Promise<Registrar> {
  const { clientId } = await createTestPartner(server);
  return {
    register: (jwksUri) => admin(server, "POST", "/partners", { name: "P", jwks_uri: jwksUri }),
    change: (jwksUri) => admin(server, "PATCH", `/partners/${clientId}`, { jwks_uri: jwksUri }),
    changed: () => admin(server, "GET", `/partners/${clientId}`),
  };
}

/** 422 that names the field, at registration and at a change, which changes nothing. */
export async function expectUnprocessable(operator: Registrar, jwksUri: string, why: RegExp): Promise<void> {
  for (const reply of [await operator.register(jwksUri), await operator.change(jwksUri)]) {
    expect(reply, jwksUri).toMatchObject({ status: 422, json: { errors: [{ field: "jwks_uri" }] } });
    expect((reply.json["errors"] as { message: string }[])[0]?.message, jwksUri).toMatch(why);
    expect(reply.headers.get("content-type")).toBe("application/problem+json");
  }
  expect((await operator.changed()).json).toMatchObject({ partner: { jwks_uri: null, jwks: { keys: [{ kid: "key-1" }] } } });
}

export async function expectRegistered(operator: Registrar, jwksUri: string, normalForm = jwksUri): Promise<void> {
  const reply = await operator.register(jwksUri);
  expect(reply, jwksUri).toMatchObject({ status: 201, json: { partner: { jwks_uri: normalForm, jwks: null } } });
}
