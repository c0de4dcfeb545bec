import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import type { Route } from "../../packages/server/src/http/route.ts";
import { OPERATOR_TOKEN, type Reply, send, sendRaw, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { ask, BOTH, ENTITIES, expectProblem, KINDS, make, openTenant, ORGANIZATION, rowsOf, type Tenant, USER } from "./a9-setting.ts";
import { parseRawReply } from "./raw.ts";

/* A9: P9.19 (media types), P9.20 (the form of every error of every API route but the token endpoint, whose errors are RFC 6749's). */

describe("media types", () => {
  let server: TestServer;
  let tenant: Tenant;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    tenant = await openTenant(server);
  });
  afterAll(() => server.stop());

  /** The Content-Type line as it is, or none. */
  async function askRaw(method: string, path: string, body: string, typeLines: readonly string[]): Promise<Reply> {
    const head = [`${method} ${path} HTTP/1.1`, "Host: x", "Connection: close", `Authorization: Bearer ${tenant.token}`, ...typeLines];
    return parseRawReply(await sendRaw(server, Buffer.from([...head, `Content-Length: ${body.length}`, "", body].join("\r\n"), "latin1")));
  }

  const WITH_BODY = async () => {
    const user = await make(server, tenant, USER);
    return [
      ...KINDS.flatMap((kind) => [
        ["PUT", kind.path] as const,
        ["PATCH", `${kind.path}?${kind.id}=${String(user.entity[kind.id])}`] as const,
      ]),
      ["PUT", BOTH] as const,
      ["POST", ENTITIES] as const,
    ];
  };

  const ODD = [
    ["text/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/problem+json"],
    ["application/json\t;a=b", "application/json ;a=b", "application/json;", "application/json; charset=utf-16", "application/json5"],
    [
      "application/json, text/plain",
      "application/json;charset=utf-8;x",
      "application/json\u00a0",
      "application//json",
      "application/jsonx",
    ],
    ["json", "*/*", "application/*", "</><script>", "text/[html]", ";", "", '"application/json"', "application/json; charset=utf-7"],
    ["application/json; boundary=x", "xapplication/json"],
  ].flat();

  test("P9.19 415: a body under any other media type, or none, is not looked at, whatever is in it", async () => {
    const operations = await WITH_BODY();
    const before = await rowsOf(server, tenant);
    for (const [method, path] of operations) {
      for (const type of ODD) {
        for (const body of ['{"name":"Never"}', "{"]) expectProblem(await askRaw(method, path, body, [`Content-Type: ${type}`]), 415);
      }
      expectProblem(await askRaw(method, path, '{"name":"Never"}', []), 415);
      expectProblem(await askRaw(method, path, '{"name":"Never"}', ["Content-Type: application/json\u000b"]), 400); // no header at all
    }
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.19: JSON in any letter case and with its one charset is taken, and white space around the value, which HTTP takes away; the schema is never skipped", async () => {
    const spellings = [
      "application/json",
      "APPLICATION/JSON",
      "application/json;charset=utf-8",
      'application/json; charset="UTF-8"',
      "application/json\t",
      "\tapplication/json",
      "  application/json  ",
    ];
    for (const [method, path] of await WITH_BODY()) {
      for (const type of spellings) {
        expectProblem(await askRaw(method, path, '{"role":"admin"}', [`Content-Type: ${type}`]), 422);
        expectProblem(await askRaw(method, path, "{", [`Content-Type: ${type}`]), 400);
        expectProblem(await askRaw(method, path, '{"name":"\xff"}', [`Content-Type: ${type}`]), 400);
      }
    }
    for (const type of spellings) expect((await askRaw("PUT", ORGANIZATION.path, "{}", [`Content-Type: ${type}`])).status, type).toBe(201);
  });

  test("P9.19: two Content-Type lines, the second of which is JSON or is not, never skip the schema", async () => {
    const before = await rowsOf(server, tenant);
    for (const lines of [
      ["Content-Type: text/plain", "Content-Type: application/json"],
      ["Content-Type: application/json", "Content-Type: text/plain"],
      ["Content-Type: application/json", "Content-Type: application/json"],
    ]) {
      expectProblem(await askRaw("PUT", ORGANIZATION.path, '{"role":"admin"}', lines), 415, 422, 400);
    }
    expect(await rowsOf(server, tenant)).toEqual(before);
  });
});

describe.each(DIALECTS)("errors on %s", (dialect) => {
  let server: TestServer;
  let tenant: Tenant;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    tenant = await openTenant(server);
  });
  afterAll(() => server.stop());

  /** Threads tell what is not valid in a form of their own: a13-threads.test.ts. */
  const apiRoutes = () => server.app.routes.filter(({ path, auth }) => /^\/(?:v2|admin)\//.test(path) && auth.kind !== "user");
  const tokenFor = ({ auth }: Route) => (auth.kind === "operator" ? OPERATOR_TOKEN : tenant.token);
  const targetOf = ({ path }: Route, value = "x") => path.replaceAll(/:\w+/g, value);
  const sendJson = (route: Route, body: string | undefined, more: { token?: string; path?: string; type?: string } = {}) =>
    send(server, route.method, more.path ?? targetOf(route), {
      headers: {
        authorization: `Bearer ${more.token ?? tokenFor(route)}`,
        ...(route.method === "GET" ? {} : { "content-type": more.type ?? "application/json" }),
      },
      ...(route.method === "GET" || body === undefined ? {} : { body }),
    });

  test("P9.20: every error of every API route is an RFC 9457 problem with its envelope, and says nothing of the server's inside", async () => {
    expect(apiRoutes().length).toBeGreaterThan(20);
    for (const route of apiRoutes()) {
      const name = route.operationId;
      expectProblem(await send(server, route.method, targetOf(route)), 401);
      expectProblem(await sendJson(route, "{}", { token: "garbage" }), 401);
      expectProblem(await sendJson(route, "{}", { token: route.auth.kind === "operator" ? tenant.token : OPERATOR_TOKEN }), 401, 403);
      expectProblem(await send(server, "OPTIONS", targetOf(route)), 405);
      expectProblem(await sendJson(route, undefined, { path: `${targetOf(route)}/more` }), 404, 405);
      expectProblem(await sendJson(route, undefined, { path: `${targetOf(route)}%zz` }), 400, 404);
      if (route.schemas.body !== undefined) {
        for (const body of ["", "{", "nul", "[", '{"a":1,"a":2}', "\ufeff{}", '{"a":"\\udfff"}', "[".repeat(500)]) {
          expectProblem(await sendJson(route, body), 400);
        }
        for (const body of ["null", "[]", "1", '"x"', '{"__proto__":{}}', '{"no such field":1}', `{"${"x".repeat(5_000)}":1}`]) {
          expectProblem(await sendJson(route, body), 422, 404);
        }
        expectProblem(await sendJson(route, "{}", { type: "text/json" }), 415);
        expectProblem(await sendJson(route, `"${"x".repeat(route.bodyBytesMax)}"`), 413);
      }
      for (const query of ["user_id=", "org_id=a&org_id=b", "'=1", "%00=%00", "a[b]=c", "q=1&".repeat(500)]) {
        const reply = await sendJson(route, route.schemas.body === undefined ? undefined : '{"no such field":1}', {
          path: `${targetOf(route)}?${query}`,
        });
        if (reply.status >= 400) expectProblem(reply, 404, 409, 422);
        else expect(route.schemas.query, `${name} takes no query, and ignores one`).toBeUndefined();
      }
      if (route.path.includes(":")) {
        for (const value of ["%00", "..%2f..", "'", "%F0%9F%A6%8A", "prt_'--", "x".repeat(2_000), "__proto__"]) {
          expectProblem(await sendJson(route, "{}", { path: targetOf(route, value) }), 404, 422, 400);
        }
      }
    }
  });

  test("P9.20 400, 431: so is what never comes to a route: no HTTP, two lengths, headers too long", async () => {
    const line = `GET ${USER.path}?user_id=x HTTP/1.1`;
    for (const [request, status] of [
      [`${line}\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`, 431],
      [`GET ${USER.path}?user_id=${"x".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
      [`${line}\r\nHost: x\r\nX: a\0b\r\n\r\n`, 400],
      [`${line}\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`, 400],
      [`${line.replace("HTTP/1.1", "HTTP/9.9")}\r\nHost: x\r\n\r\n`, 400],
      ["garbage\r\n\r\n", 400],
    ] as const) {
      expectProblem(parseRawReply(await sendRaw(server, request)), status);
    }
  });

  test("P9.20 500: a store that is not as it should be is told as no more than that, and the process lives", async () => {
    const user = await make(server, tenant, USER);
    for (const { table } of KINDS.toReversed()) await server.database.query(`ALTER TABLE ${table} RENAME TO ${table}_secret_name`);
    const replies: Reply[] = [];
    for (const { path, id } of KINDS) {
      for (const method of ["GET", "DELETE"])
        replies.push(await ask(server, tenant, { method, path: `${path}?${id}=${String(user.entity[id])}` }));
      replies.push(await ask(server, tenant, { method: "PATCH", path: `${path}?${id}=${String(user.entity[id])}`, body: { name: "x" } }));
    }
    const key = { "idempotency-key": randomUUID() };
    for (const headers of [{}, key, key]) replies.push(await ask(server, tenant, { method: "PUT", path: BOTH, body: {}, headers }));
    replies.push(await ask(server, tenant, { method: "POST", path: ENTITIES, body: {} }));
    for (const { table } of KINDS) await server.database.query(`ALTER TABLE ${table}_secret_name RENAME TO ${table}`);
    for (const reply of replies) {
      expectProblem(reply, 500);
      expect(reply.text).not.toMatch(/secret_name|organizations|workspaces|users|table|column/);
    }
    expect((await ask(server, tenant, { method: "PUT", path: BOTH, body: {}, headers: key })).status, "a 500 is not kept under a key").toBe(
      201,
    );
  });
});
