import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import { newKeyPair } from "../../packages/server/src/keys/key-pair.ts";
import { encodePart, makeTestKey, type Part, signatureOf, signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { leastCpuMs } from "./least-cpu-ms.ts";

/*
 * A3, header and encoding of the subject token: P3.1, P3.2, P3.6–P3.8, P3.10–P3.16, P3.23. Keys: a3-algorithm.test.ts. Signatures: a3-signature.test.ts.
 * Left out: P3.21 (Wycheproof), which is tested beside the code that verifies.
 */

let server: TestServer;
let partner: TestPartner;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
});
afterAll(() => server.stop());

async function expectTokenRefused(token: string, code: RefusalCode): Promise<void> {
  await expectRefusal(server, await exchange(partner, token), { code });
}

/** Signed by the partner, over exactly these bytes. */
function signed(header: Part, payload: Part = subjectClaims(partner)): string {
  return signJwt(header, payload, partner.key);
}

describe("no signature", () => {
  test("P3.1 400: alg none with an empty signature is refused", async () => {
    await expectTokenRefused(`${encodePart({ alg: "none" })}.${encodePart(subjectClaims(partner))}.`, "jwt_malformed");
    await expectTokenRefused(`${encodePart({ alg: "none" })}.${encodePart(subjectClaims(partner))}`, "jwt_malformed");
  });

  test.each(["none", "nOnE", "NONE", "None", "None ", " none", "none\0", ""])(
    "P3.2 400: alg %j over a valid signature is refused",
    async (alg) => {
      await expectTokenRefused(subjectToken(partner, {}, { alg }), "jwt_algorithm_unsupported");
    },
  );

  test.each([undefined, null, true, 256, ["RS256"], { RS256: true }])("P3.2 400: alg %j, which is no string, is refused", async (alg) => {
    await expectTokenRefused(subjectToken(partner, {}, { alg }), "jwt_algorithm_unsupported");
  });
});

describe("keys that come along", () => {
  const attacker = makeTestKey("RS256", "key-1");
  const { kty, n, e } = attacker.publicJwk;
  const members: Record<string, unknown> = {
    jwk: { kty, n, e },
    jku: "https://attacker.test/jwks.json",
    x5u: "https://attacker.test/chain.pem",
    // a chain is never read, so it need not be one
    x5c: [newKeyPair("ES256").publicKey.export({ format: "der", type: "spki" }).toString("base64")],
    "x5t#S256": "AAAA",
  };

  test.each(Object.keys(members))("P3.6 P3.7 400: the %s header is refused and its key never used", async (member) => {
    const header = { alg: "RS256", kid: "key-1", [member]: members[member] };
    await expectTokenRefused(signJwt(header, subjectClaims(partner), attacker), "jwt_header_member_unsupported");
  });

  test("P3.6 400: an embedded key is refused even where it is the partner's own", async () => {
    await expectTokenRefused(subjectToken(partner, {}, { jwk: partner.key.publicJwk }), "jwt_header_member_unsupported");
  });
});

describe("kid", () => {
  test.each([
    ["a path", "../../dev/null"],
    ["SQL", "' OR 1=1--"],
    ["a NUL", "key-1\0"],
    ["__proto__", "__proto__"],
    ["constructor", "constructor"],
    ["another letter case", "KEY-1"],
    ["a space after it", "key-1 "],
    ["a number as text", "0"],
  ])("P3.8 400: kid as %s names no key", async (_, kid) => {
    await expectTokenRefused(subjectToken(partner, {}, { kid }), "jwt_kid_unknown");
  });

  test.each([
    ["10 KB", "k".repeat(10_240)],
    ["256 characters", "k".repeat(256)],
    ["empty", ""],
    ["a number", 0],
    ["null", null],
    ["an array", ["key-1"]],
    ["an object", {}],
  ])("P3.8 400: kid that is %s is refused as malformed, never as absent", async (_, kid) => {
    await expectTokenRefused(subjectToken(partner, {}, { kid }), "jwt_kid_malformed");
  });
});

describe("crit and other header parameters", () => {
  test.each([[["x"]], [[]], ["x"], [["exp"]]])("P3.10 400: crit %j is refused", async (crit) => {
    await expectTokenRefused(subjectToken(partner, {}, { crit }), "jwt_header_member_unsupported");
  });

  test("P3.11 400: an unencoded payload (b64 false) is refused, with crit and without", async () => {
    for (const header of [{ b64: false, crit: ["b64"] }, { b64: false }, { b64: true }]) {
      await expectTokenRefused(subjectToken(partner, {}, header), "jwt_header_member_unsupported");
    }
    const protectedHeader = encodePart({ alg: "RS256", b64: false, crit: ["b64"] });
    const payload = JSON.stringify({ sub: partner.clientId }); // without a dot, which would be one part more
    const signature = signatureOf(`${protectedHeader}.${payload}`, partner.key).toString("base64url");
    await expectTokenRefused(`${protectedHeader}.${payload}.${signature}`, "jwt_not_base64url");
    await expectTokenRefused(`${protectedHeader}..${signature}`, "jwt_header_member_unsupported");
  });

  test.each(["__proto__", "constructor", "cty", "zip", "enc", "p2c", "Alg", "toString"])(
    "P3.10 400: the header member %s is refused",
    async (member) => {
      const header = `{"alg":"RS256","kid":"key-1","${member}":{"alg":"none"}}`;
      await expectTokenRefused(signed(header), "jwt_header_member_unsupported");
    },
  );
});

describe("typ", () => {
  test.each(["at+jwt", "application/at+jwt", "dpop+jwt", "logout+jwt", "client-authentication+jwt", "", "JWT ", "text/jwt", "jwt;a=b"])(
    "P3.12 400: typ %j is another kind of token",
    async (typ) => {
      await expectTokenRefused(subjectToken(partner, {}, { typ }), "jwt_typ_unexpected");
    },
  );

  test.each([null, 1, ["JWT"], {}])("P3.12 400: typ %j is refused, never taken for absent", async (typ) => {
    await expectTokenRefused(subjectToken(partner, {}, { typ }), "jwt_typ_unexpected");
  });

  test.each(["jwt", "JWT", "application/JWT", "Application/jwt", undefined])("P3.13 200: typ %j is a JWT", async (typ) => {
    expectGranted(await exchange(partner, subjectToken(partner, {}, { typ })));
  });
});

describe("not a compact JWS", () => {
  const jwe = (header: object) =>
    `${encodePart(header)}..${encodePart("0123456789ab")}.${encodePart("x".repeat(5_000))}.${encodePart("tag")}`;
  const encrypted: [string, () => string][] = [
    ["dir", () => jwe({ alg: "dir", enc: "A128GCM" })],
    ["PBES2 of 2^31 rounds", () => jwe({ alg: "PBES2-HS256+A128KW", enc: "A128GCM", p2c: 2 ** 31, p2s: "c2FsdA" })],
    ["a DEF bomb", () => jwe({ alg: "RSA-OAEP", enc: "A128GCM", zip: "DEF" })],
  ];

  test.each(encrypted)("P3.14 400: a JWE (%s) is refused at once, before any decryption", async (_, make) => {
    await expectTokenRefused(make(), "jwt_encrypted");
    expect(await leastCpuMs(() => exchange(partner, make()), 50)).toBeLessThan(50);
  });

  test("P3.14 400: the header of a JWE around a signed JWT is refused", async () => {
    for (const header of [{ zip: "DEF" }, { enc: "A128GCM" }, { p2c: 2 ** 31, p2s: "c2FsdA" }]) {
      await expectTokenRefused(subjectToken(partner, {}, header), "jwt_header_member_unsupported");
    }
    await expectTokenRefused(subjectToken(partner, {}, { alg: "PBES2-HS256+A128KW" }), "jwt_algorithm_unsupported");
  });

  test("P3.15 400: the JSON serializations are refused, also one that embeds a compact token", async () => {
    const [header = "", payload = "", signature = ""] = subjectToken(partner).split(".");
    const flattened = { protected: header, payload, signature };
    const general = { payload, signatures: [{ protected: header, signature }] };
    await expectTokenRefused(JSON.stringify(flattened), "jwt_malformed");
    await expectTokenRefused(JSON.stringify(general), "jwt_malformed");
    const forged = encodePart(subjectClaims(partner, { sub: "somebody-else" }));
    const polyglot = JSON.stringify({ [`  ${header}.${forged}.`]: "", ...flattened }); // CVE-2022-39227
    await expectTokenRefused(polyglot, "jwt_not_base64url");
  });

  test("P3.16 400: any number of parts but three, or an empty part, is refused", async () => {
    const [header = "", payload = "", signature = ""] = subjectToken(partner).split(".");
    const malformed = [
      header,
      `${header}.${payload}`,
      `.${header}.${payload}`,
      `${header}.${payload}.${signature}.`,
      `${header}.${payload}.${signature}.${signature}`,
      `${header}.${payload}.${signature}.a.b.c`,
      `.${payload}.${signature}`,
      "..",
      ".",
      "...",
      "x",
    ];
    for (const token of malformed) await expectTokenRefused(token, "jwt_malformed");
    await expectTokenRefused("....", "jwt_encrypted");
    await expectTokenRefused(`Bearer ${header}.${payload}.${signature}`, "jwt_not_base64url");
    await expectTokenRefused(`${header}..${signature}`, "jwt_signature_invalid");
  });
});

describe("header and payload as JSON", () => {
  const object = (first: string) => `{"alg":"RS256","kid":"key-1"${first}}`;
  const bytes: [string, Part][] = [
    ["a byte order mark", `\uFEFF${object("")}`],
    ["UTF-16", Buffer.from(object(""), "utf16le")],
    ["UTF-16 with its mark", Buffer.from(`\uFEFF${object("")}`, "utf16le")],
    ["Latin-1", Buffer.from(object(',"name":"é"'), "latin1")],
    ["overlong UTF-8", Buffer.concat([Buffer.from('{"alg":"'), Buffer.from([0xc1, 0x92]), Buffer.from('S256"}')])],
    ["half a surrogate pair", object(',"name":"\\ud800"')],
    ["two objects", `${object("")}{}`],
    ["an array", "[]"],
    ["a string", '"RS256"'],
    ["null", "null"],
    ["a number", "1"],
    ["a comma too many", object(",")],
    ["a comment", `/**/${object("")}`],
    ["single quotes", "{'alg':'RS256'}"],
    ["NaN", object(',"exp":NaN')],
    ["1e400", object(',"exp":1e400')],
    ["a name twice", object(',"alg":"none"')],
    ["a name twice, once escaped", object(',"\\u0061lg":"none"')],
    ["nested 5 000 deep", object(`,"x":${"[".repeat(5_000)}${"]".repeat(5_000)}`)],
    ["a NUL after it", `${object("")}\0`],
    ["a line break in a string", object(',"x":"\n"')],
  ];

  test.each(bytes)("P3.23 400: %s as the header is refused", async (_, header) => {
    await expectTokenRefused(signed(header), "jwt_not_json");
  });

  test.each(bytes)("P3.23 400: %s as the payload is refused, though it is signed", async (_, payload) => {
    await expectTokenRefused(signed({ alg: "RS256", kid: "key-1" }, payload), "jwt_not_json");
  });

  test("P3.23 400: an empty payload is refused, though it is signed", async () => {
    await expectTokenRefused(signed({ alg: "RS256", kid: "key-1" }, ""), "jwt_not_json");
  });
});
