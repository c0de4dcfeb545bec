import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RevocationTarget } from "../../packages/server/src/storage/token-store.ts";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { decodeJwt, makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  createTestUser,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { allowedScopes, createOwnApi, type OwnApi } from "./own-api.ts";
import { exchangeFor, expectActive, expectInactive, GRANTS, isTaken, opaqueTokenOf, revoke, serviceTokensOf } from "./token-status.ts";

/* A8, revocation: P8.10–P8.12, on two nodes. What a disabled or erased subject's tokens are worth: a8-introspection.test.ts. */

describe.each(DIALECTS)("revocation on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  let api: OwnApi;
  let partner: TestPartner;
  let stranger: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    second = await server.startSecondNode();
    api = await createOwnApi(server, "reports");
    partner = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) });
    stranger = await createTestPartner(server, GRANTS);
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  const nodes = () => [server, second];

  async function expectDead(token: string, why = ""): Promise<void> {
    for (const at of [second, server]) {
      expect(await isTaken(at, token), why).toBe(false);
      await expectInactive(at, partner, token, why);
    }
  }

  async function expectAlive(token: string): Promise<void> {
    for (const at of [second, server]) {
      expect(await isTaken(at, token)).toBe(true);
      await expectActive(at, partner, token);
    }
  }

  test("P8.11 200 without effect: B revokes A's token, an API one that is for it, and it works on", async () => {
    const forApi = await exchangeFor(partner, partner.clientId, { resource: api.audience });
    for (const token of [...(await serviceTokensOf(partner)), forApi]) {
      for (const at of nodes()) {
        for (const caller of [stranger, api]) expect((await revoke(at, caller, token)).status).toBe(200);
      }
      if (token === forApi) for (const at of nodes()) await expectActive(at, api, token);
      else await expectAlive(token);
    }
    expect(await server.database.query("SELECT 1 FROM revocations WHERE kind = 'token'")).toEqual([]);
  });

  test("P8.12 200: unknown, garbage, twice, with a wrong or an unknown hint; the answer is the same, and the token dead at once on both nodes", async () => {
    const hints = [{}, { token_type_hint: "refresh_token" }, { token_type_hint: "access_token" }, { token_type_hint: "no such type" }];
    const bodies = new Set<string>();
    for (const hint of hints) {
      for (const token of await serviceTokensOf(partner)) {
        await expectAlive(token);
        for (const [at, each] of [
          [server, token],
          [server, token],
          [second, token],
          [second, "sk-0123456789abcdef0123456789abcdef"],
          [second, "garbage"],
        ] as const) {
          const reply = await revoke(at, partner, each, hint);
          expect(reply.status).toBe(200);
          expect(reply.headers.get("cache-control")).toBe("no-store");
          bodies.add(reply.text);
          if (each === token) await expectDead(token, JSON.stringify(hint));
        }
      }
    }
    expect([...bodies]).toEqual(["{}"]);
    for (const node of nodes()) expectNothingSecretLogged(node);
  });

  test("P8.12 200: a token that is over", async () => {
    const brief = await createTestPartner(server, { ...GRANTS, access_token_lifetime_seconds: 60 });
    const token = await exchangeFor(brief);
    for (const at of nodes()) at.clock.offsetMs += 100_000;
    expect((await revoke(second, brief, token)).status).toBe(200);
    await expectInactive(server, brief, token);
  });

  test("revoked once by 16 callers at once: all are answered 200, one line is written, and the token's siblings live", async () => {
    for (const [index, token] of (await serviceTokensOf(partner)).entries()) {
      const sibling = (await serviceTokensOf(partner))[index] ?? "";
      const before = await server.database.query("SELECT 1 FROM revocations WHERE kind = 'token'");
      const replies = await Promise.all(Array.from({ length: 16 }, (_, n) => revoke(n % 2 === 0 ? server : second, partner, token)));
      for (const { status } of replies) expect(status).toBe(200);
      await expectDead(token);
      await expectAlive(sibling);
      const after = await server.database.query("SELECT 1 FROM revocations WHERE kind = 'token'");
      expect(after.length).toBe(before.length + 1);
    }
  });

  describe("P8.10: of several cut-offs the latest wins, whichever was set last, and on both nodes", () => {
    const key = makeTestKey("ES256");

    /** A user's token, and everything that it hangs on. */
    async function setUp() {
      const own = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) }, key);
      const user = await createTestUser(own);
      const targets: Record<string, RevocationTarget> = {
        partner: { kind: "partner", clientId: own.clientId },
        key: { kind: "partner_key", clientId: own.clientId, kid: key.kid },
        user: { kind: "user", id: user.userId },
        workspace: { kind: "workspace", id: user.workspaceId },
        organization: { kind: "organization", id: user.orgId },
      };
      const token = await exchangeFor(own, user.userId, { resource: api.audience });
      return { own, user, targets, token, issuedAtMs: (decodeJwt(token).payload["iat"] as number) * 1000 };
    }

    const cutOff = async (target: RevocationTarget | undefined, atMs: number) => {
      if (target === undefined) throw new Error("no such target");
      expect(await server.deps.store.tokens.revoke(target, () => atMs)).not.toBe("absent");
    };

    test.each([
      ["partner", "key"],
      ["key", "partner"],
      ["partner", "user"],
      ["user", "partner"],
      ["organization", "workspace"],
      ["workspace", "organization"],
      ["workspace", "user"],
      ["user", "organization"],
      ["key", "organization"],
    ])("later %s, earlier %s", async (later, earlier) => {
      const { targets, token, issuedAtMs, own } = await setUp();
      await cutOff(targets[earlier], issuedAtMs - 1_000);
      for (const at of nodes()) await expectActive(at, api, token);
      await cutOff(targets[later], issuedAtMs);
      for (const at of [second, server]) await expectInactive(at, api, token);
      await cutOff(targets[earlier], issuedAtMs - 1_000);
      await cutOff(targets[later], issuedAtMs - 2_000);
      for (const at of [second, server]) for (const caller of [api, own]) await expectInactive(at, caller, token);
    });

    test("a cut-off kills what was issued up to its second, JWT and opaque alike, and a token of the next second lives", async () => {
      const own = await createTestPartner(server, { ...GRANTS, allowed_scopes: allowedScopes(api) }, key);
      const before = await serviceTokensOf(own);
      await cutOff({ kind: "partner", clientId: own.clientId }, server.nowSeconds() * 1000 + 999);
      const after = [await exchangeFor(own), await opaqueTokenOf(own)];
      for (const at of [second, server]) {
        for (const token of before) await expectInactive(at, own, token);
        for (const token of after) await expectActive(at, own, token);
      }
    });

    test("a key's cut-off spares what another key, or a secret alone, brought about", async () => {
      const other = makeTestKey("ES256");
      const jwks = { keys: [key.publicJwk, other.publicJwk] };
      const own = await createTestPartner(server, { ...GRANTS, jwks, allowed_scopes: allowedScopes(api) }, key);
      const [byKey, bySecret] = await serviceTokensOf(own);
      const byOther = await exchangeFor({ ...own, key: other });
      await cutOff({ kind: "partner_key", clientId: own.clientId, kid: key.kid }, server.nowSeconds() * 1000);
      for (const at of [second, server]) {
        await expectInactive(at, own, byKey);
        for (const token of [bySecret, byOther]) await expectActive(at, own, token);
      }
    });
  });
});
