import { sql, type Transaction } from "kysely";
import type { AccountAnswer, IdempotentRequest, Repeated } from "../account-store.ts";
import type { Schema } from "../schema.ts";

const KEPT_MS = 24 * 3_600_000;

type Refused = (thrown: unknown) => AccountAnswer | undefined;

/**
 * Runs `work` where this request is the first with its key, or has begun, in the transaction that also keeps its answer: both or neither. Of several
 * at once, the others wait for the first one's transaction, and find its answer or, where it failed, run.
 */
export async function answerOnce(
  db: Transaction<Schema>,
  request: IdempotentRequest,
  work: () => Promise<AccountAnswer>,
  refused: Refused,
): Promise<Repeated> {
  const found = await claim(db, request);
  if (found !== undefined && found.code !== "begun") return found;
  const answer = await attempt(db, work, refused);
  await keepAnswer(db, request, answer);
  return { code: "answered", answer };
}

/** As {@link answerOnce}, for the first step of several: what is kept is what they are about. */
export async function beginOnce(
  db: Transaction<Schema>,
  request: IdempotentRequest,
  first: () => Promise<string>,
  refused: Refused,
): Promise<Repeated> {
  const found = await claim(db, request);
  if (found !== undefined) return found;
  const outcome = await attempt(db, first, refused);
  if (typeof outcome === "string") {
    await keep(db, request, BEGUN, outcome);
    return { code: "begun", entityId: outcome };
  }
  await keepAnswer(db, request, outcome);
  return { code: "answered", answer: outcome };
}

const BEGUN = JSON.stringify("begun");

function keepAnswer(db: Transaction<Schema>, request: IdempotentRequest, { entityId, ...answer }: AccountAnswer): Promise<void> {
  return keep(db, request, JSON.stringify(answer), entityId);
}

async function keep(db: Transaction<Schema>, request: IdempotentRequest, answer: string, entityId: string | undefined): Promise<void> {
  await db
    .updateTable("idempotent_requests")
    .set({ answer, entity_id: entityId ?? null })
    .where("partner_id", "=", request.partnerId)
    .where("request_key", "=", request.key)
    .execute();
}

/** One statement takes a key that is new, or whose time is over. Otherwise gives what became of the request that has it. */
async function claim(db: Transaction<Schema>, request: IdempotentRequest): Promise<Repeated | undefined> {
  const { partnerId, key, fingerprint, nowMs } = request;
  const values = { fingerprint, answer: null, entity_id: null, expires_at: nowMs + KEPT_MS };
  const claimed = await db
    .insertInto("idempotent_requests")
    .values({ partner_id: partnerId, request_key: key, ...values })
    .onConflict((conflict) =>
      conflict.columns(["partner_id", "request_key"]).doUpdateSet(values).where("idempotent_requests.expires_at", "<=", nowMs),
    )
    .returning("expires_at")
    .execute();
  if (claimed.length > 0) return undefined;
  const row = await db
    .selectFrom("idempotent_requests")
    .select(["fingerprint", "answer", "entity_id"])
    .where("partner_id", "=", partnerId)
    .where("request_key", "=", key)
    .executeTakeFirstOrThrow();
  if (Buffer.compare(row.fingerprint, fingerprint) !== 0) return { code: "other_request" };
  if (row.answer === null) return { code: "erased" };
  if (row.answer === BEGUN) return { code: "begun", entityId: row.entity_id ?? "" };
  return { code: "answered", answer: JSON.parse(row.answer) as AccountAnswer };
}

/** What a refused write had begun is undone, and the refusal is kept. */
async function attempt<T>(db: Transaction<Schema>, work: () => Promise<T>, refused: Refused): Promise<T | AccountAnswer> {
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
    .where("answer", "<>", BEGUN) // which holds nothing of it, and is gone on with
    .execute();
}
