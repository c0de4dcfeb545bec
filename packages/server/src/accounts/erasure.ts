import { z } from "zod";
import { type Attempt, beginOnce } from "../http/idempotency.ts";
import { parseIfMatch } from "../http/if-match.ts";
import { Problem } from "../http/problem.ts";
import { type Answer, defineRoute, type Route } from "../http/route.ts";
import { AccountRefusal, type AccountWriter, type EntityChange, type EntityKind, type EntityTarget } from "../storage/account-store.ts";
import { type AccountDeps, AUTH, type EntityDescription, idOf, keyOf, ONE_OF_TWO, oneOfTwoIds } from "./entity.ts";
import { attemptOf, orProblem, writeAccount } from "./write.ts";

const cascade = z.enum(["true", "false"]).optional();

/**
 * Erasure (contract §5): nothing of an entity is left but its ids in recorded exchanges, and every token of the users in it is dead. With
 * `cascade=true` what lies below goes first, in steps: interrupted, the entity is disabled and a part of it erased, and a repetition goes on.
 */
export function deleteRoute<K extends EntityKind>(entity: EntityDescription<K>, deps: AccountDeps): Route {
  const operationId = `delete${entity.name}`;
  const isLeaf = entity.kind === "user";
  return defineRoute({
    operationId,
    method: "DELETE",
    path: entity.path,
    auth: AUTH,
    docs: {
      summary: `Delete ${entity.name}`,
      description: `${ONE_OF_TWO} Erases its personal data for good; its tokens end at once.`,
      tag: "accounts",
      answers: {
        200: { description: "Erased.", body: z.strictObject({ message: z.string(), success: z.literal(true) }) },
        404: { description: `There is no such ${entity.kind}, or it is another partner's.` },
        ...(isLeaf ? {} : { 409: { description: "It is not empty, and cascade is not true." } }),
      },
    },
    conditions: ["idempotency_key", "if_match"],
    query: oneOfTwoIds(entity, { cascade }),
    handle(call) {
      const { partner } = call.principal;
      const target = { partnerId: partner.clientId, key: keyOf(entity, call.query), revisions: parseIfMatch(call.raw.ifMatch) };
      const isCascade = call.query["cascade"] === "true";
      const eraseOne = (one: EntityTarget) =>
        writeAccount(operationId, call, deps, async (writer) => {
          const changedId = await writer.erase(entity.kind, one, deps.nowMs).catch((thrown: unknown) => {
            if (isCascade && isRefusal(thrown, "absent")) return undefined; // what was there at the beginning: another erasure has ended it
            throw isCascade && isRefusal(thrown, "has_children") ? new StillFilling() : thrown;
          });
          return { answer: { status: 200, body: { message: `${entity.name} erased`, success: true } }, changedId };
        });
      return isCascade ? eraseTree(entity, { target, attempt: attemptOf(operationId, call) }, deps, eraseOne) : eraseOne(target);
    },
  });
}

const ROUNDS_MAX = 20;

/**
 * What lies below first, then the entity, again where something was made in it meanwhile. The condition is judged once, at the beginning; with it
 * the entity is disabled, so that every token of the users in it ends at once and no exchange makes new ones; and from then on it goes by its own
 * id, whatever becomes of the external one.
 */
async function eraseTree<K extends EntityKind>(
  entity: EntityDescription<K>,
  { target, attempt }: { readonly target: EntityTarget; readonly attempt: Attempt },
  deps: AccountDeps,
  eraseOne: (one: EntityTarget) => Promise<Answer>,
): Promise<Answer> {
  const { partnerId } = target;
  const disabled = { status: "disabled" } as EntityChange<K>;
  const disable = (writer: AccountWriter) => writer.update(entity.kind, target, disabled, { nowMs: deps.nowMs, cutOff: false });
  const begun = await beginOnce(attempt, deps, (writer) => orProblem(async () => idOf(entity, (await disable(writer)).entity)));
  if ("answer" in begun) return begun.answer;
  const { entityId: id } = begun;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    try {
      await deps.accounts.eraseBelow(entity.kind, partnerId, id);
      return await eraseOne({ partnerId, key: { id }, revisions: undefined });
    } catch (thrown) {
      if (!isRefusal(thrown, "has_children") && !(thrown instanceof StillFilling)) throw thrown;
    }
  }
  // not a 409, which would be kept for a repetition: that one goes on
  const headers = { "retry-after": "1" };
  throw new Problem(503, `New entities are made in the ${entity.kind} while it is erased; stop that, and repeat this.`, { headers });
}

/** Undoes the attempt, and is no answer to it. */
class StillFilling extends Error {}

function isRefusal(thrown: unknown, code: AccountRefusal["code"]): boolean {
  return thrown instanceof AccountRefusal && thrown.code === code;
}
