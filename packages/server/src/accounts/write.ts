import { type Attempt, writeOnce } from "../http/idempotency.ts";
import type { Answer, Call, PrincipalOf } from "../http/route.ts";
import { type AccountAnswer, AccountRefusal, type AccountWriter } from "../storage/account-store.ts";
import { type AccountDeps, type AUTH, refusalProblem } from "./entity.ts";

export interface Written {
  readonly answer: AccountAnswer;
  /** Of the entity that is another one now; undefined: nothing was changed. */
  readonly changedId: string | undefined;
}

export type AccountCall = Pick<Call<unknown, unknown, unknown, PrincipalOf<typeof AUTH>>, "raw" | "principal">;

/** A write of accounts: once, in one transaction, and on record by its ids. A refusal undoes it. */
export async function writeAccount(
  operationId: string,
  call: AccountCall,
  deps: AccountDeps,
  work: (writer: AccountWriter) => Promise<Written>,
): Promise<Answer> {
  let changedId: string | undefined;
  const attempt = attemptOf(operationId, call);
  const answer = await writeOnce(attempt, deps, (writer) =>
    orProblem(async () => {
      changedId = undefined; // of a run before this one, that the database undid
      const written = await work(writer);
      ({ changedId } = written);
      return written.answer;
    }),
  );
  if (changedId !== undefined) {
    const { partnerId, raw } = attempt;
    deps.log.info("account changed", { operation: operationId, client_id: partnerId, entity_id: changedId, trace_id: raw.traceId });
  }
  return answer;
}

export function attemptOf(operationId: string, { raw, principal }: AccountCall): Attempt {
  return { operationId, partnerId: principal.partner.clientId, raw };
}

/** For a refusal to end the transaction as the answer that it becomes. */
export async function orProblem<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw thrown instanceof AccountRefusal ? refusalProblem(thrown) : thrown;
  }
}
