import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { makeTestKey } from "../testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  exchange,
  ISSUER,
  OPERATOR_TOKEN,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../testing/server.ts";

const key = makeTestKey("ES256");
const jwks = { keys: [key.publicJwk] };
const ABSENT = "prt_00000000000000000000000000000000";

describe.each(DIALECTS)("the partner API on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  describe("createPartner", () => {
    test("201: with the defaults, the secret once, and where to go", async () => {
      const reply = await admin(server, "POST", "/partners", { name: "Acme", jwks });
      expect(reply.status).toBe(201);
      expect(reply.headers.get("cache-control")).toBe("no-store");
      expect(reply.json).toMatchObject({
        client_secret: expect.stringMatching(/^cambist_secret_[\w-]{43}$/),
        token_endpoint: `${ISSUER}/oauth2/token`,
      });
      const { partner } = reply.json as { partner: Record<string, unknown> };
      expect(partner).toMatchObject({
        client_id: expect.stringMatching(/^prt_[0-9a-f]{32}$/),
        name: "Acme",
        status: "active",
        issuer: partner["client_id"],
        audience: ISSUER,
        subject_namespace: "user_id",
        replay: "single_use",
        assertion_lifetime_seconds_max: 3600,
        clock_skew_seconds: 30,
        access_token_lifetime_seconds: 3600,
        allowed_algorithms: ["RS256", "PS256", "ES256", "ES384", "EdDSA"],
        allowed_grants: ["token-exchange"],
        allowed_scopes: ["thread", "account-management", "analytics"],
        token_endpoint_auth_method: "client_secret",
      });
      const shown = await admin(server, "GET", `/partners/${String(partner["client_id"])}`);
      expect(shown.text).not.toContain(String(reply.json["client_secret"]));
      expect(server.logLines.join("")).not.toContain(String(reply.json["client_secret"]));
    });

    test("201: the secret is kept as a keyed hash only", async () => {
      const partner = await createTestPartner(server);
      const rows = await server.database.query("SELECT * FROM partner_secrets WHERE partner_id = $1", [partner.clientId]);
      const hash = rows[0]?.["secret_hash"] as Uint8Array;
      expect(hash).toHaveLength(32);
      expect(Buffer.from(hash).toString("latin1")).not.toContain(partner.clientSecret.slice(-20));
      expect(JSON.stringify(rows)).not.toContain(partner.clientSecret);
    });

    test("409: an issuer of another partner", async () => {
      await admin(server, "POST", "/partners", { name: "A", jwks, issuer: "https://idp.acme.example" });
      const reply = await admin(server, "POST", "/partners", { name: "B", jwks, issuer: "https://idp.acme.example" });
      expect(reply).toMatchObject({ status: 409, json: { success: false, status: 409 } });
    });

    test.each([
      ["no name", { jwks }, "name"],
      ["an empty name", { name: "", jwks }, "name"],
      ["no keys", { name: "x" }, "jwks"],
      ["an empty key set", { name: "x", jwks: { keys: [] } }, "jwks"],
      ["a private key", { name: "x", jwks: { keys: [{ ...key.publicJwk, d: "AAAA" }] } }, "jwks.keys.0"],
      ["a shared secret as key", { name: "x", jwks: { keys: [{ kty: "oct", k: "AAAA" }] } }, "jwks.keys.0"],
      [
        "one bad key beside a good one",
        { name: "x", jwks: { keys: [key.publicJwk, { ...key.publicJwk, kid: "other", y: "AAAA" }] } },
        "jwks.keys.1",
      ],
      ["two keys with one kid", { name: "x", jwks: { keys: [key.publicJwk, makeTestKey("ES256", key.kid).publicJwk] } }, "jwks.keys.0"],
      ["jwks and jwks_uri", { name: "x", jwks, jwks_uri: "https://x.example/jwks" }, "jwks_uri"],
      ["a jwks_uri that is long once it is encoded", { name: "x", jwks_uri: `https://1.1.1.1/${"字".repeat(700)}` }, "jwks_uri"],
      ["an issuer that is long in bytes", { name: "x", jwks, issuer: "字".repeat(700) }, "issuer"],
      ["an unknown way to authenticate", { name: "x", jwks, token_endpoint_auth_method: "none" }, "token_endpoint_auth_method"],
      ["delegation, which this version does not have", { name: "x", jwks, delegation: true }, "delegation"],
      ["dpop_required, which this version does not have", { name: "x", jwks, dpop_required: true }, "dpop_required"],
      ["an unknown field", { name: "x", jwks, admin: true }, "admin"],
      ["an unknown scope", { name: "x", jwks, allowed_scopes: ["everything"] }, "allowed_scopes.0"],
      ["no scope", { name: "x", jwks, allowed_scopes: [] }, "allowed_scopes"],
      ["HS256", { name: "x", jwks, allowed_algorithms: ["HS256"] }, "allowed_algorithms.0"],
      ["a skew over 60 s", { name: "x", jwks, clock_skew_seconds: 61 }, "clock_skew_seconds"],
      ["a lifetime over an hour", { name: "x", jwks, assertion_lifetime_seconds_max: 3601 }, "assertion_lifetime_seconds_max"],
      ["an issuer that looks like a client id", { name: "x", jwks, issuer: ABSENT }, "issuer"],
      ["a NUL in the name", { name: "a\0b", jwks }, "name"],
    ])("422: %s, naming the field", async (_case, body, field) => {
      const reply = await admin(server, "POST", "/partners", body);
      expect(reply).toMatchObject({ status: 422, json: { success: false, title: "Unprocessable Entity" } });
      expect(reply.headers.get("content-type")).toBe("application/problem+json");
      expect((reply.json["errors"] as { field: string }[]).map((error) => error.field)).toContain(field);
    });

    test.each([
      ["a name twice", '{"name":"a","name":"b"}'],
      ["a name twice in another spelling", '{"name":"a","n\\u0061me":"b"}'],
      ["no JSON", "{"],
      ["a nesting of 33", `${"[".repeat(33)}${"]".repeat(33)}`],
      ["1e400", '{"name":1e400}'],
    ])("400: %s", async (_case, body) => {
      expect(await admin(server, "POST", "/partners", body)).toMatchObject({ status: 400, json: { success: false } });
    });

    test.each([
      "text/json",
      "application/json\t",
      "application/json;charset=latin1",
      "application/x-www-form-urlencoded",
      "text",
      "</><script>",
      "",
    ])("415: the media type %j", async (contentType) => {
      const headers = { authorization: `Bearer ${OPERATOR_TOKEN}`, "content-type": contentType };
      const reply = await send(server, "POST", "/admin/v1/partners", { headers, body: JSON.stringify({ name: "x", jwks }) });
      expect(reply.status === 415 || (contentType.trim() === "application/json" && reply.status === 201)).toBe(true); // HTTP itself trims the tab
    });

    test("413: a body over 1 MB", async () => {
      expect(await admin(server, "POST", "/partners", { name: "x".repeat(1_100_000), jwks })).toMatchObject({
        status: 413,
        json: { success: false },
      });
    });
  });

  describe("getPartner and listPartners", () => {
    test("200: when each secret was last used", async () => {
      const partner = await createTestPartner(server);
      const before = await admin(server, "GET", `/partners/${partner.clientId}`);
      expect(before.json).toMatchObject({ partner: { secrets: [{ secret_id: expect.stringMatching(/^sec_/), last_used_at: null }] } });
      await exchange(partner, subjectToken(partner));
      const after = await admin(server, "GET", `/partners/${partner.clientId}`);
      expect(after.json).toMatchObject({ partner: { secrets: [{ last_used_at: expect.stringMatching(/^20\d\d-/) }] } });
    });

    test("200: the list goes on where it stopped", async () => {
      const created = [await createTestPartner(server), await createTestPartner(server), await createTestPartner(server)];
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const reply = await admin(server, "GET", `/partners?limit=2${cursor === null ? "" : `&cursor=${cursor}`}`);
        expect(reply.status).toBe(200);
        seen.push(...(reply.json["partners"] as { client_id: string }[]).map((partner) => partner.client_id));
        cursor = reply.json["next_cursor"] as string | null;
      } while (cursor !== null);
      for (const partner of created) expect(seen.filter((id) => id === partner.clientId)).toHaveLength(1);
    });

    test.each(["?limit=0", "?limit=201", "?limit=x", "?cursor=x", "?cursor=%00", "?limit=1&limit=2", "?order_by=name"])(
      "422: the query %s",
      async (query) => {
        expect(await admin(server, "GET", `/partners${query}`)).toMatchObject({ status: 422 });
      },
    );

    test.each([ABSENT, "x", "%00", "prt_%27%20OR%201=1--", "..%2f..", "x".repeat(90)])("404: the id %s", async (id) => {
      for (const [method, body] of [
        ["GET", undefined],
        ["PATCH", { name: "x" }],
      ] as const) {
        expect(await admin(server, method, `/partners/${id}`, body)).toMatchObject({ status: 404, json: { success: false } });
      }
    });
  });

  describe("updatePartner", () => {
    test("200: what is left out does not change, and what is set works at once", async () => {
      const partner = await createTestPartner(server);
      const reply = await admin(server, "PATCH", `/partners/${partner.clientId}`, { name: "Renamed", allowed_scopes: ["thread"] });
      expect(reply).toMatchObject({
        status: 200,
        json: { partner: { name: "Renamed", allowed_scopes: ["thread"], clock_skew_seconds: 30 } },
      });
      expect(await exchange(partner, subjectToken(partner))).toMatchObject({ status: 400, json: { error: "invalid_scope" } });
    });

    test("200: a disabled partner gets no token, its live token stops, and it cannot enable itself", async () => {
      const partner = await createTestPartner(server);
      const token = await serviceAccountToken(partner);
      await admin(server, "PATCH", `/partners/${partner.clientId}`, { status: "disabled" });
      expect(await exchange(partner, subjectToken(partner))).toMatchObject({ status: 401, json: { error: "invalid_client" } });
      expect((await call(server, "PUT", "/v2/account-management/organization-and-workspace", token, {})).status).toBe(401);
      expect((await call(server, "PATCH", `/admin/v1/partners/${partner.clientId}`, token, { status: "active" })).status).toBe(401);
      await admin(server, "PATCH", `/partners/${partner.clientId}`, { status: "active" });
      expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
    });

    test("200: new keys replace the old ones at once", async () => {
      const partner = await createTestPartner(server);
      const next = makeTestKey("EdDSA");
      await admin(server, "PATCH", `/partners/${partner.clientId}`, { jwks: { keys: [next.publicJwk] } });
      expect((await exchange(partner, subjectToken(partner))).json["error_uri"]).toContain("jwt_kid_unknown");
      expect((await exchange(partner, subjectToken({ ...partner, key: next }))).status).toBe(200);
    });

    test("409 and 422: an issuer of another, a bad field, an unknown one", async () => {
      const [first, second] = [await createTestPartner(server), await createTestPartner(server, { issuer: `https://${dialect}.example` })];
      expect((await admin(server, "PATCH", `/partners/${first.clientId}`, { issuer: `https://${dialect}.example` })).status).toBe(409);
      expect((await admin(server, "PATCH", `/partners/${second.clientId}`, { status: "gone" })).status).toBe(422);
      expect((await admin(server, "PATCH", `/partners/${second.clientId}`, { client_id: "x" })).status).toBe(422);
      expect((await admin(server, "PATCH", `/partners/${second.clientId}`, { issuer: first.clientId })).status).toBe(422);
      const back = await admin(server, "PATCH", `/partners/${second.clientId}`, { issuer: second.clientId });
      expect(back).toMatchObject({ status: 200, json: { partner: { issuer: second.clientId } } });
      expect((await admin(server, "PATCH", `/partners/${second.clientId}`, {})).status).toBe(200);
    });
  });

  describe("addPartnerSecret and removePartnerSecret", () => {
    test("201, 409: two work at once, a third is refused; one in use is removed by force only, and stops at once", async () => {
      const partner = await createTestPartner(server);
      const path = `/partners/${partner.clientId}/secrets`;
      await exchange(partner, subjectToken(partner));
      const added = await admin(server, "POST", path);
      expect(added).toMatchObject({ status: 201, json: { secret_id: expect.any(String), client_secret: expect.any(String) } });
      const successor = { ...partner, clientSecret: String(added.json["client_secret"]) };
      expect((await exchange(successor, subjectToken(successor))).status).toBe(200);
      expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
      expect((await admin(server, "POST", path)).status).toBe(409);
      const listed = await admin(server, "GET", `/partners/${partner.clientId}`);
      const old = (listed.json["partner"] as { secrets: { secret_id: string }[] }).secrets.find(
        (secret) => secret.secret_id !== added.json["secret_id"],
      );
      expect((await admin(server, "DELETE", `${path}/${old?.secret_id}`)).status).toBe(409);
      expect(await admin(server, "DELETE", `${path}/${old?.secret_id}?force=true`)).toMatchObject({ status: 200, json: { success: true } });
      expect((await exchange(partner, subjectToken(partner))).status).toBe(401);
      expect((await exchange(successor, subjectToken(successor))).status).toBe(200);
    });

    test("404: another partner's secret, an absent one, an absent partner", async () => {
      const [first, second] = [await createTestPartner(server), await createTestPartner(server)];
      const listed = await admin(server, "GET", `/partners/${first.clientId}`);
      const secretId = (listed.json["partner"] as { secrets: { secret_id: string }[] }).secrets[0]?.secret_id;
      expect((await admin(server, "DELETE", `/partners/${second.clientId}/secrets/${secretId}?force=true`)).status).toBe(404);
      expect((await admin(server, "DELETE", `/partners/${first.clientId}/secrets/%00`)).status).toBe(404);
      expect((await admin(server, "POST", `/partners/${ABSENT}/secrets`)).status).toBe(404);
      expect((await exchange(first, subjectToken(first))).status).toBe(200);
    });
  });
});
