import { z } from "zod";
import { isRepeated } from "../http/idempotency.ts";
import { parseIfMatch } from "../http/if-match.ts";
import { Problem } from "../http/problem.ts";
import { type Answer, defineRoute, type Route } from "../http/route.ts";
import { AccountRefusal, type EntityChange, type EntityKind, type EntityTarget } from "../storage/account-store.ts";
import { type AccountDeps, AUTH, type EntityDescription, idOf, keyOf, ONE_OF_TWO, oneOfTwoIds } from "./entity.ts";
import { attemptOf, writeAccount } from "./write.ts";

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
    async handle(call) {
      const target = {
        partnerId: call.principal.partner.clientId,
        key: keyOf(entity, call.query),
        revisions: parseIfMatch(call.raw.ifMatch),
      };
      const isCascade = call.query["cascade"] === "true" && !(await isRepeated(attemptOf(operationId, call), deps));
      const eraseOne = (one: EntityTarget | AccountRefusal) =>
        writeAccount(operationId, call, deps, async (writer) => {
          if (one instanceof AccountRefusal) throw one;
          const changedId = await writer.erase(entity.kind, one).catch((thrown: unknown) => {
            throw isCascade && isFilled(thrown) ? new StillFilling() : thrown;
          });
          return { answer: { status: 200, body: { message: `${entity.name} erased`, success: true } }, changedId };
        });
      return isCascade ? eraseTree(entity, target, deps, eraseOne) : eraseOne(target);
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
  target: EntityTarget,
  deps: AccountDeps,
  eraseOne: (one: EntityTarget | AccountRefusal) => Promise<Answer>,
): Promise<Answer> {
  const { partnerId } = target;
  const disabled = await disable(entity, target, deps);
  if (disabled instanceof AccountRefusal) return eraseOne(disabled);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    try {
      await deps.accounts.eraseBelow(entity.kind, partnerId, disabled);
      return await eraseOne({ partnerId, key: { id: disabled }, revisions: undefined });
    } catch (thrown) {
      if (!isFilled(thrown) && !(thrown instanceof StillFilling)) throw thrown;
    }
  }
  // not a 409, which would be kept for a repetition: that one goes on
  const headers = { "retry-after": "1" };
  throw new Problem(503, `New entities are made in the ${entity.kind} while it is erased; stop that, and repeat this.`, { headers });
}

/** Gives its id, or why it cannot be erased. */
async function disable<K extends EntityKind>(
  entity: EntityDescription<K>,
  target: EntityTarget,
  { accounts, nowMs }: AccountDeps,
): Promise<string | AccountRefusal> {
  try {
    const change = { status: "disabled" } as EntityChange<K>;
    const stored = await accounts.write((writer) => writer.update(entity.kind, target, change, { nowMs, cutOff: false }));
    return idOf(entity, stored.entity);
  } catch (thrown) {
    if (thrown instanceof AccountRefusal) return thrown;
    throw thrown;
  }
}

/** Undoes the attempt, and is no answer to it. */
class StillFilling extends Error {}

function isFilled(thrown: unknown): boolean {
  return thrown instanceof AccountRefusal && thrown.code === "has_children";
}
