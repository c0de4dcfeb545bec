import { randomUUID } from "node:crypto";
import { call } from "../../packages/server/src/testing/server.ts";
import type { Scenarios } from "./scenarios.ts";
import type { Stage } from "./stage.ts";

const ROOT = "/v2/account-management";
const ENTITLEMENTS = [{ billing_feature_id: "search" }];
const STALE = { "If-Match": '"stale"' };

interface Kind {
  /** As in an operation id. */
  readonly name: string;
  readonly path: string;
  /** In an answer. */
  readonly member: string;
  readonly id: string;
  readonly externalId: string;
  /** Every other field of its own. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** What it lies in. */
  readonly parent?: Kind;
}

const ORGANIZATION: Kind = {
  name: "Organization",
  path: `${ROOT}/organization`,
  member: "org",
  id: "org_id",
  externalId: "external_org_id",
  fields: {
    name: "Acme",
    email: "a@acme.example",
    phone_number: "+41 1",
    support_email: "s@acme.example",
    org_type: "bank",
    entitlements: ENTITLEMENTS,
  },
};
const WORKSPACE: Kind = {
  name: "Workspace",
  path: `${ROOT}/workspace`,
  member: "workspace",
  id: "workspace_id",
  externalId: "external_workspace_id",
  fields: { name: "Acme", entitlements: ENTITLEMENTS },
  parent: ORGANIZATION,
};
const USER: Kind = {
  name: "User",
  path: `${ROOT}/user`,
  member: "user",
  id: "user_id",
  externalId: "external_user_id",
  fields: { email: "ada@acme.example", name: "Ada", entitlements: ENTITLEMENTS },
  parent: WORKSPACE,
};

/** What a partner does with its organizations, workspaces and users. */
export const ACCOUNT_SCENARIOS: Readonly<Record<string, Scenarios>> = {
  ...entityScenarios(ORGANIZATION, WORKSPACE),
  ...entityScenarios(WORKSPACE, USER),
  ...entityScenarios(USER),
  createOrganizationAndWorkspace: {
    sample: () => ({ json: {} }),
    201: () => ({
      headers: { "Idempotency-Key": randomUUID() },
      json: {
        external_org_id: randomUUID(),
        org_name: "Acme",
        org_email: "a@acme.example",
        org_phone_number: "+41 1",
        org_support_email: "s@acme.example",
        org_type: "bank",
        org_entitlements: ENTITLEMENTS,
        external_workspace_id: randomUUID(),
        workspace_name: "Acme",
        workspace_entitlements: ENTITLEMENTS,
      },
    }),
    409: async (stage) => ({ json: { external_workspace_id: (await create(stage, WORKSPACE)).external } }),
  },
  getEntities: {
    sample: () => ({ json: {} }),
    200: async (stage) => ({
      json: { workspace_ids: [(await create(stage, USER)).parent["workspace_id"]], entity_types: ["user", "workspace"], limit: 1 },
    }),
  },
};

/** @param child what makes it not empty. */
function entityScenarios(kind: Kind, child?: Kind): Record<string, Scenarios> {
  const { name, id, externalId } = kind;
  const absent = { [id]: randomUUID() };
  return {
    [`get${name}`]: {
      sample: () => ({ query: absent }),
      200: async (stage) => ({ query: { [externalId]: (await create(stage, kind)).external } }),
    },
    [`create${name}`]: {
      sample: () => ({ json: kind.parent === undefined ? {} : { [kind.parent.id]: randomUUID() } }),
      201: async (stage) => ({
        headers: { "Idempotency-Key": `"${randomUUID()}"` },
        json: { ...(await parentOf(stage, kind)), ...kind.fields, [externalId]: randomUUID() },
      }),
      409: async (stage) => {
        const { external, parent } = await create(stage, kind);
        return { json: { ...parent, [externalId]: external } };
      },
    },
    [`update${name}`]: {
      sample: () => ({ query: absent, json: { name: "Renamed" } }),
      200: async (stage) => {
        const { query, etag } = await create(stage, kind);
        return { query, headers: { "If-Match": etag, "Idempotency-Key": randomUUID() }, json: { name: "Renamed", status: "disabled" } };
      },
      409: async (stage) => ({ query: (await create(stage, kind)).query, json: { [externalId]: (await create(stage, kind)).external } }),
      412: async (stage) => ({ query: (await create(stage, kind)).query, headers: STALE, json: { name: "Renamed" } }),
    },
    [`delete${name}`]: {
      sample: () => ({ query: absent }),
      200: async (stage) => {
        const { query, etag } = await create(stage, kind);
        return { query, headers: { "If-Match": etag, "Idempotency-Key": randomUUID() } };
      },
      412: async (stage) => ({ query: (await create(stage, kind)).query, headers: STALE }),
      ...(child === undefined
        ? {}
        : {
            409: async (stage: Stage) => ({
              query: (({ [id]: parentId = "" }) => ({ [id]: parentId }))((await create(stage, child)).parent),
            }),
          }),
    },
  };
}

interface Created {
  /** By which it is found. */
  readonly query: Readonly<Record<string, string>>;
  readonly external: string;
  readonly etag: string;
  /** The parent's id, under its name. */
  readonly parent: Readonly<Record<string, string>>;
}

async function create(stage: Stage, kind: Kind): Promise<Created> {
  const external = randomUUID();
  const parent = await parentOf(stage, kind);
  const body = { ...parent, ...kind.fields, [kind.externalId]: external };
  const reply = await call(stage.server, "PUT", kind.path, stage.tokens["serviceAccount"] ?? "", body);
  if (reply.status !== 201) throw new Error(`no ${kind.name}: ${reply.text}`);
  const entity = reply.json[kind.member] as Record<string, string>;
  return { query: { [kind.id]: entity[kind.id] ?? "" }, external, etag: reply.headers.get("etag") ?? "", parent };
}

async function parentOf(stage: Stage, { parent }: Kind): Promise<Readonly<Record<string, string>>> {
  return parent === undefined ? {} : (await create(stage, parent)).query;
}
