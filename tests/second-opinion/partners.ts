import { makeTestKey, signatureOf, type TestAlgorithm, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import type { Jwks } from "./opinions.ts";
import { LONG_EXPONENT, NEUTRAL, NEUTRAL_NOT_CANONICAL, rocaPrimes, rsaSigner, smallOrderSigner, smallPrimes } from "./weak-keys.ts";

export interface Signer {
  readonly kid: string;
  readonly algorithm: TestAlgorithm;
  /** As it is published. */
  readonly jwk: Readonly<Record<string, unknown>>;
  /** Where the key is one that node:crypto made. */
  readonly testKey?: TestKey;
  sign(signingInput: string): Buffer;
}

/** A partner's registered keys, and who signs with them. */
export interface Partner {
  readonly name: string;
  readonly jwks: Jwks;
  readonly signers: readonly Signer[];
}

export const ALGORITHMS: readonly TestAlgorithm[] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];

function signerOf(testKey: TestKey): Signer {
  const { kid, algorithm, publicJwk } = testKey;
  return { kid, algorithm, jwk: publicJwk, testKey, sign: (signingInput) => signatureOf(signingInput, testKey) };
}

/** Made once: fresh keys for each token would cost more than all that is tested with them. */
export const SIGNERS = ALGORITHMS.map((algorithm) => signerOf(makeTestKey(algorithm, `key-${algorithm}`)));
/** Round and round. */
export function signerAt(index: number, signers: readonly Signer[] = SIGNERS): Signer {
  const signer = signers[index % signers.length];
  if (signer === undefined) throw new Error("nobody signs for this partner");
  return signer;
}

/** Keys of nobody's, under the same names. */
export const ATTACKERS = ALGORITHMS.map((algorithm) => signerOf(makeTestKey(algorithm, `key-${algorithm}`)));

const [rs256, ps256, es256, , eddsa] = SIGNERS as [Signer, Signer, Signer, Signer, Signer];

function partner(name: string, signers: readonly Signer[], more: readonly unknown[] = []): Partner {
  return { name, jwks: { keys: [...signers.map(({ jwk }) => jwk), ...more] }, signers };
}

/** The same key, published otherwise; `undefined` takes a member away. */
function published(signer: Signer, changes: Readonly<Record<string, unknown>>): Signer {
  const members = Object.entries({ ...signer.jwk, ...changes }).filter(([, value]) => value !== undefined);
  const { kid } = changes;
  return { ...signer, kid: typeof kid === "string" ? kid : signer.kid, jwk: Object.fromEntries(members) };
}

/** All five keys with a name; one key without; and sets on which libraries may differ. */
const FIVE: Partner = partner("five keys", SIGNERS);
const ALONE: readonly Partner[] = SIGNERS.map((signer) =>
  partner(`${signer.algorithm} alone, without kid`, [published(signer, { kid: undefined })]),
);

function oddPartners(): Partner[] {
  const primes = smallPrimes(33);
  const nine = primes.slice(0, 9);
  const weak = [
    rsaSigner("e-1", { primes: nine, e: 1n }),
    rsaSigner("e-long", { primes: nine, e: LONG_EXPONENT }),
    rsaSigner("n-long", { primes, e: 65_537n }),
    rsaSigner("n-3", { primes: [3n, ...nine], e: 65_537n }),
    rsaSigner("roca", { primes: rocaPrimes(nine), e: 65_537n }),
    smallOrderSigner("small-order", NEUTRAL),
    smallOrderSigner("not-canonical", NEUTRAL_NOT_CANONICAL),
  ];
  return [
    ...weak.map((signer) => partner(`a weak key, ${signer.kid}`, [signer, es256])),
    partner("RSA without alg", [published(rs256, { alg: undefined }), published(ps256, { alg: undefined })]),
    partner("one kid, two keys", [published(es256, { kid: "shared" }), published(eddsa, { kid: "shared" }), rs256]),
    partner("a kid of 256 characters", [published(eddsa, { kid: "k".repeat(256) }), es256]),
    partner("beside a key that may not be used", [es256], [{ ...ATTACKERS[2]?.jwk, kid: "" }]),
    partner("a set with null in it", [eddsa], [null]),
    partner(
      "51 keys",
      [eddsa],
      Array.from({ length: 50 }, (_, i) => ({ ...es256.jwk, kid: `other-${i}` })),
    ),
  ];
}

const ODD = oddPartners();

/** By name, so that a plan that is printed does not print keys. */
const PARTNERS = new Map([FIVE, ...ALONE, ...ODD].map((one) => [one.name, one]));
export const NAMES = { five: FIVE.name, alone: ALONE.map(({ name }) => name), odd: ODD.map(({ name }) => name) };

export function partnerOf(name: string): Partner {
  const found = PARTNERS.get(name);
  if (found === undefined) throw new Error(`no partner is called ${name}`);
  return found;
}
