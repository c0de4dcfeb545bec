import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey, signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  exchange,
  subjectClaims,
  subjectToken,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { createJwksPartner, type JwksSetting, keyReport, refreshKeys, startJwksSetting } from "./jwks-setting.ts";

/* A5, whose keys are whose: P5.20, P5.21, one URL for two partners, and the change from one source of keys to another. */

const PUBLIC = "93.184.215.14";

describe.each(DIALECTS)("partners and their keys on %s", (dialect) => {
  let setting: JwksSetting;
  let server: TestServer;
  let second: TestServer;
  beforeAll(async () => {
    setting = await startJwksSetting(dialect);
    server = setting.server;
    second = await server.startSecondNode();
  });
  afterAll(async () => {
    await second.stop();
    await setting.stop();
  });

  const patch = (clientId: string, fields: object) => admin(server, "PATCH", `/partners/${clientId}`, fields);

  test("P5.20 400: one kid in two published sets is two keys, in whatever order they are fetched and used", async () => {
    const [a, b] = [
      await createJwksPartner(setting, { key: makeTestKey("ES256", "one-kid") }),
      await createJwksPartner(setting, { key: makeTestKey("ES256", "one-kid") }),
    ];
    const crossed = (iss: typeof a, signer: typeof a) => signJwt({ alg: "ES256", kid: "one-kid" }, subjectClaims(iss), signer.key);
    for (const at of [server, second]) {
      await expectRefusal(at, await exchange(a, crossed(a, b), { at }), { code: "jwt_signature_invalid" });
      expectGranted(await exchange(b, crossed(b, b), { at }));
      expectGranted(await exchange(a, crossed(a, a), { at }));
      await expectRefusal(at, await exchange(b, crossed(b, a), { at }), { code: "jwt_signature_invalid" });
    }
    const replies = await Promise.all(
      Array.from({ length: 40 }, (_, i) => {
        const [iss, other] = i % 2 === 0 ? [a, b] : [b, a];
        return exchange(iss, crossed(iss, i % 4 < 2 ? iss : other), { at: i % 8 < 4 ? server : second });
      }),
    );
    expect(replies.map(({ status }) => status)).toEqual(Array.from({ length: 40 }, (_, i) => (i % 4 < 2 ? 200 : 400)));
    expect(a.set.requestsSince() + b.set.requestsSince()).toBe(2); // the second node read the store
  });

  test("P5.20 400: a key that B adds to its set under A's kid opens nothing of A's", async () => {
    const a = await createJwksPartner(setting);
    const b = await createJwksPartner(setting, { beside: [makeTestKey("ES256", a.key.kid)] });
    expectGranted(await exchange(b, subjectToken(b)));
    expectGranted(await exchange(a, subjectToken(a)));
    const crossed = signJwt({ alg: "ES256", kid: a.key.kid }, subjectClaims(a), b.key);
    await expectRefusal(server, await exchange(a, crossed), { code: "jwt_signature_invalid" });
    await expectRefusal(server, await exchange(a, subjectToken({ ...a, key: b.key })), { code: "jwt_kid_unknown" });
  });

  test("P5.21 409: an issuer belongs to one partner, at registration and at a change; nothing of the refused one is kept", async () => {
    const issuer = `https://idp-of-a.example/${dialect}`;
    const a = await createJwksPartner(setting, { fields: { issuer } });
    const b = await createJwksPartner(setting);
    const url = setting.host.publish([b.key]).url;
    const count = async () => (await server.database.query("SELECT client_id FROM partners")).length;
    const before = await count();
    const created = await admin(server, "POST", "/partners", { name: "B", issuer, jwks_uri: url });
    expect(created).toMatchObject({ status: 409, json: { success: false } });
    expect(created.json["detail"]).toMatch(/^issuer /);
    expect(await count()).toBe(before);
    expect(await patch(b.clientId, { issuer, jwks_uri: url })).toMatchObject({ status: 409 });
    expect((await admin(server, "GET", `/partners/${b.clientId}`)).json).toMatchObject({
      partner: { issuer: b.clientId, jwks_uri: b.set.url },
    });
    expectGranted(await exchange(a, subjectToken(a, { iss: issuer })));
    const claimed = signJwt({ alg: "ES256", kid: b.key.kid }, subjectClaims(b, { iss: issuer }), b.key);
    await expectRefusal(server, await exchange(b, claimed), { code: "issuer_mismatch" });
    expect(await patch(b.clientId, { issuer: a.clientId })).toMatchObject({ status: 422 }); // another's client id
  });

  test("P5.21 409: of 16 at once on two nodes that want one issuer, or one URL, one gets it", async () => {
    setting.names.set("race.example", [PUBLIC]);
    for (const field of ["issuer", "jwks_uri"]) {
      const replies = await Promise.all(
        Array.from({ length: 16 }, (_, i) => {
          const own = { name: "x", jwks_uri: `https://race.example/${dialect}/${field}/${i}` };
          return admin(i % 2 === 0 ? server : second, "POST", "/partners", { ...own, [field]: `https://race.example/${dialect}/${field}` });
        }),
      );
      expect(replies.map(({ status }) => status).toSorted((x, y) => x - y)).toEqual([201, ...Array.from({ length: 15 }, () => 409)]);
      for (const reply of replies.filter(({ status }) => status === 409)) {
        expect(reply.json["detail"]).toMatch(new RegExp(`^${field} belongs to another partner`));
      }
    }
  });

  test("P5.21 409: one URL in two spellings is one URL, at registration and at a change", async () => {
    const name = `keys-${dialect}.partner.example`;
    setting.names.set(name, [PUBLIC]);
    const url = `https://${name}/jwks.json`;
    expect((await admin(server, "POST", "/partners", { name: "A", jwks_uri: url })).status).toBe(201);
    const b = await createJwksPartner(setting);
    const spellings = [
      url,
      url.toUpperCase().replace("/JWKS.JSON", "/jwks.json"),
      `https://${name}:443/jwks.json`,
      `https://${name}:0443/jwks.json`,
      `https:\\\\${name}\\jwks.json`,
      `https:${name}/jwks.json`,
      `https://${name}/./jwks.json`,
      `https://${name}/x/../jwks.json`,
      `https://${name}/x/%2e%2E/jwks.json`,
      `https://${name.replace("keys", "%6beys")}/jwks.json`,
      ` https://${name}/jwks.json\n`,
      `ht\ttps://${name}/jw\nks.json`,
    ];
    for (const spelling of spellings) {
      const created = await admin(server, "POST", "/partners", { name: "B", jwks_uri: spelling });
      expect(created, spelling).toMatchObject({ status: 409, json: { detail: expect.stringMatching(/^jwks_uri belongs to another/) } });
      expect((await patch(b.clientId, { jwks_uri: spelling })).status, spelling).toBe(409);
    }
    for (const other of [`https://${name}/JWKS.json`, `https://${name}/jwks.json/`, `https://${name}/jwks.json?x`]) {
      expect((await admin(server, "POST", "/partners", { name: "B", jwks_uri: other })).status, other).toBe(201);
    }
    expectGranted(await exchange(b, subjectToken(b)));
  });

  test("from a registered set to a URL and back, by PATCH, at the next request of both nodes", async () => {
    const [inline, fetched, later] = [makeTestKey("ES256"), makeTestKey("ES256"), makeTestKey("ES256")];
    const own = await createTestPartner(server, {}, inline);
    const [first, other] = [setting.host.publish([fetched]), setting.host.publish([later])];
    const expectOnly = async (good: typeof inline) => {
      for (const at of [second, server]) {
        for (const key of [inline, fetched, later]) {
          const reply = await exchange(own, subjectToken({ ...own, key }), { at });
          if (key === good) expectGranted(reply);
          else await expectRefusal(at, reply, { code: "jwt_kid_unknown" });
        }
      }
    };
    await expectOnly(inline);
    expect(await patch(own.clientId, { jwks_uri: first.url })).toMatchObject({
      status: 200,
      json: { partner: { jwks_uri: first.url, jwks: null } },
    });
    await expectOnly(fetched);
    expect(await patch(own.clientId, { jwks_uri: other.url })).toMatchObject({ status: 200 });
    await expectOnly(later);
    expect((await keyReport(server, own)).keys.map(({ kid }) => kid)).toEqual([later.kid]); // nothing of the other URL's
    expect(await patch(own.clientId, { jwks: { keys: [inline.publicJwk] } })).toMatchObject({
      status: 200,
      json: { partner: { jwks_uri: null } },
    });
    await expectOnly(inline);
    const report = await keyReport(server, own);
    expect(report).toMatchObject({ source: "jwks", keys: [{ kid: inline.kid, algorithm: "ES256", state: "used", reason: null }] });
    expect(report).not.toHaveProperty("jwks_uri");
    expect((await refreshKeys(server, own)).status).toBe(200);
    // what it has left is free for another
    expect((await admin(server, "POST", "/partners", { name: "Heir", jwks_uri: first.url })).status).toBe(201);
    expect((await patch(own.clientId, { jwks_uri: first.url })).status).toBe(409);
  });

  test("422: both sources at once, or none at registration; a change that has neither leaves what there is", async () => {
    const own = await createJwksPartner(setting);
    const jwks = { keys: [own.key.publicJwk] };
    const { url } = setting.host.publish([own.key]);
    for (const body of [{ jwks, jwks_uri: url }, {}, { jwks: null }, { jwks_uri: null }]) {
      expect(await admin(server, "POST", "/partners", { name: "x", ...body })).toMatchObject({ status: 422 });
    }
    for (const body of [{ jwks, jwks_uri: url }, { jwks: null }, { jwks_uri: null }]) {
      expect(await patch(own.clientId, body)).toMatchObject({ status: 422 });
    }
    expect(await patch(own.clientId, { name: "Renamed" })).toMatchObject({ status: 200, json: { partner: { jwks_uri: own.set.url } } });
    expectGranted(await exchange(own, subjectToken(own)));
  });

  test("P6.8 401: a partner that is disabled while its keys are cached on two nodes is refused on both, and costs no fetch", async () => {
    const own = await createJwksPartner(setting);
    for (const at of [server, second]) expectGranted(await exchange(own, subjectToken(own), { at }));
    expect((await patch(own.clientId, { status: "disabled" })).status).toBe(200);
    own.set.requestsSince();
    for (const at of [second, server]) {
      for (const header of [{}, { kid: "unknown" }]) {
        const expected = { status: 401, error: "invalid_client", code: "client_not_authenticated" } as const;
        await expectRefusal(at, await exchange(own, subjectToken(own, {}, header), { at }), expected);
      }
    }
    expect(own.set.requestsSince()).toBe(0);
  });
});
