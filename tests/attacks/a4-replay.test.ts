import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey, signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  type Reply,
  serviceAccountToken,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";

/* A4, single use: P4.12–P4.14. A jti shared with a client assertion: tests/private-key-jwt.test.ts. */

describe.each(DIALECTS)("single use on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    partner = await createTestPartner(server);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  async function expectReplayed(reply: Promise<Reply>, at = server): Promise<void> {
    await expectRefusal(at, await reply, { code: "token_replayed" });
  }

  test("P4.12: the same JWT a second time is refused, on this node and on another", async () => {
    const token = subjectToken(partner);
    expectGranted(await exchange(partner, token));
    await expectReplayed(exchange(partner, token));
    await expectReplayed(exchange(partner, token, { at: second }), second);
  });

  test("P4.12: another JWT with a spent jti is refused, whatever else it says", async () => {
    const jti = randomUUID();
    const user = await createTestUser(partner);
    expectGranted(await exchange(partner, subjectToken(partner, { jti })));
    await expectReplayed(exchange(partner, subjectToken(partner, { jti, sub: user.userId })));
    await expectReplayed(exchange(partner, subjectToken(partner, { jti, exp: server.nowSeconds() + 3_000 })));
    await expectReplayed(exchange(partner, subjectToken(partner, { jti }, { typ: "JWT", kid: undefined })));
  });

  test("P4.12: a jti in another letter case, or with a space, is another jti", async () => {
    const jti = randomUUID();
    for (const each of [jti, jti.toUpperCase(), `${jti} `, ` ${jti}`, jti.slice(1)]) {
      expectGranted(await exchange(partner, subjectToken(partner, { jti: each })));
    }
  });

  test("P4.12: where the token has no jti, its content is spent", async () => {
    const token = subjectToken(partner, { jti: undefined });
    expectGranted(await exchange(partner, token));
    await expectReplayed(exchange(partner, token));
    await expectReplayed(exchange(partner, token, { at: second }), second);
    expectGranted(await exchange(partner, subjectToken(partner, { jti: undefined, nonce: 1 })));
    // a jti that reads like what stands for the content is still only a jti
    const content = subjectToken(partner, { jti: undefined, nonce: 2 });
    expectGranted(await exchange(partner, subjectToken(partner, { jti: content.slice(0, 255) })));
    expectGranted(await exchange(partner, content));
  });

  test("P4.12: a new signature over the same content is not a new token", async () => {
    const key = makeTestKey("ES256");
    const own = await createTestPartner(server, {}, key);
    const claims = subjectClaims(own, { jti: undefined });
    const tokens = [0, 1, 2].map(() => signJwt({ alg: "ES256", kid: key.kid }, claims, key));
    expect(new Set(tokens).size).toBe(3);
    expectGranted(await exchange(own, tokens[0] ?? ""));
    await expectReplayed(exchange(own, tokens[1] ?? ""));
    await expectReplayed(exchange(own, withNegatedS(tokens[2] ?? "")));
    await expectReplayed(exchange(own, withNegatedS(tokens[0] ?? "")));
  });

  test("P4.12: a partner that is set to reusable may exchange a token again, until it is set back", async () => {
    const own = await createTestPartner(server, { replay: "reusable" });
    const token = subjectToken(own);
    for (const at of [server, second, server]) expectGranted(await exchange(own, token, { at }));
    expect((await admin(server, "PATCH", `/partners/${own.clientId}`, { replay: "single_use" })).status).toBe(200);
    expectGranted(await exchange(own, token, { at: second }));
    await expectReplayed(exchange(own, token));
  });

  test("P4.12: a refused token is not spent: it is taken once its cause is gone", async () => {
    const own = await createTestPartner(server, { subject_namespace: "external_user_id" });
    const { workspaceId, userId } = await createTestUser(own, { external_user_id: "first" });
    const token = subjectToken(own, { sub: "second" });
    const wrong = await exchange(own, token, { form: { scope: "analytics" } });
    await expectRefusal(server, wrong, { error: "invalid_scope", code: "scope_not_for_principal" });
    await expectRefusal(server, await exchange(own, token, { form: { client_secret: "wrong" } }), {
      status: 401,
      error: "invalid_client",
      code: "client_not_authenticated",
    });
    await expectRefusal(server, await exchange(own, token), { code: "subject_unknown" });
    const created = await call(server, "PUT", "/v2/account-management/user", await serviceAccountToken(own), {
      workspace_id: workspaceId,
      external_user_id: "second",
    });
    expect(created.status).toBe(201);
    expectGranted(await exchange(own, token));
    await expectReplayed(exchange(own, token));

    await server.database.query("UPDATE users SET status = 'disabled' WHERE user_id = $1", [userId]);
    const other = subjectToken(own, { sub: "first" });
    await expectRefusal(server, await exchange(own, other), { code: "subject_disabled" });
    await server.database.query("UPDATE users SET status = 'active' WHERE user_id = $1", [userId]);
    expectGranted(await exchange(own, other));
  });

  test("P4.12: a spent token is remembered while it could pass, also under a skew that is widened afterwards", async () => {
    const own = await createTestPartner(server, { clock_skew_seconds: 0 });
    const token = subjectToken(own);
    const { exp } = subjectClaims(own) as { exp: number };
    expectGranted(await exchange(own, token));
    expect((await admin(server, "PATCH", `/partners/${own.clientId}`, { clock_skew_seconds: 60 })).status).toBe(200);
    try {
      server.clock.offsetMs = (exp + 50) * 1000 - Date.now();
      await server.deps.store.exchanges.purgeSpent(server.deps.nowMs());
      expect((await exchange(own, token)).json["error_uri"]).toMatch(/\/token_replayed$/);
      server.clock.offsetMs += 20_000;
      await server.deps.store.exchanges.purgeSpent(server.deps.nowMs());
      expect((await exchange(own, token)).json["error_uri"]).toMatch(/\/token_expired$/);
      expect(await server.database.query("SELECT * FROM spent_tokens WHERE partner_id = $1", [own.clientId])).toHaveLength(1); // the clocks of two nodes differ
      server.clock.offsetMs += 300_000;
      await server.deps.store.exchanges.purgeSpent(server.deps.nowMs());
      expect(await server.database.query("SELECT * FROM spent_tokens WHERE partner_id = $1", [own.clientId])).toEqual([]);
    } finally {
      server.clock.offsetMs = 0;
    }
  });

  test("P4.13: of 200 pairs of one jti at once on two nodes, exactly one of each pair is granted", async () => {
    const pairs = Array.from({ length: 200 }, (_, index) => ({
      jti: `pair-${index}`,
      tokens: [0, 1].map((member) => subjectToken(partner, { jti: `pair-${index}`, member })),
    }));
    for (let start = 0; start < pairs.length; start += 20) {
      const outcomes = await Promise.all(
        pairs.slice(start, start + 20).map(async ({ tokens }) => {
          const replies = await Promise.all(tokens.map((token, node) => exchange(partner, token, { at: node === 0 ? server : second })));
          return replies.map((reply) => (reply.status === 200 ? "granted" : (reply.json["error_uri"] as string))).toSorted();
        }),
      );
      for (const outcome of outcomes) expect(outcome).toEqual(["granted", "https://cambist.test/docs/errors/token_replayed"].toSorted());
    }
    const rows = await server.database.query("SELECT jti, outcome FROM exchanges WHERE jti LIKE 'pair-%'");
    expect(rows.length).toBe(400);
    for (const { jti } of pairs) expect(rows.filter((row) => row["jti"] === jti && row["outcome"] === "granted").length).toBe(1);
  });

  test("P4.13: of 30 copies at once on two nodes, sharing commits with one another, exactly one is granted", async () => {
    for (const changes of [{}, { jti: undefined }]) {
      const token = subjectToken(partner, { ...changes, copies: 30 });
      const replies = await Promise.all(
        Array.from({ length: 30 }, (_, i) => exchange(partner, token, { at: i % 2 === 0 ? server : second })),
      );
      expect(replies.filter((reply) => reply.status === 200).length).toBe(1);
      for (const reply of replies.filter(({ status }) => status !== 200)) {
        expect(reply.json["error_uri"]).toMatch(/\/token_replayed$/);
      }
    }
  });

  test("P4.14: one jti from two partners is two tokens; spending it in one leaves it free in the other", async () => {
    const other = await createTestPartner(server);
    const jti = randomUUID();
    expectGranted(await exchange(partner, subjectToken(partner, { jti })));
    expectGranted(await exchange(other, subjectToken(other, { jti })));
    await expectReplayed(exchange(other, subjectToken(other, { jti })));
    await expectReplayed(exchange(partner, subjectToken(partner, { jti })));
    const atOnce = randomUUID();
    const replies = await Promise.all([partner, other].map((each) => exchange(each, subjectToken(each, { jti: atOnce }))));
    expect(replies.map((reply) => reply.status)).toEqual([200, 200]);
  });
});

/** The number of points on P-256 (FIPS 186-5). */
const N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** (r, -s): as valid as (r, s), and anybody can make it. */
function withNegatedS(token: string): string {
  const end = token.lastIndexOf(".") + 1;
  const signature = Buffer.from(token.slice(end), "base64url");
  const s = BigInt(`0x${signature.subarray(32).toString("hex")}`);
  const negated = Buffer.from((N - s).toString(16).padStart(64, "0"), "hex");
  return token.slice(0, end) + Buffer.concat([signature.subarray(0, 32), negated]).toString("base64url");
}
