import { onTestFinished } from "vitest";
import {
  basic,
  createTestPartner,
  send,
  serviceAccountToken,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import type { Call } from "./call.ts";
import type { Scenarios } from "./scenarios.ts";
import type { Stage } from "./stage.ts";

const ALLOWED = { allowed_grants: ["token-exchange", "client_credentials"] };
const OPAQUE = `sk-${"0".repeat(32)}`;
const LONG = "x".repeat(70_000);

export const clientForm = ({ clientId, clientSecret }: TestPartner) => ({ client_id: clientId, client_secret: clientSecret });
const ownSecret = ({ clientId, clientSecret }: TestPartner) => basic(clientId, clientSecret);
const wrongSecret = ({ partner }: Stage) => [basic(partner.clientId, "not the secret")];

const allowed = new WeakMap<Stage, Promise<TestPartner>>();

/** A partner that may use client credentials. */
export function allowedPartner(stage: Stage): Promise<TestPartner> {
  const partner = allowed.get(stage) ?? createTestPartner(stage.server, ALLOWED);
  allowed.set(stage, partner);
  return partner;
}

/** Of introspection and revocation. */
const askedOf = (token: string) => ({
  sample: ({ partner }: Stage) => ({ form: { token, ...clientForm(partner) } }),
  400: ({ partner }: Stage) => ({ form: clientForm(partner) }),
  401: (stage: Stage) => ({ form: { token }, authorization: wrongSecret(stage) }),
  413: ({ partner }: Stage) => ({ form: { token: LONG, ...clientForm(partner) } }),
});

/** The second published token endpoint, and what a client asks about a token that it has. */
export const TOKEN_SCENARIOS: Readonly<Record<string, Scenarios>> = {
  createOpaqueToken: {
    sample: ({ partner }) => ({ form: clientForm(partner) }),
    200: async (stage) => {
      const partner = await allowedPartner(stage);
      return { form: { ...clientForm(partner), grant_type: "client_credentials", scope: "analytics" } };
    },
    400: ({ partner }) => ({ form: { client_id: partner.clientId } }),
    401: (stage) => ({ form: { grant_type: "client_credentials" }, authorization: wrongSecret(stage) }),
    403: ({ partner }) => ({ form: clientForm(partner) }),
    413: ({ partner }) => ({ form: { ...clientForm(partner), scope: LONG } }),
    415: () => ({ raw: { mediaType: "application/json", body: "{}" } }),
    500: () => withoutTable("opaque_tokens", ({ partner }) => ({ form: clientForm(partner) })),
  },
  introspectToken: {
    ...askedOf("unknown"),
    200: ({ partner, tokens }) =>
      [tokens["serviceAccount"] ?? "", tokens["user"] ?? "", OPAQUE].map((token) => ({ form: { token, ...clientForm(partner) } })),
    500: () => withoutTable("opaque_tokens", ({ partner }) => ({ form: { token: OPAQUE, ...clientForm(partner) } })),
  },
  revokeToken: {
    ...askedOf("unknown"),
    200: async ({ partner }) => ({
      form: { token: await serviceAccountToken(partner), token_type_hint: "access_token", ...clientForm(partner) },
    }),
    500: () => withoutTable("revocations", ({ partner, token }) => ({ form: { token, ...clientForm(partner) } })),
  },
  listRevocations: {
    sample: ({ partner }) => ({ authorization: [ownSecret(partner)] }),
    200: async ({ server, partner }) => {
      const token = await serviceAccountToken(partner);
      await send(server, "POST", "/oauth2/revoke", { body: new URLSearchParams({ token, ...clientForm(partner) }) });
      return { authorization: [ownSecret(partner)] };
    },
    401: (stage) => ({ authorization: wrongSecret(stage) }),
  },
};

interface Broken {
  readonly server: TestServer;
  readonly partner: TestPartner;
  /** Of the partner's service account. */
  readonly token: string;
}

/** The call to a server whose store has lost a table: a fault that nobody foresaw. */
async function withoutTable(table: string, call: (broken: Broken) => Call): Promise<Call> {
  const server = await startTestServer("sqlite");
  onTestFinished(() => server.stop());
  const partner = await createTestPartner(server, ALLOWED);
  const token = await serviceAccountToken(partner);
  await server.database.query(`ALTER TABLE ${table} RENAME TO lost`);
  return { server, ...call({ server, partner, token }) };
}
