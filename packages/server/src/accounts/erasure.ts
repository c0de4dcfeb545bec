import { z } from "zod";
import { isRepeated, writeOnce } from "../http/idempotency.ts";
import { parseIfMatch } from "../http/if-match.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { AccountRefusal, type EntityKind, type EntityTarget } from "../storage/account-store.ts";
import { type AccountDeps, AUTH, type EntityDescription, keyOf, ONE_OF_TWO, oneOfTwoIds, orProblem } from "./entity.ts";

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
    async handle({ query, principal: { partner }, raw }) {
      const partnerId = partner.clientId;
      const target = { partnerId, key: keyOf(entity, query), revisions: parseIfMatch(raw.ifMatch) };
      if (query["cascade"] === "true" && !(await isRepeated(raw, partnerId, deps))) await orProblem(() => eraseBelow(entity, target, deps));
      const answer = await writeOnce(raw, partnerId, deps, (writer) =>
        orProblem(async () => {
          await writer.erase(entity.kind, target);
          return { status: 200, body: { message: `${entity.name} erased`, success: true } };
        }),
      );
      deps.log.info("account written", { operation: operationId, client_id: partnerId, trace_id: raw.traceId });
      return answer;
    },
  });
}

/** The condition is judged before anything is erased, and by {@link AccountWriter.erase} once more. */
async function eraseBelow<K extends EntityKind>(
  { kind, id }: EntityDescription<K>,
  target: EntityTarget,
  { accounts }: AccountDeps,
): Promise<void> {
  const stored = await accounts.find(kind, target.partnerId, target.key);
  if (stored === undefined) throw new AccountRefusal(kind, "absent");
  if (target.revisions !== undefined && !target.revisions.includes(stored.revision)) throw new AccountRefusal(kind, "revision_stale");
  await accounts.eraseBelow(kind, target.partnerId, (stored.entity as unknown as Record<string, string>)[id] ?? "");
}
