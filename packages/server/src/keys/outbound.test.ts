import { once } from "node:events";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, createServer, type Server } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { makeAuthority, makeSelfSigned } from "../testing/certificates.ts";
import { Outbound } from "./outbound.ts";

/** What only the connection itself can show; the rest of its promises is kept against the running server (tests/attacks/a5-*). */

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** The answer to a server that says this, whatever it is asked. */
async function answerTo(bytes = "") {
  const port = await listen(createServer((socket) => void socket.on("error", () => undefined).once("data", () => socket.end(bytes))));
  return new Outbound({ allowHosts: new Set([`127.0.0.1:${port}`]) }).get(new URL(`http://127.0.0.1:${port}/`));
}

describe("an answer that is none", () => {
  test.each([
    ["a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "status", "it answered 101"],
    ["a switch that was not asked for", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "status", "it answered 101"],
    ["nothing", "", "unreachable", /^the connection to it failed \(ECONNRESET\)$/],
    ["no HTTP", "hello\r\n\r\n", "unreachable", /^the connection to it failed \(HPE_/],
    ["half an answer", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "unreachable", /^the connection to it failed \(ECONNRESET\)$/],
    ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "unreachable", /HPE_/],
  ])("%s ends", async (_what, bytes, code, sentence) => {
    expect(await answerTo(bytes)).toEqual({ ok: false, fault: { code, sentence: expect.stringMatching(sentence) as unknown } });
  });

  test("an early hint before it is none", async () => {
    const hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    expect(await answerTo(`${hint}${hint}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}`)).toMatchObject({ ok: true });
  });
});

test("P5.23: the certificate is looked at in every connection, also by a host that would resume a session", async () => {
  const authority = makeAuthority();
  const server = createHttps(authority.issue({ host: "localhost" }), (_request, response) => response.end("{}"));
  const port = await listen(server);
  const outbound = new Outbound({ allowHosts: new Set([`localhost:${port}`]), ca: authority.cert });
  const get = () => outbound.get(new URL(`https://localhost:${port}/`));
  for (let i = 0; i < 3; i++) expect(await get()).toMatchObject({ ok: true });
  for (const [certificate, code] of [
    [authority.issue({ host: "localhost", notAfter: new Date(Date.now() - 1000) }), "CERT_HAS_EXPIRED"],
    [authority.issue({ host: "other.example" }), "ERR_TLS_CERT_ALTNAME_INVALID"],
    [makeSelfSigned({ host: "localhost" }), "DEPTH_ZERO_SELF_SIGNED_CERT"],
  ] as const) {
    const tickets = server.getTicketKeys();
    server.setSecureContext({ ...certificate });
    server.setTicketKeys(tickets);
    expect(await get()).toEqual({ ok: false, fault: { code: "tls", sentence: `TLS with it failed (${code})` } });
  }
});

describe("the list of allowed hosts", () => {
  const outbound = new Outbound({ allowHosts: new Set(["localhost:9000", "[::1]:9000", "keys.internal:443"]) });

  test.each(["http://localhost:9000/jwks", "https://LOCALHOST:9000/jwks", "http://[0:0:0:0:0:0:0:1]:9000/", "https://keys.internal/jwks"])(
    "has %s",
    (url) => expect(outbound.parseUrl(url)).toMatchObject({ ok: true }),
  );

  test.each([
    "http://localhost/jwks",
    "http://localhost:9001/jwks",
    "http://localhost:9000.example.com/",
    "http://127.0.0.1:9000/jwks",
    "http://localhost.:9000/jwks",
    "http://user@localhost:9000/jwks",
    "http://keys.internal/jwks",
    "https://keys.internal:8443/jwks",
    "ftp://localhost:9000/jwks",
  ])("has not %s", (url) => expect(outbound.parseUrl(url)).toMatchObject({ ok: false }));
});
