import { randomBytes, randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { createTalker, createThread, isComplete, LedAgent, openStream } from "../../packages/server/src/testing/event-stream.ts";
import {
  admin,
  call,
  createTestPartner,
  type Reply,
  send,
  startTestServer,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { HOME, openPeople, type People } from "./a10-setting.ts";
import { anonymous, expectProblem } from "./a9-setting.ts";
import { parseRawReply } from "./raw.ts";

/* A13, files that users upload: P13.8, and P13.9 for files. What a form of parts may look like is http/multipart.test.ts. */

const MIB = 1024 * 1024;
const B = "bound";
const TYPE = `multipart/form-data; boundary=${B}`;
const NAMED = '; filename="a.txt"';

interface Written {
  readonly parameters?: string;
  readonly headers?: string;
  readonly name?: string;
}

/** A part, which is a file unless told otherwise. */
function partOf(content: Uint8Array | string, { parameters = NAMED, headers = "", name = "file" }: Written = {}): Buffer {
  const head = `--${B}\r\nContent-Disposition: form-data; name="${name}"${parameters}${headers}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), Buffer.from(content), Buffer.from("\r\n")]);
}

const formOf = (...parts: readonly Uint8Array[]) => Buffer.concat([...parts, Buffer.from(`--${B}--\r\n`)]);

describe.each(DIALECTS)("files on %s", (dialect) => {
  let server: TestServer;
  let people: People;
  let token: string;
  let threadId: string;
  const agent = new LedAgent();
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    people = await openPeople(server);
    ({ token } = people.mine);
    threadId = await createThread(server, token);
  });
  afterAll(() => server.stop());

  const pathOf = (id = threadId) => `${HOME}/${id}/files`;

  function upload(body: Uint8Array, { to = threadId, bearer = token, type = TYPE } = {}): Promise<Reply> {
    return send(server, "POST", pathOf(to), { headers: { authorization: `Bearer ${bearer}`, "content-type": type }, body });
  }

  async function rowsOf(id = threadId): Promise<Record<string, unknown>[]> {
    return server.database.query("SELECT * FROM thread_files WHERE thread_id = $1 ORDER BY created_at, file_id", [id]);
  }

  /** Gives its row. */
  async function stored(body: Uint8Array): Promise<Record<string, unknown>> {
    const reply = await upload(body);
    expect(reply.status, reply.text).toBe(200);
    expect(reply.json).toEqual({ success: true, file_id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string });
    const row = (await rowsOf()).find((each) => each["file_id"] === reply.json["file_id"]);
    if (row === undefined) throw new Error("it is not in the store");
    return row;
  }

  /** In the form that the threads API has. */
  function expectFault(reply: Reply, field: string, message: RegExp): void {
    expect(reply.status, reply.text).toBe(422);
    expect(reply.json["detail"]).toContainEqual({
      loc: ["body", ...field.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part))],
      msg: expect.stringMatching(message) as string,
      type: expect.any(String) as string,
    });
    expectProblem({ ...reply, json: { ...reply.json, detail: reply.json["message"] } }, 422);
  }

  describe("P13.8: what is uploaded", () => {
    test("byte for byte what was sent, whatever the bytes are, and empty; under an id of ours", async () => {
      const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      for (const content of [every, Buffer.from(`\r\n--${B.slice(1)}\r\n--\r\n\0`), Buffer.alloc(0), randomBytes(2 * MIB)]) {
        const row = await stored(formOf(partOf(content, { headers: "\r\nContent-Type: application/pdf" })));
        expect(Buffer.from(row["content"] as Uint8Array).equals(content)).toBe(true);
        expect(row).toMatchObject({ name: "a.txt", media_type: "application/pdf", partner_id: people.partner.clientId });
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
      const begun = performance.now();
      expect((await upload(formOf(...Array<Buffer>(10_000).fill(file)))).status).toBe(422);
      expect(performance.now() - begun, "milliseconds").toBeLessThan(1_000);
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
      const head = `POST ${pathOf()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n`;
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
        `POST ${pathOf()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${TYPE}\r\nContent-Length: ${length}\r\n\r\n`;
      expectProblem(await sendAll(server, [head(form.length - 10), form]), 400);
      expectProblem(await sendAll(server, [head(form.length + 10), form], true), 400);
      expectProblem(await sendAll(server, [head(`${form.length}, ${form.length}`), form]), 400);
      expectProblem(await sendAll(server, [head(-1), form]), 400);
      expect((await rowsOf()).length).toBe(before);
    });
  });

  describe("P13.8: who is listened to", () => {
    const opening = (bearer: string, length = 10 * MIB) =>
      `POST ${pathOf()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bearer}\r\nContent-Type: ${TYPE}\r\nContent-Length: ${length}\r\n\r\n`;

    test("401, 403, 415, 413: before a byte of the body is read", async () => {
      for (const [status, head] of [
        [401, opening("x")],
        [403, opening(people.serviceAccount)],
        [415, opening(token).replace(TYPE, "text/plain")],
        [413, opening(token, 11 * MIB)],
      ] as const) {
        const { socket, reply } = open(server, head);
        expectProblem(await reply, status);
        socket.destroy();
      }
    });

    test("401: whose token has ended while the body came; nothing is stored", async () => {
      const talker = await createTalker(people.partner);
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
      await expect.poll(() => server.deps.overload["setAside"] as number).toBe(count);
    }
  });

  describe("P13.9: whose files they are", () => {
    const fileOf = async (to: string, bearer: string) => String((await upload(formOf(partOf("secret")), { to, bearer })).json["file_id"]);
    const ask = (fileIds: unknown, to = threadId) =>
      call(server, "POST", `${HOME}/${to}/messages`, token, { message: "see", file_ids: fileIds });

    test("404: to another user's thread nothing is uploaded, and it reads like none", async () => {
      const before = await rowsOf();
      for (const { token: bearer } of Object.values(people.others)) {
        const foreign = await upload(formOf(partOf("x")), { bearer });
        expectProblem(foreign, 404);
        expect(anonymous(foreign)).toEqual(anonymous(await upload(formOf(partOf("x")), { bearer, to: randomUUID() })));
      }
      expect(await rowsOf()).toEqual(before);
    });

    test("422: a message with a file of another thread, user or partner, or of none, each refused alike; with one twice, and with 21", async () => {
      const [own, asked] = [await createThread(server, token), await createThread(server, token)];
      const mine = await fileOf(asked, token);
      const theirs = await Promise.all(
        Object.values(people.others).map(async (other) => fileOf(await createThread(server, other.token), other.token)),
      );
      const absent = await ask([randomUUID()], asked);
      for (const foreign of [await fileOf(own, token), ...theirs, mine.toUpperCase(), `${mine}\0`, "", "../x"]) {
        const reply = await ask([mine, foreign], asked);
        expectFault(reply, "file_ids.1", /^is not the id of a file of this thread$/);
        expect(anonymous(await ask([foreign], asked))).toEqual(anonymous(absent));
      }
      expectFault(await ask([mine, mine], asked), "file_ids.1", /^is there twice$/);
      expectFault(await ask(Array<string>(21).fill(mine), asked), "file_ids", /over 20/);
      expectFault(await ask(mine, asked), "file_ids", /./);
      const { json } = await call(server, "GET", `${HOME}/${asked}/messages`, token);
      expect(json["total_message_count"]).toBe(0);
    });

    test("the agent gets the files of a message, in its order, with their content; a list of messages has the contract's members alone", async () => {
      const asked = await createThread(server, token);
      const ids = [];
      for (const content of ["one", "two"]) ids.push(String((await upload(formOf(partOf(content)), { to: asked })).json["file_id"]));
      const number = agent.questions.length;
      const sent = await ask(ids.toReversed(), asked);
      expect(sent.status, sent.text).toBe(200);
      await agent.asked(number + 1);
      const files = agent.questions[number]?.files ?? [];
      expect(files).toMatchObject([
        { fileId: ids[1], name: "a.txt", mediaType: "application/octet-stream", size: 3 },
        { fileId: ids[0], size: 3 },
      ]);
      expect(await Promise.all(files.map(async (file) => Buffer.from(await file.read()).toString()))).toEqual(["two", "one"]);
      const stream = await openStream(server, asked, token, { "last-event-id": sent.headers.get("last-event-id") ?? "" });
      agent.say(number, "seen");
      agent.end(number);
      await stream.until(isComplete);
      stream.close();
      const { json } = await call(server, "GET", `${HOME}/${asked}/messages`, token);
      const members = ["message_id", "message", "is_user_message", "message_time", "citations"];
      for (const message of json["messages"] as object[]) expect(Object.keys(message)).toEqual(members);
    });

    test("a form names one file", async () => {
      const asked = await createThread(server, token);
      const id = await fileOf(asked, token);
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/x-www-form-urlencoded" };
      const post = (body: string) => send(server, "POST", `${HOME}/${asked}/messages`, { headers, body });
      const number = agent.questions.length;
      expect((await post(`message=x&file_ids%5B%5D=${id}`)).status).toBe(200);
      expect((await post(`message=x&file_ids%5B%5D=${id}&file_ids%5B%5D=${id}`)).status).toBe(400);
      await agent.asked(number + 1);
      expect(agent.questions[number]?.files).toMatchObject([{ fileId: id }]);
      agent.end(number);
    });

    test("files of a deleted thread are gone: from the store, from the agent, and for messages", async () => {
      const asked = await createThread(server, token);
      const id = await fileOf(asked, token);
      const number = agent.questions.length;
      await ask([id], asked);
      await agent.asked(number + 1);
      expect((await call(server, "DELETE", `${HOME}/${asked}`, token)).status).toBe(200);
      expect(await rowsOf(asked)).toEqual([]);
      await expect(agent.questions[number]?.files[0]?.read()).rejects.toThrow("gone");
      expectProblem(await ask([id], asked), 404);
      expectFault(await ask([id]), "file_ids.0", /./);
      agent.end(number);
    });
  });

  test("no name and no content is in the log", () => {
    expect(server.logLines.length).toBeGreaterThan(0);
    for (const word of ["a.txt", "secret", "passwd"]) expect(server.logLines.filter((line) => line.includes(word))).toEqual([]);
  });
});

/** Its first answer, however long the request goes on. */
function open(server: TestServer, head: string): { readonly socket: Socket; readonly reply: Promise<Reply> } {
  const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
  const reply = new Promise<Reply>((resolve) => {
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      const length = Number(/^content-length: (\d+)/im.exec(received)?.[1] ?? Infinity);
      const from = received.indexOf("\r\n\r\n") + 4;
      if (from > 3 && received.length >= from + length) resolve(parseRawReply(received.slice(0, from + length)));
    });
    socket.on("error", () => undefined);
  });
  socket.write(head, "latin1");
  return { socket, reply };
}

/** Bytes as they are, and nothing more to come where it `ends` there. */
async function sendAll(server: TestServer, parts: readonly (string | Uint8Array)[], ends = false): Promise<Reply> {
  const { socket, reply } = open(server, "");
  for (const part of parts) socket.write(part);
  if (ends) socket.end();
  const received = await reply;
  socket.destroy();
  return received;
}
