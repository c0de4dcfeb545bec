import { sign } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import { encodePart, makeTestKey, signJwt, type TestAlgorithm } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestUser,
  exchange,
  startTestServer,
  subjectClaims,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectGranted } from "./expect-granted.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { ALGORITHMS, createPartnerPerAlgorithm, KEYS } from "./signers.ts";

/*
 * A3, signatures of the subject token: P3.17–P3.20. Algorithms and keys: a3-algorithm.test.ts. Header and encoding: a3-header.test.ts.
 * Left out: P3.21 (Wycheproof), which is tested beside the code that verifies.
 */

let server: TestServer;
let partners: Record<TestAlgorithm, TestPartner>;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partners = await createPartnerPerAlgorithm(server);
});
afterAll(() => server.stop());

async function expectTokenRefused(partner: TestPartner, token: string, code: RefusalCode): Promise<void> {
  await expectRefusal(server, await exchange(partner, token), { code });
}

/** A good token with its signature changed. */
function withSignature(token: string, change: (signature: Buffer) => Buffer): string {
  const [header = "", payload = "", signature = ""] = token.split(".");
  return `${header}.${payload}.${change(Buffer.from(signature, "base64url")).toString("base64url")}`;
}

describe("the signature", () => {
  test("P3.18 400: a signature by another key under the right kid is refused", async () => {
    for (const algorithm of ALGORITHMS) {
      const attacker = makeTestKey(algorithm, KEYS[algorithm].kid);
      const token = signJwt({ alg: algorithm, kid: attacker.kid }, subjectClaims(partners[algorithm]), attacker);
      await expectTokenRefused(partners[algorithm], token, "jwt_signature_invalid");
    }
  });

  test("P3.18 400: a payload or header changed under the old signature is refused", async () => {
    const user = await createTestUser(partners.RS256);
    for (const algorithm of ALGORITHMS) {
      const partner = partners[algorithm];
      const [header = "", , signature = ""] = subjectToken(partner).split(".");
      const payload = encodePart(subjectClaims(partner, { sub: user.userId }));
      await expectTokenRefused(partner, `${header}.${payload}.${signature}`, "jwt_signature_invalid");
      const [, oldPayload = "", oldSignature = ""] = subjectToken(partner).split(".");
      const newHeader = encodePart({ kid: partner.key.kid, alg: algorithm }); // the same members in another order
      await expectTokenRefused(partner, `${newHeader}.${oldPayload}.${oldSignature}`, "jwt_signature_invalid");
    }
  });

  test.each(ALGORITHMS)("P3.18 400: a %s signature with any bit, length or byte order changed is refused", async (algorithm) => {
    const partner = partners[algorithm];
    const changes: ((signature: Buffer) => Buffer)[] = [
      (signature) => Buffer.concat([Buffer.from([(signature[0] ?? 0) ^ 1]), signature.subarray(1)]),
      (signature) => Buffer.concat([signature.subarray(0, -1), Buffer.from([(signature.at(-1) ?? 0) ^ 0x80])]),
      (signature) => signature.subarray(0, -1),
      (signature) => Buffer.concat([signature, Buffer.from([0])]),
      (signature) => Buffer.concat([Buffer.from([0]), signature]),
      (signature) => Buffer.concat([signature, signature]),
      (signature) => Buffer.from(signature.toReversed()),
      (signature) => Buffer.alloc(signature.length),
      (signature) => Buffer.alloc(signature.length, 0xff),
      () => Buffer.from([0]),
    ];
    for (const change of changes) await expectTokenRefused(partner, withSignature(subjectToken(partner), change), "jwt_signature_invalid");
  });

  test.each(ALGORITHMS)("P3.17 400: a second spelling of a %s signature is refused", async (algorithm) => {
    const partner = partners[algorithm];
    const respell: ((signature: string) => string)[] = [
      (signature) => `${signature}\n`,
      (signature) => `${signature}\r\n`,
      (signature) => `${signature.slice(0, 20)}\n${signature.slice(20)}`,
      (signature) => `${signature} `,
      (signature) => ` ${signature}`,
      (signature) => `${signature}=`,
      (signature) => `${signature}==`,
      (signature) => `${signature}\0`,
      (signature) => `${signature.slice(0, 20)}!${signature.slice(20)}`,
      (signature) => `${signature.slice(0, 20)}%${signature.slice(20)}`,
      (signature) => `${signature}\u200B`,
    ];
    const [header = "", payload = "", signature = ""] = subjectToken(partner).split(".");
    const spellings = respell.map((change) => change(signature));
    if (signature.length % 4 !== 0) spellings.push(signature.slice(0, -1) + nextLetter(signature.at(-1) ?? "")); // unused bits set
    if (/[-_]/.test(signature)) spellings.push(signature.replaceAll("-", "+").replaceAll("_", "/")); // the other alphabet
    for (const spelling of spellings) {
      const reply = await exchange(partner, `${header}.${payload}.${spelling}`);
      await expectRefusal(server, reply, { code: "jwt_not_base64url" });
      expect(reply.json["error_description"]).toContain("signature");
    }
    expectGranted(await exchange(partner, `${header}.${payload}.${signature}`));
  });

  test("P3.17 400: a second spelling of the header or the payload is refused", async () => {
    const [header = "", payload = "", signature = ""] = subjectToken(partners.RS256).split(".");
    for (const token of [`${header}=.${payload}.${signature}`, `${header}\n.${payload}.${signature}`]) {
      await expectTokenRefused(partners.RS256, token, "jwt_not_base64url");
    }
    for (const token of [`${header}.${payload}==.${signature}`, `${header}. ${payload}.${signature}`]) {
      await expectTokenRefused(partners.RS256, token, "jwt_not_base64url");
    }
  });

  /** FIPS 186-5: the number of points on each curve. */
  const order = {
    ES256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
    ES384: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  } as const;

  test.each(["ES256", "ES384"] as const)("P3.19 400: %s with r and s of 0, 1, n or the wrong length is refused", async (algorithm) => {
    const partner = partners[algorithm];
    const half = algorithm === "ES256" ? 32 : 48;
    const number = (value: bigint) => Buffer.from(value.toString(16).padStart(half * 2, "0"), "hex");
    const n = number(order[algorithm]);
    const [zero, one] = [number(0n), number(1n)];
    const pairs = [
      [zero, zero],
      [n, n],
      [n, one],
      [one, n],
      [one, zero],
      [zero, one],
      [one, one],
    ];
    for (const pair of pairs) {
      await expectTokenRefused(
        partner,
        withSignature(subjectToken(partner), () => Buffer.concat(pair)),
        "jwt_signature_invalid",
      );
    }
    for (const length of [0, 1, half, half * 2 - 1, half * 2 + 1, half * 2 + 2, half * 4]) {
      const token = withSignature(subjectToken(partner), (signature) => Buffer.concat([signature, signature]).subarray(0, length));
      await expectTokenRefused(partner, token, length === 0 ? "jwt_malformed" : "jwt_signature_invalid");
    }
  });

  test.each(["ES256", "ES384"] as const)("P3.19 400: %s with a zero more or less in front of s is refused", async (algorithm) => {
    const partner = partners[algorithm];
    const half = algorithm === "ES256" ? 32 : 48;
    const zero = Buffer.from([0]);
    const longer = withSignature(subjectToken(partner), (raw) => Buffer.concat([raw.subarray(0, half), zero, raw.subarray(half)]));
    await expectTokenRefused(partner, longer, "jwt_signature_invalid");
    let token = subjectToken(partner);
    while (Buffer.from(token.split(".")[2] ?? "", "base64url")[half] !== 0) token = subjectToken(partner); // one in 256
    const shorter = withSignature(token, (raw) => Buffer.concat([raw.subarray(0, half), raw.subarray(half + 1)]));
    await expectTokenRefused(partner, shorter, "jwt_signature_invalid");
    expectGranted(await exchange(partner, token));
  });

  test.each(["ES256", "ES384"] as const)("P3.20 400: an %s signature in DER is refused", async (algorithm) => {
    const partner = partners[algorithm];
    const token = withSignature(subjectToken(partner), (raw) => raw);
    const input = token.slice(0, token.lastIndexOf("."));
    const der = sign(algorithm === "ES256" ? "sha256" : "sha384", Buffer.from(input), { key: partner.key.privateKey, dsaEncoding: "der" });
    await expectTokenRefused(partner, `${input}.${der.toString("base64url")}`, "jwt_signature_invalid");
  });
});

/** The next letter of the base64url alphabet: the same bytes to a lenient decoder, where the last bits are unused. */
function nextLetter(letter: string): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return alphabet[alphabet.indexOf(letter) + 1] ?? "";
}
