import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openAdminClient } from "./admin-client.ts";
import { UsageError } from "./failure.ts";

const TOKEN = "operator-token-of-the-tests-0123456789abcdef";
const ENV = { CAMBIST_OPERATOR_TOKEN: TOKEN };

/** Answers by the path's beginning, and writes down who sent the token where. */
let server: Server;
let url: string;
const seen: string[] = [];
beforeAll(async () => {
  server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    const [, kind] = request.url?.split("/") ?? [];
    if (kind === "moved") response.writeHead(307, { location: `${url}/other` }).end();
    else if (kind === "page") response.writeHead(200, { "content-type": "text/html" }).end("<h1>Hello</h1>");
    else if (kind === "broken") response.socket?.destroy();
    else if (kind === "failing")
      response.writeHead(500).end(JSON.stringify({ detail: "The server \u001b[31mfailed.", trace_id: "0123", success: false }));
    else response.end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const get = (base: string | undefined, env = ENV) => openAdminClient(base === undefined ? {} : { url: base }, env).send("GET", "/x");

describe("where the operator token goes", () => {
  test("to the given address, else to the public URL, else to this machine", async () => {
    await get(`${url}/given/`, { ...ENV, CAMBIST_PUBLIC_URL: "https://auth.example.com" } as typeof ENV);
    await get(undefined, { ...ENV, CAMBIST_PUBLIC_URL: `${url}/public` } as typeof ENV);
    await get(undefined, { ...ENV, PORT: new URL(url).port } as typeof ENV);
    expect(seen.splice(0)).toEqual(["/given/x", "/public/x", "/x"].map((path) => `GET ${path} Bearer ${TOKEN}`));
  });

  test.each(["http://example.com", "http://127.0.0.1.example.com", "http://localhost.example.com", "http://10.0.0.1", "http://[fe80::1]"])(
    "not by plain http to %s",
    (other) => {
      expect(() => openAdminClient({ url: other }, ENV)).toThrow(UsageError);
      expect(() => openAdminClient({ url: other }, ENV)).toThrow("by plain http");
    },
  );

  test.each(["http://localhost:1", "http://a.localhost", "http://127.8.9.1", "http://[::1]:8080", "https://example.com/base"])(
    "but to %s",
    (own) => {
      expect(openAdminClient({ url: own }, ENV)).toBeDefined();
    },
  );

  test("not to an address with a user, a password, a query or of another kind; a password is not said again", () => {
    for (const odd of ["https://operator:hunter2@localhost", "https://x.example/?a=b", "https://x.example/#a", "ftp://x.example", "x"]) {
      expect(() => openAdminClient({ url: odd }, ENV)).toThrow(UsageError);
      expect(() => openAdminClient({ url: odd }, ENV)).not.toThrow("hunter2");
    }
  });

  test("not after a redirect", async () => {
    await expect(get(`${url}/moved`)).rejects.toThrow(`sends us on to ${url}/other`);
    expect(seen.splice(0)).toHaveLength(1);
  });

  test("nowhere, where a setting is misspelt or the token cannot stand in a header; it is not said again", () => {
    expect(() => openAdminClient({}, { ...ENV, CAMBIST_DATADIR: "x" })).toThrow("CAMBIST_DATADIR is not a setting");
    for (const value of ["two\nlines", "umläut"]) {
      expect(() => openAdminClient({}, { CAMBIST_OPERATOR_TOKEN: value })).toThrow(
        "CAMBIST_OPERATOR_TOKEN does not hold an operator token",
      );
    }
  });
});

describe("what is said of a failure", () => {
  test("an answer that is not the admin API's, and a fault of the server's, by its trace id and without control characters", async () => {
    await expect(get(`${url}/page`)).rejects.toThrow("answered 200, and not as this server's admin API does");
    await expect(get(`${url}/failing`)).rejects.toThrow(/^The server \uFFFD\[31mfailed\. \(trace_id 0123\)$/);
  });

  test("a connection that breaks: of a change, that nobody knows whether it was made", async () => {
    await expect(get(`${url}/broken`)).rejects.toThrow(/cannot be reached \([^)]+\)\.$/);
    const changed = openAdminClient({ url: `${url}/broken` }, ENV).send("POST", "/x", {});
    await expect(changed).rejects.toThrow("Whether it was done is not known");
  });

  test("nothing listens: of a change, nothing more", async () => {
    const closed = createServer();
    await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
    const base = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
    await new Promise((resolve) => closed.close(resolve));
    const changed = openAdminClient({ url: base }, ENV).send("POST", "/x", {});
    await expect(changed).rejects.toThrow(`nothing listens at ${base}; is the server running there? Another address: --url`);
    await expect(changed).rejects.not.toThrow("Whether");
  });
});
