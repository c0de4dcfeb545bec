import { type Kysely, sql, type Transaction } from "kysely";
import type { AccountAnswer, IdempotentRequest, Repeated } from "../account-store.ts";
import type { Schema } from "../schema.ts";

const KEPT_MS = 24 * 3_600_000;

/**
 * Runs `work` where this request is the first with its key, in the transaction that also keeps its answer: both or neither. Of several at
 * once, the others wait for the first one's transaction, and find its answer or, where it failed, run.
 */
export async function answerOnce(
  db: Transaction<Schema>,
  request: IdempotentRequest,
  work: () => Promise<AccountAnswer>,
  refused: (thrown: unknown) => AccountAnswer | undefined,
): Promise<Repeated> {
  if (!(await claim(db, request))) return (await findRepeated(db, request)) as Repeated;
  const answer = await attempt(db, work, refused);
  const { entityId, ...kept } = answer;
  await db
    .updateTable("idempotent_requests")
    .set({ answer: JSON.stringify(kept), entity_id: entityId ?? null })
    .where("partner_id", "=", request.partnerId)
    .where("request_key", "=", request.key)
    .execute();
  return { code: "answered", answer };
}

/** One statement: takes a key that is new, or whose time is over. */
async function claim(db: Transaction<Schema>, { partnerId, key, fingerprint, nowMs }: IdempotentRequest): Promise<boolean> {
  const values = { fingerprint, answer: null, entity_id: null, expires_at: nowMs + KEPT_MS };
  const claimed = await db
    .insertInto("idempotent_requests")
    .values({ partner_id: partnerId, request_key: key, ...values })
    .onConflict((conflict) =>
      conflict.columns(["partner_id", "request_key"]).doUpdateSet(values).where("idempotent_requests.expires_at", "<=", nowMs),
    )
    .returning("expires_at")
    .execute();
  return claimed.length > 0;
}

export async function findRepeated(db: Kysely<Schema>, request: IdempotentRequest): Promise<Repeated | undefined> {
  const row = await db
    .selectFrom("idempotent_requests")
    .select(["fingerprint", "answer"])
    .where("partner_id", "=", request.partnerId)
    .where("request_key", "=", request.key)
    .where("expires_at", ">", request.nowMs)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  if (Buffer.compare(row.fingerprint, request.fingerprint) !== 0) return { code: "other_request" };
  return row.answer === null ? { code: "erased" } : { code: "answered", answer: JSON.parse(row.answer) as AccountAnswer };
}

/** What a refused write had begun is undone, and the refusal is kept. */
async function attempt(
  db: Transaction<Schema>,
  work: () => Promise<AccountAnswer>,
  refused: (thrown: unknown) => AccountAnswer | undefined,
): Promise<AccountAnswer> {
  await sql`SAVEPOINT attempt`.execute(db);
  try {
    const answer = await work();
    await sql`RELEASE SAVEPOINT attempt`.execute(db);
    return answer;
  } catch (thrown) {
    const answer = refused(thrown);
    if (answer === undefined) throw thrown;
    await sql`ROLLBACK TO SAVEPOINT attempt`.execute(db);
    return answer;
  }
}

/** Of erased entities: the key stays used, so that a late repetition does not make them anew. */
export async function forgetAnswers(db: Transaction<Schema>, partnerId: string, entityIds: readonly string[]): Promise<void> {
  await db
    .updateTable("idempotent_requests")
    .set({ answer: null })
    .where("partner_id", "=", partnerId)
    .where("entity_id", "in", entityIds)
    .execute();
}
