import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { type Reply, sendRaw, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { ask, type Asked, expectProblem, openTenant, ORGANIZATION, rowsOf, type Tenant } from "./a9-setting.ts";
import { EACH_WRITE, keyed, WRITES } from "./a9-writes.ts";
import { parseRawReply } from "./raw.ts";

/* A9, Idempotency-Key: what a key is, and whose (P9.13, P9.14). What is kept under it: a9-idempotency-kept.test.ts. */

describe.each(DIALECTS)("Idempotency-Key on %s", (dialect) => {
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

  /** The key's header lines as they are, one character per byte. */
  async function askRaw(asked: Asked, keyLines: readonly string[]): Promise<Reply> {
    const body = asked.body === undefined ? "" : JSON.stringify(asked.body);
    const head = [`${asked.method} ${asked.path} HTTP/1.1`, "Host: x", "Connection: close", `Authorization: Bearer ${tenant.token}`];
    const content = asked.body === undefined ? [] : ["Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`];
    return parseRawReply(
      await sendRaw(
        server,
        Buffer.concat([Buffer.from([...head, ...content, ...keyLines, "", ""].join("\r\n"), "latin1"), Buffer.from(body)]),
      ),
    );
  }

  test("P9.13: a key of A that B uses is B's own, with B's answer and B's row", async () => {
    const other = await openTenant(server);
    for (const write of WRITES) {
      const key = randomUUID();
      const own = await write.prepare(server, tenant);
      const first = await ask(server, tenant, keyed(own.asked, key));
      const before = await rowsOf(server, tenant);
      const theirs = await write.prepare(server, other);
      const reply = await ask(second, other, keyed(theirs.asked, key));
      expect(reply.status, write.name).toBe(write.status);
      if (write.status === 201) expect(reply.text).not.toBe(first.text);
      expect((await ask(server, other, keyed(theirs.asked, key))).text).toBe(reply.text);
      expect((await ask(second, tenant, keyed(own.asked, key))).text).toBe(first.text);
      expect(await rowsOf(server, tenant)).toEqual(before);
    }
    // the very same request, to the byte
    const same = keyed(create({ external_org_id: "byte-for-byte" }), randomUUID());
    const replies = [await ask(server, tenant, same), await ask(server, other, same)];
    expect(replies.map(({ status }) => status)).toEqual([201, 201]);
    expect(replies[0]?.text).not.toBe(replies[1]?.text);
  });

  test.each(EACH_WRITE)("P9.14 400: %s under a key that is none does nothing", async (_name, write) => {
    const { asked } = await write.prepare(server, tenant);
    const before = await rowsOf(server, tenant);
    for (const line of ["x".repeat(256), `"${"x".repeat(256)}"`, "", '""', "a b", "é"]) {
      expectProblem(await askRaw(asked, [`Idempotency-Key: ${line}`]), 400);
    }
    expectProblem(await askRaw(asked, ["Idempotency-Key: a", "Idempotency-Key: a"]), 400);
    expect(await rowsOf(server, tenant)).toEqual(before);
    const reply = await ask(server, tenant, keyed(asked, "~".repeat(255)));
    expect([write.status, 422], reply.text).toContain(reply.status); // 422: an operation before it, on the same path, has had this key
  });

  test("P9.14 400: two keys in any spelling, control characters, and bytes that are no ASCII", async () => {
    const before = await rowsOf(server, tenant);
    for (const lines of [
      ["Idempotency-Key: a", "idempotency-key: b"],
      ['Idempotency-Key: "a"', 'Idempotency-Key: "b"'],
      ['Idempotency-Key: "a', 'Idempotency-Key: b"'],
      ["Idempotency-Key:", "Idempotency-Key: a"],
      ["Idempotency-Key: a", "Idempotency-Key:"],
      ["Idempotency-Key: a, b"],
      ["Idempotency-Key: a\tb"],
      ["Idempotency-Key: \t"],
      ['Idempotency-Key: " "'],
      ['Idempotency-Key: "a b"'],
      ["Idempotency-Key: \xe2\x82\xac"],
      ["Idempotency-Key: a\x80"],
      ["Idempotency-Key: \xff\xfe"],
      [`Idempotency-Key: ${"k".repeat(8_000)}`],
    ]) {
      expectProblem(await askRaw(create({ name: "Never" }), lines), 400);
    }
    for (const control of ["\0", "\x01", "\x1b[31m", "\x7f", "\r"]) {
      const reply = await askRaw(create({ name: "Never" }), [`Idempotency-Key: a${control}b`]); // refused by the HTTP parser, as no header at all
      expectProblem(reply, 400);
    }
    expect(await rowsOf(server, tenant)).toEqual(before);
    expect(server.logLines.join("")).not.toContain("[31m");
  });

  test("P9.14: one key is one, quoted or bare, and of 1 to 255 visible characters; letters' case, and a space around it, are as HTTP has them", async () => {
    for (const [spellings, others] of [
      [
        ["k-1", '"k-1"', "  k-1", "k-1 \t", ' "k-1" '],
        ["K-1", "k-1x", "k"],
      ],
      [
        ['a"b', '"a\\"b"'],
        ["a'b", "ab"],
      ],
      [["a\\b", '"a\\\\b"'], ["a\\\\b"]],
      [["q".repeat(255), `"${"q".repeat(255)}"`], ["q".repeat(254)]],
      [
        ["!", '"!"'],
        ["~", "?1"],
      ],
      [["8e03978e-40d5-43e8-bc93-6894a57f9324"], ["8E03978E-40D5-43E8-BC93-6894A57F9324"]],
    ] as const) {
      const texts: string[] = [];
      for (const spelling of spellings) texts.push((await askRaw(create(), [`Idempotency-Key: ${spelling}`])).text);
      expect(new Set(texts).size, spellings[0]).toBe(1);
      for (const other of others) texts.push((await askRaw(create(), [`Idempotency-Key: ${other}`])).text);
      expect(new Set(texts).size, spellings[0]).toBe(1 + others.length);
    }
  });
});
