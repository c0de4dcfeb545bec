import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { holdSqlite } from "../../packages/server/src/testing/database.ts";
import { startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { openPostgresLine, type PostgresLine } from "../postgres-line.ts";
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
  WORKSPACE,
} from "./a9-setting.ts";
import { keyed, type Write, WRITES } from "./a9-writes.ts";

/*
 * A9, P9.15: a 503 is not an answer that is kept. Whatever had become of the first try, the repetition ends in one write and its answer:
 * nothing was done, or a part of an erasure, or all of it and only the answer was lost.
 */

interface Tried {
  readonly write: Write;
  readonly request: Asked;
}

async function prepareAll(server: TestServer, tenant: Tenant): Promise<Tried[]> {
  const tried: Tried[] = [];
  for (const write of WRITES) tried.push({ write, request: keyed((await write.prepare(server, tenant)).asked, randomUUID()) });
  return tried;
}

async function rowCount(server: TestServer, tenant: Tenant): Promise<number> {
  return Object.values(await rowsOf(server, tenant)).flat().length;
}

/** The repetition is executed or finds the answer of what was executed; and either way a third is the same. */
async function expectOneWrite(server: TestServer, tenant: Tenant, { write, request }: Tried, rowsBefore: number): Promise<void> {
  const retried = await ask(server, tenant, request);
  expect(retried.status, `${write.name}: ${retried.text}`).toBe(write.status);
  const after = await rowsOf(server, tenant);
  const again = await ask(server, tenant, request);
  expect([again.status, again.text]).toEqual([retried.status, retried.text]);
  expect(await rowsOf(server, tenant)).toEqual(after);
  if (write.status === 201) expect(Object.values(after).flat().length - rowsBefore, write.name).toBe(request.path === BOTH ? 2 : 1);
}

describe("503 on sqlite", () => {
  let server: TestServer;
  let tenant: Tenant;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    tenant = await openTenant(server);
  });
  afterAll(() => server.stop());

  test("P9.15: every write that another process's lock held up does nothing, reads go on, and the repetition is executed", async () => {
    const tried = await prepareAll(server, tenant);
    const user = await make(server, tenant, USER);
    const before = await rowsOf(server, tenant);
    const other = await holdSqlite(server.database);
    const waiting = Promise.all(tried.map(({ request }) => ask(server, tenant, request)));
    expect((await getOf(server, tenant, USER, user.id)).status).toBe(200);
    for (const reply of await waiting) {
      expectProblem(reply, 503);
      expect(reply.headers.get("retry-after")).toBe("1");
    }
    other.release();
    expect(await rowsOf(server, tenant)).toEqual(before);
    expect(await server.database.query("SELECT * FROM idempotent_requests")).toEqual([]);
    for (const each of tried) await expectOneWrite(server, tenant, each, await rowCount(server, tenant));
  });
});

describe("503 on postgres", () => {
  let server: TestServer;
  let tenant: Tenant;
  let line: PostgresLine;
  beforeAll(async () => {
    line = await openPostgresLine(new URL(inject("postgresUrl")));
    server = await startTestServer("postgres", {}, (url) => line.route(url));
    tenant = await openTenant(server);
  });
  afterAll(async () => {
    await server.stop();
    line.close();
  });

  test("P9.15: every write while the way to the store is cut does nothing, and the repetition is executed", async () => {
    const tried = await prepareAll(server, tenant);
    const before = await rowsOf(server, tenant);
    line.cut();
    for (const { request } of tried) {
      const reply = await ask(server, tenant, request);
      expectProblem(reply, 503);
      expect(reply.headers.get("retry-after")).toBe("1");
    }
    line.restore();
    expect(await rowsOf(server, tenant)).toEqual(before);
    for (const each of tried) await expectOneWrite(server, tenant, each, await rowCount(server, tenant));
  });

  test("P9.15: every write whose commit was sent, and its answer lost, is written once when it is repeated", async () => {
    for (const each of await prepareAll(server, tenant)) {
      const before = await rowsOf(server, tenant);
      line.loseCommit(0, tenant.partner.clientId);
      expectProblem(await ask(server, tenant, each.request), 503);
      expect(await rowsOf(server, tenant), "it was committed").not.toEqual(before);
      await expectOneWrite(server, tenant, each, Object.values(before).flat().length);
    }
  });

  test.each([
    ["", () => ({})],
    [" that has a condition", (etag: string) => ({ "if-match": etag })],
  ] as const)("P9.15: an erasure%s that is cut off at each of its steps in turn goes on when it is repeated", async (_name, condition) => {
    const org = await make(server, tenant, ORGANIZATION);
    for (let i = 0; i < 3; i++) {
      const workspace = await make(server, tenant, WORKSPACE, { org_id: org.id });
      await make(server, tenant, USER, { workspace_id: workspace.id });
    }
    const erasure = { method: "DELETE", path: `${ORGANIZATION.path}?org_id=${org.id}&cascade=true`, headers: condition(org.etag) };
    const key = randomUUID();
    const statuses: number[] = [];
    for (let step = 0; step < 4; step++) {
      line.loseCommit(step, tenant.partner.clientId);
      statuses.push((await ask(server, tenant, keyed(erasure, key))).status);
    }
    line.keepCommits();
    expect(statuses).toEqual([503, 503, 503, 503]);
    expect((await ask(server, tenant, keyed(erasure, key))).status).toBe(200);
    for (const { table } of KINDS) expect(await server.database.query(`SELECT 1 FROM ${table} WHERE org_id = $1`, [org.id])).toEqual([]);
  });
});
