/** RFC 7517, JSON Web Key: the key sets that partners register (§4, §5) and the one that we publish. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeJwt, makeTestKey } from "../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  type Reply,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
} from "../packages/server/src/testing/server.ts";
import { obtainRefusal, obtainToken, openSetting, type Setting } from "./client.ts";
import { refusalOf } from "./refusals.ts";

type Jwk = Record<string, unknown>;

const key = makeTestKey("ES256", "key-1");
/** Without the optional members. */
const bare = ((): Jwk => {
  const { kty, crv, x, y } = key.publicJwk;
  return { kty, crv, x, y };
})();

let setting: Setting;
beforeAll(async () => {
  setting = await openSetting();
});
afterAll(() => setting.server.stop());

const register = (jwks: unknown): Promise<Reply> => admin(setting.server, "POST", "/partners", { name: "x", jwks });

async function registeredKeys(keys: readonly Jwk[], set: Jwk = {}): Promise<Jwk[]> {
  const reply = await register({ ...set, keys });
  expect(reply.status, reply.text).toBe(201);
  return (reply.json["partner"] as { jwks: { keys: Jwk[] } }).jwks.keys;
}

async function publishedKeys(): Promise<Jwk[]> {
  const { json } = await send(setting.server, "GET", "/.well-known/jwks.json");
  return json["keys"] as Jwk[];
}

test("§4: member names of a JWK MUST be unique, and one that has a name twice is rejected", async () => {
  const jwk = JSON.stringify(bare);
  const body = `{"name":"x","jwks":{"keys":[${jwk.replace("{", '{"kty":"RSA",')}]}}`;
  const reply = await admin(setting.server, "POST", "/partners", body);
  expect(reply).toMatchObject({ status: 400, json: { detail: expect.stringContaining("kty") as unknown } });
});

test("§4: members of a JWK that are not understood MUST be ignored", async () => {
  const [taken] = await registeredKeys([{ ...bare, kid: "key-1", "https://example.com/owner": "somebody", x5t: "AAAA", exp: 1 }]);
  expect(taken).toEqual({ ...bare, kid: "key-1", alg: "ES256" });
});

test("§4.1: kty MUST be present, and is case-sensitive", async () => {
  const { kty: _, ...without } = bare;
  for (const jwk of [without, { ...bare, kty: "ec" }, { ...bare, kty: "" }]) expect((await register({ keys: [jwk] })).status).toBe(422);
  for (const jwk of await publishedKeys()) expect(jwk["kty"]).toBe("EC");
});

test("§4.2: a key whose use is not sig is not used for signatures", async () => {
  expect(await registeredKeys([{ ...bare, use: "sig" }])).toHaveLength(1);
  for (const use of ["enc", "SIG", "", null]) expect((await register({ keys: [{ ...bare, use }] })).status).toBe(422);
  for (const jwk of await publishedKeys()) expect(jwk["use"]).toBe("sig");
});

test("§4.3: a key whose key_ops does not hold verify is not used for signatures", async () => {
  expect(await registeredKeys([{ ...bare, key_ops: ["verify"] }])).toHaveLength(1);
  for (const key_ops of [["encrypt"], ["sign"], [], "verify"]) expect((await register({ keys: [{ ...bare, key_ops }] })).status).toBe(422);
});

test("§4.3: use and key_ops MUST be consistent where both are there", async () => {
  expect((await register({ keys: [{ ...bare, use: "sig", key_ops: ["encrypt"] }] })).status).toBe(422);
  expect((await register({ keys: [{ ...bare, use: "enc", key_ops: ["verify"] }] })).status).toBe(422);
  for (const jwk of await publishedKeys()) expect(jwk).not.toHaveProperty("key_ops");
});

test("§4.4: alg is OPTIONAL and case-sensitive, and must be one that the key can have", async () => {
  expect(await registeredKeys([bare])).toEqual([{ ...bare, alg: "ES256" }]);
  for (const alg of ["es256", "ES384", "RS256", "HS256", "none"]) expect((await register({ keys: [{ ...bare, alg }] })).status).toBe(422);
});

test("§4.5: different keys of a set SHOULD have distinct kids: ours have, and a partner's two keys with one kid are refused", async () => {
  const kids = (await publishedKeys()).map((jwk) => jwk["kid"]);
  expect(kids.length).toBeGreaterThanOrEqual(2);
  expect(new Set(kids).size).toBe(kids.length);
  const other = makeTestKey("ES256", "key-1");
  expect((await register({ keys: [key.publicJwk, other.publicJwk] })).status).toBe(422);
});

test("§4.5: kid is OPTIONAL, case-sensitive, and matches the kid of a JWS", async () => {
  const partner = await createTestPartner(setting.server, { jwks: { keys: [bare] } }, key);
  const without = subjectToken(partner, {}, { kid: undefined });
  expect(await obtainToken(partner, { parameters: { subject_token: without } })).toHaveProperty("access_token");
  const named = await createTestPartner(setting.server, {}, key);
  expect(await obtainToken(named)).toHaveProperty("access_token");
  const refusal = await obtainRefusal(named, { parameters: { subject_token: subjectToken(named, {}, { kid: "KEY-1" }) } });
  expect(refusal).toMatchObject(refusalOf("jwt_kid_unknown"));
});

test("§5: a JWK Set MUST have a member keys, an array", async () => {
  for (const jwks of [{}, { keys: {} }, { keys: null }, { Keys: [bare] }, [bare], bare]) expect((await register(jwks)).status).toBe(422);
  expect(await publishedKeys()).toBeInstanceOf(Array);
});

test("§5: member names of a JWK Set MUST be unique, and one that has a name twice is rejected", async () => {
  const body = `{"name":"x","jwks":{"keys":[],"keys":[${JSON.stringify(bare)}]}}`;
  const reply = await admin(setting.server, "POST", "/partners", body);
  expect(reply).toMatchObject({ status: 400, json: { detail: expect.stringContaining("keys") as unknown } });
});

test("§5: members of a JWK Set that are not understood MUST be ignored", async () => {
  expect(await registeredKeys([bare], { issuer: "https://example.com", "https://example.com/x": [1] })).toHaveLength(1);
});

test("§5: of a published set, keys that are not understood, incomplete or out of range SHOULD be ignored, and the others used", async () => {
  const incomplete: Jwk = { ...key.publicJwk, kid: "incomplete", x: undefined };
  const others = [{ kty: "AKP", kid: "new", pub: "AAAA" }, incomplete, { kty: "RSA", kid: "small", n: "AQAB", e: "AQAB" }, "junk"];
  const body = JSON.stringify({ keys: [...others, key.publicJwk] });
  const publisher = createServer((_request, response) => response.end(body)).listen(0, "127.0.0.1");
  await new Promise((resolve) => publisher.once("listening", resolve));
  const host = `127.0.0.1:${(publisher.address() as AddressInfo).port}`;
  const server = await startTestServer("sqlite", { jwksAllowHosts: new Set([host]) });
  try {
    const partner = await createTestPartner(server, { jwks: undefined, jwks_uri: `http://${host}/jwks.json` }, key);
    expect(await obtainToken(partner)).toHaveProperty("access_token");
  } finally {
    await server.stop();
    publisher.closeAllConnections();
    publisher.close();
  }
});

test("§5: registered by hand, a set with a key that cannot be used is refused whole, and the key is named", async () => {
  const reply = await register({ keys: [key.publicJwk, { kty: "AKP", kid: "new", pub: "AAAA" }] });
  expect(reply).toMatchObject({ status: 422, json: { errors: [{ field: "jwks.keys.1" }] } });
});

test("§5.1: the order of the keys means nothing: the one that kid names is used", async () => {
  const second = makeTestKey("ES256", "key-2");
  for (const keys of [
    [key.publicJwk, second.publicJwk],
    [second.publicJwk, key.publicJwk],
  ]) {
    const partner = await createTestPartner(setting.server, { jwks: { keys } }, key);
    for (const each of [key, second]) expect(await obtainToken({ ...partner, key: each })).toHaveProperty("access_token");
  }
});

test("§8.5.2: our set is served as application/jwk-set+json, and holds the key that signs", async () => {
  const { headers } = await send(setting.server, "GET", "/.well-known/jwks.json");
  expect(headers.get("content-type")).toBe("application/jwk-set+json");
  const { kid } = decodeJwt(await serviceAccountToken(setting.partner)).header;
  expect((await publishedKeys()).map((jwk) => jwk["kid"])).toContain(kid);
});

test("§9.2: private keys MUST be protected from disclosure: ours are not shown, and one that a partner shows is refused", async () => {
  for (const jwk of await publishedKeys()) expect(Object.keys(jwk).toSorted()).toEqual(["alg", "crv", "kid", "kty", "use", "x", "y"]);
  const shown = key.privateKey.export({ format: "jwk" });
  expect(shown).toHaveProperty("d");
  const reply = await register({ keys: [{ ...shown, kid: "key-1" }] });
  expect(reply).toMatchObject({ status: 422, json: { detail: expect.stringContaining("make a new key pair") as unknown } });
  expect(reply.text).not.toContain(shown.d);
});
