import { onTestFinished } from "vitest";
import {
  admin,
  basic,
  call,
  createTestPartner,
  exchange,
  exchangeForm,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
} from "../../packages/server/src/testing/server.ts";
import type { Call } from "./call.ts";
import type { Scenarios } from "./scenarios.ts";
import { allowedPartner, clientForm } from "./token-scenarios.ts";

const form = (partner: TestPartner, subject: string, auth?: "basic") => Object.fromEntries(exchangeForm(partner, subject, auth));
const found = { 200: () => ({}) };

/** The token endpoint, and what anybody may read. */
export const OPEN_SCENARIOS: Readonly<Record<string, Scenarios>> = {
  exchangeToken: {
    sample: ({ partner }) => ({ form: form(partner, subjectToken(partner)) }),
    200: async (stage) => [
      { form: form(stage.partner, subjectToken(stage.partner)) },
      { form: { grant_type: "client_credentials", ...clientForm(await allowedPartner(stage)) } },
    ],
    400: ({ partner }) => ({ form: form(partner, "not.a.token") }),
    401: ({ partner }) => ({
      form: form(partner, subjectToken(partner), "basic"),
      authorization: [basic(partner.clientId, "not the secret")],
    }),
    413: ({ partner }) => ({ form: form(partner, "x".repeat(70_000)) }),
    429: async ({ server }) => ({ form: await overQuota(await createTestPartner(server, { subject_namespace: "external_user_id" })) }),
    500: brokenStore,
  },
  getServerMetadata: found,
  getResourceMetadata: found,
  getResourceMetadataUnderPath: found,
  getSigningKeys: found,
  listErrorPages: found,
  getErrorPage: {
    sample: () => ({ params: { page: "no_such_page" } }),
    200: () => [{ params: { page: "token_expired" } }, { params: { page: "token_expired.md" } }],
  },
  getApiDescription: found,
  getLiveness: found,
  getReadiness: found,
  getMetrics: found,
};

/** A partner whose exchanges make users, one in an hour; that one is made, and the next is asked for. */
async function overQuota(partner: TestPartner): Promise<Readonly<Record<string, string>>> {
  const { server } = partner;
  const home = await call(server, "PUT", "/v2/account-management/organization-and-workspace", await serviceAccountToken(partner), {});
  const { workspace_id: workspaceId } = home.json["workspace"] as { workspace_id: string };
  const provisioning = { provisioning: "create", home_workspace_id: workspaceId, provisioning_hourly_max: 1 };
  await admin(server, "PATCH", `/partners/${partner.clientId}`, provisioning);
  await exchange(partner, subjectToken(partner, { sub: "first" }));
  return form(partner, subjectToken(partner, { sub: "second" }));
}

async function brokenStore(): Promise<Call> {
  const server = await startTestServer("sqlite");
  onTestFinished(() => server.stop());
  const partner = await createTestPartner(server);
  await server.database.query("ALTER TABLE exchanges RENAME TO lost");
  return { server, form: form(partner, subjectToken(partner)) };
}
