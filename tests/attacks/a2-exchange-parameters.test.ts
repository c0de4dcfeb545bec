/** Attack cases A2: every row. Each refusal comes before the subject token is spent, so the very same token still passes afterwards. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  createTestPartner,
  createTestUser,
  exchange,
  exchangeForm,
  GRANT_TYPE,
  ISSUER,
  JWT_TYPE,
  type Reply,
  send,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { type ExpectedRefusal, expectRefusal } from "./expect-refusal.ts";

const ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token";
const RESOURCE = `${ISSUER}/v2`;
const TARGET_UNKNOWN = { error: "invalid_target", code: "target_unknown" } as const;
const TARGET_REPEATED = { error: "invalid_target", code: "target_repeated" } as const;

describe.each(DIALECTS)("A2 token-exchange parameters on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  /** Refused with each of these forms, and the token is as good as before. */
  async function refusedWith(forms: readonly Record<string, string | undefined>[], expected: ExpectedRefusal): Promise<void> {
    const token = subjectToken(partner);
    for (const form of forms) await expectRefusal(server, await exchange(partner, token, { form }), expected);
    expect((await exchange(partner, token)).status).toBe(200);
  }

  const withAppended = (token: string, pairs: readonly (readonly [string, string])[]): Promise<Reply> => {
    const form = exchangeForm(partner, token);
    for (const [name, value] of pairs) form.append(name, value);
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return send(server, "POST", "/oauth2/token", { headers, body: form.toString() });
  };

  test("P2.1 400: subject_token is missing, or empty", () =>
    refusedWith([{ subject_token: undefined }, { subject_token: "" }], { code: "parameter_missing" }));

  test("P2.2 400: subject_token_type is missing, or empty", () =>
    refusedWith([{ subject_token_type: undefined }, { subject_token_type: "" }], { code: "parameter_missing" }));

  test("P2.3 400: a partner's JWT that is called anything but a JWT", () => {
    const types = ["access_token", "id_token", "refresh_token", "saml2", "JWT", "jwt "].map(
      (name) => `urn:ietf:params:oauth:token-type:${name}`,
    );
    const forms = [...types, "jwt", JWT_TYPE.toUpperCase(), ` ${JWT_TYPE}`].map((subject_token_type) => ({ subject_token_type }));
    return refusedWith(forms, { code: "subject_token_type_unsupported" });
  });

  test("P2.3 400: the token in place of its type is not kept whole", async () => {
    const swapped = { subject_token: JWT_TYPE, subject_token_type: subjectToken(partner) };
    await refusedWith([swapped], { code: "subject_token_type_unsupported" });
    await refusedWith([{ requested_token_type: subjectToken(partner) }], { code: "requested_token_type_unsupported" });
  });

  test("P2.4 400: actor_token without actor_token_type", () =>
    refusedWith([{ actor_token: subjectToken(partner) }, { actor_token: "x", actor_token_type: "" }], { code: "actor_token_incomplete" }));

  test("P2.5 400: actor_token_type without actor_token", () =>
    refusedWith([{ actor_token_type: JWT_TYPE }, { actor_token_type: "x", actor_token: "" }], { code: "actor_token_incomplete" }));

  test("P2.6 400: a valid actor where delegation is not offered, never ignored", async () => {
    const { userId } = await createTestUser(partner);
    for (const actor_token of [subjectToken(partner), subjectToken(partner, { sub: userId })]) {
      await refusedWith([{ actor_token, actor_token_type: JWT_TYPE }], { code: "delegation_not_allowed" });
    }
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { delegation: true })).status).toBe(422);
  });

  test("P2.7 400: an audience or resource that is not ours, to the character", () => {
    const targets = [
      "unknown-api",
      ISSUER,
      `${RESOURCE}/`,
      RESOURCE.toUpperCase(),
      `${RESOURCE}#x`,
      `${RESOURCE}?`,
      ` ${RESOURCE}`,
      `${RESOURCE} ${RESOURCE}`,
    ];
    return refusedWith([...targets.map((audience) => ({ audience })), ...targets.map((resource) => ({ resource }))], TARGET_UNKNOWN);
  });

  test("P2.7 200: our API named as audience or as resource is what the token is for", async () => {
    for (const form of [{ audience: RESOURCE }, { resource: RESOURCE }, { audience: "", resource: "" }]) {
      expect((await exchange(partner, subjectToken(partner), { form })).status).toBe(200);
    }
  });

  test("P2.8 400: two targets, whichever, are never reduced to the first", async () => {
    const token = subjectToken(partner);
    const names = ["audience", "resource"] as const;
    for (const [first, second] of names.flatMap((one) => names.map((other) => [one, other] as const))) {
      for (const [one, other] of [
        [RESOURCE, RESOURCE],
        [RESOURCE, "https://other.example"],
        ["https://other.example", RESOURCE],
      ] as const) {
        await expectRefusal(
          server,
          await withAppended(token, [
            [first, one],
            [second, other],
          ]),
          TARGET_REPEATED,
        );
      }
    }
    await expectRefusal(
      server,
      await withAppended(token, [
        ["resource", ""],
        ["resource", RESOURCE],
      ]),
      TARGET_REPEATED,
    );
    expect((await exchange(partner, token)).status).toBe(200);
  });

  test("P2.9 400: grants that are not offered, and near spellings of the one that is", () => {
    const grants = ["password", "foo", "authorization_code", "refresh_token", "implicit", "token-exchange", "__proto__", "constructor"];
    const near = [GRANT_TYPE.toUpperCase(), ` ${GRANT_TYPE}`, `${GRANT_TYPE} `, `${GRANT_TYPE}\0`, `${GRANT_TYPE},${GRANT_TYPE}`];
    const forms = [...grants, ...near].map((grant_type) => ({ grant_type }));
    return refusedWith(forms, { error: "unsupported_grant_type", code: "grant_type_unsupported" });
  });

  test("P2.9 400: grant_type is missing, or empty", () =>
    refusedWith([{ grant_type: undefined }, { grant_type: "" }], { code: "parameter_missing" }));

  test("P2.10 400: a partner that may not use the grant, from the moment it may not, on each node", async () => {
    const limited = await createTestPartner(server);
    const token = subjectToken(limited);
    const node = await server.startSecondNode();
    try {
      expect((await exchange(limited, subjectToken(limited), { at: node })).status).toBe(200);
      const set = (allowed_grants: readonly string[]) => admin(server, "PATCH", `/partners/${limited.clientId}`, { allowed_grants });
      expect((await set(["client_credentials"])).status).toBe(200);
      for (const at of [node, server]) {
        const refused = await exchange(limited, token, { at });
        await expectRefusal(server, refused, { error: "unauthorized_client", code: "grant_not_allowed" });
      }
      await set(["token-exchange"]);
      expect((await exchange(limited, token, { at: node })).status).toBe(200);
    } finally {
      await node.stop();
    }
  });

  test("P2.11 400: one of our access tokens is no subject token, whatever it is called", async () => {
    const { userId } = await createTestUser(partner);
    for (const sub of [partner.clientId, userId]) {
      const granted = await exchange(partner, subjectToken(partner, { sub }));
      const accessToken = granted.json["access_token"] as string;
      await expectRefusal(server, await exchange(partner, accessToken), { code: "jwt_typ_unexpected" });
      const form = { subject_token_type: ACCESS_TOKEN_TYPE };
      await expectRefusal(server, await exchange(partner, accessToken, { form }), { code: "subject_token_type_unsupported" });
      await refusedWith([{ actor_token: accessToken, actor_token_type: ACCESS_TOKEN_TYPE }], { code: "delegation_not_allowed" });
    }
  });

  test("P2.12 200: the answer holds these five members and no refresh_token, also when one is asked for", async () => {
    const members = ["access_token", "expires_in", "issued_token_type", "scope", "token_type"];
    for (const form of [
      {},
      { requested_token_type: ACCESS_TOKEN_TYPE },
      { requested_token_type: "" },
      { unknown: "1", "": "x", toString: "y" },
    ]) {
      const reply = await exchange(partner, subjectToken(partner), { form });
      expect(Object.keys(reply.json).toSorted()).toEqual(members);
      expect(reply.json).toMatchObject({ issued_token_type: ACCESS_TOKEN_TYPE, token_type: "Bearer", expires_in: 3600 });
    }
    const others = ["refresh_token", "id_token", "jwt"].map((name) => ({
      requested_token_type: `urn:ietf:params:oauth:token-type:${name}`,
    }));
    await refusedWith(others, { code: "requested_token_type_unsupported" });
  });

  test("P2.12 200: expires_in is the partner's, a JSON number", async () => {
    const short = await createTestPartner(server, { access_token_lifetime_seconds: 61 });
    expect((await exchange(short, subjectToken(short))).text).toContain('"expires_in":61,');
  });

  test("400: a DPoP proof is refused, where a bound token cannot be had", async () => {
    for (const dpop of ["x", ""]) {
      const reply = await exchange(partner, subjectToken(partner), { headers: { dpop } });
      await expectRefusal(server, reply, { error: "invalid_dpop_proof", code: "dpop_unsupported" });
    }
  });
});
