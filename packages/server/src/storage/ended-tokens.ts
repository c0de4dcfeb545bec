import type { Transaction } from "kysely";
import type { Dialect } from "./dialect.ts";
import type { Schema } from "./schema.ts";
import type { EndedTokens } from "./token-store.ts";

/** By the transaction that has written them down. */
const noted = new WeakMap<Transaction<Schema>, EndedTokens[]>();

/** To be called by whatever ends tokens, in the transaction that does. */
export function noteEnded(db: Transaction<Schema>, ended: EndedTokens): void {
  noted.set(db, [...(noted.get(db) ?? []), ended]);
}

/** Tells of tokens that this process has ended, once the transaction is durable: no write can end any unheard. */
export class EndedTokensNotice {
  private readonly listeners: ((ended: EndedTokens) => void)[] = [];

  add(listener: (ended: EndedTokens) => void): void {
    this.listeners.push(listener);
  }

  /** The same dialect, whose writes are listened to. Writes that share a transaction may each tell of what another one has ended: too much is no harm. */
  watch(dialect: Dialect): Dialect {
    return {
      ...dialect,
      write: async (work) => {
        let ended: readonly EndedTokens[] = [];
        const result = await dialect.write(async (db) => {
          const worked = await work(db);
          ended = noted.get(db) ?? [];
          return worked;
        });
        for (const each of ended) for (const listener of this.listeners) listener(each);
        return result;
      },
    };
  }
}
