import { JWKS_KEYS_MAX, KID_CHARACTERS_MAX, SUBJECT_TOKEN_ALGORITHMS } from "../constants.ts";
import type { SubjectTokenAlgorithm } from "../constants.ts";
import { fail, ok } from "../result.ts";
import type { Result } from "../result.ts";
import { decodeBase64url } from "./base64url.ts";
import { validateEcPublicKey } from "./ec-key.ts";
import type { EcPublicJwk } from "./ec-key.ts";
import { validateEd25519PublicKey } from "./ed25519-key.ts";
import type { Ed25519PublicJwk } from "./ed25519-key.ts";
import type { JwksFault, KeyFault } from "./key-intake-faults.ts";
import { validateRsaPublicKey } from "./rsa-key.ts";
import type { RsaPublicJwk } from "./rsa-key.ts";

export { describeJwksFault, describeKeyFault } from "./key-intake-faults.ts";
export type { JwksFault, KeyFault } from "./key-intake-faults.ts";

/** Normalised: public members only, so that nothing else of a partner's JWK ever reaches a crypto library. */
export type PublicJwk = RsaPublicJwk | EcPublicJwk | Ed25519PublicJwk;

/** One key, one algorithm (RFC 8725 §3.1): the key says what a token's `alg` must be, never the other way round. */
export interface VerificationKey {
  readonly kid: string | undefined;
  readonly algorithm: SubjectTokenAlgorithm;
  readonly jwk: PublicJwk;
}

/** `index`: the key's place in `keys`, from 0. `kid`: absent where the key has none or a malformed one. */
export interface RefusedKey {
  readonly index: number;
  readonly kid: string | undefined;
  readonly fault: KeyFault;
}

/** One bad key does not take the others with it; `used` may be empty, and the caller decides what that means. */
export interface KeyIntake {
  readonly used: readonly VerificationKey[];
  readonly refused: readonly RefusedKey[];
}

/** The first algorithm is the one of a key without `alg`. */
const ALGORITHMS_OF = {
  RSA: ["RS256", "PS256"],
  "EC P-256": ["ES256"],
  "EC P-384": ["ES384"],
  "OKP Ed25519": ["EdDSA"],
} as const satisfies Readonly<Record<string, readonly SubjectTokenAlgorithm[]>>;
type KeyType = keyof typeof ALGORITHMS_OF;

/** RFC 7518 §6.2.2, §6.3.2, §6.4.1, RFC 8037 §2. */
const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] as const;

const PRINTED_CHARACTERS_MAX = 40;

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * `value`: a JSON value, already parsed and bounded in bytes by the caller. Does NOT check who published it, nor that a key is fresh or
 * differs from another partner's. Never throws for what a set holds.
 */
export function takeInJwks(value: unknown): Result<KeyIntake, JwksFault> {
  const keys = isObject(value) ? own(value, "keys") : undefined;
  if (!Array.isArray(keys)) return fail({ code: "not_a_jwks" });
  // Before any key is looked at: a set of thousands must not buy arithmetic.
  if (keys.length > JWKS_KEYS_MAX) return fail({ code: "too_many_keys", count: keys.length });

  const duplicated = duplicatedKids(keys);
  const used: VerificationKey[] = [];
  const refused: RefusedKey[] = [];
  for (const [index, entry] of keys.entries()) {
    const kid = kidOf(entry);
    const taken = takeInKey(entry);
    if (!taken.ok) refused.push({ index, kid, fault: taken.fault });
    else if (kid !== undefined && duplicated.has(kid)) refused.push({ index, kid, fault: { code: "kid_duplicated" } });
    else used.push(taken.value);
  }
  return ok({ used, refused });
}

/** A key as it is published and kept: with its name, and the one algorithm that it is for. */
export function jwkOf({ kid, algorithm, jwk }: VerificationKey): Readonly<Record<string, unknown>> {
  return { ...jwk, ...(kid === undefined ? {} : { kid }), alg: algorithm };
}

/**
 * Of all keys, the refused ones too: RFC 7517 §4.5 wants distinct kids, and a token's `kid` must name one key. Choosing the usable one, or
 * trying them in turn, would let whoever can add a key to the set shadow another.
 */
function duplicatedKids(keys: readonly unknown[]): ReadonlySet<string> {
  const seen = new Set<string>();
  const duplicated = new Set<string>();
  for (const entry of keys) {
    const kid = kidOf(entry);
    if (kid === undefined) continue;
    if (seen.has(kid)) duplicated.add(kid);
    seen.add(kid);
  }
  return duplicated;
}

function takeInKey(entry: unknown): Result<VerificationKey, KeyFault> {
  if (!isObject(entry)) return fail({ code: "not_an_object" });
  const keyType = readKeyType(entry);
  if (!keyType.ok) return keyType;
  // A private key on a public URL is in everyone's hands; taking its public half would let them all sign.
  const members = PRIVATE_MEMBERS.filter((member) => Object.hasOwn(entry, member));
  if (members.length > 0) return fail({ code: "private_members", members });
  if (Object.hasOwn(entry, "use") && entry["use"] !== "sig") return fail({ code: "use_not_signature" });
  if (Object.hasOwn(entry, "key_ops") && !allowsVerify(entry["key_ops"])) return fail({ code: "key_ops_not_verify" });
  const algorithm = readAlgorithm(entry, keyType.value);
  if (!algorithm.ok) return algorithm;
  const kid = kidOf(entry);
  if (kid === undefined && Object.hasOwn(entry, "kid")) return fail({ code: "kid_malformed" });
  const jwk = readPublicJwk(entry, keyType.value);
  return jwk.ok ? ok({ kid, algorithm: algorithm.value, jwk: jwk.value }) : jwk;
}

/** An `oct` key must never come near verification: it would turn our copy of a published value into the partner's signing secret. */
function readKeyType(entry: JsonObject): Result<KeyType, KeyFault> {
  const kty = readString(entry, "kty");
  if (!kty.ok) return kty;
  if (kty.value === "oct") return fail({ code: "symmetric" });
  if (kty.value === "RSA") return ok("RSA");
  if (kty.value !== "EC" && kty.value !== "OKP") return fail({ code: "kty_unsupported", kty: printable(kty.value) });
  const curve = readString(entry, "crv");
  if (!curve.ok) return curve;
  const keyType = `${kty.value} ${curve.value}`;
  if (keyType === "EC P-256" || keyType === "EC P-384" || keyType === "OKP Ed25519") return ok(keyType);
  return fail({ code: "curve_unsupported", kty: kty.value, curve: printable(curve.value) });
}

/** RFC 7517 §4.3. */
function allowsVerify(keyOps: unknown): boolean {
  return Array.isArray(keyOps) && keyOps.includes("verify");
}

function readAlgorithm(entry: JsonObject, keyType: KeyType): Result<SubjectTokenAlgorithm, KeyFault> {
  const fitting: readonly SubjectTokenAlgorithm[] = ALGORITHMS_OF[keyType];
  if (!Object.hasOwn(entry, "alg")) return ok(ALGORITHMS_OF[keyType][0]);
  const alg = readString(entry, "alg");
  if (!alg.ok) return alg;
  const algorithm = SUBJECT_TOKEN_ALGORITHMS.find((supported) => supported === alg.value);
  if (algorithm === undefined) return fail({ code: "algorithm_unsupported", algorithm: printable(alg.value) });
  return fitting.includes(algorithm) ? ok(algorithm) : fail({ code: "algorithm_mismatch", algorithm, keyType, fitting });
}

/** `undefined`: no kid, or none that may be compared, logged and stored: a string, 1 to 255 characters, no controls, no lone surrogates. */
function kidOf(entry: unknown): string | undefined {
  const kid = isObject(entry) ? own(entry, "kid") : undefined;
  if (typeof kid !== "string" || kid.length === 0 || kid.length > KID_CHARACTERS_MAX) return undefined;
  return /[\p{Cc}\p{Cs}]/u.test(kid) ? undefined : kid;
}

function readPublicJwk(entry: JsonObject, keyType: KeyType): Result<PublicJwk, KeyFault> {
  const first = readBytes(entry, keyType === "RSA" ? "n" : "x");
  if (!first.ok) return first;
  if (keyType === "OKP Ed25519") return validateEd25519PublicKey(first.value);
  const second = readBytes(entry, keyType === "RSA" ? "e" : "y");
  if (!second.ok) return second;
  if (keyType === "RSA") return validateRsaPublicKey(first.value, second.value);
  return validateEcPublicKey(keyType === "EC P-256" ? "P-256" : "P-384", first.value, second.value);
}

function readBytes(entry: JsonObject, member: string): Result<Uint8Array, KeyFault> {
  const text = readString(entry, member);
  if (!text.ok) return text;
  const bytes = decodeBase64url(text.value);
  return bytes === undefined ? fail({ code: "member_not_base64url", member }) : ok(bytes);
}

function readString(entry: JsonObject, member: string): Result<string, KeyFault> {
  if (!Object.hasOwn(entry, member)) return fail({ code: "member_missing", member });
  const value = entry[member];
  return typeof value === "string" ? ok(value) : fail({ code: "member_not_a_string", member });
}

/** Own members only: a member that some code once put on Object.prototype is not part of a partner's key. */
function own(object: JsonObject, member: string): unknown {
  return Object.hasOwn(object, member) ? object[member] : undefined;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function printable(text: string): string {
  return text.slice(0, PRINTED_CHARACTERS_MAX).replaceAll(/[^\x20-\x7e]/g, "?");
}
