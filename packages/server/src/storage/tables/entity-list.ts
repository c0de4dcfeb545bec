import { setImmediate as nextTurn } from "node:timers/promises";
import { type Kysely, type RawBuilder, sql } from "kysely";
import type { EntityFilter, EntityKind, EntityPage, EntityPosition, LevelFilter, StoredEntity } from "../account-store.ts";
import type { Schema } from "../schema.ts";
import { type EntityRow, TABLES, toStored } from "./entities.ts";

const ORDER: readonly EntityKind[] = ["organization", "workspace", "user"];

/** Ids that a level is narrowed to; undefined: it is not. */
type Level = readonly string[] | undefined;
interface Levels {
  readonly organizations: Level;
  readonly workspaces: Level;
  readonly users: Level;
}

/** A stretch of the list that one index holds in order: the children of `parentId`, or all rows of a kind that pass `condition`. */
interface Stretch {
  readonly parentId: string;
  readonly condition: RawBuilder<unknown>;
}

interface PageRequest {
  readonly after: EntityPosition | undefined;
  readonly limit: number;
}

interface Listed {
  readonly position: EntityPosition;
  readonly stored: StoredEntity<EntityKind>;
}

/**
 * Keyset paging: each page goes on behind an id, so that rows which come and go meanwhile neither double nor hide another. A row that is
 * made while the list is read may be in it or not.
 */
export async function listEntities(db: Kysely<Schema>, partnerId: string, filter: EntityFilter, page: PageRequest): Promise<EntityPage> {
  const levels: Levels = {
    organizations: await levelIds(db, partnerId, "organization", filter.organizations),
    workspaces: await levelIds(db, partnerId, "workspace", filter.workspaces),
    users: await levelIds(db, partnerId, "user", filter.users),
  };
  const listed: Listed[] = [];
  for (const kind of ORDER) {
    if (!filter.kinds.includes(kind) || (page.after !== undefined && ORDER.indexOf(kind) < ORDER.indexOf(page.after.kind))) continue;
    const after = page.after?.kind === kind ? page.after : undefined;
    for (const stretch of stretches(kind, levels)) {
      if (after !== undefined && stretch.parentId < after.parentId) continue;
      const afterId = after?.parentId === stretch.parentId ? after.id : undefined;
      listed.push(...(await readStretch(db, partnerId, { kind, stretch, afterId, limit: page.limit + 1 - listed.length })));
      if (listed.length > page.limit) return toPage(listed.slice(0, page.limit), listed[page.limit - 1]?.position);
      await nextTurn(); // the embedded store answers within one turn: many parents would hold up all other requests
    }
  }
  return toPage(listed, undefined);
}

/** Those that there are, in the order of their code units, here and in {@link listEntities}: no database is asked to sort them. */
async function levelIds(db: Kysely<Schema>, partnerId: string, kind: EntityKind, level: LevelFilter | undefined): Promise<Level> {
  if (level === undefined) return undefined;
  const { table, id, externalId } = TABLES[kind];
  const found = new Set<string>();
  for (const [column, values] of [
    [id, level.ids],
    [externalId, level.externalIds],
  ] as const) {
    if (values.length === 0) continue;
    const { rows } = await sql<{ id: string }>`SELECT ${sql.ref(id)} AS id FROM ${sql.table(table)}
      WHERE partner_id = ${partnerId} AND ${sql.ref(column)} IN (${sql.join(values)})`.execute(db);
    for (const row of rows) found.add(row.id);
  }
  return [...found].toSorted((a, b) => (a < b ? -1 : 1));
}

/**
 * Every level that is given must hold. An organization lies in no workspace and a workspace in no user, so a filter by what is below a kind
 * leaves that kind out.
 */
function stretches(kind: EntityKind, { organizations, workspaces, users }: Levels): readonly Stretch[] {
  const inOrganizations = isOneOf("org_id", organizations);
  switch (kind) {
    case "organization":
      return workspaces !== undefined || users !== undefined ? [] : [{ parentId: "", condition: inOrganizations }];
    case "workspace":
      if (users !== undefined) return [];
      if (workspaces !== undefined) return [{ parentId: "", condition: both(isOneOf("workspace_id", workspaces), inOrganizations) }];
      return childrenOf("org_id", organizations, ALL);
    case "user":
      if (users !== undefined) {
        const inWorkspaces = both(isOneOf("workspace_id", workspaces), inOrganizations);
        return [{ parentId: "", condition: both(isOneOf("user_id", users), inWorkspaces) }];
      }
      if (workspaces !== undefined) return childrenOf("workspace_id", workspaces, inOrganizations);
      return childrenOf("org_id", organizations, ALL);
  }
}

const ALL = sql`true`;

function both(one: RawBuilder<unknown>, other: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`${one} AND ${other}`;
}

function isOneOf(column: string, level: Level): RawBuilder<unknown> {
  if (level === undefined) return ALL;
  return level.length === 0 ? sql`false` : sql`${sql.ref(column)} IN (${sql.join(level)})`;
}

/** One stretch for each parent: over several at once no index is in order, and a page would sort all that is left. */
function childrenOf(column: string, parents: Level, condition: RawBuilder<unknown>): readonly Stretch[] {
  if (parents === undefined) return [{ parentId: "", condition }];
  return parents.map((parentId) => ({ parentId, condition: both(sql`${sql.ref(column)} = ${parentId}`, condition) }));
}

async function readStretch(
  db: Kysely<Schema>,
  partnerId: string,
  {
    kind,
    stretch,
    afterId,
    limit,
  }: { readonly kind: EntityKind; readonly stretch: Stretch; readonly afterId: string | undefined; readonly limit: number },
): Promise<Listed[]> {
  const { table, id } = TABLES[kind];
  const behind = afterId === undefined ? ALL : sql`${sql.ref(id)} > ${afterId}`;
  const found = await sql<EntityRow>`SELECT * FROM ${sql.table(table)}
    WHERE partner_id = ${partnerId} AND ${both(stretch.condition, behind)} ORDER BY ${sql.ref(id)} LIMIT ${limit}`.execute(db);
  return found.rows.map((row) => ({
    position: { kind, parentId: stretch.parentId, id: row[id] as string },
    stored: toStored(kind, row),
  }));
}

function toPage(listed: readonly Listed[], next: EntityPosition | undefined): EntityPage {
  const ofKind = <K extends EntityKind>(kind: K) =>
    listed.filter(({ position }) => position.kind === kind).map(({ stored }) => (stored as StoredEntity<K>).entity);
  return { organizations: ofKind("organization"), workspaces: ofKind("workspace"), users: ofKind("user"), next };
}
