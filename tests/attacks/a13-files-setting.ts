import { expect } from "vitest";
import { connect, type Socket } from "node:net";
import { createThread } from "../../packages/server/src/testing/event-stream.ts";
import { type Reply, send, type TestServer } from "../../packages/server/src/testing/server.ts";
import { HOME, openPeople, type People } from "./a10-setting.ts";
import { expectProblem } from "./a9-setting.ts";
import { parseRawReply } from "./raw.ts";

/* What the tests of files share: forms written by hand, and a thread to upload them to. */

export const MIB = 1024 * 1024;
export const B = "bound";
export const TYPE = `multipart/form-data; boundary=${B}`;
const NAMED = '; filename="a.txt"';

interface Written {
  readonly parameters?: string;
  readonly headers?: string;
  readonly name?: string;
}

/** A part, which is a file unless told otherwise. */
export function partOf(content: Uint8Array | string, { parameters = NAMED, headers = "", name = "file" }: Written = {}): Buffer {
  const head = `--${B}\r\nContent-Disposition: form-data; name="${name}"${parameters}${headers}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), Buffer.from(content), Buffer.from("\r\n")]);
}

export const formOf = (...parts: readonly Uint8Array[]) => Buffer.concat([...parts, Buffer.from(`--${B}--\r\n`)]);

/** People, and a thread of the first of them. */
export interface FilesSetting {
  readonly people: People;
  readonly token: string;
  readonly threadId: string;
  /** To that thread and by its user, unless told otherwise. */
  upload(body: Uint8Array, more?: { readonly to?: string; readonly bearer?: string; readonly type?: string }): Promise<Reply>;
  /** Of the files of that thread, or of another one: without what is in them. */
  rowsOf(id?: string): Promise<Record<string, unknown>[]>;
  /** Uploads a form that is good, and gives the whole row. */
  stored(body: Uint8Array): Promise<Record<string, unknown>>;
}

export async function openFilesSetting(server: TestServer): Promise<FilesSetting> {
  const people = await openPeople(server);
  const { token } = people.mine;
  const threadId = await createThread(server, token);
  const upload: FilesSetting["upload"] = (body, { to = threadId, bearer = token, type = TYPE } = {}) =>
    send(server, "POST", `${HOME}/${to}/files`, { headers: { authorization: `Bearer ${bearer}`, "content-type": type }, body });
  return {
    people,
    token,
    threadId,
    upload,
    rowsOf: (id = threadId) =>
      server.database.query("SELECT file_id, name, size FROM thread_files WHERE thread_id = $1 ORDER BY file_id", [id]),
    async stored(body) {
      const reply = await upload(body);
      expect(reply.status, reply.text).toBe(200);
      expect(reply.json).toEqual({ success: true, file_id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string });
      const [row] = await server.database.query("SELECT * FROM thread_files WHERE file_id = $1", [String(reply.json["file_id"])]);
      if (row === undefined) throw new Error("it is not in the store");
      return row;
    },
  };
}

/** In the form that the threads API has. */
export function expectFault(reply: Reply, field: string, message: RegExp): void {
  expect(reply.status, reply.text).toBe(422);
  expect(reply.json["detail"]).toContainEqual({
    loc: ["body", ...field.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part))],
    msg: expect.stringMatching(message) as string,
    type: expect.any(String) as string,
  });
  expectProblem({ ...reply, json: { ...reply.json, detail: reply.json["message"] } }, 422);
}

/** Its first answer, however long the request goes on. */
export function open(server: TestServer, head: string): { readonly socket: Socket; readonly reply: Promise<Reply> } {
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
export async function sendAll(server: TestServer, parts: readonly (string | Uint8Array)[], ends = false): Promise<Reply> {
  const { socket, reply } = open(server, "");
  for (const part of parts) socket.write(part);
  if (ends) socket.end();
  const received = await reply;
  socket.destroy();
  return received;
}
