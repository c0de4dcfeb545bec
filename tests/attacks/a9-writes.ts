import type { TestServer } from "../../packages/server/src/testing/server.ts";
import { type Asked, BOTH, getOf, KINDS, make, nth, ORGANIZATION, type Tenant, USER, WORKSPACE } from "./a9-setting.ts";

/** A write of the account API that would succeed: nothing of it has been done yet. */
export interface PreparedWrite {
  readonly asked: Asked;
  /** Of the same method and path, and as good, but with another body or another target. */
  readonly others: readonly Asked[];
}

export interface Write {
  readonly name: string;
  readonly status: 200 | 201;
  prepare(server: TestServer, tenant: Tenant): Promise<PreparedWrite>;
}

let count = 0;
const fresh = () => `fresh-${count++}`;

/** Every operation that writes (contract §5), deletion with cascade=true and on a condition too. */
export const WRITES: readonly Write[] = [
  ...KINDS.map((kind): Write => ({
    name: `create ${kind.kind}`,
    status: 201,
    async prepare(server, tenant) {
      const above = kind === USER ? WORKSPACE : ORGANIZATION;
      const parents = kind.parent === undefined ? {} : { [kind.parent]: (await make(server, tenant, above)).id };
      const put = (more: object) => ({ method: "PUT", path: kind.path, body: { ...parents, ...more } });
      return { asked: put({ [kind.externalId]: fresh(), name: "Ünï" }), others: [put({ [kind.externalId]: fresh() }), put({})] };
    },
  })),
  {
    name: "create organization and workspace",
    status: 201,
    prepare() {
      const put = (more: object) => ({
        method: "PUT",
        path: BOTH,
        body: { external_org_id: fresh(), external_workspace_id: fresh(), ...more },
      });
      return Promise.resolve({ asked: put({ org_name: "Ünï" }), others: [put({}), put({ org_name: "Ünï" })] });
    },
  },
  ...KINDS.map((kind): Write => ({
    name: `update ${kind.kind}`,
    status: 200,
    async prepare(server, tenant) {
      const [own, other] = [await make(server, tenant, kind), await make(server, tenant, kind, { [kind.externalId]: fresh() })];
      const patch = (query: string, body: object) => ({ method: "PATCH", path: `${kind.path}?${query}`, body });
      const [byId, body] = [`${kind.id}=${own.id}`, { name: "Changed", [kind.externalId]: fresh(), status: "disabled" }];
      return {
        asked: patch(byId, body),
        others: [
          patch(byId, { name: "Other" }),
          patch(byId, {}),
          { ...patch(byId, body), headers: { "if-match": "*" } },
          patch(`${kind.id}=${other.id}`, body),
          patch(`${kind.externalId}=${String(other.entity[kind.externalId])}`, body),
        ],
      };
    },
  })),
  ...KINDS.map((kind): Write => ({
    name: `delete ${kind.kind}`,
    status: 200,
    async prepare(server, tenant) {
      const [own, other] = [await make(server, tenant, kind), await make(server, tenant, kind)];
      const remove = (query: string) => ({ method: "DELETE", path: `${kind.path}?${kind.id}=${query}` });
      return {
        asked: remove(own.id),
        others: [remove(other.id), remove(`${own.id}&cascade=true`), { ...remove(own.id), headers: { "if-match": "*" } }],
      };
    },
  })),
  ...[[ORGANIZATION, ""] as const, [ORGANIZATION, " on its ETag"] as const, [WORKSPACE, ""] as const, [USER, " on its ETag"] as const].map(
    ([kind, condition]): Write => ({
      name: `delete ${kind.kind} with all below${condition}`,
      status: 200,
      async prepare(server, tenant) {
        const users = [await make(server, tenant, USER, { email: "below@x.example" }), await make(server, tenant, USER)];
        const ids = users.map(({ entity }) => String(entity[kind.id]));
        const { headers } = await getOf(server, tenant, kind, nth(ids, 0));
        const remove = (id: string, cascade: boolean, tag = headers.get("etag") ?? "") => ({
          method: "DELETE",
          path: `${kind.path}?${kind.id}=${id}&cascade=${cascade}`,
          ...(condition === "" ? {} : { headers: { "if-match": tag } }),
        });
        const others = [
          remove(nth(ids, 1), true),
          remove(nth(ids, 0), false),
          ...(condition === "" ? [] : [remove(nth(ids, 0), true, "*")]),
        ];
        return { asked: remove(nth(ids, 0), true), others };
      },
    }),
  ),
];

export const EACH_WRITE = WRITES.map((write) => [write.name, write] as const);

/** The request under a key. */
export function keyed(asked: Asked, key: string): Asked {
  return { ...asked, headers: { ...asked.headers, "idempotency-key": key } };
}
