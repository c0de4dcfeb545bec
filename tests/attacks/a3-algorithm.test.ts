import { createHmac, createPublicKey } from "node:crypto";
import { afterAll, beforeAll, describe, test } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import { encodePart, makeTestKey, signJwt, type TestAlgorithm } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
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

/* A3, algorithms and keys of the subject token: P3.3–P3.5, P3.9, P3.22, and P2.11. */

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

describe("the algorithm", () => {
  test.each(ALGORITHMS)("P3.22 200: a token signed with %s is taken", async (algorithm) => {
    expectGranted(await exchange(partners[algorithm], subjectToken(partners[algorithm])));
  });

  test.each(["RS1", "ES256K", "ES512", "RS384", "RS512", "PS512", "HS256", "HS512", "RSA-OAEP", "EdDSA2", "Ed25519", "rs256", "RS256 "])(
    "P3.22 400: alg %j is not offered",
    async (alg) => {
      await expectTokenRefused(partners.RS256, subjectToken(partners.RS256, {}, { alg }), "jwt_algorithm_unsupported");
    },
  );

  test("P3.22 400: an algorithm outside the partner's own list is refused, though the key is registered", async () => {
    const partner = await createTestPartner(server, { allowed_algorithms: ["RS256", "EdDSA"] }, KEYS.ES256);
    await expectTokenRefused(partner, subjectToken(partner), "jwt_algorithm_not_allowed");
  });

  test("P3.3 400: an HMAC keyed with the partner's public key is refused", async () => {
    const { kty, n, e } = KEYS.RS256.publicJwk;
    const publicKey = createPublicKey({ key: { kty, n, e } as never, format: "jwk" });
    const secrets = [
      publicKey.export({ format: "pem", type: "spki" }),
      publicKey.export({ format: "pem", type: "spki" }).toString().trim(),
      publicKey.export({ format: "pem", type: "pkcs1" }),
      publicKey.export({ format: "der", type: "spki" }),
      JSON.stringify(KEYS.RS256.publicJwk),
    ];
    for (const secret of secrets) {
      for (const alg of ["HS256", "RS256"]) {
        const input = `${encodePart({ alg, kid: KEYS.RS256.kid })}.${encodePart(subjectClaims(partners.RS256))}`;
        const token = `${input}.${createHmac("sha256", secret).update(input).digest("base64url")}`;
        await expectTokenRefused(partners.RS256, token, alg === "HS256" ? "jwt_algorithm_unsupported" : "jwt_signature_invalid");
      }
    }
  });

  test("P3.4 400: an HMAC keyed with the client secret is refused", async () => {
    const partner = partners.RS256;
    for (const kid of [undefined, KEYS.RS256.kid]) {
      const input = `${encodePart({ alg: "HS256", kid })}.${encodePart(subjectClaims(partner))}`;
      const mac = createHmac("sha256", partner.clientSecret).update(input).digest("base64url");
      await expectTokenRefused(partner, `${input}.${mac}`, "jwt_algorithm_unsupported");
    }
  });

  test("P3.5 400: an RSA key without alg is for RS256, and PS256 by the same key is refused", async () => {
    const { alg: _, ...jwk } = KEYS.RS256.publicJwk;
    const partner = await createTestPartner(server, { jwks: { keys: [jwk] } }, KEYS.RS256);
    expectGranted(await exchange(partner, subjectToken(partner)));
    const token = signJwt({ alg: "PS256", kid: partner.key.kid }, subjectClaims(partner), { ...partner.key, algorithm: "PS256" });
    await expectTokenRefused(partner, token, "jwt_algorithm_not_of_key");
  });

  test.each([
    ["RS256", "PS256"],
    ["PS256", "RS256"],
    ["ES256", "ES384"],
    ["ES384", "ES256"],
    ["EdDSA", "ES256"],
  ] as const)("P3.5 400: a key for %s does not verify %s", async (ofKey, ofToken) => {
    const partner = partners[ofKey];
    await expectTokenRefused(partner, subjectToken(partner, {}, { alg: ofToken }), "jwt_algorithm_not_of_key");
  });

  test("P3.5 400: a signature by PS256 under a header that says RS256 is refused", async () => {
    const claims = subjectClaims(partners.RS256);
    const token = signJwt({ alg: "RS256", kid: KEYS.RS256.kid }, claims, { ...KEYS.RS256, algorithm: "PS256" });
    await expectTokenRefused(partners.RS256, token, "jwt_signature_invalid");
  });
});

describe("which key", () => {
  test("P3.9 400: without a kid and with two keys nothing is tried; with one key a kid is not needed", async () => {
    const other = makeTestKey("ES256");
    const two = await createTestPartner(server, { jwks: { keys: [KEYS.ES256.publicJwk, other.publicJwk] } }, KEYS.ES256);
    await expectTokenRefused(two, subjectToken(two, {}, { kid: undefined }), "jwt_kid_missing");
    await expectTokenRefused(two, subjectToken(two, {}, { kid: other.kid }), "jwt_signature_invalid");
    expectGranted(await exchange(two, subjectToken(two)));
    expectGranted(await exchange(partners.ES256, subjectToken(partners.ES256, {}, { kid: undefined })));
  });
});

test("P2.11 400: one of our own access tokens is no subject token, whole or re-headed", async () => {
  const partner = partners.ES256;
  const user = await createTestUser(partner);
  for (const sub of [partner.clientId, user.userId]) {
    const accessToken = (await exchange(partner, subjectToken(partner, { sub }))).json["access_token"] as string;
    await expectTokenRefused(partner, accessToken, "jwt_typ_unexpected");
    const [, payload = "", signature = ""] = accessToken.split(".");
    await expectTokenRefused(
      partner,
      `${encodePart({ alg: "ES256", kid: partner.key.kid })}.${payload}.${signature}`,
      "jwt_signature_invalid",
    );
    // even where the partner's own key signs what we issued: iss and aud are ours
    const resigned = signJwt({ alg: "ES256", kid: partner.key.kid }, Buffer.from(payload, "base64url"), partner.key);
    await expectTokenRefused(partner, resigned, "issuer_mismatch");
  }
});
