import { createHash, createHmac } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newKeyPair } from "../../packages/server/src/keys/key-pair.ts";
import { encodePart, makeTestKey, signatureOf, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import { exchange, subjectClaims, subjectToken, type TestPartner, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { createJwksPartner, type JwksSetting, keyReport, refreshKeys, startJwksSetting } from "./jwks-setting.ts";
import { leastCpuMs } from "./least-cpu-ms.ts";

/*
 * A5, which keys of a fetched set are used: P5.13–P5.19. Each bad key stands beside a good one, which goes on working; the report says why
 * it is refused; whoever signs for it is refused with 400. A set that has nothing else is no set (contract §1: 503).
 */

const KID = "hostile";
const RSA = makeTestKey("RS256", KID);
const [P256, P384, ED25519] = [makeTestKey("ES256", KID), makeTestKey("ES384", KID), makeTestKey("EdDSA", KID)];

let setting: JwksSetting;
let server: TestServer;
beforeAll(async () => {
  setting = await startJwksSetting("sqlite");
  server = setting.server;
});
afterAll(() => setting.stop());

/** A token that claims to be by the bad key. */
type Forge = (signingInput: string, partner: TestPartner) => Buffer;
const by =
  (key: TestKey): Forge =>
  (input) =>
    signatureOf(input, key);

function forged(partner: TestPartner, alg: string, forge: Forge): string {
  const input = `${encodePart({ alg, kid: KID })}.${encodePart(subjectClaims(partner))}`;
  return `${input}.${forge(input, partner).toString("base64url")}`;
}

async function expectKeyRefused(jwk: object, why: RegExp, alg: string, forge: Forge): Promise<void> {
  const hostile = { kid: KID, ...jwk };
  const partner = await createJwksPartner(setting, { beside: [hostile] });
  expectGranted(await exchange(partner, subjectToken(partner)));
  await expectRefusal(server, await exchange(partner, forged(partner, alg, forge)), { code: "jwt_kid_unknown" });
  const { keys } = await keyReport(server, partner);
  expect(keys).toMatchObject([
    { kid: partner.key.kid, state: "used", reason: null },
    { kid: KID, state: "refused", reason: expect.stringMatching(why), algorithm: null },
  ]);
  const alone = await createJwksPartner(setting, { fields: {} });
  alone.set.publish([hostile]);
  await expectRefusal(server, await exchange(alone, forged(alone, alg, forge)), { code: "partner_keys_missing" });
  expect(await keyReport(server, alone)).toMatchObject({ failing: false, keys: [{ state: "refused", reason: keys[1]?.reason }] });
}

const bytes = (text: unknown) => Buffer.from(text as string, "base64url");
/** One of its numbers changed. */
function changed(key: TestKey, member: string, change: (before: Buffer) => Buffer): Record<string, unknown> {
  return { ...key.publicJwk, [member]: change(bytes(key.publicJwk[member])).toString("base64url") };
}
const flipped = (at: number) => (before: Buffer) =>
  Buffer.from(before.map((byte, i) => (i === (at + before.length) % before.length ? byte ^ 1 : byte)));

describe("keys that are no public keys for signatures", () => {
  const k = Buffer.from("a secret that whoever reads the set knows").toString("base64url");
  const mac: Forge = (input) => createHmac("sha256", bytes(k)).update(input).digest();

  test("P5.13 400: an oct key is ignored, and never an HMAC key", async () => {
    for (const alg of [undefined, "HS256", "ES256"]) {
      await expectKeyRefused({ kty: "oct", k, alg, use: "sig" }, /symmetric key/, "ES256", mac);
    }
    const partner = await createJwksPartner(setting, { beside: [{ kty: "oct", k, kid: KID, alg: "HS256" }] });
    await expectRefusal(server, await exchange(partner, forged(partner, "HS256", mac)), { code: "jwt_algorithm_unsupported" });
    // nor is a public key's text, or a member k that a key of another kind carries
    const publicKey: Forge = (input, { key }) => createHmac("sha256", JSON.stringify(key.publicJwk)).update(input).digest();
    const token = forged(partner, "HS256", publicKey);
    await expectRefusal(server, await exchange(partner, token), { code: "jwt_algorithm_unsupported" });
    await expectKeyRefused({ ...RSA.publicJwk, k }, /private part \(k\)/, "RS256", mac);
  });

  test("P5.13 400: a private key is in everybody's hands, and not used", async () => {
    for (const key of [RSA, P256, ED25519]) {
      const jwk = { ...key.privateKey.export({ format: "jwk" }), alg: key.algorithm };
      await expectKeyRefused(jwk, /private part/, key.algorithm, by(key));
    }
  });

  test.each([
    ["use enc", { use: "enc" }, /"use"/],
    ["a use of another type", { use: ["sig"] }, /"use"/],
    ["an empty use", { use: "" }, /"use"/],
    ["key_ops encrypt", { use: undefined, key_ops: ["encrypt"] }, /"key_ops"/],
    ["key_ops sign", { use: undefined, key_ops: ["sign"] }, /"key_ops"/],
    ["no key_ops at all", { use: undefined, key_ops: [] }, /"key_ops"/],
    ["key_ops as text", { use: undefined, key_ops: "verify" }, /"key_ops"/],
    ["use sig and key_ops encrypt", { use: "sig", key_ops: ["encrypt", "wrapKey"] }, /"key_ops"/],
    ["an algorithm for encryption", { alg: "RSA-OAEP", use: undefined }, /algorithm "RSA-OAEP"/],
  ])("P5.18 400: a key with %s is not used for verification", async (_what, members, why) => {
    await expectKeyRefused({ ...RSA.publicJwk, ...members }, why, "RS256", by(RSA));
  });
});

describe("RSA", () => {
  test("P5.14 400: 1024 bits", async () => {
    const { privateKey, publicKey } = newKeyPair("RS256", 1024);
    const key: TestKey = { kid: KID, algorithm: "RS256", privateKey, publicJwk: {} };
    await expectKeyRefused(publicKey.export({ format: "jwk" }), /1024 bits; make a key of at least 2048/, "RS256", by(key));
  });

  const exponent = (hex: string) => ({ ...RSA.publicJwk, e: Buffer.from(hex, "hex").toString("base64url") });

  /** RFC 8017 §9.2: with e = 1 the padded digest is its own signature. */
  const padded: Forge = (input) => {
    const info = Buffer.concat([Buffer.from("3031300d060960864801650304020105000420", "hex"), createHash("sha256").update(input).digest()]);
    return Buffer.concat([Buffer.of(0, 1), Buffer.alloc(256 - 3 - info.length, 0xff), Buffer.of(0), info]);
  };

  test.each([
    ["e of 1, with which anyone can sign", exponent("01"), /below 65537/, padded],
    ["e of 3", exponent("03"), /below 65537/, by(RSA)],
    ["e of 2", exponent("02"), /even/, by(RSA)],
    ["e of 65536", exponent("010000"), /even/, by(RSA)],
    ["e of 0", exponent("00"), /empty, zero/, by(RSA)],
    ["no e", exponent(""), /empty, zero/, by(RSA)],
    ["e of 2048 bits", exponent("ff".repeat(256)), /2048 bits; make a key with "e" 65537/, by(RSA)],
    ["an even modulus", changed(RSA, "n", (n) => flipped(-1)(n)), /modulus is even/, by(RSA)],
    ["a modulus of 16 384 bits", changed(RSA, "n", (n) => Buffer.concat(Array.from({ length: 8 }, () => n))), /16384 bits/, by(RSA)],
    ["a modulus of 100 000 bits", changed(RSA, "n", () => Buffer.alloc(12_500, 0xff)), /100000 bits/, by(RSA)],
    ["a modulus divisible by 3", changed(RSA, "n", (n) => divisibleBy(3n, n)), /divisible by 3/, by(RSA)],
  ])("P5.15 400: %s", async (_what, jwk, why, forge) => {
    await expectKeyRefused(jwk, why, "RS256", forge);
  });

  test("P5.17 400: a modulus with the mark of ROCA (CVE-2017-15361)", async () => {
    const jwk = { kty: "RSA", e: "AQAB", n: Buffer.from(rocaModulus().toString(16), "hex").toString("base64url") };
    await expectKeyRefused(jwk, /ROCA, CVE-2017-15361/, "RS256", by(RSA));
  });
});

describe("curves", () => {
  /** RFC 8032: with a key and an R of order one, S = 0 signs everything. */
  const identity = Buffer.from(`01${"00".repeat(31)}`, "hex");
  const smallOrder: Forge = () => Buffer.concat([identity, Buffer.alloc(32)]);
  const P521 = newKeyPairJwk("P-521");

  test.each([
    ["a P-256 point off the curve", changed(P256, "y", flipped(-1)), /no point of P-256/, "ES256", by(P256)],
    ["a P-384 point off the curve", changed(P384, "x", flipped(-1)), /no point of P-384/, "ES384", by(P384)],
    ["the point (0, 0)", { ...P256.publicJwk, x: "A".repeat(43), y: "A".repeat(43) }, /no point of P-256/, "ES256", by(P256)],
    ["a coordinate over the prime", changed(P256, "x", (x) => Buffer.alloc(x.length, 0xff)), /"x"/, "ES256", by(P256)],
    ["a coordinate one byte short", changed(P256, "x", (x) => x.subarray(1)), /"x"/, "ES256", by(P256)],
    ["a P-384 key marked ES256", { ...P384.publicJwk, alg: "ES256" }, /"alg" is ES256/, "ES256", by(P384)],
    ["a P-256 key marked ES384", { ...P256.publicJwk, alg: "ES384" }, /"alg" is ES384/, "ES384", by(P256)],
    ["a P-256 key marked RS256", { ...P256.publicJwk, alg: "RS256" }, /"alg" is RS256/, "RS256", by(P256)],
    ["P-384 coordinates under P-256", { ...P384.publicJwk, crv: "P-256", alg: "ES256" }, /"x"/, "ES256", by(P384)],
    ["P-521", P521, /curve "P-521" is not supported/, "ES256", by(P256)],
    ["secp256k1", { ...P256.publicJwk, crv: "secp256k1" }, /curve "secp256k1"/, "ES256", by(P256)],
    [
      "an Ed25519 key of order one, for which anyone can sign",
      { ...ED25519.publicJwk, x: identity.toString("base64url") },
      /small order/,
      "EdDSA",
      smallOrder,
    ],
    [
      "an Ed25519 key that is no point",
      { ...ED25519.publicJwk, x: Buffer.alloc(32, 2).toString("base64url") },
      /no point of Ed25519/,
      "EdDSA",
      by(ED25519),
    ],
  ])("P5.16 400: %s", async (_what, jwk, why, alg, forge) => {
    await expectKeyRefused(jwk, why, alg, forge);
  });
});

describe("the set as a whole", () => {
  test("P5.19 503: 5 000 keys, or 51, are refused in no time; 50 are taken", async () => {
    const partner = await createJwksPartner(setting);
    const filler = (count: number) => Array.from({ length: count }, () => ({ kty: "EC" }));
    partner.set.publish([partner.key, ...filler(4_999)]);
    const reply = await exchange(partner, subjectToken(partner));
    await expectRefusal(server, reply, { status: 503, error: "temporarily_unavailable", code: "partner_keys_unavailable" });
    expect(reply.json["error_description"]).toMatch(/5000 keys; publish at most 50/);
    expect(await leastCpuMs(() => refreshKeys(server, partner), 50)).toBeLessThan(50);
    partner.set.publish([partner.key, ...filler(50)]);
    expect((await refreshKeys(server, partner)).json["last_failure"]).toMatch(/51 keys/);
    partner.set.publish([partner.key, ...filler(49)]);
    expect((await refreshKeys(server, partner)).json).toMatchObject({ failing: false });
    expect((await keyReport(server, partner)).keys).toHaveLength(50);
    expectGranted(await exchange(partner, subjectToken(partner)));
  });

  test("P5.19 200: 50 real keys, each of which verifies what it signed", async () => {
    const others = Array.from({ length: 49 }, () => makeTestKey("ES256"));
    const partner = await createJwksPartner(setting, { beside: others });
    for (const key of [partner.key, ...others.slice(-5)]) expectGranted(await exchange(partner, subjectToken({ ...partner, key })));
  });

  test("400: two keys of one kid are both refused, whichever is first: nobody shadows another's key", async () => {
    const twin = makeTestKey("ES256", KID);
    for (const keys of [
      [P256, twin],
      [twin, P256],
      [P256, { kty: "oct", kid: KID, k: "AA" }],
    ]) {
      const partner = await createJwksPartner(setting, { beside: keys });
      expectGranted(await exchange(partner, subjectToken(partner)));
      for (const key of [P256, twin]) {
        await expectRefusal(server, await exchange(partner, subjectToken({ ...partner, key })), { code: "jwt_kid_unknown" });
      }
    }
  });

  test("what is no key at all takes nothing from the others", async () => {
    const junk = [
      null,
      1,
      "key",
      [],
      {},
      { kty: 1 },
      { kty: "EC" },
      { kty: "__proto__" },
      { __proto__: P256.publicJwk },
      { kid: "x".repeat(10_000) },
    ];
    const partner = await createJwksPartner(setting);
    partner.set.answer = (response) => void response.end(JSON.stringify({ keys: [...junk, partner.key.publicJwk], x: 1 }));
    expectGranted(await exchange(partner, subjectToken(partner)));
    const { keys } = await keyReport(server, partner);
    expect(keys.map(({ state }) => state).toSorted()).toEqual([...junk.map(() => "refused"), "used"]);
  });
});

function divisibleBy(prime: bigint, n: Buffer): Buffer {
  let value = BigInt(`0x${n.toString("hex")}`);
  while (value % prime !== 0n) value += 2n;
  return Buffer.from(value.toString(16), "hex");
}

/** As the broken generator made them: a power of 65537 modulo the product of the first primes (Nemec et al., CCS 2017). */
function rocaModulus(): bigint {
  const primes: bigint[] = [];
  for (let n = 2n; n < 752n; n++) if (primes.every((prime) => n % prime !== 0n)) primes.push(n);
  const product = primes.filter((prime) => prime <= 167n).reduce((all, prime) => all * prime, 1n);
  let residue = 1n;
  for (let i = 0; i < 1_000; i++) residue = (residue * 65_537n) % product;
  let modulus = (2n ** 2047n / product + 1n) * product + residue;
  while (primes.some((prime) => modulus % prime === 0n)) modulus += product; // odd, and without another fault
  return modulus;
}

/** A key that this server has no algorithm for. */
function newKeyPairJwk(crv: string): object {
  const coordinate = Buffer.alloc(66, 1).toString("base64url");
  return { kty: "EC", crv, x: coordinate, y: coordinate, alg: "ES512" };
}
