import { randomUUID } from "node:crypto";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { admin, createTestPartner, exchange, subjectToken, type TestPartner } from "../../packages/server/src/testing/server.ts";
import type { Scenarios } from "./scenarios.ts";
import type { Stage } from "./stage.ts";

const key = makeTestKey("ES256");
const jwks = { keys: [key.publicJwk] };
const ABSENT = { client_id: `prt_${"0".repeat(32)}` };
const absent = () => ({ params: ABSENT });
const ofPartner = async ({ server }: Stage) => ({ params: { client_id: (await createTestPartner(server)).clientId } });

/** What an operator does. */
export const ADMIN_SCENARIOS: Readonly<Record<string, Scenarios>> = {
  createPartner: {
    sample: () => ({ json: { name: "Acme", jwks } }),
    201: () => ({
      json: { name: "Acme", jwks, issuer: `https://${randomUUID()}.example`, allowed_scopes: ["thread"], clock_skew_seconds: 5 },
    }),
    409: async ({ server }) => ({ json: { name: "Acme", jwks, issuer: await takenIssuer(server) } }),
  },
  listPartners: { 200: () => ({ query: { limit: "1" } }) },
  getPartner: { sample: absent, 200: ofPartner },
  updatePartner: {
    sample: () => ({ params: ABSENT, json: { name: "Acme" } }),
    200: async (stage) => ({ ...(await ofPartner(stage)), json: { name: "Renamed", status: "disabled" } }),
    409: async (stage) => ({ ...(await ofPartner(stage)), json: { issuer: await takenIssuer(stage.server) } }),
  },
  addPartnerSecret: {
    sample: absent,
    201: ofPartner,
    409: async (stage) => {
      const call = await ofPartner(stage);
      await admin(stage.server, "POST", `/partners/${call.params.client_id}/secrets`);
      return call;
    },
  },
  removePartnerSecret: {
    sample: () => ({ params: { ...ABSENT, secret_id: `sec_${"0".repeat(16)}` }, query: { force: "true" } }),
    200: async ({ server }) => ({ params: await withSecret(await createTestPartner(server)) }),
    409: async ({ server }) => {
      const partner = await createTestPartner(server);
      await exchange(partner, subjectToken(partner));
      return { params: await withSecret(partner) };
    },
  },
  getPartnerKeys: { sample: absent, 200: ofPartner },
  refreshPartnerKeys: {
    sample: absent,
    200: async ({ server, jwks: host }) => {
      const { url } = host.publish([key, { kty: "oct", k: "AAAA" }]);
      return { params: { client_id: (await createTestPartner(server, { jwks: undefined, jwks_uri: url }, key)).clientId } };
    },
  },
  listSigningKeys: { 200: () => ({}) },
  rotateSigningKeys: {
    sample: () => ({ json: {} }),
    200: () => ({ json: { now: true } }),
    202: () => ({ json: {} }),
    409: ({ server }) => {
      rotateBeforeTheNext(server);
      return { json: { emergency: true } };
    },
  },
};

/** The next rotation finds, when its turn to write comes, that another one has been made since it read the keys. */
function rotateBeforeTheNext(server: Stage["server"]): void {
  const { signingKeys } = server.deps.store;
  const write = signingKeys.switch.bind(signingKeys);
  const afterAnother: typeof write = async (change, nowMs) => {
    Object.assign(signingKeys, { switch: write });
    await write({ ...change, former: { dropAfterMs: nowMs + 86_400_000 } }, nowMs);
    return write({ ...change, successor: { ...change.successor, kid: randomUUID() } }, nowMs);
  };
  Object.assign(signingKeys, { switch: afterAnother });
}

async function takenIssuer(server: Stage["server"]): Promise<string> {
  const issuer = `https://${randomUUID()}.example`;
  await createTestPartner(server, { issuer });
  return issuer;
}

/** The partner and its only secret. */
async function withSecret({ server, clientId }: TestPartner): Promise<Record<string, string>> {
  const { partner } = (await admin(server, "GET", `/partners/${clientId}`)).json as { partner: { secrets: { secret_id: string }[] } };
  return { client_id: clientId, secret_id: partner.secrets[0]?.secret_id ?? "" };
}
