import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { type Reply, sendRaw, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import {
  anonymous,
  ask,
  EACH_KIND,
  ENTITIES,
  expectProblem,
  getOf,
  type Kind,
  KINDS,
  make,
  type Made,
  nth,
  openTenant,
  ORGANIZATION,
  rowsOf,
  type Tenant,
  USER,
  WORKSPACE,
} from "./a9-setting.ts";
import { parseRawReply } from "./raw.ts";

/* A9, ids: P9.7, for every operation that takes one. Texts here stand in a query as they are: they are what a client wrote. */

const LONG = "x".repeat(10_240);

describe.each(DIALECTS)("ids on %s", (dialect) => {
  let server: TestServer;
  let tenant: Tenant;
  const made = new Map<Kind, Made>();
  beforeAll(async () => {
    server = await startTestServer(dialect);
    tenant = await openTenant(server);
    const org = await make(server, tenant, ORGANIZATION, { external_org_id: "ext" });
    const workspace = await make(server, tenant, WORKSPACE, { org_id: org.id, external_workspace_id: "ext" });
    const user = await make(server, tenant, USER, { workspace_id: workspace.id, external_user_id: "ext" });
    made.set(ORGANIZATION, org).set(WORKSPACE, workspace).set(USER, user);
  });
  afterAll(() => server.stop());

  const idOf = (kind: Kind) => made.get(kind)?.id ?? "";
  const OPERATIONS = [{ method: "GET" }, { method: "PATCH", body: { name: "Changed" } }, { method: "DELETE" }] as const;

  /** One value of a query, as it is written there. */
  const written = (own: string) =>
    [
      [own.toUpperCase(), own.replaceAll("-", ""), `{${own}}`, `urn:uuid:${own}`, `${own}%20`, `%20${own}`, `${own}+`, `${own}%0A`],
      [`${own}%00`, `%00${own}`, `${own}%E2%80%8B`, own.slice(0, -1), `${own}0`, `${own},${own}`, `${own};`, `${own}/`, `${own}%2F..`],
      ["%00", "%01", "..", "../../etc/passwd", "%2e%2e%2f", "*", "%25", "null", "undefined", "true", "0", "-1", "1e9", "NaN", "[]", "{}"],
      ["[object%20Object]", "__proto__", "constructor", "%F0%9F%A6%8A", "%ED%A0%80", "%ED%A0%80%ED%B0%80", "%FF", "%C0%80", "%F4%90%80%80"],
      ["%", "%zz", "%u0041", "%EF%BB%BFext", "e%CC%81xt", "EXT", "ext%20", "%EF%BC%A5xt"],
      [LONG, "%F0%9F%A6%8A".repeat(300), "%00".repeat(3_000)],
    ].flat();

  test.each(EACH_KIND)(
    "P9.7 404: what names no %s, in a query, reads exactly like an absent one for every operation",
    async (_name, kind) => {
      const before = await rowsOf(server, tenant);
      for (const operation of OPERATIONS) {
        const reach = (name: string, value: string) => ask(server, tenant, { ...operation, path: `${kind.path}?${name}=${value}` });
        const absent = anonymous(await reach(kind.id, randomUUID()));
        expect(anonymous(await reach(kind.externalId, "nobody"))).toEqual(absent);
        for (const [index, value] of written(idOf(kind)).entries()) {
          const names = [kind.id, kind.externalId];
          for (const name of operation.method === "GET" ? names : [nth(names, index % 2)]) {
            const reply = await reach(name, value);
            expectProblem(reply, 404);
            expect(anonymous(reply), `${operation.method} ${name}=${value.slice(0, 60)}`).toEqual(absent);
          }
        }
      }
      expect(await rowsOf(server, tenant)).toEqual(before);
    },
  );

  test.each(EACH_KIND)("P9.7 422: arrays, objects and other spellings of the name of a %s's id", async (_name, kind) => {
    const before = await rowsOf(server, tenant);
    const own = idOf(kind);
    const queries = [
      `${kind.id}[]=${own}`,
      `${kind.id}[0]=${own}`,
      `${kind.id}[$ne]=x`,
      `${kind.id}.id=${own}`,
      `${kind.id}%5B%5D=${own}`,
      `${kind.id.toUpperCase()}=${own}`,
      ` ${kind.id}=${own}`.replace(" ", "%20"),
      `${kind.id}%00=${own}`,
      `${kind.id}=${own}&${kind.id}=${own}`,
      `${kind.id}=${own}&${kind.id.replace("_", "%5f")}=${own}`,
      `${kind.id}=${own}&__proto__=x`,
      `${kind.id}=${own}&__proto__[x]=y`,
      `${kind.id}=${own}&constructor=x`,
      `${kind.id}=${own}&partner_id=${tenant.partner.clientId}`,
      `${kind.id}=${own}&`.repeat(200),
      `${kind.id}=`,
      kind.id,
      "=",
      own,
    ];
    for (const operation of OPERATIONS) {
      for (const query of queries) expectProblem(await ask(server, tenant, { ...operation, path: `${kind.path}?${query}` }), 422);
    }
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.7 404, 422: as the parent in a body, and in each filter of a list", async () => {
    const before = await rowsOf(server, tenant);
    const unsent = (text: string) => {
      try {
        return decodeURIComponent(text);
      } catch {
        return text;
      }
    };
    for (const [kind, parent] of [[WORKSPACE, ORGANIZATION] as const, [USER, WORKSPACE] as const]) {
      for (const value of written(idOf(parent)).map(unsent)) {
        expectProblem(await ask(server, tenant, { method: "PUT", path: kind.path, body: { [parent.id]: value } }), 404, 422);
      }
      for (const value of [null, undefined, 1, true, {}, [idOf(parent)], { id: idOf(parent) }]) {
        expectProblem(await ask(server, tenant, { method: "PUT", path: kind.path, body: { [parent.id]: value } }), 422);
      }
    }
    for (const kind of KINDS) {
      for (const value of written(idOf(kind)).map(unsent)) {
        for (const name of [`${kind.id}s`, `${kind.externalId}s`]) {
          const reply = await ask(server, tenant, { method: "POST", path: ENTITIES, body: { [name]: [value], entity_types: [kind.kind] } });
          if (reply.status === 200) expect(reply.json[kind.table], value.slice(0, 60)).toEqual([]);
          else expectProblem(reply, 422);
        }
      }
    }
    expect(await rowsOf(server, tenant)).toEqual(before);
  });

  test("P9.7: bytes that no client library would send are a 400 or 404, and the server goes on", async () => {
    const attempts = [
      "user_id=\xff\xfe",
      "user_id=\xed\xa0\x80",
      "external_user_id=\xf0\x9f",
      "external_user_id=é",
      "user_id=\x01",
      "user_id=a\tb",
    ];
    for (const query of attempts) {
      for (const method of ["GET", "DELETE"]) {
        const head = `${method} ${USER.path}?${query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${tenant.token}\r\n\r\n`;
        const reply = parseRawReply(await sendRaw(server, Buffer.from(head, "latin1")));
        expect([400, 404, 422], `${method} ${query}`).toContain(reply.status);
      }
    }
    expect((await getOf(server, tenant, USER, idOf(USER))).status).toBe(200);
  });

  test("P9.7: any text of 1 to 255 characters is an external id of its own: it finds what carries it, byte for byte, and nothing else", async () => {
    const texts = [
      ["a", "A", "ä", "a\u0308", "á", "ａ", " ", "  ", "a ", " a", "a+b", "a b", "a%20b", "%2B", "%", "%25", "&", "=", "a=b&c=d", "#", "?"],
      ["/", "..", "'", '"', "`", "\\", "\u2028", "\u200b", "\u202e", "\ufffd", "\ufeff", "🦊", "🦊".repeat(127), "ﬃ", "İ", "ı", "ß", "ss"],
      ["\u{10ffff}", "null", "undefined", "true", "0", "00", "-0", "[]", "{}", "__proto__", "constructor", randomUUID(), "prt", "PRT_x"],
      ["x".repeat(255), "漢".repeat(255)],
    ].flat();
    const ids = new Map<string, string>();
    for (const text of texts) ids.set(text, (await make(server, tenant, ORGANIZATION, { external_org_id: text })).id);
    const path = (text: string) => `${ORGANIZATION.path}?external_org_id=${encodeURIComponent(text)}`;
    const check = async (text: string, reply: Reply) => {
      expect(reply.status, JSON.stringify(text)).toBe(200);
      expect(reply.json["org"], JSON.stringify(text)).toMatchObject({ org_id: ids.get(text), external_org_id: text });
    };
    for (const text of texts) {
      await check(text, await ask(server, tenant, { method: "GET", path: path(text) }));
      await check(text, await ask(server, tenant, { method: "PATCH", path: path(text), body: { name: text } }));
      const listed = await ask(server, tenant, {
        method: "POST",
        path: ENTITIES,
        body: { external_org_ids: [text], entity_types: ["organization"] },
      });
      expect(listed.json["organizations"]).toEqual([expect.objectContaining({ org_id: ids.get(text) })]);
    }
    for (const text of texts) expect((await ask(server, tenant, { method: "DELETE", path: path(text) })).status).toBe(200);
    expect((await rowsOf(server, tenant))["organizations"]).toHaveLength(1);
  });
});
