import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  admin,
  call,
  createTestPartner,
  exchange,
  type Reply,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../testing/server.ts";

const DAY_MS = 86_400_000;
const ORGANIZATION = "/v2/account-management/organization?org_id=00000000-0000-4000-8000-000000000000";

interface ShownKey {
  readonly kid: string;
  readonly state: string;
  readonly signs: boolean;
  readonly created_at: string;
  readonly signs_from: string | null;
  readonly drops_at: string | null;
}

let server: TestServer;

const keysOf = (reply: Reply) => reply.json["keys"] as ShownKey[];
const inState = (reply: Reply, state: string) => keysOf(reply).find((key) => key.state === state) as ShownKey;
const list = () => admin(server, "GET", "/keys");
const rotate = (body: unknown) => admin(server, "POST", "/keys/rotate", body);
const publishedKids = async () =>
  ((await send(server, "GET", "/.well-known/jwks.json")).json["keys"] as { kid: string }[]).map(({ kid }) => kid).toSorted();

describe.each(DIALECTS)("our signing keys on %s", (dialect) => {
  beforeEach(async () => {
    server = await startTestServer(dialect);
  });
  afterEach(() => server.stop());

  test("202: {} schedules the switch for when the next key has been published for 24 hours, and says the same time again", async () => {
    const next = inState(await list(), "next");
    const first = await rotate({});
    expect(first.status).toBe(202);
    expect(Date.parse(first.json["switches_at"] as string)).toBe(Date.parse(next.created_at) + DAY_MS);
    expect(inState(first, "next")).toEqual({ ...next, signs_from: first.json["switches_at"] });
    server.clock.offsetMs += 1000;
    expect((await rotate({})).json).toEqual(first.json);
    expect((await list()).json["keys"]).toEqual(first.json["keys"]);
  });

  test("202: a key that has been published for a day gets a minute's notice, and the switch is made when it comes", async () => {
    const before = await list();
    server.clock.offsetMs += 2 * DAY_MS;
    const scheduled = await rotate({});
    const noticeMs = Date.parse(scheduled.json["switches_at"] as string) - server.nowSeconds() * 1000;
    expect(noticeMs).toBeGreaterThan(55_000);
    expect(noticeMs).toBeLessThanOrEqual(61_000);
    server.clock.offsetMs += 61_000;
    const due = keysOf(await list()).filter(({ signs }) => signs);
    expect(due).toMatchObject([{ kid: inState(before, "next").kid }]);
    await expect
      .poll(async () => keysOf(await list()).map(({ state }) => state), { timeout: 5_000 })
      .toEqual(["retired", "current", "next"]);
  });

  test("200: now switches at once and publishes a new next key; what the former one signed is good until its time is over", async () => {
    const partner = await createTestPartner(server);
    const before = await list();
    const token = await serviceAccountToken(partner);
    const switched = await rotate({ now: true });
    expect(switched.status).toBe(200);
    expect(keysOf(switched).map(({ state, signs }) => [state, signs])).toEqual([
      ["retired", false],
      ["current", true],
      ["next", false],
    ]);
    expect(inState(switched, "current").kid).toBe(inState(before, "next").kid);
    expect((await list()).json["keys"]).toEqual(switched.json["keys"]);
    expect(await publishedKids()).toEqual(
      keysOf(switched)
        .map(({ kid }) => kid)
        .toSorted(),
    );
    expect((await call(server, "GET", ORGANIZATION, token)).status).toBe(404);
    expect((await call(server, "GET", ORGANIZATION, await serviceAccountToken(partner))).status).toBe(404);
    const retired = inState(switched, "retired");
    expect(Date.parse(retired.drops_at ?? "") - server.nowSeconds() * 1000).toBeGreaterThan(DAY_MS);
    server.clock.offsetMs += DAY_MS + 301_000;
    await expect.poll(publishedKids, { timeout: 5_000 }).not.toContain(retired.kid);
  });

  test("200: an emergency ends every token of the current key and of those before it at once, and takes them out of the key set", async () => {
    const partner = await createTestPartner(server);
    const tokens = [await serviceAccountToken(partner)];
    await rotate({ now: true });
    tokens.push(await serviceAccountToken(partner));
    const gone = keysOf(await list()).filter(({ state }) => state !== "next");
    const dropped = await rotate({ emergency: true });
    expect(dropped.status).toBe(200);
    expect(keysOf(dropped).map(({ state }) => state)).toEqual(["current", "next"]);
    for (const token of tokens) expect((await call(server, "GET", ORGANIZATION, token)).status).toBe(401);
    const published = await publishedKids();
    for (const { kid } of gone) expect(published).not.toContain(kid);
    expect((await call(server, "GET", ORGANIZATION, await serviceAccountToken(partner))).status).toBe(404);
  });

  test("of 16 requests at once, each 200 is a switch, each other one a 409 that did nothing, on two nodes", async () => {
    const second = await server.startSecondNode();
    try {
      const replies = await Promise.all(
        Array.from({ length: 16 }, (_, n) => admin(n % 2 === 0 ? server : second, "POST", "/keys/rotate", { now: true })),
      );
      const switched = replies.filter(({ status }) => status === 200);
      expect(switched.length).toBeGreaterThanOrEqual(1);
      expect(replies.filter(({ status }) => status === 409)).toHaveLength(16 - switched.length);
      expect(keysOf(await list()).filter(({ state }) => state === "retired")).toHaveLength(switched.length);
    } finally {
      await second.stop();
    }
  });

  test("200: the list says what hangs on which master key, and it is not the key that is named", async () => {
    await createTestPartner(server);
    const { master_keys: masterKeys } = (await list()).json;
    expect(masterKeys).toEqual([
      { id: server.deps.masterKeys.ids()[0], newest: true, listed: true, signing_keys: 2, secrets: 1, tokens: 0 },
    ]);
    for (const key of server.deps.config.masterKeys) {
      for (const encoding of ["hex", "base64", "base64url"] as const) {
        expect(JSON.stringify(masterKeys)).not.toContain(Buffer.from(key).toString(encoding).slice(0, 8));
      }
    }
  });
});

describe("a rotation that is not meant so", () => {
  beforeAll(async () => {
    server = await startTestServer("sqlite");
  });
  afterAll(() => server.stop());

  test.each([
    [{ now: true, emergency: true }, 422],
    [{ now: false }, 422],
    [{ now: "true" }, 422],
    [{ emergency: 1 }, 422],
    [{ force: true }, 422],
    [[], 422],
    ["{", 400],
    ['{"now":true,"now":true}', 400],
  ])("%j is refused with %i, and nothing is switched or scheduled", async (body, status) => {
    const before = await list();
    expect((await rotate(body)).status).toBe(status);
    expect((await list()).json).toEqual(before.json);
  });

  test("is not made by a partner, and its log line holds no key", async () => {
    const partner = await createTestPartner(server);
    const token = await serviceAccountToken(partner);
    expect((await call(server, "POST", "/admin/v1/keys/rotate", token, { emergency: true })).status).toBe(401);
    expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
    const former = inState(await list(), "current").kid;
    await rotate({ now: true });
    const lines = server.logLines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.filter(({ msg }) => msg === "signing key switched")).toMatchObject([{ level: "info", from: former, dropped: false }]);
    expect(server.logLines.join("")).not.toMatch(/PRIVATE|"d":|pkcs8/);
  });
});
