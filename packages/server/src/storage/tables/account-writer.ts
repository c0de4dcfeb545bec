import { randomBytes } from "node:crypto";
import { sql, type Transaction } from "kysely";
import {
  AccountRefusal,
  type AccountWriter,
  type EntityChange,
  type EntityKind,
  type EntityTarget,
  type NewEntity,
} from "../account-store.ts";
import type { Dialect } from "../dialect.ts";
import type { Schema } from "../schema.ts";
import { type EntityRow, TABLES, toStored, whereKey } from "./entities.ts";
import { forgetAnswers } from "./idempotent-requests.ts";
import { takeThreadsFrom } from "./thread-deletion.ts";
import { recordEnd } from "./tokens.ts";

type Violations = Pick<Dialect, "isUniqueViolation" | "isForeignKeyViolation">;

/** Tokens of an entity that a change has ended. */
export interface CutOff {
  readonly kind: EntityKind;
  readonly partnerId: string;
  readonly id: string;
  readonly seconds: number;
  readonly nowMs: () => number;
  readonly isErased?: true;
}

/** The writes of accounts within one transaction. Whatever is refused is thrown, and undone with the transaction. */
export function accountWriter(db: Transaction<Schema>, violations: Violations, cutOffs: CutOff[]): AccountWriter {
  return {
    async create(kind, partnerId, entity, nowMs) {
      const insertion = insert(db, kind, partnerId, { entity, nowMs });
      const row = await orRefuse(insertion, violations.isForeignKeyViolation, new AccountRefusal(kind, "parent_absent"));
      if (row !== undefined) return toStored(kind, row);
      throw new AccountRefusal(kind, (await hasParent(db, kind, partnerId, entity)) ? "external_id_taken" : "parent_absent");
    },

    async update(kind, target, change, { nowMs: clock, cutOff }) {
      const before = await hold(db, kind, target);
      const nowMs = clock(); // not before the row is held: what is issued while this waits must be cut off too
      const changed = changedColumns(kind, before, change);
      if (Object.keys(changed).length === 0) return { ...toStored(kind, before), changed: false };
      const { id, table, externalId } = TABLES[kind];
      const cutsOff = "status" in changed || (cutOff && externalId in changed);
      const columns = {
        ...changed,
        ...(cutsOff ? { cut_off_at: Math.max(Math.floor(nowMs / 1000), before["cut_off_at"] as number) } : {}),
        revision: newRevision(),
        updated_at: nowMs,
      };
      const assignments = Object.entries(columns).map(([column, value]) => sql`${sql.ref(column)} = ${value}`);
      const update = sql<EntityRow>`UPDATE ${sql.table(table)} SET ${sql.join(assignments)}
        WHERE partner_id = ${target.partnerId} AND ${sql.ref(id)} = ${before[id]} RETURNING *`.execute(db);
      const updated = await orRefuse(update, violations.isUniqueViolation, new AccountRefusal(kind, "external_id_taken"));
      if (cutsOff) {
        const ended = { kind, partnerId: target.partnerId, id: before[id] as string };
        await recordEnd(db, ended, nowMs);
        cutOffs.push({ ...ended, seconds: Math.floor(nowMs / 1000), nowMs: clock });
      }
      return { ...toStored(kind, updated.rows[0] as EntityRow), changed: true };
    },

    async erase(kind, target, clock) {
      const row = await hold(db, kind, target);
      const { id, table } = TABLES[kind];
      const ownId = row[id] as string;
      const refusal = new AccountRefusal(kind, "has_children");
      if (await hasChildren(db, kind, target.partnerId, ownId)) throw refusal;
      if (kind === "user") await takeThreadsFrom(db, target.partnerId, [ownId]);
      const deletion = sql`DELETE FROM ${sql.table(table)} WHERE partner_id = ${target.partnerId} AND ${sql.ref(id)} = ${ownId}`.execute(
        db,
      );
      await orRefuse(deletion, violations.isForeignKeyViolation, refusal);
      await forgetAnswers(db, target.partnerId, [ownId]);
      const nowMs = clock();
      const ended = { kind, partnerId: target.partnerId, id: ownId };
      await recordEnd(db, ended, nowMs);
      cutOffs.push({ ...ended, seconds: Math.floor(nowMs / 1000), nowMs: clock, isErased: true });
      return ownId;
    },
  };
}

/** 64 random bits: no two states, of whatever entity, have one. */
function newRevision(): string {
  return randomBytes(8).toString("hex");
}

/**
 * One statement, so that of any number of callers with one external id one gets a row. Nothing is inserted where the parent is not
 * this partner's, or the external id is taken.
 */
async function insert<K extends EntityKind>(
  db: Transaction<Schema>,
  kind: K,
  partnerId: string,
  { entity, nowMs }: { readonly entity: NewEntity<K>; readonly nowMs: number },
): Promise<EntityRow | undefined> {
  const { table, members, externalId, parent } = TABLES[kind];
  const values = entity as unknown as EntityRow & { readonly entitlements: unknown };
  const columns: Record<string, unknown> = {
    partner_id: partnerId,
    ...Object.fromEntries(members.map((member) => [member, values[member]])),
    entitlements: JSON.stringify(values.entitlements),
    status: "active",
    revision: newRevision(),
    created_at: sql`CAST(${nowMs} AS bigint)`,
    updated_at: sql`CAST(${nowMs} AS bigint)`,
    ...(parent === undefined ? {} : { org_id: sql.ref("parent.org_id") }),
  };
  const from =
    parent === undefined
      ? sql`WHERE true` // SQLite takes ON CONFLICT for a join's ON without it
      : sql`FROM ${sql.table(TABLES[parent].table)} AS parent
          WHERE parent.partner_id = ${partnerId} AND ${sql.ref(`parent.${TABLES[parent].id}`)} = ${values[TABLES[parent].id]}`;
  const inserted = await sql<EntityRow>`INSERT INTO ${sql.table(table)} (${sql.join(Object.keys(columns).map((name) => sql.ref(name)))})
    SELECT ${sql.join(Object.values(columns))} ${from}
    ON CONFLICT (partner_id, ${sql.ref(externalId)}) DO NOTHING RETURNING *`.execute(db);
  return inserted.rows[0];
}

async function hasParent<K extends EntityKind>(
  db: Transaction<Schema>,
  kind: K,
  partnerId: string,
  entity: NewEntity<K>,
): Promise<boolean> {
  const { parent } = TABLES[kind];
  if (parent === undefined) return true;
  const id = (entity as unknown as EntityRow)[TABLES[parent].id] as string;
  const found = await sql`SELECT 1 FROM ${sql.table(TABLES[parent].table)} WHERE ${whereKey(parent, partnerId, { id })}`.execute(db);
  return found.rows.length > 0;
}

/** An UPDATE that changes nothing: two writers of one row queue here, and each sees what the one before it has left. */
async function hold(db: Transaction<Schema>, kind: EntityKind, { partnerId, key, revisions }: EntityTarget): Promise<EntityRow> {
  const held = await sql<EntityRow>`UPDATE ${sql.table(TABLES[kind].table)} SET revision = revision
    WHERE ${whereKey(kind, partnerId, key)} RETURNING *`.execute(db);
  const [row] = held.rows;
  if (row === undefined) throw new AccountRefusal(kind, "absent");
  if (revisions !== undefined && !revisions.includes(row["revision"] as string)) throw new AccountRefusal(kind, "revision_stale");
  return row;
}

function changedColumns<K extends EntityKind>(kind: K, before: EntityRow, change: EntityChange<K>): Record<string, string | null> {
  const { entitlements, ...members } = change as Readonly<Record<string, unknown>>;
  const columns = { ...members, ...(entitlements === undefined ? {} : { entitlements: JSON.stringify(entitlements) }) };
  const known = new Set([...TABLES[kind].members, "entitlements", "status"]);
  return Object.fromEntries(
    Object.entries(columns as Record<string, string | null>).filter(([name, value]) => known.has(name) && before[name] !== value),
  );
}

/** The next level down has an index that begins with its parent. */
async function hasChildren(db: Transaction<Schema>, kind: EntityKind, partnerId: string, id: string): Promise<boolean> {
  const child = ({ organization: "workspace", workspace: "user", user: undefined } as const)[kind];
  if (child === undefined) return false;
  const found = await sql`SELECT 1 FROM ${sql.table(TABLES[child].table)}
    WHERE partner_id = ${partnerId} AND ${sql.ref(TABLES[kind].id)} = ${id} ORDER BY ${sql.ref(TABLES[child].id)} LIMIT 1`.execute(db); // as the index has it
  return found.rows.length > 0;
}

/** Between a look and a write another node may have written: the database's own constraint decides. */
async function orRefuse<T>(work: Promise<T>, isViolation: (thrown: unknown) => boolean, refusal: AccountRefusal): Promise<T> {
  try {
    return await work;
  } catch (thrown) {
    throw isViolation(thrown) ? refusal : thrown;
  }
}
