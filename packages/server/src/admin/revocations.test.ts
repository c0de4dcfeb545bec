import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  admin,
  createTestPartner,
  createTestUser,
  serviceAccountToken,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";

const TOKEN_ID = "AAAAAAAAAAAAAAAAAAAAA-";
const ABSENT_PARTNER = `prt_${"0".repeat(32)}`;

/** What it does to tokens: tests/resource-servers.test.ts. Its races: storage/store.tokens.test.ts. */
describe.each(DIALECTS)("revocation by the operator on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  const revoke = (body: unknown) => admin(server, "POST", "/revocations", body);
  const rows = () => server.database.query("SELECT * FROM revocations ORDER BY subject_id, kind, kid");

  test("200: each of the six forms says what it did, up to which second, and leaves a log line", async () => {
    const user = await createTestUser(partner);
    for (const [kind, subject] of [
      ["token", { jti: TOKEN_ID }],
      ["user", { user_id: user.userId }],
      ["workspace", { workspace_id: user.workspaceId }],
      ["organization", { org_id: user.orgId }],
      ["partner", { client_id: partner.clientId }],
      ["partner_key", { client_id: partner.clientId, kid: "a kid/that is: not known %" }],
    ] as const) {
      const before = server.nowSeconds();
      const reply = await revoke(subject);
      expect(reply, kind).toMatchObject({ status: 200, json: { revocation: { kind, ...subject } } });
      const { cut_off_at: cutOffAt, ...rest } = reply.json["revocation"] as Record<string, string>;
      expect(rest).toEqual({ kind, ...subject });
      const seconds = Date.parse(cutOffAt ?? "") / 1000;
      expect(seconds).toBeGreaterThanOrEqual(before);
      expect(seconds).toBeLessThanOrEqual(server.nowSeconds());
      const line = server.logLines.map((each) => JSON.parse(each) as Record<string, unknown>).filter(({ msg }) => msg === "tokens revoked");
      expect(line.at(-1)).toMatchObject({ kind, ...subject });
    }
  });

  test("200: again it moves the cut-off on, and does not make a second row", async () => {
    const user = await createTestUser(partner);
    const cutOff = async () =>
      Date.parse(((await revoke({ user_id: user.userId })).json["revocation"] as { cut_off_at: string }).cut_off_at);
    const first = await cutOff();
    server.clock.offsetMs += 2_000;
    expect(await cutOff()).toBeGreaterThanOrEqual(first + 2_000);
    expect((await rows()).filter((row) => row["subject_id"] === user.userId)).toHaveLength(1);
  });

  test.each([
    ["nothing", {}],
    ["two subjects", { jti: TOKEN_ID, user_id: randomUUID() }],
    ["a partner and an organization", { client_id: ABSENT_PARTNER, org_id: randomUUID() }],
    ["a kid alone", { kid: "k" }],
    ["a kid of a user", { user_id: randomUUID(), kid: "k" }],
  ])("422: %s, and it says what to send", async (_name, body) => {
    const before = await rows();
    const reply = await revoke(body);
    expect(reply).toMatchObject({
      status: 422,
      json: { detail: expect.stringContaining("send exactly one of jti, user_id, workspace_id, org_id and client_id") },
    });
    expect(await rows()).toEqual(before);
  });

  test.each([
    ["a jti that is none", { jti: "x" }, "jti"],
    ["an empty kid", { client_id: ABSENT_PARTNER, kid: "" }, "kid"],
    ["a kid of 256 characters", { client_id: ABSENT_PARTNER, kid: "x".repeat(256) }, "kid"],
    ["a kid with a NUL", { client_id: ABSENT_PARTNER, kid: "\0" }, "kid"],
    ["a number", { user_id: 1 }, "user_id"],
    ["null", { client_id: null }, "client_id"],
    ["an external id", { external_user_id: "a" }, "external_user_id"],
    ["a time", { jti: TOKEN_ID, cut_off_at: "2030-01-01T00:00:00Z" }, "cut_off_at"],
  ])("422: %s, naming the field", async (_name, body, field) => {
    expect(await revoke(body)).toMatchObject({
      status: 422,
      json: { errors: expect.arrayContaining([expect.objectContaining({ field })]) },
    });
  });

  test("422: a whole token in place of its jti, which gets into no row and no log line", async () => {
    for (const token of [await serviceAccountToken(partner), `sk-${"0123456789abcdef".repeat(2)}`]) {
      expect(await revoke({ jti: token })).toMatchObject({ status: 422, json: { errors: [{ field: "jti" }] } });
      expect(JSON.stringify(await rows()) + server.logLines.join("")).not.toContain(token);
    }
  });

  test("422: a secret or a token in place of a kid, which gets into no row and no log line", async () => {
    const { clientId, clientSecret } = partner;
    const before = await rows();
    for (const secret of [clientSecret, `sk-${"0123456789abcdef".repeat(2)}`, await serviceAccountToken(partner)]) {
      for (const kid of [secret, `key ${secret}`].filter(({ length }) => length <= 255)) {
        expect(await revoke({ client_id: clientId, kid }), kid).toMatchObject({ status: 422, json: { errors: [{ field: "kid" }] } });
      }
      expect((await revoke({ client_id: clientId, kid: secret })).text).not.toContain(secret);
      expect(server.logLines.join("")).not.toContain(secret);
    }
    expect(await rows()).toEqual(before);
  });

  test.each([
    ["user_id", randomUUID()],
    ["workspace_id", randomUUID()],
    ["org_id", randomUUID()],
    ["client_id", ABSENT_PARTNER],
    ["client_id", `rs_${"0".repeat(32)}`],
    ["user_id", ABSENT_PARTNER],
    ["user_id", "\0"],
    ["org_id", "' OR 1=1--"],
    ["workspace_id", ""],
  ])("404: the %s %j, and nothing is written", async (field, id) => {
    const before = await rows();
    expect(await revoke({ [field]: id })).toMatchObject({
      status: 404,
      json: { detail: "There is no such user, workspace, organization or partner." },
    });
    if (field === "client_id") expect((await revoke({ [field]: id, kid: "k" })).status).toBe(404);
    expect(await rows()).toEqual(before);
  });

  test("404: a user by its upper-case id, by its external id, and one of another kind", async () => {
    const user = await createTestUser(partner, { external_user_id: randomUUID() });
    for (const body of [
      { user_id: user.userId.toUpperCase() },
      { user_id: user.orgId },
      { org_id: user.userId },
      { workspace_id: user.orgId },
    ]) {
      expect((await revoke(body)).status, JSON.stringify(body)).toBe(404);
    }
  });
});
