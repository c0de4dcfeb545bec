import * as fc from "fast-check";
import { expect } from "vitest";
import type { Reply } from "../../packages/server/src/testing/server.ts";
import { BOTH, ENTITIES, expectProblem, type Kind, KINDS, ORGANIZATION, USER, WORKSPACE } from "../attacks/a9-setting.ts";
import {
  type Choice,
  choice,
  type ChosenKey,
  chosen,
  conditionOf,
  email,
  entitlements,
  type ExternalId,
  externalId,
  externalIdOf,
  type IfMatch,
  ifMatch,
  key,
  keyOf,
  kind,
  name,
  nameOf,
  partner,
  queryOf,
  status,
} from "./choices.ts";
import type { Entity, Model } from "./model.ts";
import type { World } from "./world.ts";

/* The operations of the account API as fast-check commands. */

export type Command = fc.AsyncCommand<Model, World>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Every answer: its status, and the problem form where it is a refusal. */
function expectStatus(reply: Reply, expected: number): void {
  if (reply.status >= 400) expectProblem(reply, expected);
  expect(reply.status, reply.text).toBe(expected);
}

/** Takes what was created into the model, under the id that the server made. */
function takeIn(model: Model, of: Kind, who: number, { entity, expected, etag }: { entity: Entity; expected: Entity; etag: string }): void {
  const id = String(entity[of.id]);
  expect(id).toMatch(UUID);
  expect(model.rows.has(id) || model.erased.some((gone) => gone.id === id), "an id of its own").toBe(false);
  expect(entity).toEqual({ ...expected, [of.id]: id });
  model.put({ kind: of, partner: who, id, entity, etag });
}

abstract class Step<A> implements Command {
  protected readonly asked: A;
  constructor(asked: A) {
    this.asked = asked;
  }
  check(): boolean {
    return true;
  }
  abstract run(model: Model, world: World): Promise<void>;
  toString(): string {
    const brief = JSON.stringify(this.asked, (_name, value: unknown) => (KINDS.includes(value as Kind) ? (value as Kind).kind : value));
    return `${this.constructor.name}(${brief})`;
  }
}

class Create extends Step<{
  readonly who: number;
  readonly of: Kind;
  readonly parent: Choice;
  readonly external: ExternalId;
  readonly fields: Entity;
}> {
  async run(model: Model, world: World): Promise<void> {
    const { who, of, parent, external, fields } = this.asked;
    const own = Object.fromEntries(
      Object.entries(fields).filter(([field]) => field === "entitlements" || (of.fields as readonly string[]).includes(field)),
    );
    const parents = of.parent === undefined ? {} : { [of.parent]: chosen(model, of === USER ? WORKSPACE : ORGANIZATION, who, parent).id };
    const body = { ...own, ...parents, [of.externalId]: externalIdOf(model, of, who, external) };
    const expected = model.create(of, who, body);
    const reply = await world.step(who, `create ${of.kind} ${expected.status}`, { method: "PUT", path: of.path, body });
    expectStatus(reply, expected.status);
    if (expected.status === 201) {
      takeIn(model, of, who, { entity: reply.json[of.member] as Entity, expected: expected.entity, etag: reply.headers.get("etag") ?? "" });
    }
  }
}

class CreateBoth extends Step<{ readonly who: number; readonly externals: readonly [ExternalId, ExternalId]; readonly fields: Entity }> {
  async run(model: Model, world: World): Promise<void> {
    const { who, externals, fields } = this.asked;
    const [externalOrg, externalWorkspace] = [
      externalIdOf(model, ORGANIZATION, who, externals[0]),
      externalIdOf(model, WORKSPACE, who, externals[1]),
    ];
    const body = {
      external_org_id: externalOrg,
      org_name: fields["name"],
      org_email: fields["email"],
      external_workspace_id: externalWorkspace,
    };
    const isTaken = model.isTaken(ORGANIZATION, who, externalOrg) || model.isTaken(WORKSPACE, who, externalWorkspace);
    const reply = await world.step(who, `create both ${isTaken ? 409 : 201}`, { method: "PUT", path: BOTH, body });
    expectStatus(reply, isTaken ? 409 : 201);
    if (isTaken) return;
    const { org, workspace } = reply.json as { org: Entity; workspace: Entity };
    const etagOf = async (of: Kind, entity: Entity) =>
      (await world.ask(who, { method: "GET", path: `${of.path}?${of.id}=${String(entity[of.id])}` })).headers.get("etag") ?? "";
    const expectedOrg = model.create(ORGANIZATION, who, { external_org_id: externalOrg, name: fields["name"], email: fields["email"] });
    if (expectedOrg.status === 201)
      takeIn(model, ORGANIZATION, who, { entity: org, expected: expectedOrg.entity, etag: await etagOf(ORGANIZATION, org) });
    const expected = model.create(WORKSPACE, who, { org_id: org["org_id"], external_workspace_id: externalWorkspace });
    expect(expected.status).toBe(201);
    if (expected.status === 201)
      takeIn(model, WORKSPACE, who, { entity: workspace, expected: expected.entity, etag: await etagOf(WORKSPACE, workspace) });
  }
}

class Update extends Step<{
  readonly who: number;
  readonly of: Kind;
  readonly key: ChosenKey;
  readonly external: ExternalId;
  readonly fields: Entity;
  readonly condition: IfMatch;
}> {
  async run(model: Model, world: World): Promise<void> {
    const { who, of, external, fields, condition } = this.asked;
    const by = keyOf(model, of, who, this.asked.key);
    const own = Object.fromEntries(Object.entries(fields).filter(([field]) => ["entitlements", "status", ...of.fields].includes(field)));
    const change = { ...own, ...(external === undefined ? {} : { [of.externalId]: externalIdOf(model, of, who, external) }) };
    const tag = conditionOf(model, of, who, { by, condition });
    const owner = nameOf(model, of, who, by);
    const expected = model.update(of, who, by, { change, ifMatch: tag });
    const headers = tag === undefined ? {} : { "if-match": tag };
    const reply = await world.step(who, `update ${owner} ${expected.status}`, {
      method: "PATCH",
      path: queryOf(of, by),
      body: change,
      headers,
    });
    expectStatus(reply, expected.status);
    if (expected.status !== 200) return;
    const etag = reply.headers.get("etag") ?? "";
    const isSame = JSON.stringify(expected.entity) === JSON.stringify(expected.row.entity);
    expect(reply.json[of.member]).toEqual(expected.entity);
    expect(etag === expected.row.etag, "another ETag after a change, and only then").toBe(isSame);
    expect(
      [...model.rows.values()].some((row) => row.id !== expected.row.id && row.etag === etag),
      "and no other entity's",
    ).toBe(false);
    model.put({ ...expected.row, entity: expected.entity, etag, etagBefore: isSame ? expected.row.etagBefore : expected.row.etag });
  }
}

class Erase extends Step<{
  readonly who: number;
  readonly of: Kind;
  readonly key: ChosenKey;
  readonly cascade: boolean;
  readonly condition: IfMatch;
}> {
  async run(model: Model, world: World): Promise<void> {
    const { who, of, condition } = this.asked;
    const { cascade } = this.asked;
    const by = keyOf(model, of, who, this.asked.key);
    const tag = conditionOf(model, of, who, { by, condition });
    const owner = nameOf(model, of, who, by);
    const expected = model.erase(of, who, by, { cascade, ifMatch: tag });
    const path = queryOf(of, by) + (cascade ? "&cascade=true" : "");
    const reply = await world.step(who, `erase ${owner} ${expected}${cascade ? " cascade" : ""}`, {
      method: "DELETE",
      path,
      headers: tag === undefined ? {} : { "if-match": tag },
    });
    expectStatus(reply, expected);
  }
}

class Get extends Step<{ readonly who: number; readonly of: Kind; readonly key: ChosenKey }> {
  async run(model: Model, world: World): Promise<void> {
    const { who, of } = this.asked;
    const by = keyOf(model, of, who, this.asked.key);
    const row = model.find(of, who, by);
    const reply = await world.step(who, `get ${nameOf(model, of, who, by)} ${row === undefined ? 404 : 200}`, {
      method: "GET",
      path: queryOf(of, by),
    });
    expectStatus(reply, row === undefined ? 404 : 200);
    if (row === undefined) return;
    expect(reply.json[of.member]).toEqual(row.entity);
    expect(reply.headers.get("etag")).toBe(row.etag);
  }
}

interface ChosenLevel {
  readonly of: Kind;
  readonly ids: readonly Choice[];
  readonly externals: readonly ExternalId[];
}

class List extends Step<{
  readonly who: number;
  readonly kinds: readonly Kind[];
  readonly levels: readonly ChosenLevel[];
  readonly limit: number;
}> {
  async run(model: Model, world: World): Promise<void> {
    const { who, kinds, limit } = this.asked;
    const levels = this.asked.levels.map(({ of, ids, externals }) => ({
      kind: of,
      ids: ids.map((which) => chosen(model, of, who, which).id),
      externalIds: externals.flatMap((external) => externalIdOf(model, of, who, external) ?? []),
    }));
    const given = levels.filter(({ ids, externalIds }) => ids.length + externalIds.length > 0);
    const filters = Object.fromEntries(
      given.flatMap(({ kind: of, ids, externalIds }) => [
        ...(ids.length > 0 ? [[`${of.id}s`, ids] as const] : []),
        ...(externalIds.length > 0 ? [[`${of.externalId}s`, externalIds] as const] : []),
      ]),
    );
    const body = { ...filters, ...(kinds.length < KINDS.length ? { entity_types: kinds.map((of) => of.kind) } : {}), limit };
    const expected = model.list(who, { kinds, levels: given });
    const listed: Entity[] = [];
    let cursor: string | null = null;
    do {
      const asked = { method: "POST", path: ENTITIES, body: { ...body, cursor } };
      const reply: Reply =
        cursor === null ? await world.step(who, `list ${expected.length > limit ? "pages" : "page"}`, asked) : await world.ask(who, asked);
      expectStatus(reply, 200);
      const page = KINDS.flatMap(({ table }) => reply.json[table] as Entity[]);
      cursor = reply.json["next_cursor"] as string | null;
      if (cursor === null) expect(page.length).toBeLessThanOrEqual(limit);
      else expect(page).toHaveLength(limit);
      listed.push(...page);
    } while (cursor !== null);
    const inOrder = (entities: readonly Entity[]) =>
      entities.map((entity) => JSON.stringify(entity, Object.keys(entity).toSorted())).toSorted();
    expect(inOrder(listed)).toEqual(inOrder(expected.map((row) => row.entity)));
  }
}

const level = (of: Kind): fc.Arbitrary<ChosenLevel> =>
  fc.record({ of: fc.constant(of), ids: fc.array(choice, { maxLength: 2 }), externals: fc.array(externalId, { maxLength: 2 }) });

const create = fc
  .record({
    who: partner,
    of: kind,
    parent: choice,
    external: externalId,
    fields: fc.record({ name, email, entitlements }, { requiredKeys: [] }),
  })
  .map((asked): Command => new Create(asked));
const update = fc
  .record({
    who: partner,
    of: kind,
    key,
    external: externalId,
    fields: fc.record({ name, email, status, entitlements, org_type: name }, { requiredKeys: [] }),
    condition: ifMatch,
  })
  .map((asked): Command => new Update(asked));

/** What is chosen twice comes twice as often: entities are made faster than they are erased. */
export const COMMANDS: fc.Arbitrary<Command>[] = [
  create,
  create,
  create,
  fc
    .record({ who: partner, externals: fc.tuple(externalId, externalId), fields: fc.record({ name, email }) })
    .map((asked): Command => new CreateBoth(asked)),
  update,
  update,
  fc.record({ who: partner, of: kind, key, cascade: fc.boolean(), condition: ifMatch }).map((asked): Command => new Erase(asked)),
  fc.record({ who: partner, of: kind, key }).map((asked): Command => new Get(asked)),
  fc.record({ who: partner, of: kind, key }).map((asked): Command => new Get(asked)),
  fc
    .record({
      who: partner,
      kinds: fc.subarray([...KINDS], { minLength: 1 }),
      levels: fc.subarray([...KINDS]).chain((kinds) => fc.tuple(...kinds.map((of) => level(of)))),
      limit: fc.constantFrom(1, 2, 7, 200),
    })
    .map((asked): Command => new List(asked)),
];

/** Outcomes without which a run would have shown little, each in one step of two thousand. */
export const MUST_MEET = [
  ["organization", "workspace", "user"].flatMap((of) => [`create ${of} 201`, `create ${of} 409`]),
  ["create workspace 404", "create user 404", "create both 201", "create both 409", "list page", "list pages"],
  ["get own 200", "get shared 200", "get foreign 404", "get nobody's 404"],
  ["update own 200", "update shared 200", "update foreign 404", "update nobody's 404", "update own 409", "update own 412"],
  ["erase own 200", "erase shared 200", "erase foreign 404", "erase nobody's 404", "erase own 409", "erase own 412"],
  ["erase own 200 cascade", "erase foreign 404 cascade", "erase own 412 cascade"],
].flat();
