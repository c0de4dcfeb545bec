import { Buffer } from "node:buffer";
import { createPublicKey } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type RefusalCode, SUBJECT_TOKEN_ALGORITHMS, type SubjectTokenAlgorithm, takeInJwks } from "@cambist/protocol";
import { describe, expect, test } from "vitest";
import { parseJws } from "../../../protocol/src/jwt/gate.ts";
import { validateSubjectToken } from "../../../protocol/src/tokens/subject-token.ts";
import { UNLIMITED_CLIENT } from "../testing/client.ts";
import { verifierFor, verifiersOf } from "./signature.ts";

/** Project Wycheproof's vectors, kept beside the repository and not in it. */
const FOLDER = fileURLToPath(new URL("../../../../../shared/vectors/", import.meta.url));
const PRESENT = existsSync(FOLDER);
const SKIPPED = PRESENT ? "" : ` (skipped: ${FOLDER} is not there)`;

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  readonly result: "valid" | "invalid" | "acceptable";
  /** An object where it is a JSON serialization. */
  readonly jws?: string | object;
  readonly jwe?: string | object;
  readonly msg?: string;
  readonly sig?: string;
}
interface Group {
  readonly comment?: string;
  readonly public?: object;
  readonly private?: object;
  readonly publicKeyPem?: string;
  readonly tests: readonly Vector[];
}
interface Case extends Vector {
  readonly group: Group;
}

/** Every vector of the file: a reader of fewer than it says fails, and of a skipped file reads none. */
function casesOf(file: string): Case[] {
  if (!PRESENT) return [];
  const read = JSON.parse(readFileSync(FOLDER + file, "utf8")) as { numberOfTests: number; testGroups: readonly Group[] };
  const cases = read.testGroups.flatMap((group) => group.tests.map((vector) => ({ ...vector, group })));
  if (cases.length !== read.numberOfTests) throw new Error(`${file} says ${read.numberOfTests} vectors and has ${cases.length}`);
  return cases;
}

const byId = (cases: readonly Case[], tcId: number) => cases.find((vector) => vector.tcId === tcId) as Case;
const idsOf = (cases: readonly Case[]) => cases.map(({ tcId }) => tcId);

/** As it would be sent: a JSON serialization is sent as JSON. */
function textOf(token: string | object | undefined): string {
  if (token === undefined) throw new Error("the vector has no token");
  return typeof token === "string" ? token : JSON.stringify(token);
}

/** A single JWK, or a set as it stands; `private` only where a group has nothing else, which is where it is symmetric. */
function jwksOf({ public: publicKey, private: privateKey }: Group): unknown {
  const given = publicKey ?? privateKey ?? {};
  return "keys" in given ? given : { keys: [given] };
}

/**
 * The whole way of a subject token: gate, key, signature, claims. No vector's payload is a set of claims, so a token whose signature
 * passed stops behind it, at the payload: that is "verified" here. Anything else is the refusal's code.
 */
async function verdictOn({ jws, group }: Case): Promise<"verified" | RefusalCode> {
  const partnerKeys = () => ({ ok: true, value: { keys: verifiersOf(jwksOf(group)) } }) as const;
  const result = await validateSubjectToken(textOf(jws), UNLIMITED_CLIENT, 1_750_000_000, { partnerKeys, restoredAtSeconds: undefined });
  if (result.ok) throw new Error("a vector's payload passed as claims");
  return result.fault.code === "jwt_not_json" && result.fault.part === "payload" ? "verified" : result.fault.code;
}

async function countByVerdict(cases: readonly Case[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const vector of cases) {
    const verdict = await verdictOn(vector);
    counts[verdict] = (counts[verdict] ?? 0) + 1;
  }
  return counts;
}

type Exceptions = ReadonlyMap<number, readonly [code: RefusalCode, reason: string]>;
const each = (ids: readonly number[], code: RefusalCode, reason: string) => ids.map((tcId) => [tcId, [code, reason] as const] as const);

/** Valid by Wycheproof and refused by us, on purpose: the code with which, and why. */
const JWS_EXCEPTIONS: Exceptions = new Map([
  ...each([1, 348, 352, 357, 358, 359, 376, 377], "jwt_algorithm_unsupported", "HS256: a shared secret is never a partner's key"),
  ...each([264, 265, 266, 267], "jwt_algorithm_unsupported", "RS384 is not offered"),
  ...each([268, 269, 270, 271], "jwt_algorithm_unsupported", "RS512 is not offered"),
  ...each([320, 321, 322, 323], "jwt_algorithm_unsupported", "PS384 is not offered"),
  ...each([325, 326, 327, 328], "jwt_algorithm_unsupported", "PS512 is not offered"),
  ...each(
    [346, 350],
    "jwt_algorithm_unsupported",
    "the key says PS256 and the token PS384: one key, one algorithm, and PS384 is not offered",
  ),
  ...each([347, 351], "jwt_algorithm_unsupported", "ES512 on P-521 is not offered (and the key's alg, ES521, does not exist)"),
  ...each(
    [372, 373],
    "jwt_not_base64url",
    "a ? inside a base64url part, which Wycheproof lets a decoder skip: a second spelling of one token",
  ),
]);

/**
 * Not genuine: both are called "invalid base64 padding", but the padding is not in the file. They are, byte for byte, tcId 357, which is
 * valid. (They would be refused all the same, as HS256.)
 */
const NOT_GENUINE = [367, 370];

function describeExceptions(cases: readonly Case[], exceptions: Exceptions, verified: readonly number[]): void {
  const valid = cases.filter(({ result }) => result === "valid");

  test("every valid vector is verified or on the written list, and none is on both", () => {
    expect([...verified, ...exceptions.keys()].toSorted((a, b) => a - b)).toEqual(idsOf(valid));
  });

  test.each(verified)("valid tcId %i is verified", async (tcId) => {
    expect(await verdictOn(byId(cases, tcId))).toBe("verified");
  });

  test.each([...exceptions].map(([tcId, [code, reason]]) => [tcId, code, reason] as const))(
    "valid tcId %i is refused with %s: %s",
    async (tcId, code) => {
      expect(await verdictOn(byId(cases, tcId))).toBe(code);
    },
  );
}

describe.skipIf(!PRESENT)(`Wycheproof json_web_signature${SKIPPED}`, () => {
  const cases = casesOf("json_web_signature_test.json");
  const invalid = cases.filter(({ tcId, result }) => result === "invalid" && !NOT_GENUINE.includes(tcId));

  test("401 vectors are read: 46 valid, 353 genuine invalid ones, 2 that are not what they say", () => {
    expect(cases).toHaveLength(401);
    expect(cases.filter(({ result }) => result === "valid")).toHaveLength(46);
    expect(invalid).toHaveLength(353);
    for (const tcId of NOT_GENUINE) expect(byId(cases, tcId)).toMatchObject({ result: "invalid", jws: byId(cases, 357).jws });
    expect(byId(cases, 357).result).toBe("valid");
  });

  test.each(invalid)("invalid tcId $tcId ($comment) is refused", async (vector) => {
    expect(await verdictOn(vector)).not.toBe("verified");
  });

  test("they are refused for what is wrong with them: most by the signature, with a usable key", async () => {
    expect(await countByVerdict(invalid)).toEqual({
      jwt_signature_invalid: 284,
      jwt_malformed: 32, // parts left out; JSON serializations; an empty signature
      jwt_algorithm_unsupported: 16, // HS256, and PS384 and PS512 and what stands in for them
      jwt_not_base64url: 12,
      partner_keys_missing: 6, // a key for encryption (4), and a PS512 key under RS256 and PS256
      jwt_kid_unknown: 2, // kid changed in the header
      jwt_header_member_unsupported: 1, // the attacker's own jwk
    });
  });

  describeExceptions(cases, JWS_EXCEPTIONS, [18, 33, 259, 260, 261, 262, 263, 272, 273, 274, 275, 287, 288, 345, 349, 378]);
});

describe.skipIf(!PRESENT)(`Wycheproof json_web_crypto${SKIPPED}`, () => {
  const cases = casesOf("json_web_crypto_test.json");
  const signed = cases.filter(({ jws }) => jws !== undefined);
  const invalid = signed.filter(({ result }) => result === "invalid");

  test("83 vectors are read: 49 signed, 34 encrypted", () => {
    expect(cases).toHaveLength(83);
    expect(signed).toHaveLength(49);
    expect(invalid).toHaveLength(45);
    expect(cases.filter(({ jwe }) => jwe !== undefined)).toHaveLength(34);
  });

  test.each(invalid)("invalid tcId $tcId ($group.comment, $comment) is refused", async (vector) => {
    expect(await verdictOn(vector)).not.toBe("verified");
  });

  test("they are refused for what is wrong with them", async () => {
    expect(await countByVerdict(invalid)).toEqual({
      jwt_malformed: 28, // parts left out; JSON serializations
      jwt_algorithm_unsupported: 7, // HS256, and its confusion with an EC key
      jwt_signature_invalid: 6,
      jwt_kid_unknown: 2,
      jwt_header_member_unsupported: 1, // the attacker's own jwk
      partner_keys_missing: 1, // a key with the ROCA weakness
    });
  });

  const hs256 = each([1, 48], "jwt_algorithm_unsupported", "HS256: a shared secret is never a partner's key");
  describeExceptions(signed, new Map(hs256), [18, 33]);
});

/** Nothing is decrypted here, so that valid and invalid are the same. */
describe.skipIf(!PRESENT).each([
  ["json_web_crypto", { jwt_encrypted: 23, jwt_malformed: 11 }],
  ["json_web_encryption", { jwt_encrypted: 128, jwt_malformed: 11 }],
])(`Wycheproof %s, encrypted${SKIPPED}`, (name, expected) => {
  const encrypted = casesOf(`${name}_test.json`).filter(({ jwe }) => jwe !== undefined);
  const rules = { algorithms: SUBJECT_TOKEN_ALGORITHMS, typ: { name: "jwt", optional: true } };

  test("all are refused by the gate, by their shape alone", () => {
    const counts: Record<string, number> = {};
    for (const { jwe } of encrypted) {
      const parsed = parseJws(textOf(jwe), rules);
      const code = parsed.ok ? "passed" : parsed.fault.code;
      counts[code] = (counts[code] ?? 0) + 1;
    }
    expect(counts).toEqual(expected);
  });
});

interface RawFile {
  readonly name: string;
  readonly algorithm: SubjectTokenAlgorithm;
  readonly counts: readonly [valid: number, invalid: number];
  /** Neither: RSA with the NULL of the digest's name left out (PKCS #1 v1.5 wants it). Refused. */
  readonly acceptable: readonly number[];
  /** Signatures that are right, by keys that intake refuses: RSA with e = 3. */
  readonly keysRefused: readonly number[];
}

/** Raw signatures over any bytes: `signingInput` holds one character per byte. */
describe.skipIf(!PRESENT).each<RawFile>([
  { name: "rsa_signature_2048_sha256", algorithm: "RS256", counts: [9, 249], acceptable: [8], keysRefused: [258, 259] },
  { name: "ecdsa_secp256r1_sha256_p1363", algorithm: "ES256", counts: [173, 89], acceptable: [], keysRefused: [] },
  { name: "ed25519", algorithm: "EdDSA", counts: [88, 63], acceptable: [], keysRefused: [] },
])(`Wycheproof $name${SKIPPED}`, ({ name, algorithm, counts, acceptable, keysRefused }) => {
  const cases = casesOf(`${name}_test.json`);
  const jwkOf = ({ group }: Case) => createPublicKey(group.publicKeyPem ?? "").export({ format: "jwk" });

  function verdict(vector: Case): boolean {
    const { msg, sig } = vector;
    if (msg === undefined || sig === undefined) throw new Error("the vector has no message or no signature");
    return verifierFor(algorithm, jwkOf(vector))(Buffer.from(msg, "hex").toString("latin1"), Buffer.from(sig, "hex"));
  }

  test("the valid ones pass, the invalid ones do not", () => {
    const wrong = cases.filter((vector) => vector.result !== "acceptable" && verdict(vector) !== (vector.result === "valid"));
    expect(wrong.map(({ tcId, comment, result }) => `${tcId} ${result}: ${comment}`)).toEqual([]);
    expect(["valid", "invalid"].map((kind) => cases.filter(({ result }) => result === kind).length)).toEqual(counts);
  });

  test("the acceptable ones are listed, and refused", () => {
    expect(idsOf(cases.filter(({ result }) => result === "acceptable"))).toEqual(acceptable);
    expect(idsOf(cases.filter((vector) => vector.result === "acceptable" && verdict(vector)))).toEqual([]);
  });

  test("intake takes in every key that signed, but for the listed ones", () => {
    const refused = cases.filter((vector) => {
      const intake = takeInJwks({ keys: [jwkOf(vector)] });
      return !intake.ok || intake.value.used[0]?.algorithm !== algorithm;
    });
    expect(idsOf(refused)).toEqual(keysRefused);
  });
});
