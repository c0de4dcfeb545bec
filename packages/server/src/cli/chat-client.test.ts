import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newKeyPair } from "../keys/key-pair.ts";
import { decodeJwt } from "../testing/jwt.ts";
import { openSession, serverUrl, type StreamEvent } from "./chat-client.ts";
import { UsageError } from "./failure.ts";

const PARTNER = { clientId: "prt_1", clientSecret: "the-secret", audience: "http://localhost", kid: "k" };
const signer = {
  partner: PARTNER,
  privateKeyPem: newKeyPair("RS256").privateKey.export({ format: "pem", type: "pkcs8" }).toString(),
};

/** Gives out tokens by number, and answers all else as the test says, one request after the other. */
let server: Server;
let url: string;
let exchanges: URLSearchParams[] = [];
let requests: { line: string; token: string | undefined; from: string | undefined; body: string }[] = [];
let answers: ((response: ServerResponse) => void)[] = [];
beforeAll(async () => {
  server = createServer((request, response) => void read(request).then((body) => answer(request, response, body)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  exchanges = [];
  requests = [];
  answers = [];
});

async function read(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  return body;
}

function answer(request: IncomingMessage, response: ServerResponse, body: string): void {
  if (request.url === "/oauth2/token") {
    exchanges.push(new URLSearchParams(body));
    response.end(JSON.stringify({ access_token: `token-${exchanges.length}` }));
    return;
  }
  const { authorization, "last-event-id": from } = request.headers;
  requests.push({ line: `${request.method} ${request.url}`, token: authorization, from: from?.toString(), body });
  const next = answers.shift();
  if (next) next(response);
  else response.writeHead(404).end("{}");
}

const json = (status: number, body: unknown) => (response: ServerResponse) => void response.writeHead(status).end(JSON.stringify(body));
const BREAK = "(the connection breaks)";
const stream =
  (...pieces: (string | Buffer)[]) =>
  (response: ServerResponse) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const next = (): void => {
      const piece = pieces.shift();
      if (piece === undefined) response.end();
      else if (piece === BREAK) response.destroy();
      else response.write(piece, () => setImmediate(next)); // each by itself
    };
    next();
  };
const event = (id: number, kind: string, data: unknown) => `id: ${id}\nevent: ${kind}\ndata: ${JSON.stringify({ [kind]: data })}\n\n`;
const end = (reason: string) => event(99, "stream_end", { reason });

/** The events until the one with the last id. */
async function take(lastId: number, from: string | null = "0"): Promise<StreamEvent[]> {
  const session = await openSession(url, signer, "ada");
  const taken: StreamEvent[] = [];
  for await (const one of session.events("/v2/threads/stream/t", from)) {
    taken.push(one);
    if (one.id === String(lastId)) break;
  }
  return taken;
}

describe("a session", () => {
  test("exchanges a token that the demo partner signed for the subject, and sends what it got", async () => {
    const session = await openSession(url, signer, "ada");
    answers = [json(200, { thread_id: "t" })];
    expect((await session.call("POST", "/v2/threads", { thread_name: "x" })).json).toEqual({ thread_id: "t" });
    expect(requests).toEqual([{ line: "POST /v2/threads", token: "Bearer token-1", from: undefined, body: '{"thread_name":"x"}' }]);
    expect(exchanges).toHaveLength(1);
    expect(decodeJwt(exchanges[0]?.get("subject_token") ?? "").payload).toMatchObject({ iss: "prt_1", sub: "ada", aud: PARTNER.audience });
    expect(exchanges[0]?.get("client_secret")).toBe("the-secret");
  });

  test("gets another token where its own is over, and asks again, once", async () => {
    const session = await openSession(url, signer, "ada");
    answers = [json(401, {}), json(200, { ok: 1 }), json(401, { detail: "no" }), json(401, { detail: "Still \u001b[1mno." })];
    expect((await session.call("GET", "/x")).json).toEqual({ ok: 1 });
    await expect(session.call("GET", "/x")).rejects.toThrow(/^the server answered 401: Still \uFFFD\[1mno\.$/);
    expect(requests.map(({ token }) => token)).toEqual(["token-1", "token-2", "token-2", "token-3"].map((token) => `Bearer ${token}`));
  });

  test("says which refusal of the token endpoint it was", async () => {
    const refusing = createServer((_, response) =>
      json(400, { error: "invalid_request", error_description: "sub is not a user.", error_uri: "https://x/docs/errors/subject_unknown" })(
        response,
      ),
    );
    await new Promise<void>((resolve) => refusing.listen(0, "127.0.0.1", resolve));
    const other = `http://127.0.0.1:${(refusing.address() as AddressInfo).port}`;
    await expect(openSession(other, signer, "ada")).rejects.toMatchObject({
      status: 400,
      code: "subject_unknown",
      message: "the server answered 400: sub is not a user.",
    });
    refusing.close();
    await expect(openSession(other, signer, "ada")).rejects.toThrow(
      `${other} cannot be reached (nothing listens there); start the sandbox (npm start), or give its address: --url`,
    );
  });

  test("follows no redirect: the secret is for this server only", async () => {
    const elsewhere: string[] = [];
    const moving = createServer((request, response) => {
      elsewhere.push(request.url ?? "");
      response.writeHead(307, { location: `/elsewhere` }).end();
    });
    await new Promise<void>((resolve) => moving.listen(0, "127.0.0.1", resolve));
    await expect(openSession(`http://127.0.0.1:${(moving.address() as AddressInfo).port}`, signer, "ada")).rejects.toThrow(
      "cannot be reached",
    );
    expect(elsewhere).toEqual(["/oauth2/token"]);
    moving.close();
  });

  test("what is no address of a server is an error of usage; a password in it is not said again", () => {
    for (const odd of ["x", "ftp://x.example", "https://me:hunter2@x.example", "https://x.example/?a"]) {
      expect(() => serverUrl(odd)).toThrow(UsageError);
      expect(() => serverUrl(odd)).not.toThrow("hunter2");
    }
    expect(serverUrl("http://localhost:8080/")).toBe("http://localhost:8080");
  });
});

describe("the stream of a thread", () => {
  const a = event(1, "message_chunk", { message: "grüß 😀", final_chunk: false });
  const b = event(2, "message_chunk", { message: "b", final_chunk: false });
  const expected = [
    { id: "1", data: { message_chunk: { message: "grüß 😀", final_chunk: false } } },
    { id: "2", data: { message_chunk: { message: "b", final_chunk: false } } },
  ];

  test("is read whole wherever it is cut, also inside of a character", async () => {
    const bytes = Buffer.from(`: hello\n\n${a}: still here\n\n${b}`);
    answers = [stream(...Array.from(bytes, (byte) => Buffer.from([byte])))];
    expect(await take(2)).toEqual(expected);
    expect(requests).toEqual([{ line: "GET /v2/threads/stream/t", token: "Bearer token-1", from: "0", body: "" }]);
  });

  test.each([
    ["breaks", BREAK],
    ["breaks in the middle of an event", b.slice(0, 30)],
    ["ends, for the server stops", end("server_stopping").replace("id: 99\n", "")],
  ])("goes on after the last event where it %s", async (_, piece) => {
    answers = [stream(a, piece, BREAK), stream(b)];
    expect(await take(2)).toEqual(expected);
    expect(requests.map(({ from }) => from)).toEqual(["0", "1"]);
  });

  test("goes on with another token where its own has expired", async () => {
    answers = [stream(a, end("token_expired").replace("id: 99\n", "")), json(401, {}), stream(b)];
    expect(await take(2)).toEqual(expected);
    expect(requests.map(({ token, from }) => `${token} ${from}`)).toEqual(["Bearer token-1 0", "Bearer token-1 1", "Bearer token-2 1"]);
  });

  test("goes on where the server is too busy, or its socket closed", async () => {
    answers = [json(503, {}), (response) => response.destroy(), json(429, {}), stream(a, b)];
    expect(await take(2)).toEqual(expected);
  });

  test.each([
    ["token_ended", "the user's token was ended"],
    ["thread_deleted", "the thread was deleted"],
  ])("is over with %s, and says so", async (reason, sentence) => {
    answers = [stream(a, end(reason))];
    await expect(take(2)).rejects.toThrow(sentence);
    expect(requests).toHaveLength(1);
  });

  test("is over where the thread is not there", async () => {
    answers = [json(404, { detail: "There is no such thread." })];
    await expect(take(2)).rejects.toThrow("the server answered 404: There is no such thread.");
  });

  test("begins with what comes where no place is given", async () => {
    answers = [stream(a, b)];
    expect(await take(2, null)).toEqual(expected);
    expect(requests[0]?.from).toBeUndefined();
  });
});
