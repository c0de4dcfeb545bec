import { SCOPES } from "@cambist/protocol";
import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { ResourceServersTable, Schema, ScopesTable } from "../schema.ts";
import type { ResourceServer, ResourceServerStore, StoredScope, StoredSecret } from "../token-store.ts";

/** `last_used_at` is true to this. */
const SECRET_TOUCH_MS = 60_000;

/** The operator's own APIs, their secrets, and the scopes that open them. */
export function resourceServerStore(dialect: Dialect): ResourceServerStore {
  const unlessTaken = async <T>(work: () => Promise<T>): Promise<T | "audience_taken"> => {
    try {
      return await work();
    } catch (thrown) {
      if (dialect.isUniqueViolation(thrown)) return "audience_taken";
      throw thrown;
    }
  };
  return {
    create: (api, secret) =>
      unlessTaken(() =>
        dialect.write(async (db) => {
          const { resourceServerId: id, name, audience, createdAtMs, updatedAtMs } = api;
          const row = { resource_server_id: id, name, audience, created_at: createdAtMs, updated_at: updatedAtMs };
          await db.insertInto("resource_servers").values(row).execute();
          await insertSecret(db, id, secret);
          return "created" as const;
        }),
      ),
    list: () =>
      dialect.read(async (db) => {
        const rows = await db.selectFrom("resource_servers").selectAll().orderBy("created_at").orderBy("resource_server_id").execute();
        return rows.map(toResourceServer);
      }),
    find: (id) => dialect.read((db) => findResourceServer(db, id)),
    update: (id, change, nowMs) =>
      unlessTaken(() =>
        dialect.write(async (db) => {
          const set = { ...change, updated_at: nowMs };
          const [row] = await db.updateTable("resource_servers").set(set).where("resource_server_id", "=", id).returningAll().execute();
          return row === undefined ? ("absent" as const) : toResourceServer(row);
        }),
      ),
    remove: (id) =>
      dialect.write(async (db) => {
        await hold(db, id); // or a scope made meanwhile would be missed
        const scope = await db.selectFrom("scopes").select("name").where("resource_server_id", "=", id).executeTakeFirst();
        if (scope !== undefined) return "in_use";
        await db.deleteFrom("resource_server_secrets").where("resource_server_id", "=", id).execute();
        const removed = await db.deleteFrom("resource_servers").where("resource_server_id", "=", id).returning("name").execute();
        return removed.length > 0 ? "removed" : "absent";
      }),
    ...secretsOf(dialect),
    ...scopesOf(dialect),
  };
}

type Secrets = Pick<ResourceServerStore, "addSecret" | "removeSecret" | "rehashSecret" | "noteUse">;

function secretsOf(dialect: Dialect): Secrets {
  return {
    addSecret: (id, secret, countMax) =>
      dialect.write(async (db) => {
        if (!(await hold(db, id))) return "absent";
        if ((await listSecrets(db, id)).length >= countMax) return "too_many";
        await insertSecret(db, id, secret);
        return "added";
      }),
    removeSecret: (id, secretId, unusedSinceMs) =>
      dialect.write(async (db) => {
        await hold(db, id);
        const secrets = await listSecrets(db, id);
        const secret = secrets.find((candidate) => candidate.secret_id === secretId);
        if (secret === undefined) return "absent";
        if (secrets.length === 1) return "last";
        if (unusedSinceMs !== undefined && (secret.last_used_at ?? 0) > unusedSinceMs) return "in_use";
        await db.deleteFrom("resource_server_secrets").where("resource_server_id", "=", id).where("secret_id", "=", secretId).execute();
        return "removed";
      }),
    rehashSecret: (id, secretId, before, { hash, pepperId }) =>
      dialect.write(async (db) => {
        await db
          .updateTable("resource_server_secrets")
          .set({ secret_hash: hash, pepper_id: pepperId })
          .where("resource_server_id", "=", id)
          .where("secret_id", "=", secretId)
          .where("secret_hash", "=", before)
          .execute();
      }),
    noteUse: (id, secretId, nowMs) =>
      dialect.write(async (db) => {
        await db
          .updateTable("resource_server_secrets")
          .set({ last_used_at: nowMs })
          .where("resource_server_id", "=", id)
          .where("secret_id", "=", secretId)
          .where((where) => where.or([where("last_used_at", "is", null), where("last_used_at", "<", nowMs - SECRET_TOUCH_MS)]))
          .execute();
      }),
  };
}

/** An UPDATE that changes nothing: two writers of what hangs on one API queue here. */
async function hold(db: Transaction<Schema>, id: string): Promise<boolean> {
  const held = await sql`UPDATE resource_servers SET name = name WHERE resource_server_id = ${id} RETURNING name`.execute(db);
  return held.rows.length > 0;
}

function listSecrets(db: Kysely<Schema>, id: string) {
  const secrets = db.selectFrom("resource_server_secrets").selectAll().where("resource_server_id", "=", id);
  return secrets.orderBy("created_at").orderBy("secret_id").execute();
}

async function insertSecret(db: Transaction<Schema>, id: string, secret: StoredSecret): Promise<void> {
  const { secretId, hash, pepperId, createdAtMs } = secret;
  const row = { resource_server_id: id, secret_id: secretId, secret_hash: hash, pepper_id: pepperId, created_at: createdAtMs };
  await db
    .insertInto("resource_server_secrets")
    .values({ ...row, last_used_at: null })
    .execute();
}

async function findResourceServer(db: Kysely<Schema>, id: string) {
  const row = await db.selectFrom("resource_servers").selectAll().where("resource_server_id", "=", id).executeTakeFirst();
  if (row === undefined) return undefined;
  const secrets = (await listSecrets(db, id)).map((secret) => ({
    secretId: secret.secret_id,
    hash: secret.secret_hash,
    pepperId: secret.pepper_id,
    createdAtMs: secret.created_at,
    lastUsedAtMs: secret.last_used_at ?? undefined,
  }));
  return { ...toResourceServer(row), secrets };
}

function toResourceServer(row: Selectable<ResourceServersTable>): ResourceServer {
  const { resource_server_id: resourceServerId, name, audience, created_at: createdAtMs, updated_at: updatedAtMs } = row;
  return { resourceServerId, name, audience, createdAtMs, updatedAtMs };
}

type Scopes = Pick<ResourceServerStore, "listScopes" | "createScope" | "updateScope" | "removeScope">;

function scopesOf(dialect: Dialect): Scopes {
  return {
    listScopes: () => dialect.read((db) => selectScopes(db)),
    createScope: (scope) =>
      dialect.write(async (db) => {
        const { name, principal, resourceServerId, description, createdAtMs } = scope;
        if (resourceServerId !== null && !(await hold(db, resourceServerId))) return "resource_server_absent";
        const row = { name, principal, resource_server_id: resourceServerId, description, created_at: createdAtMs };
        const inserted = await db
          .insertInto("scopes")
          .values(row)
          .onConflict((conflict) => conflict.doNothing())
          .returning("name")
          .execute();
        return inserted.length > 0 ? "created" : "name_taken";
      }),
    updateScope: (name, { description }) =>
      dialect.write(async (db) => {
        await db.updateTable("scopes").set({ description }).where("name", "=", name).execute();
        return (await selectScopes(db)).find((scope) => scope.name === name) ?? "absent";
      }),
    removeScope: (name) =>
      dialect.write(async (db) => {
        const [scope] = await holdScopes(db, [name]);
        if (scope === undefined) return "absent";
        if (scope.resource_server_id === null) return "built_in";
        if (await isAllowedToSomebody(db, name)) return "in_use";
        await db.deleteFrom("scopes").where("name", "=", name).execute();
        return "removed";
      }),
  };
}

/** Of two that hold one scope, one to allow it to a partner and one to remove it, the later one sees what the earlier one did. */
async function holdScopes(db: Transaction<Schema>, names: readonly string[]): Promise<readonly Pick<ScopesTable, "resource_server_id">[]> {
  const held = await sql<Pick<ScopesTable, "resource_server_id">>`UPDATE scopes SET description = description
    WHERE name IN (${sql.join(names)}) RETURNING resource_server_id`.execute(db);
  return held.rows;
}

/** Whether all of these scopes exist; if they do, they stay until the transaction is over. The built-in ones always do. @param names each once. */
export async function holdAllowedScopes(db: Transaction<Schema>, names: readonly string[]): Promise<boolean> {
  const removable = names.filter((name) => !(SCOPES as readonly string[]).includes(name));
  return removable.length === 0 || (await holdScopes(db, removable)).length === removable.length;
}

async function selectScopes(db: Kysely<Schema>): Promise<StoredScope[]> {
  const rows = await db
    .selectFrom("scopes")
    .leftJoin("resource_servers", "resource_servers.resource_server_id", "scopes.resource_server_id")
    .select(["scopes.name", "principal", "scopes.resource_server_id", "description", "scopes.created_at", "audience"])
    .execute();
  const scopes = rows.map((row) => ({
    name: row.name,
    principal: row.principal,
    resourceServerId: row.resource_server_id,
    audience: row.audience,
    description: row.description,
    createdAtMs: row.created_at,
  }));
  return scopes.toSorted(
    (a, b) =>
      Number(a.resourceServerId !== null) - Number(b.resourceServerId !== null) ||
      a.createdAtMs - b.createdAtMs ||
      rank(a.name) - rank(b.name) ||
      (a.name < b.name ? -1 : 1),
  );
}

const BUILT_IN_ORDER = ["thread", "account-management", "analytics"];

function rank(name: string): number {
  return BUILT_IN_ORDER.indexOf(name);
}

/** Partners are few beside what hangs on them: all of their settings are looked through. */
async function isAllowedToSomebody(db: Kysely<Schema>, scope: string): Promise<boolean> {
  const rows = await db.selectFrom("partners").select("settings").execute();
  return rows.some(({ settings }) => (JSON.parse(settings) as { readonly allowedScopes: readonly string[] }).allowedScopes.includes(scope));
}
