import { constants, createPublicKey, type KeyObject, sign, verify, type VerifyKeyObjectInput } from "node:crypto";
import { type AccessTokenAlgorithm, type PartnerKey, type SubjectTokenAlgorithm, takeInJwks } from "@cambist/protocol";

/** Bytes of r and of s (RFC 7518 §3.4). */
const ECDSA_HALF_BYTES = { ES256: 32, ES384: 48 } as const;

export type VerifyFunction = (signingInput: string, signature: Uint8Array) => boolean;

/**
 * Synchronous verification by a key that has passed intake: a KeyObject is made once, and a trip to the thread pool costs more than
 * the check. ECDSA goes through DER by hand, for `dsaEncoding` costs 40–60 µs on Node 24.
 * Does NOT check the key: see key-intake in the protocol package.
 */
export function verifierFor(algorithm: SubjectTokenAlgorithm | AccessTokenAlgorithm, jwk: object): VerifyFunction {
  const key = createPublicKey({ key: jwk as never, format: "jwk" });
  switch (algorithm) {
    case "RS256":
      return (input, signature) => check("sha256", input, key, signature);
    case "PS256": {
      const pss = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
      return (input, signature) => check("sha256", input, pss, signature);
    }
    case "ES256":
    case "ES384": {
      const half = ECDSA_HALF_BYTES[algorithm];
      const digest = algorithm === "ES256" ? "sha256" : "sha384";
      return (input, signature) => signature.length === half * 2 && check(digest, input, key, rawToDer(signature, half));
    }
    case "EdDSA":
      return (input, signature) => check(null, input, key, signature);
  }
}

/** The verifiers of a key set: of what intake takes, and none where the set is no set. */
export function verifiersOf(jwks: unknown): readonly PartnerKey[] {
  const intake = takeInJwks(jwks);
  return intake.ok ? intake.value.used.map(({ kid, algorithm, jwk }) => ({ kid, algorithm, verify: verifierFor(algorithm, jwk) })) : [];
}

function check(digest: string | null, input: string, key: KeyObject | VerifyKeyObjectInput, signature: Uint8Array): boolean {
  try {
    return verify(digest, Buffer.from(input, "latin1"), key, signature);
  } catch {
    return false; // a signature that OpenSSL cannot even read
  }
}

/** The JWS signature, base64url. */
export function signJws(algorithm: AccessTokenAlgorithm, key: KeyObject, signingInput: string): string {
  const signature = sign("sha256", Buffer.from(signingInput, "latin1"), key);
  return (algorithm === "ES256" ? derToRaw(signature, ECDSA_HALF_BYTES.ES256) : signature).toString("base64url");
}

/** r||s → SEQUENCE { INTEGER r, INTEGER s } (RFC 3279 §2.2.3). Lengths stay below 128. */
function rawToDer(raw: Uint8Array, half: number): Buffer {
  const r = derInteger(raw.subarray(0, half));
  const s = derInteger(raw.subarray(half));
  return Buffer.concat([Buffer.from([0x30, r.length + s.length]), r, s]);
}

function derInteger(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const body = bytes.subarray(start);
  const positive = (body[0] as number) >= 0x80 ? [0] : [];
  return Buffer.concat([Buffer.from([0x02, body.length + positive.length, ...positive]), body]);
}

function derToRaw(der: Buffer, half: number): Buffer {
  const raw = Buffer.alloc(half * 2);
  let at = 2;
  for (const end of [half, half * 2]) {
    const length = der[at + 1] as number;
    const body = der.subarray(at + 2, at + 2 + length);
    const digits = body.length > half ? body.subarray(body.length - half) : body;
    digits.copy(raw, end - digits.length);
    at += 2 + length;
  }
  return raw;
}
