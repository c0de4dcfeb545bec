import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { PartnerStore } from "../../packages/server/src/storage/store.ts";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  type Reply,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { repetitions } from "../repetitions.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";

/*
 * A6, disabling that races exchanges: P6.9. That no token which was won in such a race survives: packages/server/src/http/user-token.test.ts.
 */

const USER = "/v2/account-management/user";

/** ECDSA, so that a thousand tokens are signed in no time. */
const KEY = makeTestKey("ES256");

describe.each(DIALECTS)("disabling that races exchanges on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    partner = await createTestPartner(server, {}, KEY);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second];

  async function change(own: TestPartner, fields: Record<string, unknown>): Promise<void> {
    expect((await admin(second, "PATCH", `/partners/${own.clientId}`, fields)).status).toBe(200);
  }

  /** A granted exchange began before the change was committed, and its token's iat lies in that second or before. */
  async function race(
    round: number,
    { sub, from }: { sub: string; from: TestPartner },
    disable: () => Promise<void>,
  ): Promise<{ granted: number; refused: Reply[] }> {
    let committedAtMs: number | undefined;
    const begun: Promise<{ reply: Reply; beganAfterCommit: boolean }>[] = [];
    const begin = async (at: TestServer) => {
      const beganAfterCommit = committedAtMs !== undefined;
      return { reply: await exchange(from, subjectToken(from, { sub }), { at }), beganAfterCommit };
    };
    for (const at of nodes()) begun.push(begin(at));
    const disabled = sleep(round % 5)
      .then(disable)
      .then(() => {
        committedAtMs = Date.now();
        for (const at of nodes()) begun.push(begin(at)); // at once, while the earlier ones are still under way
      });
    for (const at of nodes()) begun.push(begin(at));
    await sleep(1);
    for (const at of nodes()) begun.push(begin(at));
    await disabled;
    const results = await Promise.all(begun);
    const granted = results.filter(({ reply }) => reply.status === 200);
    for (const { reply, beganAfterCommit } of granted) {
      expect(beganAfterCommit, "granted, though it began after the commit").toBe(false);
      expect(expectGranted(reply)["iat"]).toBeLessThanOrEqual(Math.floor((committedAtMs ?? 0) / 1000));
    }
    return { granted: granted.length, refused: results.filter(({ reply }) => reply.status !== 200).map(({ reply }) => reply) };
  }

  const ROUNDS = repetitions({ short: 8, long: 100 });

  test("P6.9: of exchanges that race the disabling of their user, none that begins after it is granted", async () => {
    const { workspaceId } = await createTestUser(partner);
    const token = await serviceAccountToken(partner);
    const counts = { granted: 0, refused: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const created = await call(server, "PUT", USER, token, { workspace_id: workspaceId });
      const { user_id: userId } = created.json["user"] as { user_id: string };
      const { granted, refused } = await race(round, { sub: userId, from: partner }, async () => {
        expect((await call(server, "PATCH", `${USER}?user_id=${userId}`, token, { status: "disabled" })).status).toBe(200);
      });
      for (const reply of refused) expect(reply.json["error_uri"]).toMatch(/\/subject_disabled$/);
      counts.granted += granted;
      counts.refused += refused.length;
    }
    expect(counts.refused).toBeGreaterThanOrEqual(ROUNDS * 2);
    expect(counts.granted, "the race was one").toBeGreaterThan(0);
  });

  test("P6.9: of exchanges that race the disabling of their partner, none that begins after it is granted", async () => {
    const own = await createTestPartner(server, {}, KEY);
    const { userId } = await createTestUser(own);
    let granted = 0;
    for (let round = 0; round < ROUNDS / 2; round++) {
      const outcome = await race(round, { sub: round % 2 === 0 ? userId : own.clientId, from: own }, () =>
        change(own, { status: "disabled" }),
      );
      for (const reply of outcome.refused) expect(reply.json["error"]).toBe("invalid_client");
      expect(outcome.refused.length).toBeGreaterThanOrEqual(2);
      granted += outcome.granted;
      await change(own, { status: "active" });
    }
    expect(granted, "the race was one").toBeGreaterThan(0);
  });

  describe("between the check of the client and the issue", () => {
    /** Runs once, or at every read, after the first node has read the partner for its authentication. */
    function afterFind(work: () => Promise<void>, times = 1): void {
      const { partners } = server.deps.store as { partners: { find: PartnerStore["find"] } };
      const { find } = partners;
      let left = times;
      restore = () => {
        partners.find = find;
      };
      partners.find = async (clientId) => {
        const found = await find(clientId);
        if (left > 0) {
          left--;
          await work();
        }
        return found;
      };
    }
    let restore = () => {};
    afterEach(() => restore());

    test("P6.9 401: the partner is disabled on another node", async () => {
      const own = await createTestPartner(server, {}, KEY);
      const token = subjectToken(own);
      afterFind(() => change(own, { status: "disabled" }));
      const reply = await exchange(own, token);
      await expectRefusal(server, reply, { status: 401, error: "invalid_client", code: "client_not_authenticated" });
      await change(own, { status: "active" });
      expectGranted(await exchange(own, token));
    });

    test("P6.9 400: the key that signed is taken away on another node", async () => {
      const own = await createTestPartner(server, {}, KEY);
      afterFind(() => change(own, { jwks: { keys: [makeTestKey("ES256").publicJwk] } }));
      await expectRefusal(server, await exchange(own, subjectToken(own)), { code: "jwt_kid_unknown" });
    });

    test("P6.9 400: the scope is taken away on another node", async () => {
      const own = await createTestPartner(server, {}, KEY);
      afterFind(() => change(own, { allowed_scopes: ["thread"] }));
      const reply = await exchange(own, subjectToken(own), { form: { scope: "analytics" } });
      await expectRefusal(server, reply, { error: "invalid_scope", code: "scope_not_allowed" });
    });

    test("P6.9 400: the user is disabled", async () => {
      const { userId } = await createTestUser(partner);
      afterFind(async () => {
        await server.database.query("UPDATE users SET status = 'disabled' WHERE user_id = $1", [userId]);
      });
      await expectRefusal(server, await exchange(partner, subjectToken(partner, { sub: userId })), { code: "subject_disabled" });
    });

    test("P6.9 200: a change that takes nothing away costs the request nothing, and its token is spent once", async () => {
      const own = await createTestPartner(server, {}, KEY);
      const token = subjectToken(own);
      afterFind(() => change(own, { name: "Renamed", access_token_lifetime_seconds: 90 }));
      const reply = await exchange(own, token);
      expectGranted(reply);
      expect(reply.json["expires_in"]).toBe(90);
      await expectRefusal(server, await exchange(own, token), { code: "token_replayed" });
      const rows = await server.database.query("SELECT outcome FROM exchanges WHERE partner_id = $1 ORDER BY trace_id", [own.clientId]);
      expect(rows.map((row) => row["outcome"])).toEqual(["granted", "refused"]);
    });

    test("P6.9 503: a partner that changes without end is given up, and nothing is spent", async () => {
      const own = await createTestPartner(server, {}, KEY);
      const token = subjectToken(own);
      afterFind(() => change(own, { name: `Renamed ${Math.random()}` }), 100);
      const reply = await exchange(own, token);
      expect(reply.status).toBe(503);
      expect(reply.json["error"]).toBe("temporarily_unavailable");
      expect(reply.headers.get("retry-after")).toMatch(/^\d+$/);
      restore();
      expectGranted(await exchange(own, token));
    });
  });
});
