import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { exchange, type Reply, startTestServer, subjectToken, type TestServer } from "../../packages/server/src/testing/server.ts";
import { repetitions } from "../repetitions.ts";
import {
  ask,
  EACH_KIND,
  expectProblem,
  getOf,
  type Kind,
  KINDS,
  make,
  madeOf,
  openTenant,
  ORGANIZATION,
  rowsOf,
  tally,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";

/* A9, If-Match and writes at once: P9.16, over two nodes. */

describe.each(DIALECTS)("conditions on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let tenant: Tenant;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    tenant = await openTenant(server);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const node = (index: number) => (index % 2 === 0 ? server : second);
  const change = (at: TestServer, kind: Kind, id: string, body: object, ifMatch?: string): Promise<Reply> =>
    ask(at, tenant, {
      method: "PATCH",
      path: `${kind.path}?${kind.id}=${id}`,
      body,
      ...(ifMatch === undefined ? {} : { headers: { "if-match": ifMatch } }),
    });
  const remove = (at: TestServer, kind: Kind, id: string, ifMatch: string, more = ""): Promise<Reply> =>
    ask(at, tenant, { method: "DELETE", path: `${kind.path}?${kind.id}=${id}${more}`, headers: { "if-match": ifMatch } });
  const etagOf = async (kind: Kind, id: string, at = second) => (await getOf(at, tenant, kind, id)).headers.get("etag") ?? "";

  test.each(EACH_KIND)(
    "P9.16 412: a stale ETag of a %s changes and erases nothing; the one of the last answer does",
    async (_name, kind) => {
      const made = await make(server, tenant, kind, { [kind.externalId]: `stale-${kind.kind}` });
      expect(made.etag).toMatch(/^"[\x21\x23-\x7e]+"$/);
      expect(await etagOf(kind, made.id)).toBe(made.etag);
      const changed = await change(second, kind, made.id, { name: "1" }, made.etag);
      expect(changed.status).toBe(200);
      const before = await rowsOf(server, tenant);
      for (const stale of [made.etag, '"x"', '""', changed.headers.get("etag")?.toUpperCase().replace(/"$/, 'x"') ?? "", `"${made.id}"`]) {
        for (const at of [server, second]) {
          expectProblem(await change(at, kind, made.id, { name: "2" }, stale), 412);
          expectProblem(await change(at, kind, made.id, {}, stale), 412);
          expectProblem(await change(at, kind, made.id, { [kind.externalId]: `stale-${kind.kind}` }, stale), 412);
          expectProblem(await remove(at, kind, made.id, stale), 412);
          if (kind !== USER) expectProblem(await remove(at, kind, made.id, stale, "&cascade=true"), 412);
        }
      }
      expect(await rowsOf(server, tenant)).toEqual(before);
      expect((await change(server, kind, made.id, { name: "2" }, changed.headers.get("etag") ?? "")).status).toBe(200);
      expect((await remove(second, kind, made.id, await etagOf(kind, made.id))).status).toBe(200);
    },
  );

  test("P9.16 412: a stale ETag with cascade=true erases nothing below either", async () => {
    const user = await make(server, tenant, USER);
    for (const kind of [ORGANIZATION, WORKSPACE]) {
      const id = String(user.entity[kind.id]);
      const stale = await etagOf(kind, id);
      expect((await change(server, kind, id, { name: "Changed" })).status).toBe(200);
      expectProblem(await remove(second, kind, id, stale, "&cascade=true"), 412);
      expect((await getOf(server, tenant, USER, user.id)).status).toBe(200);
    }
  });

  test("P9.16: *, lists and weak tags as RFC 9110 has them; what is no list of tags is a 400 and passes nothing", async () => {
    const { id } = await make(server, tenant, USER);
    for (const [condition, status] of [
      [(etag: string) => etag, 200],
      [() => "*", 200],
      [() => " * ", 200],
      [(etag: string) => `"other", ${etag}`, 200],
      [(etag: string) => `${etag},"other"`, 200],
      [(etag: string) => `W/"other" , ${etag}`, 200],
      [(etag: string) => `W/${etag}`, 412],
      [(etag: string) => `W/${etag}, "other"`, 412],
      [() => '"other", "another"', 412],
      [(etag: string) => etag.slice(1, -1), 400],
      [(etag: string) => etag.slice(1), 400],
      [(etag: string) => `'${etag.slice(1, -1)}'`, 400],
      [(etag: string) => `${etag} "other"`, 400],
      [(etag: string) => `${etag};x`, 400],
      [(etag: string) => `w/${etag}`, 400],
      [(etag: string) => `*, ${etag}`, 400],
      [(etag: string) => `${etag}, *`, 400],
      [() => "**", 400],
      [() => '"', 400],
      [() => "", 400],
      [() => "Wed, 21 Oct 2026 07:28:00 GMT", 400],
      [() => `"${"x".repeat(8_000)}"`, 412],
    ] as const) {
      const etag = await etagOf(USER, id);
      const written = condition(etag);
      const reply = await change(server, USER, id, { name: `${Math.random()}` }, written);
      expect(reply.status, written).toBe(status);
      if (status !== 200) {
        expectProblem(reply, status);
        expect((await remove(second, USER, id, written)).status, written).toBe(status);
        expect(await etagOf(USER, id), written).toBe(etag);
      }
    }
  });

  test.each(EACH_KIND)("P9.16: the ETag of a %s changes with every change of it, and with nothing else", async (_name, kind) => {
    const made = await make(server, tenant, kind);
    const seen = new Set([made.etag]);
    const changes: object[] = kind.fields.flatMap((field) =>
      ["a@x.example", "b@x.example"].map((value) => ({ [field]: `${kind.kind}-${value}` })),
    );
    const entitlements = [
      [{ billing_feature_id: "f" }],
      [{ billing_feature_id: "f" }, { billing_feature_id: "g" }],
      [{ billing_feature_id: "g" }, { billing_feature_id: "f" }],
      [],
    ];
    changes.push(...entitlements.map((list) => ({ entitlements: list })), { status: "disabled" }, { status: "active" });
    for (const body of changes) {
      const reply = await change(server, kind, made.id, body);
      const etag = reply.headers.get("etag") ?? "";
      expect(seen.has(etag), JSON.stringify(body)).toBe(false);
      seen.add(etag);
      expect(reply.json[kind.member]).toMatchObject(body);
      for (const nothing of [body, {}, { name: null }, { ...body, entitlements: null }]) {
        expect((await change(second, kind, made.id, nothing)).headers.get("etag"), JSON.stringify(nothing)).toBe(etag);
      }
      expect(await etagOf(kind, made.id)).toBe(etag);
    }
    expect(seen.size).toBe(changes.length + 1);
  });

  test("P9.16: nothing that happens around an entity changes its ETag: its parent, its children, a refusal, an exchange", async () => {
    const user = await make(server, tenant, USER, { external_user_id: "around" });
    const ids = KINDS.map((kind) => [kind, String(user.entity[kind.id])] as const);
    const etags = () => Promise.all(ids.map(([kind, id]) => etagOf(kind, id)));
    const before = await etags();
    const [orgId = "", workspaceId = ""] = ids.map(([, id]) => id);
    await make(server, tenant, USER, { workspace_id: workspaceId });
    const sibling = await make(server, tenant, WORKSPACE, { org_id: orgId });
    await remove(server, WORKSPACE, sibling.id, "*");
    expectProblem(await remove(server, ORGANIZATION, orgId, "*"), 409);
    expectProblem(await change(server, USER, user.id, { name: 1 }), 422);
    expectProblem(await change(server, USER, user.id, { name: "x" }, '"stale"'), 412);
    await make(server, tenant, USER, { external_user_id: "taken" });
    expectProblem(await change(server, USER, user.id, { external_user_id: "taken", name: "x" }), 409);
    expect((await exchange(tenant.partner, subjectToken(tenant.partner, { sub: user.id }))).status).toBe(200);
    expect(await etags()).toEqual(before);
    await change(server, WORKSPACE, workspaceId, { status: "disabled" });
    expect((await etags()).map((etag, index) => etag === before[index])).toEqual([true, false, true]);
  });

  test.each(EACH_KIND)(
    "P9.16 412: an ETag of one %s is good for no other, also not for the one that has its external id now",
    async (_name, kind) => {
      const external = `heir-${kind.kind}`;
      const path = `${kind.path}?${kind.externalId}=${external}`;
      const via = (method: string, ifMatch: string) =>
        ask(second, tenant, {
          method,
          path,
          headers: { "if-match": ifMatch },
          ...(method === "PATCH" ? { body: { name: "For the first" } } : {}),
        });
      const first = await make(server, tenant, kind, { [kind.externalId]: external });
      await change(server, kind, first.id, { [kind.externalId]: `${external}-moved` });
      const firstNow = await etagOf(kind, first.id);
      const heir = await make(server, tenant, kind, { [kind.externalId]: external });
      for (const etag of [first.etag, firstNow]) for (const method of ["PATCH", "DELETE"]) expectProblem(await via(method, etag), 412);
      expect((await via("DELETE", heir.etag)).status).toBe(200);
      const last = await make(server, tenant, kind, { [kind.externalId]: external });
      for (const etag of [first.etag, firstNow, heir.etag])
        for (const method of ["PATCH", "DELETE"]) expectProblem(await via(method, etag), 412);
      expect(await etagOf(kind, last.id)).toBe(last.etag);
    },
  );

  test.each(EACH_KIND)("P9.16: of 100 changes of one %s at once, of different fields, none undoes another", async (_name, kind) => {
    const made = await make(server, tenant, kind);
    const fields = [...kind.fields, "entitlements"];
    const bodies = Array.from({ length: 100 }, (_, i) => {
      const field = fields[i % fields.length] ?? "name";
      return { [field]: field === "entitlements" ? [{ billing_feature_id: `f-${i}` }] : `${kind.kind}-${i}@x.example` };
    });
    const replies = await Promise.all(bodies.map((body, i) => change(node(i), kind, made.id, body)));
    expect(tally(replies)).toEqual({ 200: 100 });
    const last = await getOf(second, tenant, kind, made.id);
    for (const field of fields) {
      const sent = bodies.filter((body) => field in body).map((body) => body[field]);
      expect(sent, field).toContainEqual(last.json[kind.member][field]);
    }
    for (const [i, reply] of replies.entries()) expect(reply.json[kind.member]).toMatchObject(bodies[i] ?? {});
    expect(new Set(replies.map(({ headers }) => headers.get("etag"))).size, "a state for each change").toBe(100);
    const states = replies.map((reply, i) => ({ field: Object.keys(bodies[i] ?? {})[0] ?? "", entity: madeOf(kind, reply).entity }));
    expect(isOneHistory(made.entity, states, fields), "each answer is one change away from the one before it").toBe(true);
  });

  const COUNTERS = repetitions({ short: 20, long: 100 }); // the work grows with their square

  test(`P9.16: ${COUNTERS} counters at once that read, add one and write with If-Match lose nothing`, { timeout: 60_000 }, async () => {
    const { id } = await make(server, tenant, ORGANIZATION, { name: "0" });
    let refused = 0;
    await Promise.all(
      Array.from({ length: COUNTERS }, async (_, i) => {
        for (;;) {
          const read = await getOf(node(i), tenant, ORGANIZATION, id);
          const body = { name: `${Number(read.json["org"].name) + 1}` };
          const reply = await change(node(i + 1), ORGANIZATION, id, body, read.headers.get("etag") ?? "");
          if (reply.status === 200) return;
          expectProblem(reply, 412);
          refused++;
          await sleep(Math.random() * 4 * COUNTERS);
        }
      }),
    );
    expect((await getOf(server, tenant, ORGANIZATION, id)).json).toMatchObject({ org: { name: String(COUNTERS) } });
    expect(refused, "they met").toBeGreaterThan(COUNTERS / 2);
  });

  test("P9.16: of a change and an erasure at once on one ETag exactly one is done", async () => {
    const outcomes: string[] = [];
    for (let round = 0; round < 30; round++) {
      const { id, etag } = await make(server, tenant, ORGANIZATION);
      const [changed, erased] = await Promise.all([
        change(node(round), ORGANIZATION, id, { name: "Changed" }, etag),
        remove(node(round + 1), ORGANIZATION, id, etag, round % 3 === 0 ? "&cascade=true" : ""),
      ]);
      outcomes.push(`${changed.status} ${erased.status}`);
      expect((await getOf(server, tenant, ORGANIZATION, id)).status).toBe(erased.status === 200 ? 404 : 200);
    }
    // with cascade=true it is disabled first, on the condition: another ETag, before it is gone
    for (const [round, outcome] of outcomes.entries())
      expect(["200 412", "404 200", ...(round % 3 === 0 ? ["412 200"] : [])]).toContain(outcome);
  });
});

interface State {
  /** What the change was of. */
  readonly field: string;
  readonly entity: Readonly<Record<string, unknown>>;
}

/**
 * Whether the states can be put in a line in which each has all of the one before it but its own change: had one undone another, they
 * could not. Changes of one field that follow on each other are one step, for their order does not show but for the last.
 */
function isOneHistory(from: State["entity"], states: readonly State[], fields: readonly string[]): boolean {
  if (states.length === 0) return true;
  const allBut = (entity: State["entity"], field: string) =>
    JSON.stringify([field, ...fields.map((name) => (name === field ? "" : entity[name]))]);
  return [...new Set(states.map(({ field }) => field))].some((field) => {
    const isNext = (state: State) => state.field === field && allBut(state.entity, field) === allBut(from, field);
    const [step, rest] = [states.filter(isNext), states.filter((state) => !isNext(state))];
    return step.some((last) => isOneHistory(last.entity, rest, fields));
  });
}
