import type { ExchangeFacts, IssueVerdict, Refusal } from "@cambist/protocol";
import type { Dialect, ExchangeJob, ExchangeVerdict } from "../dialect.ts";
import { GroupCommit } from "../group-commit.ts";
import { purgeExpired } from "../purge.ts";
import type { ExchangeStore } from "../store.ts";

/** `last_used_at` is true to this. */
const SECRET_TOUCH_MS = 60_000;
const TOUCHED_SECRETS_MAX = 10_000;
/** Exchanges that share a commit. */
const EXCHANGES_MAX = 256;

/** By a limit: what a flood consists of must not cost a commit, or everybody else waits for the disk. It is written together, a little later. */
const TURNED_AWAY: ReadonlySet<Refusal["code"]> = new Set(["rate_limited", "wrong_secrets_too_many"]);
const PUT_OFF_MS = 1_000;
const PUT_OFF_MAX = 2_000;

/** `flush` writes what was put off. */
export function exchangeStore(dialect: Dialect): ExchangeStore & { flush(): Promise<void> } {
  const group = new GroupCommit<ExchangeJob, ExchangeVerdict>((jobs) => dialect.commitExchanges(jobs), EXCHANGES_MAX);
  const touched = new Map<string, number>();

  function isTouchDue(facts: Readonly<ExchangeFacts>): boolean {
    if (facts.secretId === undefined || facts.atMs - (touched.get(facts.secretId) ?? 0) < SECRET_TOUCH_MS) return false;
    if (touched.size >= TOUCHED_SECRETS_MAX) touched.clear();
    touched.set(facts.secretId, facts.atMs);
    return true;
  }

  let putOff: ExchangeJob[] = [];

  function later(...jobs: ExchangeJob[]): void {
    if (putOff.length === 0) setTimeout(() => void flush(), PUT_OFF_MS).unref();
    putOff.push(...jobs);
  }

  /** What fails is tried again; beyond PUT_OFF_MAX a request waits for its record, and is told where it cannot be written. */
  async function flush(): Promise<void> {
    const jobs = putOff;
    putOff = [];
    const outcomes = await Promise.allSettled(jobs.map((job) => group.submit(job)));
    const failed = jobs.filter((_, index) => outcomes[index]?.status === "rejected");
    if (failed.length > 0) later(...failed);
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
      const job: ExchangeJob = { kind: "refusal", facts, refusal, touchSecret: isTouchDue(facts) };
      if (TURNED_AWAY.has(refusal.code) && putOff.length < PUT_OFF_MAX) later(job);
      else await group.submit(job);
    },
    flush,
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
