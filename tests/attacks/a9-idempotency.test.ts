import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { admin, type Reply, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import {
  ask,
  type Asked,
  BOTH,
  EACH_KIND,
  expectProblem,
  getOf,
  type Kind,
  make,
  madeOf,
  nth,
  openTenant,
  ORGANIZATION,
  rowsOf,
  tally,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";
import { EACH_WRITE, keyed } from "./a9-writes.ts";

/*
 * A9, Idempotency-Key: P9.10–P9.12, on every operation that writes, over two nodes. What a key is (P9.13, P9.14):
 * a9-idempotency-keys.test.ts. What is kept, and for how long: a9-idempotency-kept.test.ts. 503 (P9.15): a9-idempotency-outage.test.ts.
 */

describe.each(DIALECTS)("requests that are repeated on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let tenant: Tenant;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
  });
  beforeEach(async () => {
    tenant = await openTenant(server);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second] as const;
  const put = (kind: Kind, fields: object): Asked => ({ method: "PUT", path: kind.path, body: fields });

  /** Byte for byte, with the ETag. */
  function expectSame(replies: readonly Reply[], status: number): void {
    for (const reply of replies) {
      expect(reply.status, reply.text).toBe(status);
      expect(reply.text).toBe(replies[0]?.text);
      for (const name of ["etag", "content-type"]) expect(reply.headers.get(name)).toBe(replies[0]?.headers.get(name));
    }
  }

  test.each(EACH_WRITE)("P9.10: %s twice with one key and one body is the same answer, and written once", async (_name, write) => {
    const { asked } = await write.prepare(server, tenant);
    const request = keyed(asked, randomUUID());
    const before = await rowsOf(server, tenant);
    const first = await ask(server, tenant, request);
    expect(first.status, first.text).toBe(write.status);
    const after = await rowsOf(server, tenant);
    expect(after).not.toEqual(before);
    expectSame([first, await ask(second, tenant, request), await ask(server, tenant, request)], write.status);
    expect(await rowsOf(server, tenant)).toEqual(after);
  });

  test.each(EACH_WRITE)("P9.11 422: %s with a key that came with another body or for another target", async (_name, write) => {
    const { asked, others } = await write.prepare(server, tenant);
    const key = randomUUID();
    const first = await ask(server, tenant, keyed(asked, key));
    expect(first.status, first.text).toBe(write.status);
    const after = await rowsOf(server, tenant);
    for (const other of others) {
      for (const node of nodes()) expectProblem(await ask(node, tenant, keyed(other, key)), 422);
    }
    expect(await rowsOf(server, tenant)).toEqual(after);
    expectSame([first, await ask(second, tenant, keyed(asked, key))], write.status);
  });

  test.each(EACH_WRITE)("P9.12: %s 20 times at once over two nodes is one write, and all get its answer", async (_name, write) => {
    const { asked } = await write.prepare(server, tenant);
    const before = await rowsOf(server, tenant);
    const request = keyed(asked, randomUUID());
    const replies = await Promise.all(Array.from({ length: 20 }, (_, caller) => ask(nodes()[caller % 2] ?? server, tenant, request)));
    expectSame(replies, write.status);
    const after = await rowsOf(server, tenant);
    expect(after).not.toEqual(before);
    if (write.status === 201) {
      const grown = Object.keys(after).map((table) => (after[table]?.length ?? 0) - (before[table]?.length ?? 0));
      expect(grown.reduce((sum, more) => sum + more)).toBe(asked.path === BOTH ? 2 : 1);
    }
    expectSame([...replies, await ask(second, tenant, request)], write.status);
    expect(await rowsOf(server, tenant)).toEqual(after);
  });

  test.each(EACH_KIND)(
    "P9.12: 20 different bodies for one %s at once with one key are one row, and 422 for the others",
    async (_name, kind) => {
      const key = randomUUID();
      const parents =
        kind.parent === undefined ? {} : { [kind.parent]: (await make(server, tenant, kind === USER ? WORKSPACE : ORGANIZATION)).id };
      const before = (await rowsOf(server, tenant))[kind.table] ?? [];
      const replies = await Promise.all(
        Array.from({ length: 20 }, (_, caller) =>
          ask(nodes()[caller % 2] ?? server, tenant, keyed(put(kind, { ...parents, name: `caller ${caller}` }), key)),
        ),
      );
      expect(tally(replies)).toEqual({ 201: 1, 422: 19 });
      const made = (await rowsOf(server, tenant))[kind.table]?.filter(({ [kind.id]: id }) => !before.some((row) => row[kind.id] === id));
      expect(made?.map(({ name }) => name)).toEqual([`caller ${replies.findIndex(({ status }) => status === 201)}`]);
    },
  );

  test.each(EACH_KIND)(
    "P9.11 422: of erasures of ten %ss with all below at once under one key one is done, and the others are as they were",
    async (_name, kind) => {
      const users = await Promise.all(Array.from({ length: 10 }, () => make(server, tenant, USER)));
      const targets = await Promise.all(users.map(({ entity }) => getOf(server, tenant, kind, String(entity[kind.id]))));
      const key = randomUUID();
      const erase = (i: number) =>
        keyed({ method: "DELETE", path: `${kind.path}?${kind.id}=${madeOf(kind, nth(targets, i)).id}&cascade=true` }, key);
      const replies = await Promise.all(users.map((_, i) => ask(nth(nodes(), i % 2), tenant, erase(i))));
      expect(tally(replies)).toEqual({ 200: 1, 422: 9 });
      for (const [i, { status }] of replies.entries()) {
        if (status === 200) continue;
        expect((await getOf(server, tenant, USER, nth(users, i).id)).status, "nothing below it was erased").toBe(200);
        expect((await getOf(server, tenant, kind, madeOf(kind, nth(targets, i)).id)).text).toBe(nth(targets, i).text);
      }
    },
  );

  test.each([ORGANIZATION.kind, WORKSPACE.kind])(
    "P9.12: the deletion of a full %s 20 times at once is one answer for all, round after round",
    async (name) => {
      const kind = name === "organization" ? ORGANIZATION : WORKSPACE;
      for (let round = 0; round < 8; round++) {
        const user = await make(server, tenant, USER);
        const path = `${kind.path}?${kind.id}=${String(user.entity[kind.id])}&cascade=true`;
        const request = keyed({ method: "DELETE", path }, randomUUID());
        expectSame(await Promise.all(Array.from({ length: 20 }, (_, caller) => ask(nodes()[caller % 2] ?? server, tenant, request))), 200);
        expect((await getOf(server, tenant, USER, user.id)).status).toBe(404);
      }
    },
  );

  test("P9.11 422: targets that differ only behind a second question mark are two", async () => {
    const made = await Promise.all(["q?1", "q?2"].map((text) => make(server, tenant, ORGANIZATION, { external_org_id: text })));
    const rename = (text: string) =>
      keyed({ method: "PATCH", path: `${ORGANIZATION.path}?external_org_id=${text}`, body: { name: "Once" } }, "question");
    expect(madeOf(ORGANIZATION, await ask(server, tenant, rename("q?1"))).id).toBe(made[0]?.id);
    expectProblem(await ask(server, tenant, rename("q?2")), 422);
  });

  describe("a refusal is an answer too", () => {
    /** Refused, then what it was refused for is put right, then repeated. */
    async function expectKept(request: Asked, status: number, putRight: () => Promise<unknown>): Promise<void> {
      const first = await ask(server, tenant, request);
      expectProblem(first, status);
      await putRight();
      const before = await rowsOf(server, tenant);
      expectSame([first, await ask(second, tenant, request), await ask(server, tenant, request)], status);
      expect(await rowsOf(server, tenant)).toEqual(before);
    }
    const remove = (kind: Kind, query: string): Asked => ({ method: "DELETE", path: `${kind.path}?${query}` });

    test.each(EACH_KIND)("P9.10 409: a %s whose external id was taken, also once it is free", async (_name, kind) => {
      const parents =
        kind.parent === undefined ? {} : { [kind.parent]: (await make(server, tenant, kind === USER ? WORKSPACE : ORGANIZATION)).id };
      const [taken, renamed] = [`taken-${kind.kind}`, await make(server, tenant, kind)];
      const free = () => ask(server, tenant, remove(kind, `${kind.externalId}=${taken}`));
      await make(server, tenant, kind, { [kind.externalId]: taken });
      await expectKept(keyed(put(kind, { ...parents, [kind.externalId]: taken }), randomUUID()), 409, free);
      await make(server, tenant, kind, { [kind.externalId]: taken });
      const rename = {
        method: "PATCH",
        path: `${kind.path}?${kind.id}=${renamed.id}`,
        body: { [kind.externalId]: taken, name: "Changed" },
      };
      await expectKept(keyed(rename, randomUUID()), 409, free);
    });

    test("P9.10 409: an organization with a workspace, either external id of which was taken", async () => {
      await make(server, tenant, WORKSPACE, { external_workspace_id: "taken-both" });
      const body = { external_org_id: "free-both", external_workspace_id: "taken-both" };
      await expectKept(keyed({ method: "PUT", path: BOTH, body }, randomUUID()), 409, () =>
        ask(server, tenant, remove(WORKSPACE, "external_workspace_id=taken-both")),
      );
    });

    const changesOf = (kind: Kind) => [
      ["PATCH", ""] as const,
      ["DELETE", ""] as const,
      ...(kind === USER ? [] : [["DELETE", "&cascade=true"] as const]),
    ];

    test.each(EACH_KIND)("P9.10 404: a %s that was not there, also once it is", async (_name, kind) => {
      for (const [method, query] of changesOf(kind)) {
        const late = `late-${randomUUID()}`;
        const path = `${kind.path}?${kind.externalId}=${late}${query}`;
        const request = keyed({ method, path, ...(method === "PATCH" ? { body: { name: "Changed" } } : {}) }, randomUUID());
        await expectKept(request, 404, () => make(server, tenant, kind, { [kind.externalId]: late }));
      }
    });

    test("P9.10 404: a parent that was not there", async () => {
      for (const kind of [WORKSPACE, USER] as const) {
        for (const parent of [randomUUID(), "x"])
          await expectKept(keyed(put(kind, { [kind.parent]: parent }), randomUUID()), 404, () => Promise.resolve());
      }
    });

    test.each(EACH_KIND)("P9.10 412: a change of a %s on an ETag that was stale, without and with all below", async (_name, kind) => {
      for (const [method, query] of changesOf(kind)) {
        const made = await make(server, tenant, kind);
        const path = `${kind.path}?${kind.id}=${made.id}`;
        await ask(server, tenant, { method: "PATCH", path, body: { name: "Meanwhile" } });
        const body = method === "PATCH" ? { body: { name: "Changed" } } : {};
        const request = { method, path: path + query, headers: { "if-match": made.etag }, ...body };
        await expectKept(keyed(request, randomUUID()), 412, () => Promise.resolve());
        expect((await getOf(server, tenant, kind, made.id)).status).toBe(200);
      }
    });

    test("P9.10 409: the deletion of what had children, also once it has none", async () => {
      for (const [kind, child] of [[ORGANIZATION, WORKSPACE] as const, [WORKSPACE, USER] as const]) {
        const parent = await make(server, tenant, kind);
        const below = await make(server, tenant, child, { [child.parent]: parent.id });
        await expectKept(keyed(remove(kind, `${kind.id}=${parent.id}`), randomUUID()), 409, () =>
          ask(server, tenant, remove(child, `${child.id}=${below.id}`)),
        );
      }
    });
  });

  test("P9.10: the answer is the same after the operator has taken away a billing feature that the request named", async () => {
    const own = await openTenant(server, { billing_features: ["gold"] });
    const made = await make(server, own, ORGANIZATION);
    const entitlements = [{ billing_feature_id: "gold" }];
    const requests = [
      put(ORGANIZATION, { entitlements }),
      { method: "PUT", path: BOTH, body: { org_entitlements: entitlements } },
      { method: "PATCH", path: `${ORGANIZATION.path}?org_id=${made.id}`, body: { entitlements } },
    ].map((asked) => keyed(asked, randomUUID()));
    const first: Reply[] = [];
    for (const request of requests) first.push(await ask(server, own, request));
    expect((await admin(server, "PATCH", `/partners/${own.partner.clientId}`, { billing_features: [] })).status).toBe(200);
    for (const [index, request] of requests.entries()) {
      const reply = first[index];
      if (reply !== undefined) expectSame([reply, await ask(second, own, request)], request.method === "PUT" ? 201 : 200);
    }
  });
});
