import { randomUUID } from "node:crypto";
import { admin, basic, createTestPartner, createTestUser, send } from "../../packages/server/src/testing/server.ts";
import type { Scenarios } from "./scenarios.ts";
import type { Stage } from "./stage.ts";

const ABSENT = { resource_server_id: `rs_${"0".repeat(32)}` };
const ABSENT_SCOPE = { name: "files:none" };
const newApi = () => ({ name: "Files", audience: `https://${randomUUID()}.example` });

interface Made {
  readonly params: { readonly resource_server_id: string };
  readonly audience: string;
  readonly secret: string;
  readonly secretId: string;
}

async function make({ server }: Stage): Promise<Made> {
  const reply = await admin(server, "POST", "/resource-servers", newApi());
  const { resource_server: api, client_secret: secret } = reply.json as {
    resource_server: { resource_server_id: string; audience: string; secrets: { secret_id: string }[] };
    client_secret: string;
  };
  const params = { resource_server_id: api.resource_server_id };
  return { params, audience: api.audience, secret, secretId: api.secrets[0]?.secret_id ?? "" };
}

const ofApi = async (stage: Stage) => ({ params: (await make(stage)).params });

/** The secret has just been used, and has a successor. */
async function withUsedSecret(stage: Stage) {
  const { params, secret, secretId } = await make(stage);
  await admin(stage.server, "POST", `/resource-servers/${params.resource_server_id}/secrets`);
  const headers = { authorization: basic(params.resource_server_id, secret), "content-type": "application/x-www-form-urlencoded" };
  await send(stage.server, "POST", "/oauth2/introspect", { headers, body: "token=x" });
  return { params: { ...params, secret_id: secretId } };
}

async function makeScope(stage: Stage): Promise<{ readonly name: string; readonly resource_server_id: string }> {
  const { params } = await make(stage);
  const name = `files:${randomUUID()}`;
  await admin(stage.server, "POST", "/scopes", { name, principal: "user", ...params, description: "Reads files" });
  return { name, ...params };
}

const ofScope = async (stage: Stage) => ({ params: { name: (await makeScope(stage)).name } });

/** The operator's own APIs, scopes and revocations. */
export const RESOURCE_SERVER_SCENARIOS: Readonly<Record<string, Scenarios>> = {
  createResourceServer: {
    sample: () => ({ json: newApi() }),
    201: () => ({ json: newApi() }),
    409: async (stage) => ({ json: { ...newApi(), audience: (await make(stage)).audience } }),
  },
  listResourceServers: {
    200: async (stage) => {
      await make(stage);
      return {};
    },
  },
  getResourceServer: {
    sample: () => ({ params: ABSENT }),
    200: async (stage) => ({ params: (({ secret_id: _id, ...params }) => params)((await withUsedSecret(stage)).params) }),
  },
  updateResourceServer: {
    sample: () => ({ params: ABSENT, json: { name: "Archive" } }),
    200: async (stage) => ({ ...(await ofApi(stage)), json: newApi() }),
    409: async (stage) => ({ ...(await ofApi(stage)), json: { audience: (await make(stage)).audience } }),
  },
  removeResourceServer: {
    sample: () => ({ params: ABSENT }),
    200: ofApi,
    409: async (stage) => ({ params: { resource_server_id: (await makeScope(stage)).resource_server_id } }),
  },
  addResourceServerSecret: {
    sample: () => ({ params: ABSENT }),
    201: ofApi,
    409: async (stage) => ({ params: (({ secret_id: _id, ...params }) => params)((await withUsedSecret(stage)).params) }),
  },
  removeResourceServerSecret: {
    sample: () => ({ params: { ...ABSENT, secret_id: `sec_${"0".repeat(16)}` } }),
    200: async (stage) => ({ ...(await withUsedSecret(stage)), query: { force: "true" } }),
    409: withUsedSecret,
  },
  createScope: {
    sample: () => ({ json: { name: "files:none", principal: "user", ...ABSENT } }),
    201: async (stage) => ({ json: { name: `files/${randomUUID()}`, principal: "service_account", ...(await make(stage)).params } }),
    409: async (stage) => ({ json: { ...(await makeScope(stage)), principal: "user", description: "" } }),
  },
  listScopes: { 200: () => ({}) },
  getScope: { sample: () => ({ params: ABSENT_SCOPE }), 200: ofScope },
  updateScope: {
    sample: () => ({ params: ABSENT_SCOPE, json: { description: "Writes files" } }),
    200: async (stage) => ({ ...(await ofScope(stage)), json: { description: "Writes files" } }),
  },
  removeScope: {
    sample: () => ({ params: ABSENT_SCOPE }),
    200: ofScope,
    409: async (stage) => {
      const { name } = await makeScope(stage);
      await createTestPartner(stage.server, { allowed_scopes: [name] });
      return { params: { name } };
    },
  },
  revokeTokens: {
    sample: () => ({ json: { user_id: randomUUID() } }),
    200: async ({ server }) => {
      const partner = await createTestPartner(server);
      const { userId, workspaceId, orgId } = await createTestUser(partner);
      const subjects = [{ jti: "A".repeat(22) }, { user_id: userId }, { workspace_id: workspaceId }, { org_id: orgId }];
      return [...subjects, { client_id: partner.clientId }, { client_id: partner.clientId, kid: "key-1" }].map((json) => ({ json }));
    },
  },
};
