import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { Report } from "./compare.ts";
import type { Jwks } from "./opinions.ts";

/** Project Wycheproof's vectors, kept beside the repository and not in it. */
const FOLDER = fileURLToPath(new URL("../../../shared/vectors/", import.meta.url));
const PRESENT = existsSync(FOLDER);
const SKIPPED = PRESENT ? "" : ` (skipped: ${FOLDER} is not there)`;

interface Group {
  readonly public?: object;
  readonly private?: object;
  /** An object where it is a JSON serialization. */
  readonly tests: readonly { readonly jws?: string | object; readonly jwe?: string | object }[];
}

/** A single JWK, or a set as it stands; `private` where a group has nothing else. */
function jwksOf({ public: publicKey, private: privateKey }: Group): Jwks {
  const given = publicKey ?? privateKey ?? {};
  return ("keys" in given ? given : { keys: [given] }) as Jwks;
}

async function askAll(file: string): Promise<Report> {
  const { testGroups, numberOfTests } = JSON.parse(readFileSync(`${FOLDER}${file}_test.json`, "utf8")) as {
    readonly testGroups: readonly Group[];
    readonly numberOfTests: number;
  };
  const report = new Report();
  for (const group of testGroups) {
    for (const { jws, jwe } of group.tests) {
      const token = jws ?? jwe ?? "";
      await report.ask({ token: typeof token === "string" ? token : JSON.stringify(token), jwks: jwksOf(group), nowMs: 1_750_000_000_000 });
    }
  }
  expect(report.questions).toBe(numberOfTests);
  return report;
}

/** No vector's payload is a set of claims, so a token whose signature is right is verified by both, and accepted by neither. */
describe.skipIf(!PRESENT)(`our verdict on Wycheproof's vectors beside jose's${SKIPPED}`, () => {
  test.each<[string, Record<string, number>, Record<string, number>]>([
    ["json_web_signature", { refused: 385, verified: 16 }, {}],
    ["json_web_key", { refused: 23, verified: 1 }, { "an RSA exponent below 65537": 1, "an RSA modulus with the ROCA fingerprint": 1 }],
    ["json_web_crypto", { refused: 80, verified: 2 }, { "an RSA modulus with the ROCA fingerprint": 1 }],
    ["json_web_encryption", { refused: 139 }, {}],
  ])("%s", async (file, agreed, differences) => {
    const report = await askAll(file);
    expect(Object.fromEntries(report.agreed)).toEqual(agreed);
    expect(report.counts()).toEqual(differences);
  });
});
