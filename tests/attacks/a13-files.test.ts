import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { createTalker, createThread } from "../../packages/server/src/testing/event-stream.ts";
import { admin, call, createTestPartner, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { HOME } from "./a10-setting.ts";
import { B, expectFault, type FilesSetting, formOf, MIB, open, openFilesSetting, partOf, sendAll, TYPE } from "./a13-files-setting.ts";
import { expectProblem } from "./a9-setting.ts";
import { leastCpuMs } from "./least-cpu-ms.ts";

/* P13.8, files that users upload. What a form of parts may look like is http/multipart.test.ts; whose files they are is a13-file-owners.test.ts. */

describe.each(DIALECTS)("files on %s", (dialect) => {
  let server: TestServer;
  let setting: FilesSetting;
  let token: string;
  let threadId: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    setting = await openFilesSetting(server);
    ({ token, threadId } = setting);
  });
  afterAll(() => server.stop());

  const upload: FilesSetting["upload"] = (body, more) => setting.upload(body, more);
  const rowsOf: FilesSetting["rowsOf"] = (id) => setting.rowsOf(id);
  const stored: FilesSetting["stored"] = (body) => setting.stored(body);
  const path = () => `${HOME}/${threadId}/files`;

  describe("P13.8: what is uploaded", () => {
    test("byte for byte what was sent, whatever the bytes are, and empty; under an id of ours", async () => {
      const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      for (const content of [every, Buffer.from(`\r\n--${B.slice(1)}\r\n--\r\n\0`), Buffer.alloc(0), randomBytes(2 * MIB)]) {
        const row = await stored(formOf(partOf(content, { headers: "\r\nContent-Type: application/pdf" })));
        expect(Buffer.from(row["content"] as Uint8Array).equals(content)).toBe(true);
        expect(row).toMatchObject({ name: "a.txt", media_type: "application/pdf", partner_id: setting.people.partner.clientId });
        expect(Number(row["size"])).toBe(content.length);
      }
    });

    test.each([
      ['; filename="../../x"', "x"],
      ['; filename="C:\\\\x"', "x"],
      ['; filename="a\0b.txt"', "ab.txt"],
      [`; filename="${"x".repeat(300)}"`, "x".repeat(255)],
      ['; filename="a%22%0D%0AContent-Type: x"', 'a"Content-Type: x'],
      ['; filename="naïve €.txt"', "naïve €.txt"],
      ["; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt", "naïve €.txt"],
      ["; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd%00", "passwd"],
      ['; filename=""', "file"],
    ])("a name is kept to be shown, and no more: %j", async (parameters, name) => {
      expect(await stored(formOf(partOf("x", { parameters })))).toMatchObject({ name, media_type: "application/octet-stream" });
    });

    test('400: a name that ends its own line, as `a"\\r\\nContent-Type: x` would', async () => {
      expectProblem(
        await upload(formOf(partOf("x", { parameters: '; filename="a"\r\nContent-Type: x"; filename="b"\r\nContent-Type: y' }))),
        400,
      );
      expectProblem(await upload(formOf(partOf("x", { parameters: '; filename="a\r\nb"' }))), 400);
    });

    test("a media type is kept as it is sent where it looks like one, and is never what the content is taken for", async () => {
      const html = formOf(partOf("<script>", { headers: "\r\nContent-Type: text/html; charset=utf-8" }));
      expect(await stored(html)).toMatchObject({ media_type: "text/html; charset=utf-8" });
      for (const type of ["nonsense", "a/b, c/d", `a/${"b".repeat(255)}`])
        expect(await stored(formOf(partOf("x", { headers: `\r\nContent-Type: ${type}` })))).toMatchObject({
          media_type: "application/octet-stream",
        });
    });

    test("a form of parts within a file is a file", async () => {
      const inner = Buffer.from('--in\r\nContent-Disposition: file; filename="y"\r\n\r\nz\r\n--in--\r\n');
      const row = await stored(formOf(partOf(inner, { headers: "\r\nContent-Type: multipart/mixed; boundary=in" })));
      expect(Buffer.from(row["content"] as Uint8Array).equals(inner)).toBe(true);
    });

    test("422: no file, two, another part, a field of text, and more parts than are looked at; nothing is stored", async () => {
      const before = (await rowsOf()).length;
      const file = partOf("x");
      expectFault(await upload(formOf()), "file", /^is missing$/);
      expectFault(await upload(formOf(file, file)), "file", /more than once/);
      expectFault(await upload(formOf(file, partOf("x", { name: "note", parameters: "" }))), "note", /not a known field/);
      expectFault(await upload(formOf(partOf("x", { name: "__proto__" }))), "__proto__", /not a known field/);
      expectFault(await upload(formOf(partOf("/etc/passwd", { parameters: "" }))), "file", /no filename/);
      const uploadMany = async () => expect((await upload(formOf(...Array<Buffer>(10_000).fill(file)))).status).toBe(422);
      expect(await leastCpuMs(uploadMany, 1_000)).toBeLessThan(1_000);
      expect((await rowsOf()).length).toBe(before);
    });

    test.each([
      ["no boundary", "multipart/form-data"],
      ["71 characters of boundary", `multipart/form-data; boundary=${"x".repeat(71)}`],
      ["two boundaries", `${TYPE}; boundary=x`],
      ["another boundary", "multipart/form-data; boundary=x"],
    ])("400: %s", async (_case, type) => {
      expectProblem(await upload(formOf(partOf("x")), { type }), 400);
    });

    test("a boundary in quotes is one; within a line of a content it is content, and at its beginning it is none", async () => {
      expect((await upload(formOf(partOf("x")), { type: `multipart/form-data; boundary="${B}"` })).status).toBe(200);
      expect(Buffer.from((await stored(formOf(partOf(`a --${B}--\r\n`))))["content"] as Uint8Array).toString()).toBe(`a --${B}--\r\n`);
      for (const content of [`a\r\n--${B}x`, `a\r\n--${B}--\r\nb`, `a\r\n--${B}\r\nb`])
        expectProblem(await upload(formOf(partOf(content))), 400);
    });

    test("400: what is coded to be sent is not stored as if it were not; 8bit and binary say nothing", async () => {
      for (const coding of ["base64", "quoted-printable", "x-gzip"])
        expectProblem(await upload(formOf(partOf("aGk=", { headers: `\r\nContent-Transfer-Encoding: ${coding}` }))), 400);
      await stored(formOf(partOf("x", { headers: "\r\nContent-Transfer-Encoding: binary" })));
    });

    test("415: a body that is no form of parts", async () => {
      for (const type of ["application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b", "text/plain"])
        expectProblem(await upload(Buffer.from("{}"), { type }), 415);
    });

    test("413: over 10 MiB, also of a body that does not say how long it is; 10 MiB are not", async () => {
      const [largest, over] = [Buffer.alloc(10 * MIB, "x"), Buffer.alloc(10 * MIB + 1, "x")];
      expect(Number((await stored(formOf(partOf(largest))))["size"])).toBe(10 * MIB);
      expectProblem(await upload(formOf(partOf(over))), 413);
      expectProblem(await upload(Buffer.alloc(11 * MIB, "x")), 413);
      const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
      const head = `POST ${path()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n`;
      expectProblem(await sendAll(server, [head, chunk.repeat(170), "0\r\n\r\n"]), 413);
    });

    test("409: 100 files, and 100 MiB of them, are what a thread may have; another thread still takes one", async () => {
      for (const [column, reached] of [
        ["file_count", 100],
        ["file_bytes", 100 * MIB],
      ] as const) {
        const full = await createThread(server, token);
        await server.database.query(`UPDATE threads SET ${column} = ${reached} WHERE thread_id = $1 RETURNING 1`, [full]);
        const refused = await upload(formOf(partOf("x")), { to: full });
        expectProblem(refused, 409);
        expect(refused.text).toMatch(/100 files and 100 MiB/);
        expect(await rowsOf(full)).toEqual([]);
      }
      await stored(formOf(partOf("x")));
    });

    test("a Content-Length that is too short or too long is no file", async () => {
      const before = (await rowsOf()).length;
      const form = formOf(partOf("hello"));
      const head = (length: number | string) =>
        `POST ${path()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${TYPE}\r\nContent-Length: ${length}\r\n\r\n`;
      expectProblem(await sendAll(server, [head(form.length - 10), form]), 400);
      expectProblem(await sendAll(server, [head(form.length + 10), form], true), 400);
      expectProblem(await sendAll(server, [head(`${form.length}, ${form.length}`), form]), 400);
      expectProblem(await sendAll(server, [head(-1), form]), 400);
      expect((await rowsOf()).length).toBe(before);
    });
  });

  describe("P13.8: who is listened to", () => {
    const opening = (bearer: string, length = 10 * MIB) =>
      `POST ${path()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bearer}\r\nContent-Type: ${TYPE}\r\nContent-Length: ${length}\r\n\r\n`;

    test("401, 403, 415, 413: before a byte of the body is read", async () => {
      for (const [status, head] of [
        [401, opening("x")],
        [403, opening(setting.people.serviceAccount)],
        [415, opening(token).replace(TYPE, "text/plain")],
        [413, opening(token, 11 * MIB)],
      ] as const) {
        const { socket, reply } = open(server, head);
        expectProblem(await reply, status);
        socket.destroy();
      }
    });

    test("401: whose token has ended while the body came; nothing is stored", async () => {
      const talker = await createTalker(setting.people.partner);
      const own = await createThread(server, talker.token);
      const form = formOf(partOf("late"));
      const { socket, reply } = open(server, opening(talker.token, form.length).replace(threadId, own) + form.toString("latin1", 0, 20));
      await underWay(1);
      expect((await admin(server, "POST", "/revocations", { user_id: talker.userId })).status).toBeLessThan(300);
      socket.write(form.subarray(20));
      expectProblem(await reply, 401);
      socket.destroy();
      expect(await rowsOf(own)).toEqual([]);
    });

    test("503: the ninth upload of a partner at once, and the seventeenth of all; those who end or go away make room", async () => {
      const others = await Promise.all([1, 2].map(async () => (await createTalker(await createTestPartner(server))).token));
      const [first = "", second = ""] = others;
      const opened: { readonly socket: Socket }[] = [];
      const occupy = async (bearer: string) => {
        for (let n = 0; n < 8; n++) opened.push(open(server, opening(bearer)));
        await underWay(opened.length);
      };
      await occupy(first);
      const refused = await upload(formOf(partOf("x")), { bearer: first });
      expectProblem(refused, 503);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      await stored(formOf(partOf("x")));
      await occupy(second);
      expectProblem(await upload(formOf(partOf("x"))), 503);
      expect((await call(server, "GET", HOME, token)).status).toBe(200);
      for (const { socket } of opened) socket.destroy();
      await expect.poll(async () => (await upload(formOf(partOf("x")))).status).toBe(200);
    });

    /** How many bodies are being read: each has a listener of its own, which only the server's process can see. */
    async function underWay(count: number): Promise<void> {
      await expect.poll(() => server.deps.overload["setAside"]).toBe(count);
    }
  });

  test("no name of a file is in the log", () => {
    expect(server.logLines.length).toBeGreaterThan(0);
    for (const word of ["a.txt", "passwd"]) expect(server.logLines.filter((line) => line.includes(word))).toEqual([]);
  });
});
