import { Buffer } from "node:buffer";
import type { KeyFault } from "../../packages/protocol/src/jwt/key-intake.ts";
import { type Explanation, joseRefuses, weRefuse } from "./explanation.ts";
import { NEUTRAL, NEUTRAL_NOT_CANONICAL, smallOrderSigner } from "./weak-keys.ts";
import { alone, entriesOf, headerOf, intakeFaultOf, isNames, type Jwk, keyOfJose, keyOfOurs, keysOfJose, usableOf } from "./key-choice.ts";

/** Which key, and what a key must be. */

/** The codes with which a token ends whose key was not taken in: the key is not there, or another is the only one. */
const KEY_NOT_THERE = ["jwt_kid_unknown", "partner_keys_missing", "jwt_algorithm_not_of_key", "jwt_signature_invalid"] as const;

/** The key that jose goes by is one that our intake refuses, with this fault, and rightly. */
function keyRefused(name: string, codes: readonly KeyFault["code"][], isSo: (jwk: Jwk, all: readonly Jwk[]) => boolean, why: string) {
  return weRefuse(
    name,
    KEY_NOT_THERE,
    (asked, fault) => {
      const key = keyOfJose(asked);
      if (key === undefined || !isSo(key.jwk, entriesOf(asked))) return false;
      const keyFault = fault && intakeFaultOf(asked, key.index);
      return fault === undefined || (keyFault !== undefined && codes.includes(keyFault.code));
    },
    why,
  );
}

/** An RSA key of which this is true. */
const rsa =
  (isSo: (numbers: { readonly n: bigint; readonly e: bigint }) => boolean) =>
  (jwk: Jwk): boolean =>
    jwk["kty"] === "RSA" && isSo({ n: numberOf(jwk, "n"), e: numberOf(jwk, "e") });

const materialOf = (jwk: Jwk): readonly string[] => (jwk["kty"] === "RSA" ? ["n", "e"] : jwk["kty"] === "EC" ? ["x", "y"] : ["x"]);
const bytesOf = (jwk: Jwk, member: string): Buffer => Buffer.from(String(jwk[member]), "base64url");
const numberOf = (jwk: Jwk, member: string): bigint => BigInt(`0x0${bytesOf(jwk, member).toString("hex")}`);
const isSpelledOtherwise = (value: unknown): boolean =>
  typeof value === "string" && Buffer.from(value, "base64url").toString("base64url") !== value;

const littleEndian = (bytes: Buffer): bigint => BigInt(`0x0${Buffer.from(bytes.toReversed()).toString("hex")}`);
const yOf = (jwk: Jwk): bigint => littleEndian(bytesOf(jwk, "x")) & (2n ** 255n - 1n);

/** y of the points whose order divides 8: 0, 1, −1, and the two of order 8 as every list of them has it. */
const P25519 = 2n ** 255n - 19n;
const ORDER_8 = [
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
];
const SMALL_ORDER_Y = new Set([0n, 1n, P25519 - 1n, ...ORDER_8.map((hex) => littleEndian(Buffer.from(hex, "hex")))]);

/** Does the WebCrypto below jose take the signature that needs no secret? */
async function webCryptoVerifiesBy(encoded: Buffer): Promise<boolean> {
  const forged = smallOrderSigner("", encoded).sign("");
  const jwk = { kty: "OKP", crv: "Ed25519", x: encoded.toString("base64url") };
  const key = await crypto.subtle.importKey("jwk", jwk, "Ed25519", true, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, Uint8Array.from(forged), new Uint8Array());
}

const SMALL_FACTORS = Array.from({ length: 750 }, (_, i) => BigInt(i + 2));

/** n is a power of 65537 modulo each of these primes (CVE-2017-15361). */
function isRoca(n: bigint): boolean {
  return [11n, 13n, 17n, 19n, 37n, 53n, 61n, 71n, 73n, 79n, 97n, 103n, 107n, 109n, 127n, 151n, 157n].every((prime) => {
    for (let [power, i] = [1n, 0n]; i < prime; i++, power = (power * 65_537n) % prime) if (n % prime === power) return true;
    return false;
  });
}

export const KEY_EXPLANATIONS: readonly Explanation[] = [
  weRefuse(
    "no kid, and several keys",
    ["jwt_kid_missing"],
    (asked) => headerOf(asked)["kid"] === undefined && usableOf(asked).length > 1,
    "jose takes the only key that fits the token's alg; with us the token does not choose by its alg (RFC 8725 §3.1), it names the key (RFC 7515 §4.1.4).",
  ),
  weRefuse(
    "PS256 by a key that does not say so",
    ["jwt_algorithm_not_of_key"],
    (asked) => {
      const key = keyOfJose(asked);
      return headerOf(asked)["alg"] === "PS256" && key !== undefined && key.jwk["alg"] === undefined;
    },
    "jose uses an RSA key without alg for whatever the token says; with us it is RS256, one algorithm for one key (RFC 8725 §3.1, RFC 8017 §6: a key pair in one scheme only).",
  ),
  weRefuse(
    "more than 50 keys",
    ["partner_keys_missing"],
    (asked) => entriesOf(asked).length > 50,
    "jose has no limit; a set of thousands must not buy arithmetic.",
  ),
  keyRefused(
    "one kid for two keys",
    ["kid_duplicated"],
    ({ kid }, all) => typeof kid === "string" && all.filter((other) => other["kid"] === kid).length > 1,
    "jose tells them apart by algorithm; RFC 7517 §4.5 wants distinct kids, and who can add a key to a set must not shadow another.",
  ),
  keyRefused(
    "the kid of the key is no name",
    ["kid_malformed"],
    (jwk) =>
      Object.hasOwn(jwk, "kid") && !(typeof jwk["kid"] === "string" && /^[^\p{Cc}\p{Cs}]+$/u.test(jwk["kid"]) && jwk["kid"].length <= 255),
    "jose reads the kid of a key only where the token has one; RFC 7517 §4.5 has a string.",
  ),
  keyRefused(
    "a member of the key is no string",
    ["member_not_a_string"],
    (jwk) => materialOf(jwk).some((member) => typeof jwk[member] !== "string"),
    "WebCrypto, by which jose imports, makes a string of whatever it gets, of an array of one string that string; RFC 7518 §6 has strings.",
  ),
  keyRefused(
    "a member of the key is not base64url",
    ["member_not_base64url"],
    (jwk) => materialOf(jwk).some((member) => isSpelledOtherwise(jwk[member])),
    "WebCrypto in Node decodes leniently; RFC 7518 §6 has base64url (RFC 7515 §2): one key, one spelling.",
  ),
  keyRefused(
    "private members of the key, without d",
    ["private_members"],
    (jwk) => ["p", "q", "dp", "dq", "qi", "oth", "k"].some((member) => Object.hasOwn(jwk, member)),
    "jose looks for d alone; who published a prime of the modulus published the key (RFC 7518 §6.3.2).",
  ),
  keyRefused(
    "several zero bytes before an RSA integer",
    ["rsa_integer_malformed"],
    (jwk) => jwk["kty"] === "RSA" && ["n", "e"].some((member) => bytesOf(jwk, member).subarray(0, 2).equals(Buffer.alloc(2))),
    "OpenSSL skips them; RFC 7518 §2 has as few bytes as the number needs.",
  ),
  keyRefused(
    "an RSA exponent below 65537",
    ["rsa_exponent_too_small"],
    rsa(({ e }) => e < 65_537n),
    "OpenSSL verifies with it; with 1 every message is its own signature, so that anyone signs. FIPS 186-5 §5.4 wants more than 2^16.",
  ),
  keyRefused(
    "an RSA exponent of more than 64 bits",
    ["rsa_exponent_too_large"],
    rsa(({ e }) => e >= 2n ** 64n),
    "OpenSSL takes it with a modulus of up to 3072 bits, and every token costs as much as its length; FIPS 186-5 §5.4 allows it, we do not.",
  ),
  keyRefused(
    "an RSA modulus of more than 8192 bits",
    ["rsa_modulus_too_large"],
    rsa(({ n }) => n >= 2n ** 8192n),
    "OpenSSL takes 16384; one partner's keys must not cost a node its processor.",
  ),
  keyRefused(
    "an RSA modulus with a small factor",
    ["rsa_modulus_small_factor"],
    rsa(({ n }) => SMALL_FACTORS.some((factor) => n % factor === 0n)),
    "OpenSSL does not look; NIST SP 800-89 §5.3.3 asks for no factor below 752.",
  ),
  keyRefused(
    "an RSA modulus with the ROCA fingerprint",
    ["rsa_modulus_roca"],
    rsa(({ n }) => isRoca(n)),
    "OpenSSL does not look; such a modulus can be factored, and then anyone signs (CVE-2017-15361).",
  ),
  keyRefused(
    "a coordinate of the wrong length",
    ["ec_coordinate_length"],
    (jwk) => jwk["kty"] === "EC" && ["x", "y"].some((member) => bytesOf(jwk, member).length !== (jwk["crv"] === "P-256" ? 32 : 48)),
    "OpenSSL takes the number; RFC 7518 §6.2.1.2 has exactly the length of the field.",
  ),
  {
    ...keyRefused(
      "an Ed25519 key of small order",
      ["ed25519_small_order"],
      (jwk) => jwk["kty"] === "OKP" && SMALL_ORDER_Y.has(yOf(jwk)),
      "WebCrypto in Node 20 verifies by it (Node 24 does not), and one fixed signature fits whatever anyone sends (RFC 8032 §5.1.7, RFC 8725 §3.4).",
    ),
    canBeMet: () => webCryptoVerifiesBy(NEUTRAL),
  },
  {
    ...keyRefused(
      "an Ed25519 key that is not canonical",
      ["ed25519_not_canonical"],
      (jwk) => jwk["kty"] === "OKP" && yOf(jwk) >= P25519,
      "OpenSSL reduces y; RFC 8032 §5.1.3 step 1: decoding fails where y is not below p. Only one of small order can be met, for nobody has the secret of another.",
    ),
    canBeMet: () => webCryptoVerifiesBy(NEUTRAL_NOT_CANONICAL),
  },
  joseRefuses(
    "an entry of the set that is no key",
    ["ERR_JWKS_INVALID"],
    (difference) => difference.question.jwks.keys.some((entry) => typeof entry !== "object" || entry === null || Array.isArray(entry)),
    (difference) => alone(difference),
    "jose refuses the whole set; RFC 7517 §5 has implementations ignore keys that they do not understand, and the token's own key is good.",
  ),
  joseRefuses(
    "no kid, and one usable key among several",
    ["ERR_JWKS_MULTIPLE_MATCHING_KEYS", "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"],
    (difference) =>
      headerOf(difference)["kid"] === undefined &&
      keysOfJose(difference).some(({ index }) => intakeFaultOf(difference, index) !== undefined),
    (difference) => alone(difference),
    "jose counts, and may choose, a key that we refuse; with us a refused key is not there, so that a token without kid means the one that is (RFC 7515 §4.1.4: kid is a hint).",
  ),
  joseRefuses(
    "ext of the key is no boolean",
    ["ERR_JWKS_NO_MATCHING_KEY"],
    (difference) => !["undefined", "boolean"].includes(typeof keyOfOurs(difference)["ext"]),
    (difference) => alone(difference, "ext"),
    "ext is WebCrypto's own (JsonWebKey) and says nothing to whoever verifies; RFC 7517 §4 has us ignore what we do not understand.",
  ),
  joseRefuses(
    "key_ops that holds a name twice, or no name",
    ["ERR_JWKS_NO_MATCHING_KEY"],
    (difference) => {
      const keyOps = keyOfOurs(difference)["key_ops"];
      return Array.isArray(keyOps) && keyOps.includes("verify") && !isNames(keyOps);
    },
    (difference) => alone(difference, "key_ops"),
    "RFC 7517 §4.3 forbids the partner to write so; it says verify all the same, which is what we ask.",
  ),
  joseRefuses(
    "key_ops that allows more than to verify",
    ["SyntaxError"],
    (difference) => {
      const keyOps = keyOfOurs(difference)["key_ops"];
      return isNames(keyOps) && keyOps.includes("verify") && keyOps.length > 1;
    },
    (difference) => alone(difference, "key_ops"),
    "jose hands all of key_ops to WebCrypto, which imports no public key to sign or encrypt; RFC 7517 §4.3 lets a list hold more than one operation.",
  ),
];
