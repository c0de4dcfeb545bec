import { parseIfMatch } from "../http/if-match.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { AccountRefusal, type EntityChange, type EntityKind, type Entitlement } from "../storage/account-store.ts";
import {
  type AccountDeps,
  answerDocs,
  AUTH,
  entityAnswer,
  type EntityDescription,
  idOf,
  keyOf,
  ONE_OF_TWO,
  oneOfTwoIds,
  refusalProblem,
} from "./entity.ts";
import { deleteRoute } from "./erasure.ts";
import { requireHeldFeatures } from "./fields.ts";
import { writeAccount } from "./write.ts";

/** Get, create, update and delete, for any kind of entity (contract §5). */
export function entityRoutes<K extends EntityKind>(entity: EntityDescription<K>, deps: AccountDeps): Route[] {
  return [getRoute(entity, deps), createRoute(entity, deps), updateRoute(entity, deps), deleteRoute(entity, deps)];
}

function getRoute<K extends EntityKind>(entity: EntityDescription<K>, { accounts }: AccountDeps): Route {
  return defineRoute({
    operationId: `get${entity.name}`,
    method: "GET",
    path: entity.path,
    auth: AUTH,
    docs: {
      summary: `Get ${entity.name}`,
      description: ONE_OF_TWO,
      tag: "accounts",
      answers: { 200: answerDocs(entity, "Found."), 404: { description: `There is no such ${entity.kind}, or it is another partner's.` } },
    },
    query: oneOfTwoIds(entity, {}),
    async handle({ query, principal: { partner } }) {
      const stored = await accounts.find(entity.kind, partner.clientId, keyOf(entity, query));
      if (stored === undefined) throw refusalProblem(new AccountRefusal(entity.kind, "absent"));
      return entityAnswer(entity, 200, "found", stored);
    },
  });
}

const ERASED = ", or the Idempotency-Key is of a request whose entity has been erased since";

interface Entitled {
  readonly entitlements?: readonly Entitlement[] | null;
}

function createRoute<K extends EntityKind>(entity: EntityDescription<K>, deps: AccountDeps): Route {
  const operationId = `create${entity.name}`;
  return defineRoute({
    operationId,
    method: "PUT",
    path: entity.path,
    auth: AUTH,
    docs: {
      summary: `Create ${entity.name}`,
      description: "Never changes what is there: an external id that is taken is a 409.",
      tag: "accounts",
      answers: {
        201: answerDocs(entity, "Created."),
        ...(entity.kind === "organization" ? {} : { 404: { description: "There is no such parent, or it is another partner's." } }),
        409: { description: `${entity.externalId} is taken${ERASED}.` },
      },
    },
    conditions: ["idempotency_key"],
    body: entity.createBody,
    async handle(call) {
      const { partner } = call.principal;
      return writeAccount(operationId, call, deps, async (writer) => {
        requireHeldFeatures(partner, "entitlements", (call.body as Entitled).entitlements);
        const stored = await writer.create(entity.kind, partner.clientId, entity.newEntity(call.body), deps.nowMs());
        return { answer: entityAnswer(entity, 201, "created", stored), changedId: idOf(entity, stored.entity) };
      });
    },
  });
}

function updateRoute<K extends EntityKind>(entity: EntityDescription<K>, deps: AccountDeps): Route {
  const operationId = `update${entity.name}`;
  return defineRoute({
    operationId,
    method: "PATCH",
    path: entity.path,
    auth: AUTH,
    docs: {
      summary: `Update ${entity.name}`,
      description: `${ONE_OF_TWO} What is absent or null stays as it is; entitlements are replaced as a whole. A status of disabled ends the tokens of every user in it at once.`,
      tag: "accounts",
      answers: {
        200: answerDocs(entity, "As it is now."),
        404: { description: `There is no such ${entity.kind}, or it is another partner's.` },
        409: { description: `${entity.externalId} is taken${ERASED}.` },
      },
    },
    conditions: ["idempotency_key", "if_match"],
    query: oneOfTwoIds(entity, {}),
    body: entity.updateBody,
    async handle(call) {
      const { query, body, raw } = call;
      const { partner } = call.principal;
      const target = { partnerId: partner.clientId, key: keyOf(entity, query), revisions: parseIfMatch(raw.ifMatch) };
      const change = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null && value !== undefined));
      const cutOff = entity.kind === "user" && partner.subjectNamespace === "external_user_id";
      return writeAccount(operationId, call, deps, async (writer) => {
        requireHeldFeatures(partner, "entitlements", (body as Entitled).entitlements);
        const stored = await writer.update(entity.kind, target, change as EntityChange<K>, { nowMs: deps.nowMs, cutOff });
        const answer = entityAnswer(entity, 200, stored.changed ? "updated" : "unchanged", stored);
        return { answer, changedId: stored.changed ? idOf(entity, stored.entity) : undefined };
      });
    },
  });
}
