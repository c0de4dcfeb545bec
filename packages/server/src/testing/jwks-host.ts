import { once } from "node:events";
import * as http from "node:http";
import * as https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { gzipSync } from "node:zlib";
import type { TestCertificate } from "./certificates.ts";
import type { TestKey } from "./jwt.ts";

/** Answers one request for a key set. */
export type JwksAnswer = (response: http.ServerResponse) => void;

export interface JwksRequest {
  readonly atMs: number;
  readonly method: string;
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  /** On its connection, the answer's headers included. */
  bytesSent(): number;
}

/** The key set of one partner, at a URL of its own. What it answers can be changed while it is asked. */
export interface PublishedJwks {
  readonly url: string;
  readonly requests: readonly JwksRequest[];
  answer: JwksAnswer;
  /** Answers with these keys from now on. */
  publish(keys: readonly (TestKey | object)[], headers?: http.OutgoingHttpHeaders): void;
  /** Answers in this way from now on; each hides a good set of these keys, so that whoever falls for it is found out. */
  fail(fault: JwksFault, keys?: readonly (TestKey | object)[]): void;
  /** Answers with these keys, or the last ones, once the test lets it. Gives what lets it. */
  hold(keys?: readonly (TestKey | object)[]): () => void;
  /** How often it was asked since this was called last. */
  requestsSince(): number;
}

/** The host of partners' key sets, on this machine. */
export interface JwksHost {
  /** `host:port`, as the list of allowed hosts has it. */
  readonly authority: string;
  publish(keys: readonly (TestKey | object)[], headers?: http.OutgoingHttpHeaders): PublishedJwks;
  /** Closes the port: connections are refused. */
  refuse(): Promise<void>;
  /** Opens the same port again. */
  listen(): Promise<void>;
  useCertificate(certificate: TestCertificate): void;
  stop(): Promise<void>;
}

/** Plain http at 127.0.0.1, or https at localhost where there is a certificate. */
export async function startJwksHost(certificate?: TestCertificate): Promise<JwksHost> {
  const sets = new Map<string, JwksAnswer>();
  const requests: JwksRequest[] = [];
  const sockets = new Set<Socket>();
  const answer: http.RequestListener = (request, response) => {
    const { socket, method = "", url: path = "", headers, rawHeaders } = request;
    requests.push({ atMs: Date.now(), method, path, headers, rawHeaders, bytesSent: () => socket.bytesWritten });
    const set = sets.get(path);
    if (set === undefined) response.writeHead(404).end();
    else set(response);
  };
  const server = certificate === undefined ? http.createServer(answer) : https.createServer({ ...certificate }, answer);
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket)).on("error", () => undefined);
  });
  server.on("tlsClientError", () => undefined);
  let port = 0;
  async function listen(): Promise<void> {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    ({ port } = server.address() as AddressInfo);
  }
  async function refuse(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  }
  await listen();
  const authority = `${certificate === undefined ? "127.0.0.1" : "localhost"}:${port}`;
  const origin = `${certificate === undefined ? "http" : "https"}://${authority}`;
  return {
    authority,
    publish(keys, headers = {}) {
      const path = `/${sets.size}/jwks.json`;
      const set = publishedAt(origin, path, sets, requests);
      set.publish(keys, headers);
      return set;
    },
    refuse,
    listen,
    useCertificate: (next) => (server as https.Server).setSecureContext({ ...next }),
    stop: () => (server.listening ? refuse() : Promise.resolve()),
  };
}

function publishedAt(origin: string, path: string, sets: Map<string, JwksAnswer>, requests: readonly JwksRequest[]): PublishedJwks {
  const own = () => requests.filter((request) => request.path === path);
  let published: readonly (TestKey | object)[] = [];
  let seen = 0;
  const set: PublishedJwks = {
    url: origin + path,
    get requests() {
      return own();
    },
    get answer() {
      return sets.get(path) as JwksAnswer;
    },
    set answer(answer: JwksAnswer) {
      sets.set(path, answer);
    },
    publish(keys, headers = {}) {
      published = keys;
      set.answer = answerOf(jwksOf(keys), headers);
    },
    fail(fault, keys = published) {
      const moved = `${path}/moved`;
      sets.set(moved, answerOf(jwksOf(keys)));
      set.answer = FAULTS[fault](jwksOf(keys), origin + moved);
    },
    hold(keys = published) {
      let release: () => void = () => undefined;
      const released = new Promise<void>((resolve) => {
        release = resolve;
      });
      set.answer = (response) => void released.then(() => answerOf(jwksOf(keys))(response));
      return release;
    },
    requestsSince() {
      const count = own().length - seen;
      seen += count;
      return count;
    },
  };
  return set;
}

export function jwksOf(keys: readonly (TestKey | object)[]): string {
  return JSON.stringify({ keys: keys.map((key) => ("publicJwk" in key ? key.publicJwk : key)) });
}

export function answerOf(body: string | Uint8Array, headers: http.OutgoingHttpHeaders = {}, status = 200): JwksAnswer {
  return (response) => void response.writeHead(status, { "content-type": "application/jwk-set+json", ...headers }).end(body);
}

const HUGE_BYTES = 50 * 1024 * 1024;
const BLANK = Buffer.alloc(64 * 1024, " ");

/** The set and white space after it, which JSON may have, as fast as it is taken. */
function huge(jwks: string, headers: http.OutgoingHttpHeaders): JwksAnswer {
  return (response) => {
    response.writeHead(200, { "content-type": "application/jwk-set+json", ...headers }).write(jwks);
    let left = HUGE_BYTES - jwks.length;
    const pour = () => {
      while (left > 0 && !response.destroyed) {
        const part = BLANK.subarray(0, left);
        left -= part.length;
        if (!response.write(part)) return;
      }
      response.end();
    };
    response.on("drain", pour);
    pour();
  };
}

const FAULTS = {
  hang: () => () => undefined,
  drip: (jwks) => (response) => {
    response.writeHead(200, { "content-type": "application/jwk-set+json" });
    let sent = 0;
    const timer = setInterval(() => response.write(jwks[sent++] ?? " "), 1_000);
    response.once("close", () => clearInterval(timer));
  },
  "500": (jwks) => answerOf(jwks, {}, 500),
  HTML: (jwks) => answerOf(`<!doctype html><script>${jwks}</script>`, { "content-type": "text/html" }),
  "empty set": () => answerOf(jwksOf([])),
  "50 MB": (jwks) => huge(jwks, { "content-length": HUGE_BYTES }),
  "50 MB in chunks": (jwks) => huge(jwks, {}),
  "gzip bomb": (jwks) => answerOf(gzipSync(jwks.padEnd(HUGE_BYTES, " ")), { "content-encoding": "gzip" }),
  redirect: (_jwks, location) => answerOf("", { location }, 302),
} as const satisfies Readonly<Record<string, (jwks: string, movedTo: string) => JwksAnswer>>;

/** What a key set's URL can do wrong. A refused connection and bad TLS are the whole host's: {@link JwksHost}. */
export type JwksFault = keyof typeof FAULTS;
export const JWKS_FAULTS = Object.keys(FAULTS) as JwksFault[];
