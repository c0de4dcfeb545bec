import { sql } from "kysely";
import type { Dialect } from "./dialect.ts";
import { postgresDialect } from "./dialects/postgres.ts";
import { sqliteDialect } from "./dialects/sqlite.ts";
import { EndedTokensNotice } from "./ended-tokens.ts";
import { migrate } from "./migrate.ts";
import type { Store } from "./store.ts";
import { accountStore } from "./tables/accounts.ts";
import { exchangeStore } from "./tables/exchanges.ts";
import { partnerJwksStore } from "./tables/partner-jwks.ts";
import { partnerStore } from "./tables/partners.ts";
import { rateLimitStore } from "./tables/rate-limits.ts";
import { resourceServerStore } from "./tables/resource-servers.ts";
import { signingKeyStore } from "./tables/signing-keys.ts";
import { ThreadEraser } from "./tables/thread-deletion.ts";
import { taskStore } from "./tables/thread-tasks.ts";
import { threadStore } from "./tables/threads.ts";
import { tokenStore } from "./tables/tokens.ts";

export type StoreLocation = { readonly sqlitePath: string } | { readonly postgresUrl: string };

/** Opens the database and brings its schema up to date. */
export async function openStore(location: StoreLocation, onIdleError: (error: Error) => void): Promise<Store> {
  const dialect =
    "sqlitePath" in location ? await sqliteDialect(location.sqlitePath) : await postgresDialect(location.postgresUrl, onIdleError);
  try {
    await migrate(dialect);
    return storeOver(dialect, await readRestoredAtSeconds(dialect));
  } catch (thrown) {
    await dialect.close();
    throw thrown;
  }
}

export function storeOver(database: Dialect, restoredAtSeconds?: number): Store {
  const ends = new EndedTokensNotice();
  const dialect = ends.watch(database);
  const exchanges = exchangeStore(dialect);
  const eraser = new ThreadEraser(dialect);
  return {
    restoredAtSeconds,
    partners: partnerStore(dialect),
    partnerJwks: partnerJwksStore(dialect),
    accounts: accountStore(dialect, eraser),
    signingKeys: signingKeyStore(dialect),
    exchanges,
    tokens: tokenStore(dialect, ends),
    resourceServers: resourceServerStore(dialect),
    rateLimits: rateLimitStore(dialect),
    threads: threadStore(dialect, eraser),
    tasks: taskStore(dialect, eraser),
    async ping() {
      await dialect.read((db) => sql`SELECT 1`.execute(db));
    },
    async close() {
      await Promise.all([exchanges.flush(), eraser.close()]);
      await dialect.close();
    },
  };
}

async function readRestoredAtSeconds(dialect: Dialect): Promise<number | undefined> {
  const row = await dialect.read((db) => db.selectFrom("store_state").select("value").where("name", "=", "restored_at").executeTakeFirst());
  return row === undefined ? undefined : Number(row.value) / 1000;
}
