import type { ExchangeFacts, IssueVerdict } from "@cambist/protocol";
import type { Dialect, ExchangeJob, ExchangeVerdict } from "../dialect.ts";
import { GroupCommit } from "../group-commit.ts";
import type { ExchangeStore } from "../store.ts";

/** `last_used_at` is true to this. */
const SECRET_TOUCH_MS = 60_000;
const TOUCHED_SECRETS_MAX = 10_000;
const PURGE_ROWS_MAX = 1_000;

export function exchangeStore(dialect: Dialect): ExchangeStore {
  const group = new GroupCommit<ExchangeJob, ExchangeVerdict>((jobs) => dialect.commitExchanges(jobs));
  const touched = new Map<string, number>();

  function isTouchDue(facts: Readonly<ExchangeFacts>): boolean {
    if (facts.secretId === undefined || facts.atMs - (touched.get(facts.secretId) ?? 0) < SECRET_TOUCH_MS) return false;
    if (touched.size >= TOUCHED_SECRETS_MAX) touched.clear();
    touched.set(facts.secretId, facts.atMs);
    return true;
  }

  return {
    async issue(request) {
      return (await group.submit({ kind: "issue", request, touchSecret: isTouchDue(request.facts) })) as IssueVerdict;
    },
    async recordRefusal(facts, refusal) {
      await group.submit({ kind: "refusal", facts, refusal, touchSecret: isTouchDue(facts) });
    },
    async purgeSpent(nowMs) {
      let purged = 0;
      for (;;) {
        const deleted = await dialect.write((db) =>
          db
            .deleteFrom("spent_tokens")
            .where((where) =>
              where(
                where.refTuple("partner_id", "spend_key"),
                "in",
                where
                  .selectFrom("spent_tokens")
                  .select(["partner_id", "spend_key"])
                  .where("expires_at", "<", nowMs)
                  .limit(PURGE_ROWS_MAX)
                  .$asTuple("partner_id", "spend_key"),
              ),
            )
            .executeTakeFirst(),
        );
        const count = Number(deleted.numDeletedRows);
        purged += count;
        if (count < PURGE_ROWS_MAX) return purged;
      }
    },
  };
}
