import { expect } from "vitest";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  call,
  createTestPartner,
  type Reply,
  send,
  serviceAccountToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";

/* What the tests of the account API share: the three kinds of entity as one, tenants, and what every answer keeps. */

export const HOME = "/v2/account-management";
export const BOTH = `${HOME}/organization-and-workspace`;
export const ENTITIES = `${HOME}/entities`;

export const ORGANIZATION = {
  kind: "organization",
  path: `${HOME}/organization`,
  id: "org_id",
  externalId: "external_org_id",
  member: "org",
  table: "organizations",
  fields: ["external_org_id", "name", "email", "phone_number", "support_email", "org_type"],
  parent: undefined,
} as const;

export const WORKSPACE = {
  kind: "workspace",
  path: `${HOME}/workspace`,
  id: "workspace_id",
  externalId: "external_workspace_id",
  member: "workspace",
  table: "workspaces",
  fields: ["external_workspace_id", "name"],
  parent: "org_id",
} as const;

export const USER = {
  kind: "user",
  path: `${HOME}/user`,
  id: "user_id",
  externalId: "external_user_id",
  member: "user",
  table: "users",
  fields: ["external_user_id", "email", "name"],
  parent: "workspace_id",
} as const;

export const KINDS = [ORGANIZATION, WORKSPACE, USER] as const;
export type Kind = (typeof KINDS)[number];
/** For test.each: name, kind. */
export const EACH_KIND = KINDS.map((kind) => [kind.kind, kind] as const);

/** A partner with a service-account token. */
export interface Tenant {
  readonly partner: TestPartner;
  readonly token: string;
}

/** ECDSA: signing costs no time. */
const KEY = makeTestKey("ES256");

export async function openTenant(server: TestServer, fields: Record<string, unknown> = {}): Promise<Tenant> {
  const partner = await createTestPartner(server, fields, KEY);
  return { partner, token: await serviceAccountToken(partner) };
}

/** `path` may carry a query; `body` is JSON, or text as it is. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export function ask(
  server: Pick<TestServer, "url">,
  { token }: Pick<Tenant, "token">,
  { method, path, body, headers = {} }: Asked,
): Promise<Reply> {
  const authorization = { authorization: `Bearer ${token}` };
  if (body === undefined) return send(server, method, path, { headers: { ...authorization, ...headers } });
  return send(server, method, path, {
    headers: { ...authorization, "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

export interface Made {
  readonly id: string;
  readonly etag: string;
  readonly entity: Readonly<Record<string, unknown>>;
}

/** One entity, and what it hangs on unless `fields` names that. */
export async function make(
  server: Pick<TestServer, "url">,
  tenant: Tenant,
  kind: Kind,
  fields: Record<string, unknown> = {},
): Promise<Made> {
  const { parent } = kind;
  const above =
    parent === undefined || parent in fields ? {} : { [parent]: (await make(server, tenant, kind === USER ? WORKSPACE : ORGANIZATION)).id };
  const reply = await call(server, "PUT", kind.path, tenant.token, { ...above, ...fields });
  expect(reply.status, reply.text).toBe(201);
  return madeOf(kind, reply);
}

export function madeOf(kind: Kind, reply: Reply): Made {
  const entity = reply.json[kind.member] as Record<string, unknown>;
  return { id: entity[kind.id] as string, etag: reply.headers.get("etag") ?? "", entity };
}

export function getOf(server: Pick<TestServer, "url">, tenant: Tenant, kind: Kind, id: string): Promise<Reply> {
  return ask(server, tenant, { method: "GET", path: `${kind.path}?${kind.id}=${id}` });
}

/** Every row of a tenant's accounts, whole. */
export async function rowsOf(server: TestServer, { partner }: Tenant): Promise<Record<string, Record<string, unknown>[]>> {
  const rows = KINDS.map(async ({ table, id }) => {
    const found = await server.database.query(`SELECT * FROM ${table} WHERE partner_id = $1 ORDER BY ${id}`, [partner.clientId]);
    return [table, found.map((row) => ({ ...row }))] as const;
  });
  return Object.fromEntries(await Promise.all(rows));
}

export async function countsOf(server: TestServer, tenant: Tenant): Promise<number[]> {
  const rows = await rowsOf(server, tenant);
  return KINDS.map(({ table }) => rows[table]?.length ?? 0);
}

/** All that a caller can see, but for date and trace id. */
export function anonymous(reply: Reply): unknown {
  const headers = [...reply.headers].filter(([name]) => name !== "date" && name !== "ratelimit"); // how the partner stands
  return { status: reply.status, headers, text: reply.text.replaceAll(String(reply.json["trace_id"]), "…") };
}

const INNER_WORKINGS =
  /(?:^|\W)(?:SELECT|INSERT|UPDATE|DELETE FROM|SQLITE|ERR_[A-Z]+)\W|sqlite|postgres|kysely|fastify|zod|node_modules|node:|\.ts\b|\/work|\/tmp|\n\s+at /i;

const PROBLEM_MEMBERS = new Set(["type", "title", "status", "detail", "errors", "message", "success", "trace_id"]);

/** RFC 9457 §3, with what a client of the published envelope reads, and nothing of how the server works inside. */
export function expectProblem(reply: Reply, ...statuses: readonly number[]): void {
  const { status, headers, text, json } = reply;
  const holds: Readonly<Record<string, boolean>> = {
    [`status is ${statuses.join(" or ")}`]: statuses.includes(status),
    "is problem+json": headers.get("content-type") === "application/problem+json",
    "is not cached": headers.get("cache-control") === "no-store",
    type: json["type"] === "about:blank",
    title: /^[A-Z][A-Za-z -]+$/.test(String(json["title"])),
    status: json["status"] === status,
    detail: typeof json["detail"] === "string" && json["detail"] !== "" && json["message"] === json["detail"],
    success: json["success"] === false,
    trace_id: /^[0-9a-f]{32}$/.test(String(json["trace_id"])),
    "no other member": Object.keys(json).every((name) => PROBLEM_MEMBERS.has(name)),
    "nothing of the inside": !INNER_WORKINGS.test(text),
  };
  // one expectation for all of them: there are ten thousand answers
  const broken = Object.entries(holds).filter(([, isSo]) => !isSo);
  expect(broken, `${status} ${text}`).toEqual([]);
}

/** @throws where there is none. */
export function nth<T>(list: readonly T[], index: number): T {
  const found = list[index];
  if (found === undefined) throw new Error(`there is no element ${index}`);
  return found;
}

/** How often each status was answered. */
export function tally(replies: readonly Reply[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of replies) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}
