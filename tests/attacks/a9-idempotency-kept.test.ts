import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  exchange,
  type Reply,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import {
  ask,
  type Asked,
  BOTH,
  expectProblem,
  getOf,
  KINDS,
  make,
  openTenant,
  ORGANIZATION,
  rowsOf,
  type Tenant,
  USER,
} from "./a9-setting.ts";
import { keyed, WRITES } from "./a9-writes.ts";

/* A9, Idempotency-Key: P9.10, what is kept under a key, for how long, and what is left of it. */

const DAY_MS = 24 * 3_600_000;

describe.each(DIALECTS)("answers that are kept on %s", (dialect) => {
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

  const create = (fields: object = {}): Asked => ({ method: "PUT", path: ORGANIZATION.path, body: fields });
  const stored = (own: Tenant) => server.database.query("SELECT * FROM idempotent_requests WHERE partner_id = $1", [own.partner.clientId]);

  test("P9.10: what is refused before it is looked at is not kept: 400, 401, 403, 413, 415, and 422 for the input", async () => {
    const forAnalytics = await exchange(tenant.partner, subjectToken(tenant.partner), { form: { scope: "analytics" } });
    const analytics = { token: String(forAnalytics.json["access_token"]) };
    for (const write of WRITES) {
      const { asked } = await write.prepare(server, tenant);
      const request = keyed(asked, randomUUID());
      const badInput =
        asked.method === "DELETE" ? { path: `${asked.path}&unknown=1` } : { body: { ...(asked.body as object), role: "admin" } };
      const refusals: readonly (readonly [Reply, number])[] = [
        [await ask(server, { token: "garbage" }, request), 401],
        [await ask(server, analytics, request), 403],
        [await ask(server, tenant, { ...request, ...badInput }), 422],
        ...(asked.method === "DELETE"
          ? []
          : ([
              [await ask(server, tenant, { ...request, body: "{" }), 400],
              [await ask(server, tenant, { ...request, headers: { ...request.headers, "content-type": "text/plain" } }), 415],
              [await ask(server, tenant, { ...request, body: `{"name":"${"x".repeat(1024 * 1024)}"}` }), 413],
            ] as const)),
      ];
      for (const [reply, status] of refusals) expectProblem(reply, status);
      expect((await ask(second, tenant, request)).status, write.name).toBe(write.status);
    }
  });

  test("P9.10: a 422 for a billing feature that the partner does not hold is not kept either: once it holds it, the same request is executed", async () => {
    const own = await openTenant(server, { billing_features: [] });
    const { id } = await make(server, own, ORGANIZATION);
    const [named, body] = [[{ billing_feature_id: "gold" }], { entitlements: [{ billing_feature_id: "gold" }] }];
    const requests: Asked[] = [
      { method: "PUT", path: ORGANIZATION.path, body },
      { method: "PUT", path: BOTH, body: { org_entitlements: named, workspace_entitlements: named } },
      { method: "PATCH", path: `${ORGANIZATION.path}?org_id=${id}`, body },
    ].map((asked) => keyed(asked, "gold"));
    for (const request of requests) expectProblem(await ask(server, own, request), 422);
    await admin(server, "PATCH", `/partners/${own.partner.clientId}`, { billing_features: ["gold"] });
    for (const request of requests) expect((await ask(second, own, request)).status).toBe(request.method === "PUT" ? 201 : 200);
  });

  test("P9.10: an answer is kept for 24 h, on both nodes; then the key is free for any request", async () => {
    const own = await openTenant(server);
    const request = keyed(create({ name: "Once a day" }), "daily");
    const first = await ask(server, own, request);
    expect(first.status).toBe(201);
    const at = async (offsetMs: number) => {
      for (const node of [server, second]) node.clock.offsetMs = offsetMs;
      return { ...own, token: await serviceAccountToken(own.partner) };
    };
    try {
      const lateInTheDay = await at(DAY_MS - 60_000);
      for (const node of [server, second]) expect((await ask(node, lateInTheDay, request)).text).toBe(first.text);
      expectProblem(await ask(second, lateInTheDay, keyed(create({ name: "Other" }), "daily")), 422);
      const nextDay = await at(DAY_MS + 60_000);
      const replies = await Promise.all(Array.from({ length: 10 }, (_, i) => ask(i % 2 === 0 ? server : second, nextDay, request)));
      expect(new Set(replies.map(({ text }) => text)).size).toBe(1);
      expect(replies[0]?.status).toBe(201);
      expect(replies[0]?.text).not.toBe(first.text);
      expect((await rowsOf(server, own))["organizations"]).toHaveLength(2);
      const thirdDay = await at(2 * DAY_MS + 120_000);
      expect((await ask(server, thirdDay, keyed(create({ name: "Other" }), "daily"))).json).toMatchObject({ org: { name: "Other" } });
    } finally {
      for (const node of [server, second]) node.clock.offsetMs = 0;
    }
  });

  test("P9.10 409: once its entity is erased, a stored answer gives nothing of it any more, and does not make it anew", async () => {
    const own = await openTenant(server);
    const marked = { name: "Marked-Name", email: "marked@x.example", external_user_id: "marked-external" };
    const home = await make(server, own, USER);
    const requests = [
      keyed({ method: "PUT", path: USER.path, body: { workspace_id: home.entity["workspace_id"], ...marked } }, "key-of-create"),
      keyed({ method: "PATCH", path: `${USER.path}?external_user_id=marked-external`, body: { name: "Marked-Again" } }, "key-of-update"),
      keyed({ method: "PATCH", path: `${USER.path}?external_user_id=marked-external`, body: {} }, "key-of-nothing"),
      keyed(
        { method: "PUT", path: BOTH, body: { org_name: "Marked-Org", org_phone_number: "+41 marked", workspace_name: "Marked-Ws" } },
        "key-of-both",
      ),
    ];
    const replies: Reply[] = [];
    for (const request of requests) replies.push(await ask(server, own, request));
    expect(replies.map(({ status }) => status)).toEqual([201, 200, 200, 201]);
    const erasures = [
      keyed({ method: "DELETE", path: `${USER.path}?external_user_id=marked-external` }, "key-of-delete"),
      keyed({ method: "DELETE", path: `${ORGANIZATION.path}?org_id=${replies[3]?.json["org"].org_id}&cascade=true` }, "key-of-cascade"),
    ];
    for (const erasure of erasures) expect((await ask(second, own, erasure)).status).toBe(200);
    const after = await rowsOf(server, own);
    for (const node of [server, second]) {
      for (const request of requests) {
        const reply = await ask(node, own, request);
        expectProblem(reply, 409);
        expect(reply.text.toLowerCase()).not.toContain("marked");
      }
      for (const erasure of erasures) expect((await ask(node, own, erasure)).status).toBe(200);
    }
    expect(await rowsOf(server, own)).toEqual(after);
    for (const row of await stored(own)) {
      const texts = Object.values(row).flatMap((value) =>
        value instanceof Uint8Array ? ["utf8", "hex", "base64"].map((as) => Buffer.from(value).toString(as as "utf8")) : [String(value)],
      );
      expect(texts.join("\n").toLowerCase()).not.toMatch(/marked|key-of/);
    }
    expect(
      [server, second]
        .flatMap(({ logLines }) => logLines)
        .join("")
        .toLowerCase(),
    ).not.toMatch(/marked|key-of/);
  });

  test("P9.10: a key of one operation is none of another, and a read takes no notice of it", async () => {
    const key = randomUUID();
    const org = await ask(server, tenant, keyed(create(), key));
    expect(org.status).toBe(201);
    const both = await ask(server, tenant, keyed({ method: "PUT", path: BOTH, body: {} }, key));
    expect(both.status).toBe(201);
    for (let i = 0; i < 2; i++) {
      const path = `${ORGANIZATION.path}?org_id=${org.json["org"].org_id}`;
      expect((await ask(server, tenant, keyed({ method: "GET", path }, i === 0 ? key : "not a key"))).status).toBe(200);
    }
  });

  test("P9.10: a repetition, and a refusal, is no write in the log", async () => {
    const own = await openTenant(server);
    const linesOf = () =>
      [server, second]
        .flatMap(({ logLines }) => logLines)
        .filter((line) => line.includes("account changed") && line.includes(own.partner.clientId));
    for (const write of WRITES) {
      const { asked } = await write.prepare(server, own);
      const before = linesOf().length;
      const request = keyed(asked, randomUUID());
      for (const node of [server, second, server]) expect((await ask(node, own, request)).status).toBe(write.status);
      expect(linesOf().length - before, write.name).toBe(1);
    }
    for (const kind of KINDS) await make(server, own, kind, { [kind.externalId]: "logged" });
    const before = linesOf().length;
    for (const key of [undefined, "refused"]) {
      const taken = create({ external_org_id: "logged" });
      expectProblem(await ask(server, own, key === undefined ? taken : keyed(taken, key)), 409);
      const absent = { method: "DELETE", path: `${USER.path}?user_id=${randomUUID()}` };
      expectProblem(await ask(server, own, key === undefined ? absent : keyed(absent, key)), 404);
    }
    expect(linesOf().length, "refused, with a key and without").toBe(before);
    expect((await getOf(server, own, ORGANIZATION, randomUUID())).status).toBe(404);
  });
});
