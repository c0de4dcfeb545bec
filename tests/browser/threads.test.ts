import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTalker } from "../../packages/server/src/testing/event-stream.ts";
import { createTestPartner, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { root } from "../house/import-graph.ts";

/** Debian's. */
const CHROMIUM = "/usr/bin/chromium";
const QUIET = ["gpu", "quic", "background-networking", "component-update", "sync"].map((feature) => `--disable-${feature}`);

/** The reader of streams as the guide prints it. */
const GUIDE = /^```js\n(.*?)^```/ms.exec(readFileSync(join(root, "docs/threads.md"), "utf8"))?.[1] ?? "";

const PAGE = `<!doctype html><title>A partner's page</title>
<script type="module">import { followThread } from "/guide.js"; globalThis.followThread = followThread;</script>`;

/** A site of its own: one page that imports the guide's reader. */
async function openSite(): Promise<{ readonly origin: string; readonly server: Server }> {
  const server = createServer((request, response) => {
    const isScript = request.url === "/guide.js";
    response.writeHead(200, { "content-type": isScript ? "text/javascript" : "text/html" });
    response.end(isScript ? GUIDE : PAGE);
  });
  await new Promise<void>((resolve) => void server.listen(0, "localhost", resolve));
  return { origin: `http://localhost:${(server.address() as AddressInfo).port}`, server };
}

interface Conversation {
  readonly url: string;
  readonly token: string;
}

/** In the page: a whole conversation, by what the guide says. */
async function converse({ url, token }: Conversation) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const post = (path: string, body: unknown) => fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const { thread_id: threadId } = (await (await post("/v2/threads", { thread_name: "From a page" })).json()) as { thread_id: string };
  const sent = await post(`/v2/threads/${threadId}/messages`, { message: "what is a cambist?" });
  const lastEventId = sent.headers.get("last-event-id") ?? undefined;
  const { followThread } = globalThis as unknown as { followThread: (options: object) => Promise<void> };
  const events: string[] = [];
  let text = "";
  const stop = new AbortController();
  const onEvent = (kind: string, data: { message?: string; status?: string }) => {
    events.push(kind);
    if (kind === "message_chunk") text += data.message;
    if (kind === "task_status" && data.status === "Complete") stop.abort();
  };
  await followThread({ url, threadId, lastEventId, getToken: () => Promise.resolve(token), onEvent, signal: stop.signal });
  const listed = (await (await fetch(`${url}/v2/threads/${threadId}/messages`, { headers })).json()) as { messages: { message: string }[] };
  return {
    text,
    events: [...new Set(events)],
    messages: listed.messages.map(({ message }) => message),
    quota: sent.headers.get("ratelimit"),
  };
}

/** In the page: what it can tell of one request. */
async function attempt({ url, token }: Conversation) {
  try {
    const reply = await fetch(url, { headers: { Authorization: `Bearer ${token}` } });
    return { status: reply.status, text: await reply.text() };
  } catch (error) {
    return { error: String(error) };
  }
}

describe.skipIf(!existsSync(CHROMIUM))(`a partner's page in a browser (skipped where there is no ${CHROMIUM})`, () => {
  let server: TestServer;
  let browser: Browser;
  const sites: Awaited<ReturnType<typeof openSite>>[] = [];
  let token: string;
  let otherToken: string;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    sites.push(await openSite(), await openSite(), await openSite());
    const [own, others] = sites.map(({ origin }) => origin);
    token = (await createTalker(await createTestPartner(server, { allowed_origins: [own] }))).token;
    otherToken = (await createTalker(await createTestPartner(server, { allowed_origins: [others] }))).token;
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--no-first-run", ...QUIET] });
  });
  afterAll(async () => {
    await browser?.close();
    for (const { server: site } of sites) site.close();
    await server.stop();
  });
  async function open(index: number): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(`${sites[index]?.origin}/`);
    return page;
  }

  test("of an origin that the partner lists: a whole conversation, streamed, by the code of the guide", async () => {
    const page = await open(0);
    const found = await page.evaluate(converse, { url: server.url, token });
    expect(found.text).not.toBe("");
    expect(found.messages).toEqual(["what is a cambist?", found.text]);
    expect(found.events).toEqual(expect.arrayContaining(["message_chunk", "task_status"]));
    expect(found.quota).toMatch(/^"partner";r=\d+;t=\d+$/);
  });

  test("why it was refused can be read by the page; the accounts and the token endpoint cannot be called at all", async () => {
    const page = await open(0);
    expect(await page.evaluate(attempt, { url: `${server.url}/v2/threads`, token: "nonsense" })).toMatchObject({ status: 401 });
    for (const path of ["/v2/account-management/user", "/oauth2/introspect"]) {
      expect(await page.evaluate(attempt, { url: `${server.url}${path}`, token })).toEqual({ error: "TypeError: Failed to fetch" });
    }
  });

  test("of an origin that nobody lists, or of another partner with a token that leaked to it, nothing can be read", async () => {
    const url = `${server.url}/v2/threads`;
    const unlisted = await open(2);
    expect(await unlisted.evaluate(attempt, { url, token })).toEqual({ error: "TypeError: Failed to fetch" });
    const others = await open(1);
    expect(await others.evaluate(attempt, { url, token })).toEqual({ error: "TypeError: Failed to fetch" });
    expect(await others.evaluate(attempt, { url, token: otherToken })).toMatchObject({ status: 200 });
  });
});
