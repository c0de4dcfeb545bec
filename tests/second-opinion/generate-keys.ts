import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { ATTACKERS, type Signer, signerAt, SIGNERS } from "./partners.ts";
import type { Jwks } from "./opinions.ts";

/** A right key, published in a way that is not. */

type Change = (jwk: Readonly<Record<string, unknown>>) => Record<string, unknown>;
type NamedChange = readonly [name: string, change: Change];

const set =
  (member: string, value: unknown): Change =>
  (jwk) => ({ ...jwk, [member]: value });

const material = (jwk: Readonly<Record<string, unknown>>): string => (jwk["kty"] === "RSA" ? "n" : "x");

/** Of the text, or of the bytes, of the member that holds the key. */
const respelled =
  (change: (text: string) => unknown): Change =>
  (jwk) => ({ ...jwk, [material(jwk)]: change(String(jwk[material(jwk)])) });
const rewritten = (change: (bytes: Buffer) => Buffer): Change =>
  respelled((text) => change(Buffer.from(text, "base64url")).toString("base64url"));

const VALUES: Readonly<Record<string, readonly unknown[]>> = {
  use: ["sig", "enc", "", null, ["sig"], "SIG", 0],
  key_ops: [
    ["verify"],
    ["sign"],
    ["verify", "sign"],
    ["verify", "verify"],
    ["verify", 1],
    ["verify", "encrypt"],
    [],
    "verify",
    null,
    ["VERIFY"],
  ],
  alg: ["RS256", "PS256", "ES256", "ES384", "EdDSA", "RS512", "HS256", "none", null, ["ES256"], ""],
  kid: ["", "other", null, 0, ["key-ES256"], "k".repeat(256), "a\nb", "\ud800", "key-EdDSA"],
  ext: [true, false, "true", null, 0, {}],
  kty: ["EC", "RSA", "OKP", "oct", "rsa", null, ["EC"], 5],
  crv: ["P-256", "P-384", "P-521", "Ed25519", "Ed448", "X25519", "secp256k1", "p-256", null, ["P-256"]],
  d: ["AAAA", "", null, 0],
  p: ["AAAA", null],
  k: ["AAAA"],
  oth: [[], [{}], "AAAA"],
  x5c: [["MIIB"], "x"],
  x5u: ["http://127.0.0.1/"],
  e: ["AQAB", "AAEAAQ", "AAABAAE", "AQ", "Aw", "AQAB=", "AQAC", "", ["AQAB"], 65_537, "AQAAAAAAAAAB"],
  y: ["AA", "", null],
  ["__proto__"]: [{ kty: "EC", use: "enc" }],
  extra: [{ kty: "oct" }],
};

export const CHANGES: readonly NamedChange[] = [
  ...Object.entries(VALUES).flatMap(([member, values]) =>
    values.map((value): NamedChange => [`${member} = ${JSON.stringify(value)}`, set(member, value)]),
  ),
  ...["kid", "alg", "use", "kty", "crv", "x", "y", "n", "e"].map((member): NamedChange => [
    `no ${member}`,
    (jwk) => Object.fromEntries(Object.entries(jwk).filter(([name]) => name !== member)),
  ]),
  ["padded", respelled((text) => `${text}=`)],
  ["a space in it", respelled((text) => `${text.slice(0, 9)} ${text.slice(9)}`)],
  ["the other alphabet", respelled((text) => text.replaceAll("-", "+").replaceAll("_", "/"))],
  ["an array of it", respelled((text) => [text])],
  ["null instead of it", respelled(() => null)],
  ["a zero byte before it", rewritten((bytes) => Buffer.concat([Buffer.of(0), bytes]))],
  ["two zero bytes before it", rewritten((bytes) => Buffer.concat([Buffer.of(0, 0), bytes]))],
  ["without its first byte", rewritten((bytes) => bytes.subarray(1))],
  ["without its last byte", rewritten((bytes) => bytes.subarray(0, -1))],
  ["a bit changed", rewritten((bytes) => Buffer.from(bytes.map((byte, i) => (i === 9 ? byte ^ 1 : byte))))],
];

/** What stands beside the key. */
const BESIDE: readonly (readonly [name: string, beside: (signer: Signer) => readonly unknown[]])[] = [
  ["nothing", () => []],
  ["the same key", (signer) => [signer.jwk]],
  ["another of its kind", (signer) => [ATTACKERS.find(({ algorithm }) => algorithm === signer.algorithm)?.jwk]],
  [
    "another of its kind, of another name",
    (signer) => [{ ...ATTACKERS.find(({ algorithm }) => algorithm === signer.algorithm)?.jwk, kid: "beside" }],
  ],
  [
    "another of its kind that may not be used",
    (signer) => [{ ...ATTACKERS.find(({ algorithm }) => algorithm === signer.algorithm)?.jwk, kid: "" }],
  ],
  [
    "another of its kind without a name",
    (signer) => [{ ...ATTACKERS.find(({ algorithm }) => algorithm === signer.algorithm)?.jwk, kid: undefined }],
  ],
  ["a key of another kind", (signer) => [SIGNERS.find(({ jwk }) => jwk["kty"] !== signer.jwk["kty"])?.jwk]],
  ["null", () => [null]],
  ["a string", () => ["key"]],
  ["an empty object", () => [{}]],
  ["an array", () => [[]]],
];

export interface KeyPlan {
  readonly signer: number;
  readonly change: number;
  readonly also: number | null;
  readonly beside: number;
  readonly first: boolean;
}

const change = fc.nat({ max: CHANGES.length - 1 });
export const keyPlan: fc.Arbitrary<KeyPlan> = fc.record({
  signer: fc.nat({ max: SIGNERS.length - 1 }),
  change,
  also: fc.option(change, { freq: 2 }),
  beside: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat({ max: BESIDE.length - 1 }) }),
  first: fc.boolean(),
});

/** As JSON would have it: what cannot be sent is no case. */
export function jwksOf({ signer, change: main, also, beside, first }: KeyPlan): Jwks {
  const own = signerAt(signer);
  let jwk: Record<string, unknown> = { ...own.jwk };
  for (const index of [main, also]) if (index !== null) jwk = CHANGES[index]?.[1](jwk) ?? jwk;
  const others = BESIDE[beside]?.[1](own) ?? [];
  return JSON.parse(JSON.stringify({ keys: first ? [jwk, ...others] : [...others, jwk] })) as Jwks;
}
