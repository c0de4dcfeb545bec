import { z } from "zod";
import { isRepeated } from "../http/idempotency.ts";
import { parseIfMatch } from "../http/if-match.ts";
import { defineRoute, type Route } from "../http/route.ts";
import type { EntityKind, EntityTarget } from "../storage/account-store.ts";
import { type AccountDeps, AUTH, type EntityDescription, idOf, keyOf, ONE_OF_TWO, oneOfTwoIds } from "./entity.ts";
import { orProblem, writeAccount } from "./write.ts";

const cascade = z.enum(["true", "false"]).optional();

/**
 * Erasure (contract §5): nothing of an entity is left but its ids in recorded exchanges, and every token of the users in it is dead. With
 * `cascade=true` what lies below goes first, in steps: interrupted, a part of it is erased, and a repetition goes on.
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
    query: oneOfTwoIds(entity, isLeaf ? {} : { cascade }),
    async handle(call) {
      const { query, raw } = call;
      const partnerId = call.principal.partner.clientId;
      const target = { partnerId, key: keyOf(entity, query), revisions: parseIfMatch(raw.ifMatch) };
      if (query["cascade"] === "true" && !(await isRepeated(raw, partnerId, deps))) await orProblem(() => eraseBelow(entity, target, deps));
      return writeAccount(operationId, call, deps, async (writer) => {
        const changedId = await writer.erase(entity.kind, target);
        return { answer: { status: 200, body: { message: `${entity.name} erased`, success: true } }, changedId };
      });
    },
  });
}

/** Not where {@link AccountWriter.erase} will refuse: it judges the condition once more, and answers. */
async function eraseBelow<K extends EntityKind>(
  entity: EntityDescription<K>,
  { partnerId, key, revisions }: EntityTarget,
  { accounts }: AccountDeps,
): Promise<void> {
  const stored = await accounts.find(entity.kind, partnerId, key);
  if (stored === undefined || (revisions !== undefined && !revisions.includes(stored.revision))) return;
  await accounts.eraseBelow(entity.kind, partnerId, idOf(entity, stored.entity));
}
