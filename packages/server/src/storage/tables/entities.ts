import { type RawBuilder, sql } from "kysely";
import type { Entities, EntityKey, EntityKind, Entitlement, StoredEntity } from "../account-store.ts";

/** The three tables of accounts are one pattern: what differs stands here. */
interface EntityTable {
  readonly table: "organizations" | "workspaces" | "users";
  readonly id: "org_id" | "workspace_id" | "user_id";
  readonly externalId: "external_org_id" | "external_workspace_id" | "external_user_id";
  /** Columns that are members of the entity as they are, ids first. */
  readonly members: readonly string[];
  readonly parent: EntityKind | undefined;
}

export const TABLES: Readonly<Record<EntityKind, EntityTable>> = {
  organization: {
    table: "organizations",
    id: "org_id",
    externalId: "external_org_id",
    members: ["org_id", "external_org_id", "name", "email", "phone_number", "support_email", "org_type"],
    parent: undefined,
  },
  workspace: {
    table: "workspaces",
    id: "workspace_id",
    externalId: "external_workspace_id",
    members: ["workspace_id", "external_workspace_id", "org_id", "name"],
    parent: "organization",
  },
  user: {
    table: "users",
    id: "user_id",
    externalId: "external_user_id",
    members: ["user_id", "external_user_id", "workspace_id", "org_id", "email", "name"],
    parent: "workspace",
  },
};

export type EntityRow = Readonly<Record<string, string | number | null>>;

export function toStored<K extends EntityKind>(kind: K, row: EntityRow): StoredEntity<K> {
  const members = TABLES[kind].members.map((member) => [member, row[member]]);
  const entity = {
    ...Object.fromEntries(members),
    entitlements: JSON.parse(row["entitlements"] as string) as Entitlement[],
    status: row["status"],
  };
  return { entity: entity as Entities[K], revision: row["revision"] as string };
}

/** One row by either of its ids, of this partner: an index entry, never more than one row. */
export function whereKey(kind: EntityKind, partnerId: string, key: EntityKey): RawBuilder<boolean> {
  const { id, externalId } = TABLES[kind];
  const [column, value] = "id" in key ? [id, key.id] : [externalId, key.externalId];
  return sql<boolean>`partner_id = ${partnerId} AND ${sql.ref(column)} = ${value}`;
}
