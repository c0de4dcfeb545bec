import { expect } from "vitest";
import { decodeJwt } from "../../packages/server/src/testing/jwt.ts";
import type { Reply } from "../../packages/server/src/testing/server.ts";

/** Gives back the claims of the access token. */
export function expectGranted(reply: Reply): Record<string, unknown> {
  expect(reply.status, reply.text).toBe(200);
  return decodeJwt(reply.json["access_token"] as string).payload;
}
