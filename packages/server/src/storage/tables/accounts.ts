import { type Kysely, sql, type Transaction } from "kysely";
import { AccountRefusal, type AccountStore, type EntityKey, type EntityKind, type LiveUser, type StoredEntity } from "../account-store.ts";
import { type Dialect, disabledEntity, tokensCutOffSeconds } from "../dialect.ts";
import { purgeExpired } from "../purge.ts";
import type { Schema } from "../schema.ts";
import { accountWriter } from "./account-writer.ts";
import { type EntityRow, TABLES, toStored, whereKey } from "./entities.ts";
import { listEntities } from "./entity-list.ts";
import { answerOnce, findRepeated, forgetAnswers } from "./idempotent-requests.ts";

export function accountStore(dialect: Dialect): AccountStore {
  return {
    find: (kind, partnerId, key) => dialect.read((db) => findEntity(db, kind, partnerId, key)),
    findLiveUser: (partnerId, userId) => findLiveUser(dialect, partnerId, userId),
    list: (partnerId, filter, page) => dialect.read((db) => listEntities(db, partnerId, filter, page)),
    write: (work) => dialect.write((db) => work(accountWriter(db, dialect))),
    writeOnce: (request, work, refused) => dialect.write((db) => answerOnce(db, request, () => work(accountWriter(db, dialect)), refused)),
    findRepeated: (request) => dialect.read((db) => findRepeated(db, request)),
    async eraseBelow(kind, partnerId, id) {
      const below = ({ organization: ["user", "workspace"], workspace: ["user"], user: [] } as const)[kind];
      for (const child of below) await eraseChildren(dialect, child, partnerId, { kind, id });
    },
    purgeRepeated: (nowMs) => purgeExpired(dialect, "idempotent_requests", "request_key", nowMs),
  };
}

async function findEntity<K extends EntityKind>(
  db: Kysely<Schema>,
  kind: K,
  partnerId: string,
  key: EntityKey,
): Promise<StoredEntity<K> | undefined> {
  const found = await sql<EntityRow>`SELECT * FROM ${sql.table(TABLES[kind].table)} WHERE ${whereKey(kind, partnerId, key)}`.execute(db);
  return found.rows[0] === undefined ? undefined : toStored(kind, found.rows[0]);
}

async function findLiveUser(dialect: Dialect, partnerId: string, userId: string): Promise<LiveUser | undefined> {
  const row = await dialect.findSubject(partnerId, userId);
  if (row === undefined) return undefined;
  const { workspace_id: workspaceId, org_id: orgId } = row;
  return { workspaceId, orgId, disabled: disabledEntity(row), tokensCutOffSeconds: tokensCutOffSeconds(row) };
}

/** As many as a transaction holds the embedded store's only writer for a moment. */
const ERASED_AT_ONCE = 500;

async function eraseChildren(
  dialect: Dialect,
  kind: EntityKind,
  partnerId: string,
  parent: { readonly kind: EntityKind; readonly id: string },
): Promise<void> {
  const { table, id } = TABLES[kind];
  const isChild = sql`partner_id = ${partnerId} AND ${sql.ref(TABLES[parent.kind].id)} = ${parent.id}`;
  const eraseSome = async (db: Transaction<Schema>) => {
    const deleted = await sql<{ id: string }>`DELETE FROM ${sql.table(table)} WHERE partner_id = ${partnerId} AND ${sql.ref(id)} IN
      (SELECT ${sql.ref(id)} FROM ${sql.table(table)} WHERE ${isChild} LIMIT ${ERASED_AT_ONCE}) RETURNING ${sql.ref(id)} AS id`.execute(db);
    const ids = deleted.rows.map((row) => row.id);
    if (ids.length > 0) await forgetAnswers(db, partnerId, ids);
    return ids.length;
  };
  let erased: number;
  do {
    erased = await dialect.write(eraseSome).catch((thrown: unknown) => {
      throw dialect.isForeignKeyViolation(thrown) ? new AccountRefusal(parent.kind, "has_children") : thrown;
    });
  } while (erased === ERASED_AT_ONCE);
}
