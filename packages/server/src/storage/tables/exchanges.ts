import type { ExchangeFacts, IssueVerdict } from "@cambist/protocol";
import type { Dialect, ExchangeJob, ExchangeVerdict } from "../dialect.ts";
import { GroupCommit } from "../group-commit.ts";
import { purgeExpired } from "../purge.ts";
import type { ExchangeStore } from "../store.ts";

/** `last_used_at` is true to this. */
const SECRET_TOUCH_MS = 60_000;
const TOUCHED_SECRETS_MAX = 10_000;
/** Exchanges that share a commit. */
const EXCHANGES_MAX = 256;

export function exchangeStore(dialect: Dialect): ExchangeStore {
  const group = new GroupCommit<ExchangeJob, ExchangeVerdict>((jobs) => dialect.commitExchanges(jobs), EXCHANGES_MAX);
  const touched = new Map<string, number>();

  function isTouchDue(facts: Readonly<ExchangeFacts>): boolean {
    if (facts.secretId === undefined || facts.atMs - (touched.get(facts.secretId) ?? 0) < SECRET_TOUCH_MS) return false;
    if (touched.size >= TOUCHED_SECRETS_MAX) touched.clear();
    touched.set(facts.secretId, facts.atMs);
    return true;
  }

  async function touchSecret(clientId: string, { atMs, secretId = "" }: Readonly<ExchangeFacts>): Promise<void> {
    await dialect.write((db) =>
      db
        .updateTable("partner_secrets")
        .set({ last_used_at: atMs })
        .where("partner_id", "=", clientId)
        .where("secret_id", "=", secretId)
        .execute(),
    );
  }

  return {
    async issue(request) {
      return (await group.submit({ kind: "issue", request, touchSecret: isTouchDue(request.facts) })) as IssueVerdict;
    },
    async recordRefusal(facts, refusal) {
      await group.submit({ kind: "refusal", facts, refusal, touchSecret: isTouchDue(facts) });
    },
    async noteCaller(clientId, { spend, facts }) {
      // behind the request's back: a store that can only be read must not keep a client from asking
      if (isTouchDue(facts)) touchSecret(clientId, facts).catch(() => undefined);
      if (spend === undefined) return true;
      return dialect.write(async (db) => {
        const spent = await db
          .insertInto("spent_tokens")
          .values({ partner_id: clientId, spend_key: spend.key, expires_at: spend.expiresAtMs })
          .onConflict((conflict) => conflict.doNothing())
          .returning("partner_id")
          .execute();
        return spent.length === 1;
      });
    },
    purgeSpent: (nowMs) => purgeExpired(dialect, "spent_tokens", ["partner_id", "spend_key"], nowMs),
  };
}
