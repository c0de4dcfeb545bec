import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type App, createApp, routerPorts } from "../app.ts";
import { type Deps, openDeps } from "../deps.ts";
import { Overload } from "../http/overload.ts";
import { defineRoute } from "../http/route.ts";
import { type HttpServer, httpServer } from "../http/router.ts";
import { openLog } from "../telemetry/log.ts";
import { encodePart } from "../testing/jwt.ts";
import {
  call,
  createTestPartner,
  exchange,
  ISSUER,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";

/* Who forges kids makes the keys be read again, and is not to hold up anybody else by that. */

const WAITING_MAX = 64;
/** With those that wait for a kid, more than the 256 requests that may be under way. */
const UNDER_WAY = 200;

let server: TestServer;
let partner: TestPartner;
let deps: Deps;
let app: App;
let httpNode: HttpServer;
let node: { readonly url: string };
/** What goes on once it is called: the requests to `/held`, and the reads of the keys. */
const held: (() => void)[] = [];

const heldRoute = defineRoute({
  operationId: "hold",
  method: "POST",
  path: "/held",
  auth: { kind: "public" },
  docs: { summary: "Hold", tag: "operation", answers: { 200: { description: "Later." } } },
  async handle() {
    await new Promise<void>((resolve) => held.push(resolve));
    return { status: 200, body: {} };
  },
});

beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
  // its clock stands still: on a fast machine no more may be under way than on a slow one
  const overload = new Overload({ nowMs: () => 0 });
  deps = await openDeps(server.deps.config, { log: openLog("error", { write: () => undefined }), overload });
  app = createApp(deps);
  httpNode = httpServer([...app.routes, heldRoute], routerPorts(deps));
  node = { url: `http://127.0.0.1:${await httpNode.listen("127.0.0.1", 0)}` };
});
afterEach(() => {
  vi.restoreAllMocks();
  for (const release of held.splice(0)) release();
});
afterAll(async () => {
  await httpNode.close(0);
  await app.stop();
  await server.stop();
});

/** The keys are not read from now on until the function that it gives is called. */
function holdReads(): () => void {
  const { signingKeys } = deps.store;
  const list = signingKeys.list.bind(signingKeys);
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  held.push(release);
  vi.spyOn(signingKeys, "list").mockImplementation(() => released.then(list));
  return release;
}

const newKid = () => randomBytes(32).toString("base64url");

/** Calls with a token of ours by its looks, under a key that there is not; the statuses of those that are answered. */
function callForged(count: number): { readonly statuses: number[]; readonly all: Promise<unknown> } {
  const statuses: number[] = [];
  const callOnce = async () => {
    const parts = [{ alg: "ES256", typ: "at+jwt", kid: newKid() }, { iss: ISSUER }, randomBytes(64)];
    const forged = parts.map(encodePart).join(".");
    statuses.push((await call(node, "GET", "/v2/account-management/user?user_id=x", forged)).status);
  };
  return { statuses, all: Promise.all(Array.from({ length: count }, callOnce)) };
}

const repeat = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

describe("requests whose kid is not known", () => {
  test("of more than 64, 64 wait for the keys to be read, and the others are told at once that it is unknown", async () => {
    const release = holdReads();
    const known: boolean[] = [];
    const asked = Array.from({ length: 200 }, async () => known.push(await deps.keyring.refreshForKid(newKid())));
    await expect.poll(() => known.length).toBe(200 - WAITING_MAX);
    await new Promise(setImmediate);
    expect(known).toEqual(repeat(200 - WAITING_MAX, false));
    release();
    await Promise.all(asked);
    expect(known).toEqual(repeat(200, false));
    const { kid } = deps.keyring.signer();
    expect(await deps.keyring.refreshForKid(kid)).toBe(true);
  });

  test("do not count as under way while they wait, and are 401: an exchange is served meanwhile", async () => {
    const release = holdReads();
    const underWay = Array.from({ length: UNDER_WAY }, () => send(node, "POST", "/held"));
    await expect.poll(() => held.length).toBe(1 + UNDER_WAY);
    const forged = callForged(100);
    await expect.poll(() => forged.statuses.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(100 - WAITING_MAX);
    expect((await exchange(partner, subjectToken(partner), { at: node })).status).toBe(200);
    expect(forged.statuses).toEqual(repeat(100 - WAITING_MAX, 401));
    release();
    await forged.all;
    expect(forged.statuses).toEqual(repeat(100, 401));
    for (const letGo of held.splice(0)) letGo();
    expect((await Promise.all(underWay)).map(({ status }) => status)).toEqual(repeat(UNDER_WAY, 200));
  });
});
