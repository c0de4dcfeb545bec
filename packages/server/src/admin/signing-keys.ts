import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import type { AdminDeps } from "./partner-record.ts";

const keysBody = z.strictObject({
  keys: z.array(
    z.strictObject({
      kid: z.string(),
      algorithm: z.string(),
      state: z.enum(["current", "next", "retired"]),
      signs: z.boolean().describe("New access tokens are signed by it."),
      created_at: z.iso.datetime(),
    }),
  ),
});

/** Our own signing keys (contract §9): which there are, never the private halves. */
export function signingKeyRoutes({ signingKeys, keyring }: AdminDeps): Route[] {
  return [
    defineRoute({
      operationId: "listSigningKeys",
      method: "GET",
      path: "/admin/v1/keys",
      auth: { kind: "operator" },
      docs: {
        summary: "List Signing Keys",
        tag: "admin",
        answers: { 200: { description: "Every key of the server's own.", body: keysBody } },
      },
      async handle() {
        const signs = keyring.signer().kid;
        const keys = (await signingKeys.list()).map((key) => ({
          kid: key.kid,
          algorithm: key.algorithm,
          state: key.state,
          signs: key.kid === signs,
          created_at: new Date(key.createdAtMs).toISOString(),
        }));
        return { status: 200, body: { keys } };
      },
    }),
  ];
}
