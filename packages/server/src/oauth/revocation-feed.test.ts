import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newResourceServerId, newSecretId } from "../ids.ts";
import { DIALECTS } from "../testing/database.ts";
import {
  basic,
  call,
  createTestPartner,
  createTestUser,
  type Reply,
  send,
  serviceAccountToken,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";

const API = "/v2/account-management";
const SECRET = "a-secret-of-the-test";

interface Line {
  readonly match: Record<string, string>;
  readonly issued_until: number;
  readonly revoked_at: string;
  readonly forget_after: string;
}

describe.each(DIALECTS)("the revocation feed on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  let other: TestPartner;
  const rs = newResourceServerId();
  const read = (client: string, secret: string, query = "", at: Pick<TestServer, "url"> = server): Promise<Reply> =>
    send(at, "GET", `/oauth2/revocations${query}`, { headers: { authorization: basic(client, secret) } });
  const lines = async (client = rs, secret = SECRET): Promise<Line[]> => (await read(client, secret)).json["revocations"] as Line[];
  const revoke = (target: Parameters<TestServer["deps"]["store"]["tokens"]["revoke"]>[0]) =>
    server.deps.store.tokens.revoke(target, server.deps.nowMs);

  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
    other = await createTestPartner(server);
    const { store, masterKeys, nowMs } = server.deps;
    const at = { createdAtMs: nowMs(), updatedAtMs: nowMs() };
    const secret = { secretId: newSecretId(), ...masterKeys.hashSecret(SECRET), createdAtMs: nowMs() };
    await store.resourceServers.create({ resourceServerId: rs, name: "Billing", audience: "https://billing.example", ...at }, secret);
  });
  afterAll(() => server.stop());

  test("200: holds each of the six forms, as claims to match", async () => {
    const { userId, workspaceId, orgId } = await createTestUser(partner);
    const client = partner.clientId;
    const targets = [
      [{ kind: "token", tokenId: "jti-1", partnerId: client }, { jti: "jti-1" }],
      [{ kind: "user", id: userId }, { sub: userId }],
      [{ kind: "workspace", id: workspaceId }, { workspace_id: workspaceId }],
      [{ kind: "organization", id: orgId }, { org_id: orgId }],
      [
        { kind: "partner_key", clientId: client, kid: "key-1" },
        { client_id: client, partner_kid: "key-1" },
      ],
      [{ kind: "partner", clientId: client }, { client_id: client }],
    ] as const;
    for (const [target, match] of targets) {
      const before = server.nowSeconds();
      expect(await revoke(target)).not.toBe("absent");
      const line = (await lines()).find((candidate) => JSON.stringify(candidate.match) === JSON.stringify(match));
      expect(line?.issued_until).toBeGreaterThanOrEqual(before);
      expect(line?.issued_until).toBeLessThanOrEqual(server.nowSeconds());
      expect(Date.parse(line?.forget_after ?? "") - Date.parse(line?.revoked_at ?? "")).toBeGreaterThan(86_400_000);
    }
  });

  test("200: what is disabled, erased or given another external id is in it too, and what is merely renamed is not", async () => {
    const token = await serviceAccountToken(other);
    const user = await createTestUser(other, { external_user_id: "someone" });
    const subjects = async () => (await lines(other.clientId, other.clientSecret)).map(({ match }) => Object.values(match)[0]);
    const path = (kind: string, id: string) => `${API}/${kind}?${kind === "organization" ? "org" : kind}_id=${id}`;
    expect((await call(server, "PATCH", path("user", user.userId), token, { name: "Somebody" })).status).toBe(200);
    expect(await subjects()).toEqual([]);
    await call(server, "PATCH", path("workspace", user.workspaceId), token, { status: "disabled" });
    expect(await subjects()).toEqual([user.workspaceId]);
    const third = await createTestUser(other);
    expect((await call(server, "DELETE", path("user", third.userId), token)).status).toBe(200);
    expect(await subjects()).toEqual([user.workspaceId, third.userId]);
    await call(server, "DELETE", `${path("organization", user.orgId)}&cascade=true`, token);
    expect(await subjects()).toEqual([user.workspaceId, third.userId, user.orgId]);
  });

  test("200: a partner sees its own, an API of the operator all", async () => {
    expect((await lines(partner.clientId, partner.clientSecret)).map(({ match }) => match["client_id"])).toContain(partner.clientId);
    expect(JSON.stringify(await lines(other.clientId, other.clientSecret))).not.toContain(partner.clientId);
    expect((await lines()).length).toBe(
      (await lines(partner.clientId, partner.clientSecret)).length + (await lines(other.clientId, other.clientSecret)).length,
    );
  });

  test("200: goes on from its cursor, on another node, and nothing that came late is missed", async () => {
    const node = await server.startSecondNode();
    try {
      const first = await read(rs, SECRET);
      expect(first.json["has_more"]).toBe(false);
      await revoke({ kind: "token", tokenId: "jti-late", partnerId: null });
      const next = await read(rs, SECRET, `?cursor=${first.json["next_cursor"] as string}`, node);
      expect((next.json["revocations"] as Line[]).at(-1)?.match).toEqual({ jti: "jti-late" });
      server.clock.offsetMs = 120_000;
      const later = await read(rs, SECRET);
      const quiet = await read(rs, SECRET, `?cursor=${later.json["next_cursor"] as string}`);
      expect(quiet.json["revocations"]).toEqual([]);
    } finally {
      server.clock.offsetMs = 0;
      await node.stop();
    }
  });

  test("200: pages hold each line once", async () => {
    const rows = Array.from({ length: 2_300 }, (_, index) => `('token', 'page-${index}', '', NULL, 1, ${index % 7}, 1e15)`);
    const columns = "kind, subject_id, kid, partner_id, cut_off_at, revoked_at, expires_at";
    await server.database.query(`INSERT INTO revocations (${columns}) VALUES ${rows.join(", ")}`);
    const seen: string[] = [];
    let query = "";
    for (let pages = 1; ; pages++) {
      const { json } = await read(rs, SECRET, query);
      seen.push(...(json["revocations"] as Line[]).map(({ match }) => match["jti"] ?? ""));
      query = `?cursor=${json["next_cursor"] as string}`;
      if (json["has_more"] === true) continue;
      expect(pages).toBe(3);
      break;
    }
    const paged = seen.filter((jti) => jti.startsWith("page-"));
    expect(paged.length).toBe(2_300);
    expect(new Set(paged).size).toBe(2_300);
    await server.database.query("DELETE FROM revocations WHERE subject_id LIKE 'page-%'");
  });

  test("200: a line that a node commits late, between two pages that are read 40 s apart, is not missed", async () => {
    const startMs = server.deps.nowMs() - 10_000;
    const columns = "kind, subject_id, kid, partner_id, cut_off_at, revoked_at, expires_at";
    const insert = (rows: readonly (readonly [jti: string, atMs: number])[]) => {
      const values = rows.map(([jti, atMs]) => `('token', '${jti}', '', NULL, 1, ${atMs}, ${startMs + 90_000_000})`);
      return server.database.query(`INSERT INTO revocations (${columns}) VALUES ${values.join(", ")}`);
    };
    await insert(Array.from({ length: 1_200 }, (_, index) => [`slow-${index}`, startMs + index] as const));
    const seen = new Set<string>();
    let query = "";
    const page = async () => {
      const { json } = await read(rs, SECRET, query);
      for (const { match } of json["revocations"] as Line[]) seen.add(match["jti"] ?? "");
      query = `?cursor=${json["next_cursor"] as string}`;
      return json;
    };
    const first = await page();
    expect(first["has_more"]).toBe(true);
    const [last] = (first["revocations"] as Line[]).slice(-1);
    await insert([["committed-late", Date.parse(last?.revoked_at ?? "") - 50]]);
    server.clock.offsetMs = 40_000;
    try {
      expect((await page())["has_more"]).toBe(false);
      expect(seen.has("slow-1199")).toBe(true);
      while ((await page())["has_more"] === true);
      expect(seen.has("committed-late")).toBe(true);
    } finally {
      server.clock.offsetMs = 0;
      await server.database.query("DELETE FROM revocations WHERE subject_id LIKE 'slow-%' OR subject_id = 'committed-late'");
    }
  });

  test("200: a partner sees its own revocation of a token that the operator had revoked by its jti, before or after", async () => {
    const { clientId, clientSecret } = await createTestPartner(server);
    const own = async () => (await lines(clientId, clientSecret)).map(({ match }) => match["jti"]);
    await revoke({ kind: "token", tokenId: "jti-operator-first", partnerId: null });
    expect(await own()).toEqual([]);
    await revoke({ kind: "token", tokenId: "jti-operator-first", partnerId: clientId });
    expect(await own()).toEqual(["jti-operator-first"]);
    await revoke({ kind: "token", tokenId: "jti-operator-first", partnerId: null });
    expect(await own()).toEqual(["jti-operator-first"]);
  });

  test("a line is forgotten when no token that it is about can live, and not before", async () => {
    await revoke({ kind: "token", tokenId: "jti-old", partnerId: null });
    const kept = async () => (await lines()).some(({ match }) => match["jti"] === "jti-old");
    await server.deps.store.tokens.purge(server.deps.nowMs() + 86_400_000);
    expect(await kept()).toBe(true);
    await server.deps.store.tokens.purge(server.deps.nowMs() + 86_400_000 + 601_000);
    expect(await kept()).toBe(false);
  });

  test("401 without the client's credentials, 422 for a cursor that is none of ours", async () => {
    expect((await send(server, "GET", "/oauth2/revocations")).status).toBe(401);
    expect((await read(rs, "wrong")).json["error"]).toBe("invalid_client");
    const forged = ["x", "!", "", Buffer.from('[1,"\\u0000","user",""]').toString("base64url"), Buffer.from("[1]").toString("base64url")];
    for (const cursor of forged) expect((await read(rs, SECRET, `?cursor=${cursor}`)).status, cursor).toBe(422);
  });
});
