/**
 * Attack cases A1, the client's authentication. P1.3 and P1.15 to P1.17 are in a1-authorization-header.test.ts, P1.9 to P1.14 and P1.18
 * in a1-framing.test.ts, bad bytes in a1-bad-bytes.test.ts, P1.22 in a1-wrong-secrets.test.ts.
 * Not tested, since the feature does not exist:
 * - P1.21 the grace window of a rotated secret: secrets are added and removed by hand (what there is of it is tested here).
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  admin,
  createTestPartner,
  createTestUser,
  exchange,
  type Reply,
  sendRaw,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectNothingSecretLogged, expectRefusal } from "./expect-refusal.ts";
import { basicLine, freshForm, postRaw, rawTokenRequest, sameButDateAndTrace } from "./raw.ts";

const NOT_AUTHENTICATED = { status: 401, error: "invalid_client", code: "client_not_authenticated" } as const;
const MULTIPLE = { code: "client_authentication_multiple" } as const;

describe.each(DIALECTS)("A1 client authentication on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  /** By a Basic line that is written by hand. */
  const byBasic = (line: string): Promise<Reply> => postRaw(server, freshForm(partner, "none").toString(), [line]);
  const refusedBasic = async (line: string) => expectRefusal(server, await byBasic(line), NOT_AUTHENTICATED);

  function expectGranted(reply: Reply, scope: string): void {
    expect({ ...reply, headers: undefined }).toMatchObject({ status: 200, json: { scope } });
    expect(reply.headers.get("cache-control")).toBe("no-store");
    expect(reply.headers.get("content-type")).toMatch(/^application\/json/);
    expect(Object.keys(reply.json).toSorted()).toEqual(["access_token", "expires_in", "issued_token_type", "scope", "token_type"]);
    expect(reply.json).toMatchObject({
      issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
      token_type: "Bearer",
      expires_in: 3600,
    });
    expectNothingSecretLogged(server);
  }

  test.each(["basic", "post"] as const)("P1.1 P1.2 200: CONTROL, the client authenticates by %s", async (auth) => {
    const { userId } = await createTestUser(partner);
    expectGranted(await exchange(partner, subjectToken(partner, { sub: userId }), { auth, form: { scope: "thread" } }), "thread");
  });

  test("P1.4 401: no client authentication at all, or half of one", async () => {
    const missing = { ...NOT_AUTHENTICATED, code: "client_authentication_missing" } as const;
    for (const form of [{ client_id: undefined, client_secret: undefined }, { client_secret: undefined }, { client_secret: "" }]) {
      await expectRefusal(server, await exchange(partner, subjectToken(partner), { form }), missing);
    }
    await expectRefusal(server, await byBasic(basicLine(":")), missing);
    await expectRefusal(server, await byBasic(basicLine(`${partner.clientId}:`)), missing);
    const noId = await exchange(partner, subjectToken(partner), { form: { client_id: undefined } });
    await expectRefusal(server, noId, { code: "parameter_missing" });
  });

  test("P1.5 401: a wrong secret, with WWW-Authenticate where Basic was used", async () => {
    const wrong = await byBasic(basicLine(`${partner.clientId}:${partner.clientSecret}x`));
    await expectRefusal(server, wrong, NOT_AUTHENTICATED);
    expect(wrong.headers.get("www-authenticate")).toMatch(/^Basic realm="[^"]+"/);
    const inBody = await exchange(partner, subjectToken(partner), { form: { client_secret: "x" } });
    await expectRefusal(server, inBody, NOT_AUTHENTICATED);
    expect(inBody.headers.get("www-authenticate")).toBeNull();
    const other = await createTestPartner(server);
    await refusedBasic(basicLine(`${partner.clientId}:${other.clientSecret}`));
  });

  test("P1.6 P1.20 401: unknown client, wrong secret and disabled partner read alike, byte for byte", async () => {
    const disabled = await createTestPartner(server);
    await admin(server, "PATCH", `/partners/${disabled.clientId}`, { status: "disabled" });
    const pairs: readonly (readonly [string, string])[] = [
      [partner.clientId, "wrong"],
      [partner.clientId.replace(/.$/, (last) => (last === "0" ? "1" : "0")), partner.clientSecret],
      [`prt_${"0".repeat(32)}`, "wrong"],
      ["nobody", partner.clientSecret],
      [disabled.clientId, disabled.clientSecret],
      [disabled.clientId, "wrong"],
    ];
    const inBasic = new Set<string>();
    const inBody = new Set<string>();
    for (const [id, secret] of pairs) {
      const form = freshForm(partner, "none").toString();
      inBasic.add(sameButDateAndTrace(await sendRaw(server, rawTokenRequest(form, [basicLine(`${id}:${secret}`)]))));
      const credentials = `&client_id=${encodeURIComponent(id)}&client_secret=${encodeURIComponent(secret)}`;
      inBody.add(sameButDateAndTrace(await sendRaw(server, rawTokenRequest(form + credentials))));
      await refusedBasic(basicLine(`${id}:${secret}`));
    }
    expect([...inBasic]).toEqual([expect.stringMatching(/^HTTP\/1\.1 401 [\s\S]*"error":"invalid_client"/)]);
    expect([...inBody]).toEqual([expect.stringMatching(/^HTTP\/1\.1 401 [\s\S]*"error":"invalid_client"/)]);
  });

  test("P1.20 200 again: a partner that is enabled again exchanges at once", async () => {
    const other = await createTestPartner(server);
    for (const [status, expected] of [["disabled", 401] as const, ["active", 200] as const]) {
      await admin(server, "PATCH", `/partners/${other.clientId}`, { status });
      expect((await exchange(other, subjectToken(other))).status).toBe(expected);
    }
  });

  test("P1.7 400: Basic and the body, the same values", async () => {
    const line = basicLine(`${partner.clientId}:${partner.clientSecret}`);
    await expectRefusal(server, await postRaw(server, freshForm(partner).toString(), [line]), MULTIPLE);
    const emptyBasic = await postRaw(server, freshForm(partner).toString(), ["Authorization: Basic"]);
    await expectRefusal(server, emptyBasic, MULTIPLE);
    const bearer = await postRaw(server, freshForm(partner).toString(), ["Authorization: Bearer x"]);
    await expectRefusal(server, bearer, MULTIPLE);
  });

  test("P1.7 400: Basic, and another client_id in the body; the same client_id is none too many", async () => {
    const line = basicLine(`${partner.clientId}:${partner.clientSecret}`);
    const post = (id: string) => postRaw(server, `${freshForm(partner, "none").toString()}&client_id=${id}`, [line]);
    await expectRefusal(server, await post((await createTestPartner(server)).clientId), { code: "client_id_mismatch" });
    expect((await post(partner.clientId)).status).toBe(200);
  });

  test("P1.8 400: valid credentials and a client_assertion, never ignored", async () => {
    const type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    for (const auth of ["basic", "post"] as const) {
      for (const form of [
        { client_assertion: "junk", client_assertion_type: type },
        { client_assertion: "junk" },
        { client_assertion_type: type },
      ]) {
        await expectRefusal(server, await exchange(partner, subjectToken(partner), { auth, form }), MULTIPLE);
      }
    }
  });

  test("P1.8 401: a client_assertion alone that is junk, or a subject token, authenticates nobody", async () => {
    const unsupported = { ...NOT_AUTHENTICATED, code: "client_assertion_invalid" } as const;
    for (const client_assertion of ["junk", subjectToken(partner)]) {
      const form = { client_assertion, client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" };
      await expectRefusal(server, await exchange(partner, subjectToken(partner), { auth: "none", form }), unsupported);
      const named = { ...form, client_id: partner.clientId };
      await expectRefusal(server, await exchange(partner, subjectToken(partner), { auth: "none", form: named }), unsupported);
    }
  });

  test("P1.19 401: a client id that only looks like one, or has something added, matches nobody", async () => {
    const { clientId, clientSecret } = partner;
    const lookalikes = ["＿", "\u005f\u0301", "\u2017", "_\0", "_\u200b", "__", "_ "];
    const ids = [
      ...lookalikes.map((c) => clientId.replace("_", c)),
      clientId.toUpperCase(),
      ` ${clientId}`,
      `${clientId}\n`,
      `${clientId}\0`,
    ];
    for (const id of ids) {
      await expectRefusal(server, await exchange(partner, subjectToken(partner), { form: { client_id: id } }), NOT_AUTHENTICATED);
      await refusedBasic(basicLine(`${encodeURIComponent(id)}:${clientSecret}`));
    }
    await expectRefusal(
      server,
      await exchange(partner, subjectToken(partner), { form: { client_secret: `${clientSecret}\0` } }),
      NOT_AUTHENTICATED,
    );
  });

  test("P1.20 401: client_id and client_secret swapped, and the secret is not recorded as an id", async () => {
    const form = { client_id: partner.clientSecret, client_secret: partner.clientId };
    await expectRefusal(server, await exchange(partner, subjectToken(partner), { form }), NOT_AUTHENTICATED);
    await refusedBasic(basicLine(`${partner.clientSecret}:${partner.clientId}`));
  });

  test("P1.21 in part, 401: a removed secret is wrong at once, on every node, and its successor right", async () => {
    const rotating = await createTestPartner(server);
    const added = await admin(server, "POST", `/partners/${rotating.clientId}/secrets`);
    const renewed: TestPartner = { ...rotating, clientSecret: added.json["client_secret"] as string };
    const node = await server.startSecondNode();
    try {
      for (const at of [server, node]) {
        for (const either of [rotating, renewed]) expect((await exchange(either, subjectToken(either), { at })).status).toBe(200);
      }
      const shown = await admin(server, "GET", `/partners/${rotating.clientId}`);
      const { secrets } = shown.json["partner"] as { secrets: { secret_id: string }[] };
      const first = secrets.find(({ secret_id }) => secret_id !== added.json["secret_id"]);
      await admin(server, "DELETE", `/partners/${rotating.clientId}/secrets/${first?.secret_id}?force=true`);
      for (const at of [node, server]) {
        await expectRefusal(server, await exchange(rotating, subjectToken(rotating), { at }), NOT_AUTHENTICATED);
        expect((await exchange(renewed, subjectToken(renewed), { at })).status).toBe(200);
      }
    } finally {
      await node.stop();
    }
  });
});
