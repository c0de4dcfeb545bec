import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import { signJwt } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  ISSUER,
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
 * A4, iss, sub, aud and the shape of the payload: P4.1, P4.11, P4.15–P4.21. Times: a4-times.test.ts. Replay (P4.12–P4.14):
 * a4-replay.test.ts. What the issued token holds (P4.22): a4-issued-token.test.ts.
 */

let server: TestServer;
let partner: TestPartner;
beforeAll(async () => {
  server = await startTestServer("sqlite");
  partner = await createTestPartner(server);
});
afterAll(() => server.stop());

async function expectClaimsRefused(changes: Record<string, unknown>, code: RefusalCode): Promise<string> {
  return expectPayloadRefused(JSON.stringify(subjectClaims(partner, changes)), code);
}

/** Gives back the description. */
async function expectPayloadRefused(payload: string, code: RefusalCode): Promise<string> {
  const reply = await exchange(partner, signed(payload));
  await expectRefusal(server, reply, { code });
  return reply.json["error_description"] as string;
}

function signed(payload: string): string {
  return signJwt({ alg: partner.key.algorithm, kid: partner.key.kid }, payload, partner.key);
}

/** A payload that passes, as text, with these members before the good ones. */
function payloadWith(members: string, claims: Record<string, unknown> = subjectClaims(partner)): string {
  return `{${members},${JSON.stringify(claims).slice(1)}`;
}

describe("required claims", () => {
  test.each(["iss", "sub", "aud", "exp", "iat"])("P4.1 P4.15 400: a token without %s is refused, by its name", async (claim) => {
    expect(await expectClaimsRefused({ [claim]: undefined }, "claim_missing")).toContain(claim);
    expect(await expectClaimsRefused({ [claim]: null }, "claim_malformed")).toContain(claim);
  });

  test("P4.1 400: no claim at all", async () => {
    await expectPayloadRefused("{}", "claim_missing");
  });

  test("P4.11 400: a claim that is there twice is refused, whichever comes last", async () => {
    const victim = JSON.stringify("somebody-else");
    await expectPayloadRefused(payloadWith(`"sub":${victim}`), "jwt_not_json");
    await expectPayloadRefused(payloadWith(`"s\\u0075b":${victim}`), "jwt_not_json");
    await expectPayloadRefused(payloadWith(`"sub":${JSON.stringify(partner.clientId)}`), "jwt_not_json");
    await expectPayloadRefused(payloadWith(`"exp":1`), "jwt_not_json");
    await expectPayloadRefused(payloadWith(`"nested":{"a":1,"a":2}`), "jwt_not_json");
    await expectPayloadRefused(payloadWith(`"__proto__":1,"__proto__":2`), "jwt_not_json");
  });

  test("P4.11 400: a claim in another letter case is another claim", async () => {
    const { sub, ...claims } = subjectClaims(partner);
    await expectPayloadRefused(JSON.stringify({ ...claims, Sub: sub, SUB: sub }), "claim_missing");
  });
});

describe("aud", () => {
  test("P4.15 P4.16 200: our issuer URL, alone, as a string or as an array of one", async () => {
    for (const aud of [ISSUER, [ISSUER]]) expectGranted(await exchange(partner, subjectToken(partner, { aud })));
  });

  test.each([
    ["another server", "https://other.test"],
    ["the partner itself", "prt_0"],
    ["a slash more", `${ISSUER}/`],
    ["an upper-case host", "https://CAMBIST.test"],
    ["an upper-case scheme", "HTTPS://cambist.test"],
    ["the default port", `${ISSUER}:443`],
    ["a longer host", `${ISSUER}.evil.com`],
    ["user information", "https://cambist.test@evil.com"],
    ["a part of it", ISSUER.slice(0, -1)],
    ["http", ISSUER.replace("https", "http")],
    ["the metadata URL", `${ISSUER}/.well-known/oauth-authorization-server`],
    ["the token endpoint", `${ISSUER}/oauth2/token`],
    ["our API", `${ISSUER}/v2`],
    ["a space before it", ` ${ISSUER}`],
    ["a list in a string", `${ISSUER} https://other.test`],
    ["nothing", ""],
    ["us and another", [ISSUER, "https://other.test"]],
    ["another and us", ["https://other.test", ISSUER]],
    ["us twice", [ISSUER, ISSUER]],
    ["an array of another", ["https://other.test"]],
  ])("P4.15 P4.16 P4.17 400: %s is another audience", async (_, aud) => {
    await expectClaimsRefused({ aud }, "audience_mismatch");
  });

  test.each([[[]], [[null]], [[[ISSUER]]], [[{ 0: ISSUER }]], [{ 0: ISSUER, length: 1 }], [true], [0], [null]])(
    "P4.16 400: aud of %j is refused as malformed",
    async (aud) => {
      await expectClaimsRefused({ aud }, "claim_malformed");
    },
  );

  test("P4.17 400: a partner with an audience of its own is held to that one", async () => {
    const other = await createTestPartner(server, { audience: "urn:example:cambist" });
    expectGranted(await exchange(other, subjectToken(other, { aud: "urn:example:cambist" })));
    await expectRefusal(server, await exchange(other, subjectToken(other)), { code: "audience_mismatch" });
    await expectClaimsRefused({ aud: "urn:example:cambist" }, "audience_mismatch");
  });

  test("P4.18 400: an aud of 5 000 strings is refused by its size, at once", async () => {
    const token = subjectToken(partner, { aud: [...Array.from({ length: 5_000 }, () => "a"), ISSUER] });
    await expectRefusal(server, await exchange(partner, token), { code: "jwt_too_large" });
    expect(await leastCpuMs(() => exchange(partner, token), 50)).toBeLessThan(50);
  });

  test("P4.18 400: a token of more than 16 KiB is refused, one that stays below is not", async () => {
    const padding = (characters: number) => subjectToken(partner, { padding: "x".repeat(characters) });
    expectGranted(await exchange(partner, padding(11_000)));
    await expectRefusal(server, await exchange(partner, padding(12_300)), { code: "jwt_too_large" });
  });
});

describe("iss", () => {
  test("P4.19 400: anything but the registered issuer, character by character, is refused", async () => {
    const { clientId } = partner;
    const others = [
      `${clientId}/`,
      clientId.toUpperCase(),
      clientId.slice(0, -1),
      `${clientId}0`,
      ` ${clientId}`,
      `${clientId}\0`,
      "",
      ISSUER,
    ];
    for (const iss of others) await expectClaimsRefused({ iss }, "issuer_mismatch");
    for (const iss of [[clientId], { 0: clientId }, 0, true]) await expectClaimsRefused({ iss }, "claim_malformed");
  });

  test("P4.19 400: a partner with an issuer of its own is held to that one; its client id does not do", async () => {
    const other = await createTestPartner(server, { issuer: "https://partner.test/Tenant" });
    expectGranted(await exchange(other, subjectToken(other, { iss: "https://partner.test/Tenant" })));
    for (const iss of [
      other.clientId,
      "https://partner.test/tenant",
      "https://partner.test/Tenant/",
      "https://partner.test",
      "https://partner.test/%54enant",
    ]) {
      await expectRefusal(server, await exchange(other, subjectToken(other, { iss })), { code: "issuer_mismatch" });
    }
  });
});

describe("sub and jti", () => {
  test.each([0, 1e21, true, false, {}, [], ["x"], "", "x".repeat(300), "x".repeat(256), "x\0", "x\n", "\u0085", "\u001b[31m"])(
    "P4.20 400: sub of %j is refused as malformed",
    async (sub) => {
      await expectClaimsRefused({ sub }, "claim_malformed");
    },
  );

  test.each([0, true, null, {}, [], "", "x".repeat(256), "x\0"])("P4.20 400: jti of %j is refused, never taken for absent", async (jti) => {
    await expectClaimsRefused({ jti }, "claim_malformed");
  });

  test("P4.20 400: a sub of 255 characters of any script is looked up, and no more", async () => {
    for (const sub of ["x".repeat(255), "é".repeat(255), "😀".repeat(127), "' OR '1'='1", "%", "_"]) {
      await expectClaimsRefused({ sub }, "subject_unknown");
    }
  });

  test("P4.20 400: half a surrogate pair in sub is refused before any lookup", async () => {
    const { sub: _, ...claims } = subjectClaims(partner);
    await expectPayloadRefused(payloadWith('"sub":"\\ud800"', claims), "jwt_not_json");
  });
});

describe("prototypes", () => {
  const PROTOTYPES = [
    '"__proto__":{"admin":true}',
    '"constructor":{"prototype":{"admin":true}}',
    '"prototype":{"admin":true}',
    '"toString":1,"valueOf":2,"hasOwnProperty":3',
  ];

  test.each(PROTOTYPES)("P4.21 200: %s is a claim like any other: ignored", async (members) => {
    expectGranted(await exchange(partner, signed(payloadWith(members))));
    expect(({} as Record<string, unknown>)["admin"]).toBeUndefined();
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  test.each(["iss", "sub", "aud", "exp", "iat"])("P4.21 400: %s in __proto__ is not a claim", async (claim) => {
    const { [claim]: moved, ...claims } = subjectClaims(partner);
    const members = `"__proto__":${JSON.stringify({ [claim]: moved })}`;
    expect(await expectPayloadRefused(payloadWith(members, claims), "claim_missing")).toContain(claim);
  });
});
