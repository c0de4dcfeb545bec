import { type Kysely, sql, type Transaction } from "kysely";
import {
  AccountRefusal,
  type AccountStore,
  type AccountWriter,
  type EntityKey,
  type EntityKind,
  type LiveUser,
  type StoredEntity,
} from "../account-store.ts";
import { type Dialect, disabledEntity, tokensCutOffSeconds } from "../dialect.ts";
import { purgeExpired } from "../purge.ts";
import type { Schema } from "../schema.ts";
import { accountWriter, type CutOff } from "./account-writer.ts";
import { type EntityRow, TABLES, toStored, whereKey } from "./entities.ts";
import { listEntities } from "./entity-list.ts";
import { answerOnce, beginOnce, forgetAnswers } from "./idempotent-requests.ts";
import { takeThreadsFrom, type ThreadEraser } from "./thread-deletion.ts";
import { endTokens } from "./tokens.ts";

export function accountStore(dialect: Dialect, eraser: ThreadEraser): AccountStore {
  /** The users are gone by now, and nobody finds their threads. */
  async function write<T>(work: (db: Transaction<Schema>, writer: AccountWriter) => Promise<T>): Promise<T> {
    const { result, isUserErased } = await writeWithCutOffs(dialect, work);
    if (isUserErased) eraser.start();
    return result;
  }

  return {
    find: (kind, partnerId, key) => dialect.read((db) => findEntity(db, kind, partnerId, key)),
    findLiveUser: (partnerId, userId) => findLiveUser(dialect, partnerId, userId),
    list: (partnerId, filter, page) => dialect.read((db) => listEntities(db, partnerId, filter, page)),
    write: (work) => write((_db, writer) => work(writer)),
    writeOnce: (request, work, refused) => write((db, writer) => answerOnce(db, request, () => work(writer), refused)),
    beginOnce: (request, first, refused) => write((db, writer) => beginOnce(db, request, () => first(writer), refused)),
    async eraseBelow(kind, partnerId, id) {
      const below = ({ organization: ["user", "workspace"], workspace: ["user"], user: [] } as const)[kind];
      try {
        for (const child of below) await eraseChildren(dialect, child, partnerId, { kind, id });
      } catch (thrown) {
        throw dialect.isForeignKeyViolation(thrown) ? new AccountRefusal(kind, "has_children") : thrown;
      }
      if (kind !== "user") eraser.start();
    },
    purgeRepeated: (nowMs) => purgeExpired(dialect, "idempotent_requests", ["partner_id", "request_key"], nowMs),
  };
}

/**
 * What is issued between the reading of the clock and the commit belongs to the time before the change: where it fell into a later second than the
 * cut-off's, that is raised.
 */
async function writeWithCutOffs<T>(
  dialect: Dialect,
  work: (db: Transaction<Schema>, writer: AccountWriter) => Promise<T>,
): Promise<{ readonly result: T; readonly isUserErased: boolean }> {
  let cutOffs: CutOff[] = [];
  const result = await dialect.write((db) => {
    cutOffs = [];
    return work(db, accountWriter(db, dialect, cutOffs));
  });
  for (const { kind, partnerId, id, seconds, nowMs } of cutOffs) {
    const committedSeconds = Math.floor(nowMs() / 1000);
    if (committedSeconds <= seconds) continue;
    await dialect.write((db) => endTokens(db, { kind, partnerId, id }, committedSeconds * 1000));
  }
  return { result, isUserErased: cutOffs.some(({ kind, isErased }) => isErased && kind === "user") };
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
const ERASED_AT_ONCE = 200;

async function eraseChildren(
  dialect: Dialect,
  kind: EntityKind,
  partnerId: string,
  parent: { readonly kind: EntityKind; readonly id: string },
): Promise<void> {
  const { table, id } = TABLES[kind];
  const eraseSome = async (db: Transaction<Schema>) => {
    const found = await sql<{ id: string }>`SELECT ${sql.ref(id)} AS id FROM ${sql.table(table)}
      WHERE partner_id = ${partnerId} AND ${sql.ref(TABLES[parent.kind].id)} = ${parent.id} ORDER BY ${sql.ref(id)} LIMIT ${ERASED_AT_ONCE}`.execute(
      db,
    );
    const ids = found.rows.map((row) => row.id);
    if (ids.length === 0) return false;
    if (kind === "user") await takeThreadsFrom(db, partnerId, ids);
    await sql`DELETE FROM ${sql.table(table)} WHERE partner_id = ${partnerId} AND ${sql.ref(id)} IN (${sql.join(ids)})`.execute(db);
    await forgetAnswers(db, partnerId, ids);
    return true;
  };
  while (await dialect.write(eraseSome));
}
